/*
 * One download of the runner: attempts, what is gone on with after a cut, and the sentence when it failed. For the runner's
 * files only.
 */
#pragma once

#include "agent/app/runner.h"
#include "agent/core/retry.h"

struct blob_client;
struct fetch;

struct fetch_limits {
	usec_t connect_usec, stall_usec; /* nothing has come for so long */
	usec_t total_usec;		 /* of all attempts */
	unsigned attempts;		 /* in a row that brought nothing new to speak of */
	const struct retry_policy *policy;
};
extern const struct fetch_limits fetch_limits_default;

/* Borrowed until fetch_free(). */
struct fetch_request {
	struct loop *loop;
	struct blob_client *client;
	const struct job_download *download;
	const char *uri, *directory;
	bool secret_uri; /* it came from a secret */
	size_t number; /* of the downloads into this directory */
	bool may_convert;
	const struct runner_user *user;
	const struct fetch_limits *limits;
};

/* `err` NULL: the file is there. Else `code` (status_code) and a sentence. Runs once, from the loop; it may not free. */
typedef void (*fetch_done_fn)(int code, const struct error *err, void *userdata);

_nodiscard_ int fetch_new(struct fetch **ret, const struct fetch_request *q, fetch_done_fn done, void *userdata,
			  struct error *err);
void fetch_start(struct fetch *f);
/* What went wrong with the last attempt, or "". */
const char *fetch_trouble(const struct fetch *f);
void fetch_free(struct fetch *f);

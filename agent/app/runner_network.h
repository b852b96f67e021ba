/* What of a job goes over the network: its files before it begins, its output while it runs. For the runner's files only. */
#pragma once

#include "agent/app/runner.h"

/* ---- runner_sources.c: how the network is reached, and with whose rights ---- */

struct blob_client;
struct http;

struct sources {
	struct http *http;
	struct blob_client *client;
	const char **no_proxy;
	struct identity *identity; /* NULL: none */
	char *key;
};
/* `permissions`: of what the account's key signs. `job` is borrowed. */
_nodiscard_ int sources_open(struct sources *s, struct loop *l, const struct job *job,
			     const struct job_secrets *secrets, const char *permissions, struct error *err);
void sources_close(struct sources *s);

/* ---- runner_download.c ---- */

struct fetch_limits;
enum download_end { DOWNLOADS_DONE, DOWNLOADS_FAILED, DOWNLOADS_STOPPED };

/* Downloads everything of the job into `work`, running the loop until then; whoever wants to stop it calls
 * loop_exit(loop, DOWNLOADS_STOPPED). `limits` NULL: the usual ones. An enum download_end; of a failure *ret_code
 * (status_code) and err tell more, of a stop err tells what had gone wrong, or nothing. */
int runner_download(struct loop *l, const struct job *job, const struct job_secrets *secrets,
		    const struct runner_user *user, const char *work, const struct fetch_limits *limits, int *ret_code,
		    struct error *err);

/* ---- runner_upload.c: what is captured, appended to blobs while the job runs ---- */

struct upload;

/* *ret is NULL when the job wants none. Nothing of it ever fails the job. Takes what it needs of the secrets. */
_nodiscard_ int upload_new(struct upload **ret, struct loop *l, const struct job *job,
			   const struct job_secrets *secrets, const struct capture *out,
			   const struct capture *err_stream, struct error *err);
/* The rest, running the loop for `most` at the longest, or until loop_exit(). NULL is fine. */
void upload_finish(struct upload *u, usec_t most);
/* What did not get there and why, as a phrase on the heap; NULL: everything did. */
char *upload_notice(const struct upload *u);
void upload_free(struct upload *u);

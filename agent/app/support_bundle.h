/*
 * The parts of a support bundle, for its own files only: support_bundle.c makes the archive and asks whoever can be asked,
 * support_files.c takes what is listed there of our files. Each part returns 0 also when it could not be had; negative ends it
 * all, with bundle.err.
 */
#pragma once

#include "agent/app/goal_request.h"
#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"

struct filter;

#define BUNDLE_FILE_MAX (8UL * 1024 * 1024) /* of a log its end */
#define BUNDLE_LIST_MAX (1024UL * 1024)
#define BUNDLE_TOP	"evenkeel-support/"

struct bundle {
	struct paths paths;
	struct goal_request goal;
	struct filter *filter;
	struct buf tar, contents;
	usec_t now;
	struct error err; /* the first that ends it all */
};

/* Adds the text, without secrets; `what` stands in the list of contents, if given. */
_nodiscard_ int bundle_add(struct bundle *b, const char *name, const char *what, const struct buf *text);
/* What cannot be had is told in the list of contents, and stops nothing: 0. */
int bundle_miss(struct bundle *b, const char *name, const char *why);

/* support_files.c */
_nodiscard_ int bundle_add_logs(struct bundle *b);
_nodiscard_ int bundle_add_records(struct bundle *b);
_nodiscard_ int bundle_add_key_records(struct bundle *b);
_nodiscard_ int bundle_add_file_list(struct bundle *b); /* names, owners, modes: no content */

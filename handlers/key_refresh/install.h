/*
 * What one certificate or plain secret becomes on disk: the job that writes it (agent/core/job.h JOB_INSTALL), the one
 * that removes it, and whether it is still there. For this handler's own files only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/core/job.h"
#include "agent/core/key_plan.h"

struct paths;
struct x509_bundle;

/* A job with what it needs beside it; release with key_job_done(), which erases. */
struct key_job {
	struct job job;
	struct job_secrets secrets;
	char *writable; /* the directory that must be writable: the nearest one that is there */
};

void key_job_done(struct key_job *j);

/* Writes the files of `bundle` (a certificate) or `value` (a plain secret) as the item's wish says. */
_nodiscard_ int key_job_install(const struct paths *paths, const struct key_item *item, const struct key_found *found,
				const struct x509_bundle *bundle, const char *value, size_t len, struct key_job *ret,
				struct error *err);
_nodiscard_ int key_job_remove(const struct paths *paths, const struct key_item *item, struct key_job *ret,
			       struct error *err);

/* False only when a file is surely missing. */
bool key_files_there(const struct paths *paths, const struct key_wish *wish);

/*
 * The files of a job: job.json and its secrets, which are made before it starts, and what the runner leaves (agent/core/job.h).
 * Where a disk refuses, they stand below /run.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/core/job.h"

struct paths;

/* Paths on the heap; NULL: out of memory. */
char *job_file(const struct paths *p, const char *id, const char *name);
char *job_secrets_file(const struct paths *p, const char *id);
bool job_has(const struct paths *p, const char *id, const char *name);

_nodiscard_ int job_files_write(const struct paths *p, const struct job *job, struct error *err);
/* NULL, or none: what an earlier try has left goes. */
_nodiscard_ int job_files_secrets(const struct paths *p, const char *id, const struct job_secrets *secrets,
				  struct error *err);

/* -ENOENT: the runner has left no result. Release with jd_free(&job_result_type, …). */
_nodiscard_ int job_files_result(const struct paths *p, const char *id, struct job_result *ret, struct error *err);
/* Fills in when it began, in which boot, and how long it ran at least: its output tells when it last lived. */
void job_files_times(const struct paths *p, const char *id, struct job_result *r);
/* Appends the last `max` bytes of the captured output, valid UTF-8. */
_nodiscard_ int job_files_tail(const struct paths *p, const char *id, bool standard_error, size_t max, struct buf *out);
/* For a runner that was killed before it could: what came from secrets does not stay on the disk. */
void job_files_clean_up(const struct paths *p, const char *id);

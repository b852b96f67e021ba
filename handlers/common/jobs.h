/*
 * Jobs of the handlers: the job's directory and files are made, the runner is started by the executor, and the result
 * comes back from result.json, also when the daemon was killed or replaced meanwhile. One struct jobs for the daemon.
 *
 * The callback runs at most once, from the loop, with a result in any case: a job that is gone without one comes back as
 * JOB_NOT_STARTED (no `started` file: it may be started again under the same id) or JOB_INTERRUPTED.
 * jobs_handle_free() before that only stops watching; the job goes on and can be attached to again by its id.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/core/job.h"

struct executor;
struct jobs;
struct jobs_handle;
struct loop;
struct paths;

_nodiscard_ int jobs_new(struct jobs **ret, struct loop *loop, struct executor *executor, const struct paths *paths,
			 const char *boot_id, struct error *err);
void jobs_free(struct jobs *j);

#define JOBS_WRITABLE_MAX 4

struct jobs_request {
	const struct job *job; /* id, kind and so on; format and boot_id are filled in here */
	const struct job_secrets *secrets; /* NULL: none */
	uint64_t memory_max_bytes, cpu_percent;
	/* See executor.h. Where jobs live is always writable; `writable`: NULL, or at most JOBS_WRITABLE_MAX more. */
	bool confined;
	uint64_t capabilities;
	const char *const *writable;
	const char *bind_from, *bind_to; /* see executor.h; only where jobs_can_bind() */
};

bool jobs_can_bind(const struct jobs *j);

typedef void (*jobs_done_fn)(const struct job_result *result, void *userdata);

/* Makes the files and starts; durable is only what the runner makes before it does anything (job.h `started`). When a job of this id has been started already, attaches. On a
 * full or read-only disk the files are made below /run instead: the job runs, as root only, and is lost with a reboot.
 * -EBUSY: too many at once. */
_nodiscard_ int jobs_start(struct jobs *j, const struct jobs_request *req, jobs_done_fn done, void *userdata,
			   struct jobs_handle **ret, struct error *err);
_nodiscard_ int jobs_attach(struct jobs *j, const char *id, jobs_done_fn done, void *userdata,
			    struct jobs_handle **ret, struct error *err);
/* Stops it: SIGTERM now, SIGKILL to all of it after `grace` (or the job's own grace, if that is shorter). The callback
 * still runs, and says JOB_STOPPED unless the job ended by itself meanwhile. */
void jobs_stop(struct jobs_handle *h, usec_t grace);
void jobs_handle_free(struct jobs_handle *h);

/* Appends the last `max` bytes of the job's captured output, valid UTF-8. */
_nodiscard_ int jobs_tail(struct jobs *j, const char *id, bool standard_error, size_t max, struct buf *out);

/* Writes down a result that was made out here, where the runner has left none: for those who look at the files. */
void jobs_keep_result(struct jobs *j, const char *id, const struct job_result *result);

/* The result has been recorded: the unit is released; `remove` also deletes the job's directory. Only when nothing of the
 * id runs. */
void jobs_forget(struct jobs *j, const char *id, bool remove);

DEFINE_CLEANUP(struct jobs *, jobs_free)
DEFINE_CLEANUP(struct jobs_handle *, jobs_handle_free)

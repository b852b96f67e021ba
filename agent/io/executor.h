/*
 * The executor starts our own runner, `BINARY run ID`, and tells when it has ended: as a transient unit
 * evenkeel-job-ID.service in evenkeel-jobs.slice where a systemd manager answers, else as a plain child in a
 * process group of its own. What a job is and what came of it stands in files (agent/core/job.h); the executor
 * knows neither. Unit properties and argv are public, so nothing of the customer's is in them.
 *
 * The callback runs at most once, from the loop. executor_job_free() before that only stops watching: the job
 * goes on. A job that was started by an earlier process is watched again with executor_attach().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct loop;
struct bus;
struct executor;
struct executor_job;

enum executor_kind { EXECUTOR_UNITS, EXECUTOR_CHILDREN };

struct executor_request {
	const char *id;		 /* [a-z0-9][a-z0-9.-]{0,100} */
	const char *description; /* public: name and kind of the job only */
	bool leave_survivors;	 /* KillMode=process: what a script leaves running goes on */
	uint64_t memory_max_bytes, cpu_percent; /* 0: no limit */
	/* A small sandboxed job of our own: exactly these capabilities (a mask of 1 << CAP_*), ProtectSystem=strict with only
	 * these directories writable. Ignored by the child executor. */
	bool confined;
	uint64_t capabilities;
	const char *const *writable; /* NULL-terminated, or NULL */
	/* The job, and nobody else, sees what is at `from` in the place of what is at `to`, read-only. Units only. */
	struct executor_bind {
		const char *from, *to;
	} bind; /* both NULL: nothing */
};

enum executor_end {
	EXECUTOR_ENDED,	     /* the runner has ended; its result file tells the rest */
	EXECUTOR_NOT_FOUND,  /* attach: no such unit or child any more; the result file may still be there */
	EXECUTOR_START_FAILED, /* nothing ran, and nothing is left to release; the runner's own statuses are below 200 */
};

struct executor_outcome {
	enum executor_end end;
	const char *id;
	int code, status; /* CLD_EXITED, CLD_KILLED, CLD_DUMPED and its status; 0 when unknown */
	const char *result; /* systemd's Result= (success, exit-code, oom-kill …; death by SIGTERM is a success), or NULL */
	const char *detail; /* for people, or NULL */
};

typedef void (*executor_done_fn)(const struct executor_outcome *outcome, void *userdata);

/* `bus` NULL: children, each with a file ID.pid in `run_jobs` by which a later process finds it again. `binary` is the
 * absolute path of our own program; both are copied. */
_nodiscard_ int executor_new(struct executor **ret, struct loop *loop, struct bus *bus, const char *binary,
			     const char *run_jobs, struct error *err);
/* After all its jobs; what runs goes on. */
void executor_free(struct executor *e);
enum executor_kind executor_kind(const struct executor *e);

/* -EEXIST: this executor is watching a job of that id. If an earlier process has started one, as a unit or a child, that
 * one is watched instead of starting another: what it did or does stands in its files. The environment handed on is the
 * variables EVENKEEL_*; a child, for which no manager makes one, also gets our PATH, LANG, HOME and TMPDIR. */
_nodiscard_ int executor_start(struct executor *e, const struct executor_request *req, executor_done_fn done,
			       void *userdata, struct executor_job **ret, struct error *err);
_nodiscard_ int executor_attach(struct executor *e, const char *id, executor_done_fn done, void *userdata,
				struct executor_job **ret, struct error *err);
/* Ends the job: SIGTERM to the runner (which stops its work and writes a result), SIGKILL to the whole cgroup
 * or group when it has ended, or after `grace`. The callback still runs. */
void executor_stop(struct executor_job *job, usec_t grace);
/* To be called when the result is recorded: releases the unit (and kills what is left in it unless survivors stay), or
 * forgets the child. What a child leaves behind is killed when it ends. */
void executor_release(struct executor *e, const char *id);
void executor_job_free(struct executor_job *job);

DEFINE_CLEANUP(struct executor *, executor_free)
DEFINE_CLEANUP(struct executor_job *, executor_job_free)

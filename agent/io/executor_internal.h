/* The executor's two ways to run a job, behind one table. For agent/io/executor*.c only. */
#pragma once

#include "agent/io/executor.h"
#include "agent/io/loop.h"

struct executor_ops {
	int (*init)(struct executor *e, struct error *err);
	void (*done)(struct executor *e);
	int (*start)(struct executor_job *job, const struct executor_request *req, struct error *err);
	int (*attach)(struct executor_job *job, struct error *err);
	/* SIGTERM to the runner; then, with `all`, SIGKILL to everything of the job. */
	void (*kill)(struct executor_job *job, bool all);
	void (*forget)(struct executor_job *job); /* stop watching */
	void (*release)(struct executor *e, const char *id);
};

extern const struct executor_ops executor_units, executor_children;

struct executor {
	const struct executor_ops *ops;
	struct loop *loop;
	struct bus *bus;
	char *binary, *run_jobs;
	struct executor_job *jobs;
	void *backend;
};

struct executor_job {
	struct executor *executor;
	struct executor_job *next;
	char *id;
	executor_done_fn done;
	void *userdata;
	struct loop_timer *kill_timer, *later;
	struct executor_outcome outcome; /* told by `later` */
	void *backend;
	bool ended, stopping, calling, freed;
};

/* The one end of every job; from the loop only. */
void executor_job_end(struct executor_job *job, const struct executor_outcome *outcome);
/* The same from inside start and attach: the callback comes by the loop. */
void executor_job_end_later(struct executor_job *job, enum executor_end end);

/* Our environment as far as a job may see it, on the heap: EVENKEEL_*, and what `also` names; NULL on out of memory. */
char **executor_environment(const char *const *also);

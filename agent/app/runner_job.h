/* The one job of this process, as the runner's own files share it: what it is to do, where it is, and its result so far. */
#pragma once

#include "agent/app/runner_network.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"

enum phase {
	PHASE_DOWNLOADING,
	PHASE_RUNNING, /* the process that was started lives */
	PHASE_ENDING,  /* SIGTERM was sent to all; until the grace is over */
	PHASE_KILLING, /* SIGKILL, again and again until nothing is left */
	PHASE_OVER,
};

struct runner {
	struct paths paths;
	char boot_id[MACHINE_ID_MAX];
	char *directory; /* of the job */
	char *work;
	struct job job;
	struct job_secrets secrets;
	struct runner_user user;
	char **env;
	struct loop *loop;
	struct loop_timer *timer;
	struct capture *out, *err;
	struct upload *upload; /* NULL: their blobs are not wanted */
	int result_fd;
	char *result_made; /* its name until it is whole */

	char **hooks; /* JOB_HOOKS */
	size_t next_hook;

	enum phase phase;
	pid_t child;
	usec_t started_boot, started_wall;
	usec_t kill_until;
	int end_of_step; /* enum job_end, when it is not the process that decides */
	bool stopped;
	bool orphaned; /* by its guard: who reads what came of it makes that out, as of any runner that was killed */
	unsigned asked[2]; /* to stop: directly, by the guard */
	struct job_result result;
	bool decided; /* the result tells of a failure already: a later hook does not change it */
};

/* ---- runner_prepare.c ---- */

_nodiscard_ int runner_read_job(struct runner *r, const char *id, struct error *err);
_nodiscard_ int runner_open_loop(struct runner *r, struct error *err);
/* The one lock: whoever made the file `started` runs the job, and nobody ever again. */
_nodiscard_ int runner_claim(struct runner *r, struct error *err);
/* Secrets, user, environment, directory and output. */
_nodiscard_ int runner_prepare(struct runner *r, struct error *err);
/* The user who owns the directory gets in only when the files are there: root has made them by their names. */
_nodiscard_ int runner_hand_over_work(struct runner *r, struct error *err);

/* ---- runner_result.c ---- */

/* How it ended and why, as a sentence. The first failure counts. */
_printf_(4, 5) void runner_conclude(struct runner *r, int end, int code, const char *fmt, ...);
/* Room for the result before there is anything to tell: a script that fills the disk does not take it away. */
_nodiscard_ int runner_reserve_result(struct runner *r, struct error *err);
void runner_complete_result(struct runner *r);
_nodiscard_ int runner_write_result(struct runner *r, struct error *err);

/* ---- runner_steps.c: one process, or one for each hook; how long it may run, and how all of it is ended ---- */

/* When what begins now must have ended. */
usec_t runner_step_due(const struct runner *r);
/* Starts the job's argv with what stands before it (NULL-terminated, or NULL); the strings are borrowed. */
_nodiscard_ int runner_start_with(struct runner *r, const char *const *before, struct error *err);
_nodiscard_ int runner_start_hooks(struct runner *r, struct error *err);
/* Of the loop: time is up; SIGTERM, SIGINT or RUNNER_TOLD; RUNNER_ORPHANED; SIGCHLD. */
void runner_on_timer(void *userdata);
void runner_on_stop(int signo, void *userdata);
void runner_on_orphaned(int signo, void *userdata);
void runner_on_child(int signo, void *userdata);

/* ---- runner_policy.c: 0, or -EKEYREJECTED for what the machine's policy does not name ---- */

_nodiscard_ int runner_policy_downloads(const struct runner *r, struct error *err); /* the refused file is removed */
_nodiscard_ int runner_policy_script(const struct runner *r, const void *data, size_t len, struct error *err);

/* ---- runner_script.c: the customer's script or shell text, as a file that its interpreter is given ---- */

_nodiscard_ int runner_start_script(struct runner *r, struct error *err);
_nodiscard_ int runner_start_shell(struct runner *r, struct error *err);

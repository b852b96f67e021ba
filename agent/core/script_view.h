/*
 * What people are shown of scripts: `evenkeel scripts` and its --json, and GET /v1/scripts, where the daemon tells what only
 * it knows (what is waited for) and leaves the runs to the files. Times are texts (ISO 8601, UTC), absent ones NULL; release
 * with jd_free(&script_view_type, v).
 */
#pragma once

#include <stdbool.h>

#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/core/script_keep.h"
#include "agent/core/script_plan.h"

struct view_run {
	char *job, *sequence;
	char *state;  /* starting, running, succeeded, failed, timedOut, stopped, notStarted, interrupted */
	char *result; /* "exit code 3", "killed by SIGKILL (9)"; NULL while it runs */
	char *message;
	char *started_at, *ended_at;
	int64_t attempt;	  /* 0: not counted */
	int64_t duration_msec;	  /* so far, while it runs; -1: unknown */
	int64_t exit_code, signal; /* -1: it did not end so */
	int64_t stdout_bytes, stderr_bytes, survivors;
};

struct view_script {
	char *name;
	char *origin;	/* settings, former (no longer in the settings), byHand */
	char *sequence; /* of its newest run or of what is due */
	char *state;	/* waiting, notRun, or that of its newest run */
	char *detail;	/* what is waited for, why it was not run, or the sentence about its last result */
	int64_t attempts;
	struct jd_list runs; /* newest first */
};

struct script_view {
	bool running; /* the service */
	struct jd_list scripts;
};

extern const struct jd_type script_view_type;

/* The script of that name and origin, made at the end when it is not there. NULL: out of memory. Pointers into the list
 * become invalid. */
struct view_script *script_view_get(struct script_view *v, const char *name, const char *origin);
/* What the plan remembers of it; `detail` (may be NULL) replaces its message. `run` may be NULL: waiting. -ENOMEM. */
_nodiscard_ int script_view_tell(struct view_script *s, const struct script_run *run, const char *detail);
/* Adds the runs, which are newest first, to their scripts: one that is not there is a former one, or by hand. -ENOMEM. */
_nodiscard_ int script_view_add_runs(struct script_view *v, const struct script_kept *items, size_t n, usec_t now_wall);

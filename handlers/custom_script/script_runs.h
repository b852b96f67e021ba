/*
 * The runs of scripts that are there, as their files tell (agent/core/job.h): for the handler, which decides what is kept,
 * and for the commands, which show them whether or not the service runs.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/core/script_keep.h"
#include "agent/core/script_plan.h"

struct paths;

/* Ids of jobs: "cs-SLUG-RANDOM-NUMBER" of the settings' scripts, "hand-SLUG-RANDOM" of `evenkeel scripts run`,
 * "forget-RANDOM" of what removes old runs. */
#define SCRIPT_JOB_PREFIX    "cs-"
#define SCRIPT_HAND_PREFIX   "hand-"
#define SCRIPT_FORGET_PREFIX "forget-"

struct script_runs {
	struct script_kept *items; /* newest first */
	size_t n;
};

/* All of them; what cannot be read is left out. Needs root: -EACCES. */
_nodiscard_ int script_runs_read(const struct paths *p, const char *boot_id, struct script_runs *ret, struct error *err);
void script_runs_done(struct script_runs *r);

/* What the plan remembers, for others than the handler; nothing when there is no record. Release with jd_free(). */
_nodiscard_ int script_record_peek(const struct paths *p, struct script_memory *ret, struct error *err);

/* Small letters, digits and "-" only, at most 40 of them: part of a job's id. NULL on out of memory. */
char *script_slug(const char *name);

/*
 * A script that is run by hand: the command leaves one script of the settings' form (script_settings_type) in this file, 0600
 * below run/jobs, where only root may look, and names the job in the order. NULL on out of memory.
 */
char *script_hand_file(const struct paths *p, const char *id);


/*
 * What to do about the scripts of a goal state: pure. From the settings, the record of former runs and the key of the
 * goal state comes, for each script, whether it runs, is watched on, or stays as it is; from a result, what follows.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/core/job.h"
#include "agent/core/settings.h"

enum script_state {
	SCRIPT_PENDING, /* to be run (again) under this key */
	SCRIPT_RUNNING, /* begun; its job tells the rest */
	SCRIPT_DONE,
	SCRIPT_FAILED,
	SCRIPT_NOT_RUN, /* an earlier one failed, or what it waited for did not come */
};

/* The durable memory of one script. */
struct script_run {
	char *name;
	char *key;	/* goal-state key under which it last began */
	char *sequence; /* the number of that goal state, for people */
	char *content;	/* SHA-256 of what it is (command, script, arguments, environment, files) */
	char *boot_id;	/* of the last begin */
	char *job;	/* id of the last job */
	int state;
	bool asynchronous;
	bool fleeting; /* the disk took no job: what is known of it goes with the boot */
	int64_t attempts; /* begun under this key and boot */
	int64_t reruns;	  /* begun again under this key because a reboot interrupted it */
	usec_t try_at;	  /* by the clock of this boot: not before; a restart does not know it any more */
	int64_t code;
	char *message; /* the sentence of the last result */
	char *output;  /* "[stdout]…[stderr]…" tails */
	int64_t stderr_at; /* where in it "[stderr]" begins */
};

/* Begun by `evenkeel scripts run` and perhaps alive: no part of the plan, only not to be forgotten. */
struct script_by_hand {
	char *name;
	char *job;
};

#define SCRIPT_RECORD_VERSION 1
#define SCRIPT_REBOOTS_MAX 3
#define SCRIPT_RERUNS_MAX  10 /* a script that brings the machine down each time does not do so for ever */

/* The durable memory of all. */
struct script_memory {
	char *key;		  /* of the goal state in force */
	char *began_boot_id;	  /* the deadline counts from `began_boot_usec` of this boot */
	int64_t began_boot_usec;
	int64_t reboots;	  /* asked for by scripts under this key */
	char *reboot_boot_id;	  /* the boot that is to be ended by a reboot, or NULL */
	int64_t jobs;		  /* ever begun: part of a job's id */
	struct jd_list runs;	  /* of struct script_run */
	struct jd_list by_hand;	  /* of struct script_by_hand */
};
extern const struct jd_type script_memory_type; /* released with jd_free() */

struct script_run *script_memory_find(const struct script_memory *m, const char *name);
/* The run of that name, made if it is not there; NULL on out of memory. Pointers into the list become invalid. */
struct script_run *script_memory_get(struct script_memory *m, const char *name);
/* Drops runs that no script of `s` (may be NULL) has and that are not running. */
void script_memory_prune(struct script_memory *m, const struct custom_script_settings *s);

/* Of this job, or NULL; added (-ENOMEM, -EBUSY: LIMIT_RUNS_BY_HAND are there); taken out. */
struct script_by_hand *script_memory_by_hand(const struct script_memory *m, const char *job);
_nodiscard_ int script_memory_add_by_hand(struct script_memory *m, const char *name, const char *job);
void script_memory_drop_by_hand(struct script_memory *m, const char *job);

enum script_action {
	SCRIPT_RUN,
	SCRIPT_ATTACH, /* its job may still run: watch it on */
	SCRIPT_KEEP,   /* its result under this key stands */
	SCRIPT_SKIP,   /* done under another key, and nothing asks for it again */
};

/* What this script needs now. `run` NULL: never seen. */
enum script_action script_decide(const struct script_settings *s, const struct script_run *run, const char *key,
				 const char *content, const char *boot_id);

enum script_next {
	SCRIPT_ENDED_WELL,
	SCRIPT_ENDED_BADLY,
	SCRIPT_TRY_AGAIN,  /* after the delay of `retry` */
	SCRIPT_BEGIN_AGAIN, /* at once: it has not begun, or a reboot interrupted it and it may be rerun */
	SCRIPT_REBOOT,	   /* ended well and asks for a reboot */
};

/* Whether a reboot ended it, or that must be assumed. */
bool script_interrupted(const struct script_run *run, const struct job_result *r, const char *boot_id);

/* What follows from a result. `s` NULL: nobody asks for this script any more. `attached`: an earlier process began it.
 * `reboots`: how many have been asked for already. */
enum script_next script_after(const struct script_settings *s, const struct script_run *run, const struct job_result *r,
			      bool attached, int64_t reboots, const char *boot_id);

_nodiscard_ int script_content_hash(const struct settings *s, const struct script_settings *script, char ret[static 65],
				    struct error *err);

/*
 * What becomes of user data (settings.md 1.2 userData): pure. Which revision was applied, is pending, or has failed is one
 * durable document; from it, the settings and what cloud-init has done follows what is due now, once per content and
 * machine; from a result, what comes next.
 *
 * A revision is content, known by its SHA-256. What was there at the first look belongs to the machine as it is: cloud-init
 * has applied it (first boot of an instance), or it is the baseline. Everything that comes later is a change.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/codec/json.h"
#include "agent/core/job.h"
#include "agent/core/userdata_detect.h"
#include "agent/core/userdata_parts.h"

struct userdata_settings; /* settings_common.h */

#define USERDATA_MEMORY_VERSION 1

enum userdata_state {
	USERDATA_PENDING, /* a change that is to be applied, once it may */
	USERDATA_RUNNING,
	USERDATA_APPLIED,
	USERDATA_FAILED,
	USERDATA_ADOPTED,    /* found at the first look: the baseline, not run */
	USERDATA_CLOUD_INIT, /* cloud-init has applied it at the first boot */
	USERDATA_IGNORED,    /* an operator said so */
	USERDATA_CANCELLED,  /* newer content came while it ran */
	_USERDATA_STATE_MAX
};

enum userdata_run_state {
	USERDATA_RUN_PENDING,
	USERDATA_RUN_RUNNING,
	USERDATA_RUN_DONE,
	USERDATA_RUN_FAILED,
	USERDATA_RUN_SKIPPED
};

/* One part of a revision, and how it went. */
struct userdata_run {
	char *name, *type;
	int kind, state; /* enum userdata_kind, enum userdata_run_state */
	char *job;	 /* the last one */
	int64_t attempts, code;
	char *message; /* a phrase; never of the content */
};

struct userdata_revision {
	char *sha256;
	int64_t size;
	struct userdata_form form;
	int state;				   /* enum userdata_state */
	bool ordered;				   /* an operator's order counts as consent */
	int64_t seen_usec, begun_usec, ended_usec; /* wall */
	char *boot_id;				   /* of the boot in which it was last decided or begun */
	char *message;				   /* why it failed as a whole, or NULL */
	struct jd_list runs; /* of struct userdata_run; forgotten where newer revisions need the room */
};

struct userdata_memory {
	int64_t looked; /* there was a first look at this source, whatever it found: bits of enum userdata_source */
	char *applied;	/* the content last applied, adopted or applied by cloud-init */
	char *failed;	/* the content that failed since */
	int64_t jobs;	/* ever begun: part of a job's id */
	struct jd_list revisions; /* newest first */
};
extern const struct jd_type userdata_memory_type; /* released with jd_free() */

struct userdata_revision *userdata_memory_find(const struct userdata_memory *m, const char *sha256);
/* The revision that is being applied, or NULL. */
struct userdata_revision *userdata_memory_running(const struct userdata_memory *m);
/* A new one, first in the list; the oldest goes beyond LIMIT_USER_DATA_HISTORY. NULL: out of memory. Pointers into the list
 * become invalid. */
struct userdata_revision *userdata_memory_add(struct userdata_memory *m, const char *sha256);
/* Forgets the parts of all but the newest revisions. */
void userdata_memory_trim(struct userdata_memory *m, size_t keep);
/* Appends the document; gives up the parts of old revisions where there is no room. */
_nodiscard_ int userdata_memory_encode(struct userdata_memory *m, struct buf *out);

enum userdata_boot {
	USERDATA_BOOT_UNKNOWN,
	USERDATA_BOOT_CLOUD_INIT_RUNS,
	USERDATA_BOOT_CLOUD_INIT_OVER,
	USERDATA_BOOT_NO_CLOUD_INIT
};

struct userdata_facts {
	int source;	    /* enum userdata_source */
	const char *sha256; /* what is there now; NULL: nothing is known, or there is none */
	const char *boot_id;
	int boot;		/* enum userdata_boot; USERDATA_BOOT_UNKNOWN is waited for like cloud-init itself */
	bool first_boot;	/* of this instance, as cloud-init says */
	bool cloud_init_has_it; /* its user-data.txt is this content */
};

enum userdata_next {
	USERDATA_KEEP, /* nothing is due */
	USERDATA_WAIT, /* for cloud-init's final stage */
	USERDATA_ADOPT_NOW,
	USERDATA_NOTE_CLOUD_INIT,
	USERDATA_NOTE_CHANGE, /* a revision that is not known yet: note it as pending, then decide again */
	USERDATA_HOLD,	      /* a change, but nobody has consented */
	USERDATA_RUN_NOW,     /* begin, or go on */
};

/* `s` NULL: no section. */
enum userdata_next userdata_decide(const struct userdata_memory *m, const struct userdata_settings *s,
				   const struct userdata_facts *f);

#define USERDATA_RUN_BY_CLOUD_INIT "run by cloud-init at this boot"

/* Whether the part is run; else *ret_why is the phrase that says why not (a literal, or the part's own). */
bool userdata_part_due(const struct userdata_item *i, const struct userdata_settings *s, bool cloud_init_ran_it,
		       const char **ret_why);

/* One run for each part: those that are not due are skipped with their reason. Replaces those that are there. -ENOMEM */
_nodiscard_ int userdata_runs_make(struct userdata_revision *r, const struct userdata_parts *p,
				   const struct userdata_settings *s, bool cloud_init_has_it);

enum userdata_after { USERDATA_ENDED_WELL, USERDATA_ENDED_BADLY, USERDATA_TRY_AGAIN, USERDATA_BEGIN_AGAIN };
/* `attached`: an earlier process began it. `patient`: where nothing of it was begun it may be asked for once more, since a
 * manager that shuts down begins nothing; the caller sees to it that this has an end. */
enum userdata_after userdata_after(const struct userdata_settings *s, const struct userdata_run *run,
				   const struct job_result *r, bool attached, bool patient);

/* All parts are over: state, times, what counts as applied or failed. -ENOMEM */
_nodiscard_ int userdata_revision_end(struct userdata_memory *m, struct userdata_revision *r, int64_t now_usec);

const char *userdata_state_name(int state); /* "pending" … */
const char *userdata_run_state_name(int state);

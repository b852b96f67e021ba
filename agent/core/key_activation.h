/*
 * How a renewed certificate or secret comes into use: made beside the one in use, checked, switched, reloaded, verified;
 * or, when a step fails, the former one put back and reloaded. Pure: what has happened and the time come in, what is to be
 * done next goes out.
 *
 * The whole state is durable: it is part of the item's record (key_plan.h), written before a step begins. After a kill, a
 * reboot or an upgrade at any moment the same step is done again, so each must bear that; the end is the former set or the
 * new one, with everything that was asked for told of it. A first install goes the short way (key_activation_first): there
 * is nothing to go back to, so its reload is tried until it succeeds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/core/status.h"

enum activation_step {
	ACTIVATION_NONE,      /* nothing is under way */
	ACTIVATION_STAGING,   /* the new files are made beside those in use */
	ACTIVATION_CHECKING,  /* the check sees the new files, and nobody else does */
	ACTIVATION_SWITCHING, /* the new files take the place of the former */
	ACTIVATION_TESTING,   /* the check sees them where everybody does: where it could not be shown them before */
	ACTIVATION_RELOADING, /* units and commands */
	ACTIVATION_VERIFYING, /* the endpoint must serve the new certificate */
	ACTIVATION_UNDOING,   /* the former files come back; nobody has been told of the new ones */
	ACTIVATION_REVERTING, /* the former files come back … */
	ACTIVATION_REVIVING,  /* … and units and commands are told again */
	_ACTIVATION_STEPS
};

/* How a step has ended. */
enum activation_end {
	ACTIVATION_OK,
	ACTIVATION_FAILED,
	ACTIVATION_LOST,    /* it is gone without a result: to be done again */
	ACTIVATION_UNBOUND, /* CHECKING: nothing ran, because the new files could not be shown to it alone */
	_ACTIVATION_ENDS
};

enum activation_action {
	ACTIVATION_DO,     /* the step that is now the current one */
	ACTIVATION_LATER,  /* the same, when again_usec has come */
	ACTIVATION_DROP,   /* the new files could not be made: nothing has changed */
	ACTIVATION_SETTLE, /* the new ones are in use, and everything has been told */
	ACTIVATION_REJECT, /* the former ones are in use; `rejected` says why */
	ACTIVATION_IDLE,   /* key_activation_resume(): there is nothing to go on with */
};

/* The new version, as it will stand in the record. */
struct key_candidate {
	char *url, *shape, *version, *thumbprint, *identity;
	char *set; /* name of the set on disk */
	int64_t created_usec, not_before_usec, not_after_usec;
	bool incomplete;
};

/* The last version that failed. */
struct key_rejection {
	char *version, *why;
	int step; /* enum activation_step at which it failed */
	int64_t times, again_usec; /* wall; INT64_MAX: not by itself */
};

struct key_activation {
	int step; /* enum activation_step */
	bool first;   /* there is nothing to go back to */
	bool checked; /* CHECKING went well: TESTING is not needed */
	bool owed;    /* a former reload had not succeeded when this began */
	char *former; /* name of the set in use before; NULL: a plain file */
	struct jd_list active; /* of char *: units that were active before they were first asked to reload */
	struct key_candidate candidate;
	char *why; /* of the step that is tried again; NULL: it has not failed */
	int64_t tries, again_usec; /* of that step; wall */
	struct key_rejection rejected;
	char *untold; /* the version that the hooks are still to be told of, or NULL */
};

extern const struct jd_field key_activation_fields[];
extern const char *const key_activation_names[]; /* by step, NULL-terminated */

/* What there is to do, as the settings in force say. */
struct activation_needs {
	bool check, bind; /* bind: the new files can be shown to the check alone */
	bool reload;      /* units or commands */
	bool verify;
};

/* Whether this version may be put to use now, as far as earlier tries with it go. */
bool key_activation_may(const struct key_activation *a, const char *version, usec_t now_wall);
/* New settings: what was rejected may be tried at once. */
void key_activation_forgive(struct key_activation *a);
/* Another version than the rejected one is all that the vault offers. */
void key_activation_forget_rejected(struct key_activation *a);

/* A renewal: goes to STAGING. `former` NULL: a plain file. -ENOMEM leaves *a as it was. */
_nodiscard_ int key_activation_begin(struct key_activation *a, const struct key_candidate *c, const char *former);
/* A first install, whose files are in place: goes to RELOADING. */
void key_activation_first(struct key_activation *a);

/* The step has ended. `why` is a sentence of a failure. DROP, SETTLE and REJECT end the way; the candidate stays for the
 * caller to note, until key_activation_clear(). */
enum activation_action key_activation_ended(struct key_activation *a, const struct activation_needs *n,
					    enum activation_end end, const char *why, uint32_t random, usec_t now_wall);
/* After a restart, and when again_usec has come. */
enum activation_action key_activation_resume(struct key_activation *a, usec_t now_wall);
/* Whether newer versions are looked for while it waits to try again. */
bool key_activation_may_poll(const struct key_activation *a);
void key_activation_clear(struct key_activation *a); /* keeps what is rejected, owed, active and untold */
/* Other files are wanted: the install that follows tells everybody. */
void key_activation_abandon(struct key_activation *a);

/* More of the item's sentence, and its level if that is worse. */
void key_activation_describe(const struct key_activation *a, usec_t now_wall, struct buf *out, struct component *c);

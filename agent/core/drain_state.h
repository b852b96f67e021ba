/*
 * What draining remembers: the value that drain_core changes, drain_record writes and drain_status reads.
 * Everybody else may look, through drain_core_state(). Times named _wall are wall time, 0 for none.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/time.h"
#include "agent/core/drain_plan.h"
#include "agent/core/event_machine.h"
#include "agent/core/events.h"
#include "agent/core/host_machine.h"

enum acknowledgement {
	ACK_NONE,     /* not to be acknowledged, or not yet */
	ACK_PEERS,    /* once the other VMs of the event say they are drained */
	ACK_WANTED,   /* to be sent, or sent and not answered yet */
	ACK_ACCEPTED, /* answered 200 and recorded: never sent again */
	ACK_REFUSED,  /* answered 400 twice, or not at all until NotBefore: given up */
};
enum ack_reason { ACK_WHEN_DRAINED, ACK_IMMEDIATELY, ACK_BY_OPERATOR };

struct drain_event { /* an event that names this VM */
	char *id, *type, *source, *description;
	int64_t duration_seconds;
	int64_t notice_seconds; /* from first sight to NotBefore */
	int status;		/* enum event_status: the last one that this version knows, OTHER when there was none */
	char *status_text;	/* as the platform says it now, when it is none that this version knows; else NULL */
	usec_t not_before_wall;
	usec_t not_before_boot; /* the same by the boot clock, see events_anchor(); 0: blank, or not known yet */
	bool shared, leader;    /* names several VMs; names us first */
	char **peers;		/* volatile: their names, NULL-terminated */

	int state;		     /* enum event_state */
	int action, acknowledge;     /* what the policy decided */
	bool settled;		     /* operator or reboot decided: the policy is not asked again */
	bool late;		     /* Scheduled, but no time was left at first sight: as one without notice */
	int ack, ack_reason;
	usec_t acknowledged_wall;
	int64_t refusals;	     /* 400s */
	int64_t incarnation;	     /* of the last document it stood in */

	/* volatile */
	bool ack_flying, peers_flying, ack_needs_document;
	unsigned missed; /* documents in a row without it, same incarnation */
};

enum hold_kind { HOLD_OPERATOR, HOLD_SHUTDOWN, HOLD_BACKUP, HOLD_REHEARSAL, _HOLD_KINDS };

struct drain_hold { /* a reason to be drained that is no event */
	int kind;
	char *reason;	      /* for people */
	usec_t deadline_boot; /* drained by then; 0: nothing presses */
	usec_t until_boot;    /* ends by itself; 0: never */
};

enum step_mark { STEP_UNTOUCHED, STEP_BEGUN, STEP_OK, STEP_FAILED, STEP_TIMED_OUT, STEP_STOPPED, _STEP_MARKS };
enum step_now { STEP_IDLE, STEP_DOING, STEP_UNDOING };

struct ledger_entry { /* one per step of the plan; "in the ledger" is any mark but STEP_UNTOUCHED */
	int mark;
	int now;
	bool over;	    /* had its turn in this pass over the plan */
	bool stopping;	    /* told to stop; its result is still to come */
	int64_t token;	    /* of what runs, or ran last; unique for the life of the record */
	int64_t attempts;   /* in this pass */
	int64_t undo_failures;
	int64_t hooks;	    /* STEP_HOOKS: files in the directory */
	usec_t begun_boot;
	usec_t deadline_boot; /* told to what runs */
	char *detail;	      /* of the last failure, bounded */

	usec_t retry_boot; /* volatile */
};

enum drain_result { DRAIN_CLEAN, DRAIN_INCOMPLETE, DRAIN_ABORTED };

struct drain_state {
	int64_t version;
	int host;   /* enum host_state */
	int result; /* enum drain_result: of the last time drained was entered */
	char *boot_id;
	struct drain_plan *plan; /* NULL while serving */
	struct jd_list ledger;	 /* of struct ledger_entry, as many as the plan has steps */
	int64_t cursor;		 /* draining: first step of the group whose turn it is */
	int64_t next_token;
	struct jd_list snapshot; /* of char *: units that were active before the first step, in the shell's order */
	bool snapshot_wanted;	 /* to be taken before the next step */
	bool probe_down;
	usec_t since_wall; /* of `host` */
	int64_t degraded_rounds;
	struct jd_list events; /* of struct drain_event, by first sight */
	struct jd_list holds;  /* of struct drain_hold, at most one of each kind */
	/* What the drain was for and holds no more, as seen last: those who undo are told. Each id, each kind once. */
	struct jd_list former_events, former_holds;
};

_nodiscard_ int drain_state_new(struct drain_state **ret);
/* A deep copy (the plan is shared): inputs work on a copy, so that running out of memory changes nothing. */
_nodiscard_ int drain_state_copy(const struct drain_state *s, struct drain_state **ret);
void drain_state_free(struct drain_state *s);
DEFINE_CLEANUP(struct drain_state *, drain_state_free)

static inline struct drain_event *drain_state_event(const struct drain_state *s, size_t i)
{
	return &((struct drain_event *)s->events.items)[i];
}
static inline struct drain_event *drain_state_former_event(const struct drain_state *s, size_t i)
{
	return &((struct drain_event *)s->former_events.items)[i];
}
static inline struct drain_hold *drain_state_former_hold(const struct drain_state *s, size_t i)
{
	return &((struct drain_hold *)s->former_holds.items)[i];
}
static inline struct drain_hold *drain_state_hold(const struct drain_state *s, size_t i)
{
	return &((struct drain_hold *)s->holds.items)[i];
}
static inline struct ledger_entry *drain_state_step(const struct drain_state *s, size_t i)
{
	return &((struct ledger_entry *)s->ledger.items)[i];
}

/* Appends to / removes from events and holds. -ENOMEM. */
_nodiscard_ int drain_state_add_event(struct drain_state *s, struct drain_event **ret);
void drain_state_remove_event(struct drain_state *s, size_t i);
_nodiscard_ int drain_state_add_hold(struct drain_state *s, struct drain_hold **ret);
void drain_state_remove_hold(struct drain_state *s, size_t i);
/* Keeps a copy among the former ones; the newest LIMIT_FORMER. -ENOMEM. */
_nodiscard_ int drain_state_keep_event(struct drain_state *s, const struct drain_event *e);
_nodiscard_ int drain_state_keep_hold(struct drain_state *s, const struct drain_hold *h);
void drain_state_forget_former(struct drain_state *s);
/* Replaces plan and ledger (NULL: none). */
_nodiscard_ int drain_state_set_plan(struct drain_state *s, struct drain_plan *plan);

/* Adds units that the snapshot does not have yet, up to LIMIT_SNAPSHOT_UNITS. -ENOMEM. */
_nodiscard_ int drain_state_add_snapshot(struct drain_state *s, const char *const *units);
void drain_state_forget_snapshot(struct drain_state *s);
bool drain_state_had_active(const struct drain_state *s, const char *unit);

size_t drain_state_n_holds(const struct drain_state *s); /* events that hold, and the other holds */
bool drain_state_ledger_empty(const struct drain_state *s);
/* Drained, but not clean: the step that aborted the drain, or in which time ran out. Else, or if there is none: ledger.n. */
size_t drain_state_culprit(const struct drain_state *s);

/* NULL-terminated words of the record. */
extern const char *const acknowledgement_names[], *const ack_reason_names[], *const hold_kind_names[];
extern const char *const step_mark_names[], *const step_now_names[], *const drain_result_names[];

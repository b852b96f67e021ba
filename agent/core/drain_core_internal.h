/*
 * Inside the drain core. An input works on a copy of state and volatile values (`struct turn`); only when
 * everything has gone well does the copy become the core's, and its actions are queued. An error sticks in
 * the turn, so that code in between need not look at it. Not for use outside drain_core*.c.
 */
#pragma once

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/drain_budget.h"
#include "agent/core/drain_core.h"

#define UNDO_TRIES	  3
#define DEGRADED_FIRST	  (10 * USEC_PER_SEC)
#define DEGRADED_LAST	  (5 * USEC_PER_MINUTE)
#define BOOT_PATIENCE	  (60 * USEC_PER_SEC)
#define PEERS_INTERVAL	  (2 * USEC_PER_SEC)
#define ACK_RETRY_FIRST	  (500 * USEC_PER_MSEC)
#define ACK_RETRY_LAST	  (2 * USEC_PER_SEC)
#define POLL_BACKOFF_KNOWN (4 * USEC_PER_SEC)
#define REMOVED_AFTER	  3 /* documents in a row with the same incarnation */
#define BUDGET_TOLERANCE  (100 * USEC_PER_MSEC)
#define TIMER_TOLERANCE	  (50 * USEC_PER_MSEC)

/* What a restart of ours may forget. */
struct drain_volatile {
	bool document_seen;
	int64_t incarnation; /* of the last document */
	usec_t event_seen_boot; /* last document with an event of ours; 0: never */

	bool rebooted;	      /* boot id changed, the first document is still to come */
	bool boot_pending;    /* and the host is not serving: nothing is decided yet */
	usec_t boot_deadline;

	bool paused;

	bool health_checked, health_asked; /* asked: anew, since all is undone */
	bool healthy;
	usec_t health_deadline; /* restoring: healthy by then, or degraded; 0: not waiting */
	usec_t degraded_retry;

	int64_t snapshot_token; /* asked for; 0: not */
	usec_t told_end;	/* boot time at which the budget of what runs ends */

	int64_t last_token;   /* of posts and questions */
	int64_t post_flying;  /* 0: none */
	unsigned ack_failures;
	usec_t ack_retry;   /* 0: at once */
	usec_t peers_retry;
	int64_t peers_flying; /* 0: none */
	size_t peers_next;    /* whose turn it is to ask, by place among the events */

	usec_t timer; /* last set; 0: none or gone off */
};

struct drain_core {
	const struct drain_settings *drain;
	char *self;
	char *boot_id; /* of the boot that runs; the state's is the last one that was decided about */
	struct drain_state *state;
	struct drain_volatile v;
	struct drain_action *actions;
	size_t n_actions, first_action;
};

struct turn {
	struct drain_core *core;
	const struct drain_settings *drain;
	struct drain_now now;
	struct drain_state *s;
	struct drain_volatile v;
	struct drain_action *actions;
	size_t n_actions, cap_actions;
	int r;
	bool dirty;    /* the record must be written */
	bool changed;  /* settle once more */
	bool boot;     /* the first turn */
	bool new_hold; /* the host has not been told of it */
};

/* drain_core_turn.c */
_nodiscard_ int turn_begin(struct drain_core *core, struct drain_now now, struct turn *t);
/* drain: the settings in force from this turn on; those of the former one may be gone. */
_nodiscard_ int turn_begin_with(struct drain_core *core, const struct drain_settings *drain, struct drain_now now,
				struct turn *t);
/* Does what is due, and makes the copy the core's or drops it. */
_nodiscard_ int turn_end(struct turn *t);
void turn_booted(struct turn *t); /* the first document of the boot, or none for too long */
struct drain_action *turn_act(struct turn *t, enum drain_action_kind kind); /* a spare one when out of memory */
void turn_fail(struct turn *t, int r);
static inline void turn_touch(struct turn *t)
{
	t->dirty = t->changed = true;
}
/* Takes `text` (NULL: out of memory). e may be NULL. */
void turn_tell(struct turn *t, enum log_level level, enum drain_topic topic, const struct drain_event *e,
	       bool milestone, char *text);

/* drain_core_holds.c */
void turn_end_hold(struct turn *t, size_t i);
void turn_expire_holds(struct turn *t);
/* Shutdowns, backups and rehearsals do not outlive the boot that they were for, nor does a hold that was to end
 * at a time of that boot's clock. */
void turn_drop_holds_of_boot(struct turn *t);

/* drain_core_events.c */
void event_input(struct turn *t, struct drain_event *e, enum event_input in);
void events_input_all(struct turn *t, enum event_input in); /* to every event; forgets those that are gone */
void event_drop_ack(struct turn *t, struct drain_event *e); /* what is not out yet has lost its reason */
void events_forget_gone(struct turn *t);
void events_due(struct turn *t);
/* One that would hold if there were no pause. */
static inline bool event_is_paused(const struct drain_volatile *v, const struct drain_event *e)
{
	return v->paused && e->state == EVENT_WAITING;
}
/* By events_as_if_empty(), until a document tells of it: nothing else leaves one like this that is to be drained for. */
static inline bool event_is_put_by(const struct drain_event *e)
{
	return e->state == EVENT_NOTED && !e->settled && e->action == POLICY_DRAIN;
}
struct drain_event *events_find(struct drain_state *s, const char *id);
usec_t events_next_time(const struct turn *t); /* boot time at which an event or an acknowledgement has something to do */

/* drain_core_documents.c */
/* Is there time to drain before it? None when it could be drained for at last says more about our clock, or our absence, than
 * about the event: the platform still has it Scheduled. Once it has been late only a later NotBefore gives it time.
 * first: it could not be drained for before. */
void event_judge_lateness(struct turn *t, struct drain_event *e, bool first);
void events_document(struct turn *t, const struct events_document *doc);
void events_tell_paused(struct turn *t);
void events_rebooted(struct turn *t);	/* the first document of a new boot has been taken in */
void events_as_if_empty(struct turn *t); /* after a boot no document came */
/*
 * NotBefore is wall time, but what is done about it goes by the boot clock. Each turn takes NotBefore over by the wall clock
 * for as long as that leaves time. A clock that says it is past while the platform still has the event Scheduled has
 * jumped, or has run out in the ordinary way: then what was known before stands, which has run out, too, or goes on.
 */
void events_anchor(struct turn *t);
void events_forget_anchors(struct turn *t); /* the boot clock has begun anew */

/* drain_core_acks.c */
void events_send(struct turn *t); /* acknowledgements and questions to peers that are ready */
void events_ack_result(struct turn *t, enum ack_outcome outcome);
void events_peers_result(struct turn *t, bool drained);
usec_t events_next_send(const struct turn *t);

/* drain_core_host.c */
void host_input(struct turn *t, enum host_input in, struct ledger_entry *e);
void host_step_input(struct turn *t, enum host_input in, struct ledger_entry *e, int exit_code);
void host_resume(struct turn *t);

/* drain_core_results.c */
void host_step_result(struct turn *t, int64_t token, enum step_outcome outcome, int exit_code, const char *detail);
bool host_give_up_retry(struct turn *t); /* true: one was given up, look again */
void host_step_failed(struct turn *t, struct ledger_entry *e, int exit_code);
void host_end_of_group(struct turn *t); /* has every step of it had its turn? Then what that leads to */
/* Time became shorter than what runs was told: a new hold, a jump of the wall clock, or an event began. */
void host_rebudget(struct turn *t);

/* drain_core_tell.c */
void host_tell_phase(struct turn *t, enum log_level level, enum drain_topic topic, const char *what, const char *note);
void host_tell_step(struct turn *t, size_t i, const char *what);
const char *turn_step_name(const struct turn *t, size_t i);
/* What the host does what it does for: "Reboot X", "operator: maintenance", several with " and ". */
char *host_reasons(const struct drain_state *s);

/* drain_core_steps.c: of the plan, by index */
const struct plan_step *turn_step_at(const struct turn *t, size_t i);
size_t turn_step_index(const struct turn *t, const struct ledger_entry *e);
bool turn_step_is_probe(const struct turn *t, size_t i);
size_t turn_group_end(const struct turn *t, size_t i);

/* drain_core_shares.c */
struct shares {
	struct budget_item items[LIMIT_LEDGER];
	size_t n;
	bool tight;   /* waits are given up */
	bool started; /* an event has begun */
	usec_t left;
};
void turn_share(const struct turn *t, struct shares *ret); /* one item per group, from the cursor on */
usec_t turn_share_of(const struct turn *t, const struct shares *s, size_t i); /* i: in the group at the cursor */
usec_t turn_time_left(const struct turn *t, bool *ret_started); /* for the drain; whether an event has begun */
usec_t turn_end_of_time(const struct turn *t);
usec_t turn_most_of(const struct turn *t, size_t i); /* of a whole step: hooks have their time each */

/* drain_core_steps.c: what runs */
struct drain_action *turn_step_act(struct turn *t, enum drain_action_kind kind, size_t i);
void turn_set_probe(struct turn *t, bool down);
void turn_step_stop(struct turn *t, size_t i);
void turn_stop_all(struct turn *t);
/* Begins what can be begun, ends what is over, until nothing more can be done. */
void turn_pump(struct turn *t);
usec_t turn_next_time(const struct turn *t); /* boot time at which that will find something to do */

/*
 * The drain core: both machines, the holds, ledger, snapshot and plan as one value. Inputs in, actions out;
 * no I/O, no clock. Every input returns 0, or -ENOMEM, or -ENOBUFS (LIMIT_DRAIN_ACTIONS waiting: the shell
 * did not drain them), and then nothing has changed; other results are named at their function.
 *
 * The shell, after every input: takes actions with drain_core_next() until there are none and carries them
 * out in this order. Strings in an action are its own (drain_action_done()); `step` points into the plan and
 * is good until the next input. No action needs an answer before the next one is begun, except PERSIST.
 */
#pragma once

#include "agent/base/log.h"
#include "agent/core/drain_state.h"

struct drain_core;

struct drain_now {
	usec_t wall, boot;
};

enum drain_action_kind {
	DRAIN_PERSIST,	     /* drain_record_encode() durable before the next action begins; if that fails, /run; go on */
	DRAIN_TAKE_SNAPSHOT, /* answer drain_core_snapshot_result() with `token` */
	/* Begin `step` (undo: its undo) under `token`: exactly one drain_core_step_result() for it, whatever happens.
	 * attach: it may be running or have ended under this token before we restarted: take that, else begin it.
	 * A wait or a command still going after timeout_usec is ended: "timeout". */
	DRAIN_BEGIN_STEP,
	DRAIN_SHORTEN_STEP, /* timeout_usec from now; unknown tokens are none of its business */
	DRAIN_STOP_STEP,    /* kill it; answer "cancelled", "never begun", or as it ended before that */
	DRAIN_PUT_BACK,	    /* make `step` (refuseProbe) effective again; no answer */
	DRAIN_ACKNOWLEDGE,  /* one POST for `ids`; answer drain_core_ack_result() with `token` */
	DRAIN_ASK_PEERS,    /* GET peerUrl of each name in `ids`; answer drain_core_peers_result() with `token` */
	DRAIN_PROBE,	    /* /ready: `on` = may say 200 (if healthy), off = 503 */
	DRAIN_TARGET,	    /* start (`on`) or stop evenkeel-drained.target; may be so already */
	DRAIN_SET_TIMER,    /* call drain_core_timer() at `at_boot`; replaces the former one; USEC_INFINITY: none */
	DRAIN_ASK_HEALTH,    /* ask the application anew, at once and often; drain_core_health() with the first good answer */
	DRAIN_TELL,	    /* log and notify */
};

enum drain_topic { TOPIC_EVENT, TOPIC_DRAIN, TOPIC_ACKNOWLEDGE, TOPIC_RESTORE, TOPIC_PROBLEM };

struct drain_action {
	enum drain_action_kind kind;
	int64_t token;
	size_t index; /* of the step in the plan */
	const struct step_settings *step;
	bool undo, attach, on, milestone;
	usec_t timeout_usec, at_boot;
	char **ids;
	enum log_level level; /* TELL */
	enum drain_topic topic;
	char *event_id, *text;
};
void drain_action_done(struct drain_action *a);

/* Settings are borrowed until drain_core_reload(); drain NULL: no drain section (nothing is drained for).
 * health_checked: there is a check of the application, which is taken for unhealthy until drain_core_health(), and again
 * each time that it has been restored: what was known then is from before it was started. */
_nodiscard_ int drain_core_new(const struct drain_settings *drain, bool health_checked, struct drain_core **ret);
/* The name of this VM as the metadata service says it. Documents are no input before it is known. */
_nodiscard_ int drain_core_set_self(struct drain_core *core, const char *self);
void drain_core_free(struct drain_core *core);
DEFINE_CLEANUP(struct drain_core *, drain_core_free)

bool drain_core_next(struct drain_core *core, struct drain_action *ret);

/* First of all inputs, once: with what drain_record_decode() gave (taken over on success), or NULL. */
_nodiscard_ int drain_core_boot(struct drain_core *core, struct drain_state *record, const char *boot_id, struct drain_now now);

/* An event that is first seen, or becomes due, as Scheduled with NotBefore minus margin already past (our clock runs ahead, the
 * notice was shorter than the margin, or we were away or paused) is drained for like one that has begun without notice: waits
 * are skipped, every other step has its reserve. It is acknowledged as the policy says, and its acknowledgement is retried
 * until the platform starts it. */
_nodiscard_ int drain_core_document(struct drain_core *core, const struct events_document *doc, struct drain_now now);
/* Until the next poll; one that fails is no input at all. *ret_most: failures may not keep polls apart for longer, because an
 * event is known, or was within the last minute; USEC_INFINITY: as long as the platform's rules say. */
usec_t drain_core_poll_delay(const struct drain_core *core, struct drain_now now, usec_t *ret_most);
_nodiscard_ int drain_core_timer(struct drain_core *core, struct drain_now now);

/* units: which of all stopUnits in drain_core_state()->plan are active; those of which nothing is known are left
 * out. A stopUnits step then stops and starts only what drain_state_had_active() says.
 * hooks (NULL: one each): files in the directory of each step of the plan. */
_nodiscard_ int drain_core_snapshot_result(struct drain_core *core, int64_t token, const char *const *units,
					   const unsigned *hooks, struct drain_now now);

enum step_outcome {
	STEP_OUTCOME_OK,
	STEP_OUTCOME_FAILED,
	STEP_OUTCOME_TIMEOUT,
	STEP_OUTCOME_CANCELLED,
	STEP_OUTCOME_NEVER_BEGUN, /* nothing is known of this token, so nothing is to be undone */
};
/* Late, repeated and unknown tokens are ignored. detail: one sentence for people, NULL when ok. */
_nodiscard_ int drain_core_step_result(struct drain_core *core, int64_t token, enum step_outcome outcome, int exit_code,
				       const char *detail, struct drain_now now);

enum ack_outcome { ACK_OUTCOME_OK, ACK_OUTCOME_RETRY, ACK_OUTCOME_BAD_REQUEST };
_nodiscard_ int drain_core_ack_result(struct drain_core *core, int64_t token, enum ack_outcome outcome, struct drain_now now);
_nodiscard_ int drain_core_peers_result(struct drain_core *core, int64_t token, bool drained, struct drain_now now);

/* Any hold but an event's; one of each kind, a second one replaces the first. deadline, lasts: from now, 0 for
 * none. A rehearsal gives way to every other hold; -EBUSY while there is one. -ENOTSUP: no drain section. */
_nodiscard_ int drain_core_hold(struct drain_core *core, enum hold_kind kind, const char *reason, usec_t deadline_usec,
				usec_t lasts_usec, struct drain_now now);
/* -ENOENT: there is none. */
_nodiscard_ int drain_core_release(struct drain_core *core, enum hold_kind kind, struct drain_now now);
/* `evenkeel restore`: ends operator, backup and rehearsal holds. force: waives events, too, and where the host is
 * restoring or degraded already, drops the ledger and raises the probe. */
enum { DRAIN_STILL_HELD = 1 }; /* done, but something else holds */
_nodiscard_ int drain_core_restore(struct drain_core *core, bool force, struct drain_now now);
/* `evenkeel ack`: -ENOENT unknown, -EALREADY started, acknowledged or on its way. */
_nodiscard_ int drain_core_acknowledge(struct drain_core *core, const char *event_id, struct drain_now now);

/* drain NULL: the section is gone; events are waived, other holds end. What is drained is restored by its plan. */
_nodiscard_ int drain_core_reload(struct drain_core *core, const struct drain_settings *drain, bool health_checked,
				   struct drain_now now);
_nodiscard_ int drain_core_health(struct drain_core *core, bool healthy, struct drain_now now);
/* While paused no event begins to hold, and none is acknowledged but by an operator; what runs goes on. When the pause ends
 * all is decided at once. Before drain_core_boot() it is no input: it says how the core begins. */
_nodiscard_ int drain_core_pause(struct drain_core *core, bool paused, struct drain_now now);

const struct drain_state *drain_core_state(const struct drain_core *core); /* good until the next input */
bool drain_core_boot_pending(const struct drain_core *core); /* booted, and the first document is still to come */
bool drain_core_paused(const struct drain_core *core);
/* The event that would be drained for if there were no pause, the most pressing one; NULL: none, or no pause. */
const struct drain_event *drain_core_paused_event(const struct drain_core *core);

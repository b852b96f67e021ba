/* The core's side of the event machine: what its actions mean, and what time does to events. */
#include <errno.h>

#include "agent/core/drain_core_internal.h"
#include "agent/core/policy.h"

struct drain_event *events_find(struct drain_state *s, const char *id)
{
	for (size_t i = 0; i < s->events.n; i++)
		if (str_equal(drain_state_event(s, i)->id, id))
			return drain_state_event(s, i);
	return NULL;
}

/* What sharedEvents says about acknowledging for other VMs, too. */
static enum acknowledgement shared_acknowledgement(const struct turn *t, const struct drain_event *e,
						   enum ack_reason reason)
{
	if (!e->shared || reason == ACK_BY_OPERATOR)
		return ACK_WANTED;
	if (!t->drain || t->drain->shared_events.acknowledge == SHARED_NEVER)
		return ACK_NONE;
	if (t->drain->shared_events.acknowledge == SHARED_ALWAYS)
		return ACK_WANTED;
	if (!e->leader)
		return ACK_NONE;
	if (reason != ACK_WHEN_DRAINED)
		return ACK_WANTED;
	/* Nobody can be asked: what the others do is not known. */
	return str_empty(t->drain->shared_events.peer_url) ? ACK_NONE : ACK_PEERS;
}

static void want_ack(struct turn *t, struct drain_event *e, enum ack_reason reason)
{
	enum acknowledgement ack = shared_acknowledgement(t, e, reason);

	if (e->status != EVENT_SCHEDULED || ack == ACK_NONE)
		return;
	e->ack = (int)ack;
	e->ack_reason = (int)reason;
	e->refusals = 0;
	turn_touch(t);
}

void event_drop_ack(struct turn *t, struct drain_event *e)
{
	if (e->ack != ACK_WANTED && e->ack != ACK_PEERS)
		return;
	e->ack = ACK_NONE;
	e->ack_needs_document = false;
	turn_touch(t);
}

static void decide(struct turn *t, struct drain_event *e)
{
	struct policy_question q = { .type = e->type,
				     .source = e->source,
				     .duration_seconds = e->duration_seconds,
				     .notice_seconds = e->notice_seconds };
	struct policy_decision d = { POLICY_NOTIFY, ACKNOWLEDGE_NEVER };

	if (e->settled || event_is_put_by(e))
		return;
	/* What the platform means by a status that came later cannot be acted upon. */
	if (t->drain && e->status != EVENT_STATUS_OTHER)
		d = policy_decide(t->drain, &q);
	if (e->action != d.action || e->acknowledge != d.acknowledge)
		turn_touch(t);
	e->action = d.action;
	e->acknowledge = d.acknowledge;
	if (d.acknowledge != ACKNOWLEDGE_IMMEDIATELY && e->ack_reason == ACK_IMMEDIATELY)
		event_drop_ack(t, e);

	if (d.action != POLICY_DRAIN)
		event_input(t, e, EVENT_IN_NOTE);
	else
		event_input(t, e, e->status == EVENT_STARTED && !t->v.paused ? EVENT_IN_BEGIN : EVENT_IN_WAIT);
}

static void at_once_if_policy_says(struct turn *t, struct drain_event *e)
{
	if (e->acknowledge == ACKNOWLEDGE_IMMEDIATELY && e->ack == ACK_NONE && !t->v.paused)
		want_ack(t, e, ACK_IMMEDIATELY);
}

static void retry_ack(struct turn *t, struct drain_event *e)
{
	if (!e->late && e->not_before_boot != 0 && t->now.boot >= e->not_before_boot) {
		e->ack = ACK_REFUSED;
		turn_touch(t);
		turn_tell(t, LOG_LEVEL_WARNING, TOPIC_ACKNOWLEDGE, e, false,
			  str_format("%s %s: could not be acknowledged before it begins", e->type, e->id));
	}
}

static void event_act(struct turn *t, struct drain_event *e, enum event_action action)
{
	switch (action) {
	case EVENT_ACT_NOTE:
		at_once_if_policy_says(t, e);
		break;
	case EVENT_ACT_HOLD:
		at_once_if_policy_says(t, e);
		t->new_hold = true;
		break;
	case EVENT_ACT_HOLD_NO_TIME:
		t->new_hold = true;
		break;
	case EVENT_ACT_ACK_IF_ALLOWED:
		if (e->acknowledge == ACKNOWLEDGE_WHEN_DRAINED && e->ack == ACK_NONE)
			want_ack(t, e, ACK_WHEN_DRAINED);
		break;
	case EVENT_ACT_ACK:
		if (e->ack != ACK_ACCEPTED)
			want_ack(t, e, ACK_BY_OPERATOR);
		break;
	case EVENT_ACT_TELL_ABORTED:
		turn_tell(t, LOG_LEVEL_WARNING, TOPIC_PROBLEM, e, false,
			  str_format("%s %s: not acknowledged, because the drain was aborted", e->type, e->id));
		break;
	case EVENT_ACT_RECORD_ACK:
		e->ack = ACK_ACCEPTED;
		e->acknowledged_wall = t->now.wall;
		turn_touch(t);
		turn_tell(t, LOG_LEVEL_INFO, TOPIC_ACKNOWLEDGE, e, true,
			  str_format("%s %s: acknowledged", e->type, e->id));
		break;
	case EVENT_ACT_RETRY_ACK:
		retry_ack(t, e);
		break;
	case EVENT_ACT_DECIDE:
		decide(t, e);
		break;
	case EVENT_ACT_RELEASE:
		if (e->ack_reason != ACK_BY_OPERATOR)
			event_drop_ack(t, e);
		break;
	case EVENT_ACT_SAY_STARTED: /* drain_core_acknowledge() returns it */
	case EVENT_ACT_FORGET:
	case EVENT_ACT_NONE:
	case _EVENT_ACTIONS:
		break;
	}
}

void event_input(struct turn *t, struct drain_event *e, enum event_input in)
{
	struct event_cell cell = event_machine((enum event_state)e->state, in);

	if (event_state_holds((enum event_state)e->state) && !event_state_holds((enum event_state)cell.next) &&
	    t->s->host != HOST_SERVING && drain_state_keep_event(t->s, e) < 0)
		turn_fail(t, -ENOMEM);
	if (e->state != cell.next) {
		e->state = cell.next;
		turn_touch(t);
	}
	/* A person, or the boot itself, has decided: a reload must not bring the hold back. */
	if (cell.next == EVENT_NOTED && !e->settled &&
	    (in == EVENT_IN_WAIVE || in == EVENT_IN_REBOOTED || in == EVENT_IN_OPERATOR_ACK)) {
		e->settled = true;
		turn_touch(t);
	}
	event_act(t, e, (enum event_action)cell.action);
}

void events_forget_gone(struct turn *t)
{
	for (size_t i = t->s->events.n; i-- > 0;)
		if (drain_state_event(t->s, i)->state == EVENT_GONE) {
			drain_state_remove_event(t->s, i);
			turn_touch(t);
		}
}

void events_input_all(struct turn *t, enum event_input in)
{
	for (size_t i = 0; i < t->s->events.n; i++)
		event_input(t, drain_state_event(t->s, i), in);
	events_forget_gone(t);
}

/* Time. */

static usec_t lead(const struct turn *t)
{
	return t->drain ? usec_from_seconds((uint64_t)t->drain->lead_seconds) : 0;
}

/* By the boot clock; 0 when there is no NotBefore. */
static usec_t due_at(const struct turn *t, const struct drain_event *e)
{
	return usec_sub(e->not_before_boot, lead(t));
}

void events_due(struct turn *t)
{
	for (size_t i = 0; i < t->s->events.n && !t->v.paused; i++) {
		struct drain_event *e = drain_state_event(t->s, i);

		/* It has started during a pause, which may have ended while we were away. */
		if (e->state == EVENT_WAITING && e->status == EVENT_STARTED)
			event_input(t, e, EVENT_IN_STARTED);
		else if (e->state == EVENT_WAITING && due_at(t, e) <= t->now.boot) {
			/* We may have been away, or paused, until no time was left. */
			event_judge_lateness(t, e, true);
			event_input(t, e, EVENT_IN_DUE);
		}
	}
}

usec_t events_next_time(const struct turn *t)
{
	usec_t next = events_next_send(t);

	for (size_t i = 0; i < t->s->events.n; i++) {
		const struct drain_event *e = drain_state_event(t->s, i);

		if (e->state == EVENT_WAITING && !t->v.paused)
			next = usec_min(next, usec_max(due_at(t, e), t->now.boot));
	}
	return next;
}

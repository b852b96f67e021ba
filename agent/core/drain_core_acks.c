/* Acknowledgements that are ready go out, one POST at a time; the leader of a shared event asks the others before. */
#include <errno.h>
#include <stdlib.h>

#include "agent/core/drain_core_internal.h"

/* Being drained is what it waits for; it may have ceased to be so, by a boot for one. */
static bool may_go_out(const struct turn *t, const struct drain_event *e)
{
	if (e->status != EVENT_SCHEDULED || e->status_text || e->ack_needs_document || !t->v.document_seen || t->v.boot_pending)
		return false;
	return e->ack_reason != ACK_WHEN_DRAINED || (t->s->host == HOST_DRAINED && t->s->result != DRAIN_ABORTED);
}

static void send_acks(struct turn *t)
{
	struct drain_action *a = NULL;
	size_t n = 0;

	if (t->v.post_flying || t->v.ack_retry > t->now.boot)
		return;
	for (size_t i = 0; i < t->s->events.n && t->r == 0; i++) {
		struct drain_event *e = drain_state_event(t->s, i);

		if (e->ack != ACK_WANTED || !may_go_out(t, e))
			continue;
		if (!a) {
			a = turn_act(t, DRAIN_ACKNOWLEDGE);
			a->ids = calloc(t->s->events.n + 1, sizeof(char *));
			if (!a->ids) {
				turn_fail(t, -ENOMEM);
				return;
			}
			t->v.post_flying = a->token = ++t->v.last_token;
		}
		if (str_set(&a->ids[n], e->id) < 0)
			turn_fail(t, -ENOMEM);
		n++;
		e->ack_flying = true;
	}
}

static void ask_peers(struct turn *t)
{
	size_t n = t->s->events.n;

	if (t->v.peers_flying || t->v.peers_retry > t->now.boot)
		return;
	/* One event after the other: one whose peers never say yes keeps none of the others waiting. */
	for (size_t k = 0; k < n; k++) {
		size_t i = (t->v.peers_next + k) % n;
		struct drain_event *e = drain_state_event(t->s, i);
		struct drain_action *a;

		if (e->ack != ACK_PEERS || !may_go_out(t, e) || !e->peers)
			continue;
		t->v.peers_next = i + 1;
		a = turn_act(t, DRAIN_ASK_PEERS);
		a->ids = strv_copy((const char *const *)e->peers);
		if (!a->ids || str_set(&a->event_id, e->id) < 0)
			turn_fail(t, -ENOMEM);
		t->v.peers_flying = a->token = ++t->v.last_token;
		e->peers_flying = true;
		return;
	}
}

void events_send(struct turn *t)
{
	send_acks(t);
	ask_peers(t);
}

static void refused(struct turn *t, struct drain_event *e)
{
	turn_touch(t);
	if (++e->refusals < 2) {
		e->ack_needs_document = true;
		return;
	}
	e->ack = ACK_REFUSED;
	turn_tell(t, LOG_LEVEL_ERROR, TOPIC_PROBLEM, e, false,
		  str_format("%s %s: the platform refuses the acknowledgement (400); it goes on at NotBefore", e->type,
			     e->id));
}

void events_ack_result(struct turn *t, enum ack_outcome outcome)
{
	usec_t delay = ACK_RETRY_FIRST;

	t->v.post_flying = 0;
	for (size_t i = 0; i < t->s->events.n; i++) {
		struct drain_event *e = drain_state_event(t->s, i);

		if (!e->ack_flying)
			continue;
		e->ack_flying = false;
		if (e->ack != ACK_WANTED && outcome != ACK_OUTCOME_OK)
			continue;
		event_input(t, e, outcome == ACK_OUTCOME_OK ? EVENT_IN_ACK_OK : EVENT_IN_ACK_FAILED);
		if (outcome == ACK_OUTCOME_BAD_REQUEST && e->ack == ACK_WANTED)
			refused(t, e);
	}

	t->v.ack_retry = 0;
	if (outcome != ACK_OUTCOME_RETRY) {
		t->v.ack_failures = 0;
		return;
	}
	for (unsigned i = 0; i < t->v.ack_failures && delay < ACK_RETRY_LAST; i++)
		delay *= 2;
	t->v.ack_failures++;
	t->v.ack_retry = t->now.boot + usec_min(delay, ACK_RETRY_LAST);
}

void events_peers_result(struct turn *t, bool drained)
{
	t->v.peers_flying = 0;
	t->v.peers_retry = drained ? 0 : t->now.boot + PEERS_INTERVAL;
	for (size_t i = 0; i < t->s->events.n; i++) {
		struct drain_event *e = drain_state_event(t->s, i);

		if (!e->peers_flying)
			continue;
		e->peers_flying = false;
		if (e->ack != ACK_PEERS || !drained)
			continue;
		e->ack = ACK_WANTED;
		turn_touch(t);
	}
}

usec_t events_next_send(const struct turn *t)
{
	usec_t next = USEC_INFINITY;

	for (size_t i = 0; i < t->s->events.n; i++) {
		const struct drain_event *e = drain_state_event(t->s, i);

		if (!may_go_out(t, e))
			continue;
		if (e->ack == ACK_WANTED && !t->v.post_flying)
			next = usec_min(next, t->v.ack_retry);
		if (e->ack == ACK_PEERS && !t->v.peers_flying && e->peers)
			next = usec_min(next, t->v.peers_retry);
	}
	return next;
}

/* The core's side of the event machine: documents in, decisions, holds, acknowledgements. */
#include <errno.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/codec/timefmt.h"
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

/* An acknowledgement that is not out yet has lost its reason. */
static void drop_ack(struct turn *t, struct drain_event *e)
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

	if (e->settled)
		return;
	/* What the platform means by a status that came later cannot be acted upon. */
	if (t->drain && e->status != EVENT_STATUS_OTHER)
		d = policy_decide(t->drain, &q);
	if (e->action != d.action || e->acknowledge != d.acknowledge)
		turn_touch(t);
	e->action = d.action;
	e->acknowledge = d.acknowledge;
	if (d.acknowledge != ACKNOWLEDGE_IMMEDIATELY && e->ack_reason == ACK_IMMEDIATELY)
		drop_ack(t, e);

	if (d.action != POLICY_DRAIN)
		event_input(t, e, EVENT_IN_NOTE);
	else
		event_input(t, e, e->status == EVENT_STARTED ? EVENT_IN_BEGIN : EVENT_IN_WAIT);
}

static void at_once_if_policy_says(struct turn *t, struct drain_event *e)
{
	if (e->acknowledge == ACKNOWLEDGE_IMMEDIATELY && e->ack == ACK_NONE)
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
			drop_ack(t, e);
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

static void forget_gone(struct turn *t)
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
	forget_gone(t);
}

/* NotBefore by the boot clock. */

static usec_t margin(const struct turn *t)
{
	return t->drain ? usec_from_seconds((uint64_t)t->drain->margin_seconds) : 0;
}

static void anchor(struct turn *t, struct drain_event *e)
{
	usec_t away = usec_sub(e->not_before_wall, t->now.wall), was = e->not_before_boot;

	if (e->not_before_wall == 0 || (away <= margin(t) && was != 0))
		return;
	e->not_before_boot = usec_add(t->now.boot, away);
	/* The clocks wander a little against each other; a jump must be known after a restart, too. */
	if (usec_sub(usec_max(e->not_before_boot, was), usec_min(e->not_before_boot, was)) > USEC_PER_SEC)
		turn_touch(t);
}

void events_anchor(struct turn *t)
{
	for (size_t i = 0; i < t->s->events.n; i++)
		anchor(t, drain_state_event(t->s, i));
}

void events_forget_anchors(struct turn *t)
{
	for (size_t i = 0; i < t->s->events.n; i++)
		drain_state_event(t->s, i)->not_before_boot = 0;
	events_anchor(t);
}

/* Documents. */

static void set_text(struct turn *t, char **dst, const char *src)
{
	if (str_equal(*dst, src))
		return;
	if (str_set(dst, src) < 0)
		turn_fail(t, -ENOMEM);
	turn_touch(t);
}

static void set_peers(struct turn *t, struct drain_event *e, const struct event *seen)
{
	char *const *names = seen->resources.items;
	size_t n = 0;
	char **peers;

	strv_free(e->peers);
	e->peers = NULL;
	if (seen->resources.n < 2)
		return;
	peers = calloc(seen->resources.n + 1, sizeof(char *));
	for (size_t i = 0; peers && i < seen->resources.n; i++) {
		if (str_equal_nocase(names[i], t->core->self))
			continue;
		if (str_set(&peers[n], names[i]) < 0) {
			turn_fail(t, -ENOMEM);
			break;
		}
		n++;
	}
	if (!peers)
		turn_fail(t, -ENOMEM);
	e->peers = peers;
}

/* By a wall clock that is past it already, it moves by as much as the platform has moved it. */
static void move_not_before(struct turn *t, struct drain_event *e, usec_t to)
{
	usec_t from = e->not_before_wall, was = e->not_before_boot;

	e->not_before_wall = to;
	if (was != 0)
		e->not_before_boot = to > from ? usec_add(was, to - from) : usec_max(usec_sub(was, from - to), 1);
	anchor(t, e);
}

/* What the document says of it, but for the status. */
static void set_facts(struct turn *t, struct drain_event *e, const struct event *seen, bool first_name)
{
	bool shared = seen->resources.n > 1;

	set_text(t, &e->type, seen->type);
	set_text(t, &e->source, seen->source);
	set_text(t, &e->description, seen->description);
	set_peers(t, e, seen);
	/* Blank once started: what was said before is still worth knowing. */
	if (e->not_before_wall != seen->not_before && seen->not_before != 0) {
		move_not_before(t, e, seen->not_before);
		turn_touch(t);
	}
	if (e->duration_seconds != seen->duration_seconds || e->shared != shared || e->leader != first_name) {
		e->duration_seconds = seen->duration_seconds;
		e->shared = shared;
		e->leader = first_name;
		turn_touch(t);
	}
}

/* Is there time to drain before it? None at first sight says more about our clock than about the event: the platform still
 * has it Scheduled. Once it has been late only a later NotBefore gives it time. */
static void judge_lateness(struct turn *t, struct drain_event *e, bool first)
{
	bool none = e->status == EVENT_SCHEDULED && e->not_before_boot != 0 &&
		    usec_sub(e->not_before_boot, t->now.boot) <= margin(t);

	if (e->late == none || (none && !first))
		return;
	e->late = none;
	turn_touch(t);
}

static void tell_seen(struct turn *t, const struct drain_event *e)
{
	char when[TIMEFMT_MAX] = "", in[TIMEFMT_MAX] = "";
	bool soon = e->status == EVENT_SCHEDULED && e->not_before_wall != 0;
	static const char *const words[] = { "will be drained for", "nothing is done about it", "ignored" };

	if (e->status_text) {
		turn_tell(t, LOG_LEVEL_WARNING, TOPIC_EVENT, e, true,
			  str_format("%s %s is \"%s\", which this version does not know; nothing is done about that",
				     e->type, e->id, e->status_text));
		return;
	}
	if (soon) {
		(void)timefmt_clock(e->not_before_wall, when);
		(void)timefmt_span(usec_sub(e->not_before_wall, t->now.wall), in);
	}
	turn_tell(t, LOG_LEVEL_INFO, TOPIC_EVENT, e, true,
		  str_format("%s %s %s%s%s%s%s%s%s%s, %s", e->type, e->id,
			     e->status == EVENT_STARTED ? "has started" : "is scheduled", soon ? ", not before " : "",
			     when, soon ? " (in " : "", in, soon ? ")" : "", e->source ? ", by " : "",
			     e->source ? e->source : "", words[e->action]));
}

static void first_sight(struct turn *t, const struct event *seen, bool first_name)
{
	struct drain_event *e = NULL;

	if (t->s->events.n == LIMIT_EVENTS)
		return;
	if (drain_state_add_event(t->s, &e) < 0) {
		turn_fail(t, -ENOMEM);
		return;
	}
	set_text(t, &e->id, seen->id);
	e->status = seen->status;
	e->incarnation = t->v.incarnation;
	set_text(t, &e->status_text, seen->status == EVENT_STATUS_OTHER ? seen->status_text : NULL);
	set_facts(t, e, seen, first_name);
	if (t->r < 0)
		return;
	e->notice_seconds = (int64_t)(usec_sub(e->not_before_wall, t->now.wall) / USEC_PER_SEC);
	judge_lateness(t, e, true);
	turn_touch(t);
	event_input(t, e, EVENT_IN_RELOAD);
	tell_seen(t, e);
}

/* Keeps and tells a status that this version does not know; false: the event has it still. */
static bool keep_status(struct turn *t, struct drain_event *e, const struct event *seen)
{
	const char *text = seen->status == EVENT_STATUS_OTHER ? seen->status_text : NULL;

	if (text && str_equal(e->status_text, text))
		return false;
	set_text(t, &e->status_text, text);
	if (text)
		tell_seen(t, e);
	return true;
}

static void seen_again(struct turn *t, struct drain_event *e, const struct event *seen, bool first_name)
{
	usec_t not_before;

	e->missed = 0;
	e->ack_needs_document = false;
	not_before = e->not_before_wall;
	set_facts(t, e, seen, first_name);
	/* What was known of the time by the clock of a former boot says nothing now: as at first sight. */
	if (e->not_before_wall != not_before || t->v.rebooted)
		judge_lateness(t, e, t->v.rebooted);
	e->incarnation = t->v.incarnation;
	if (!keep_status(t, e, seen))
		return;
	/* There is no way back from started, nor from scheduled to what nobody knows. */
	if (e->status == EVENT_STATUS_OTHER && seen->status != EVENT_STATUS_OTHER) {
		e->status = seen->status;
		judge_lateness(t, e, true);
		turn_touch(t);
		event_input(t, e, EVENT_IN_RELOAD);
		tell_seen(t, e);
		return;
	}
	if (seen->status != EVENT_STARTED || e->status == EVENT_STARTED)
		return;
	e->status = EVENT_STARTED;
	drop_ack(t, e);
	turn_touch(t);
	event_input(t, e, EVENT_IN_STARTED);
	turn_tell(t, LOG_LEVEL_INFO, TOPIC_EVENT, e, true, str_format("%s %s has started", e->type, e->id));
}

static void not_seen(struct turn *t, struct drain_event *e)
{
	e->missed++;
	if (e->incarnation == t->v.incarnation && e->missed < REMOVED_AFTER)
		return;
	turn_tell(t, LOG_LEVEL_INFO, TOPIC_EVENT, e, true,
		  str_format("%s %s %s", e->type, e->id, e->status == EVENT_STARTED ? "is over" : "was cancelled"));
	event_input(t, e, EVENT_IN_REMOVED);
}

/* Order must not matter, nor may an id that stands there twice: by id, started first, then the earlier one. */
static int by_id(const void *a, const void *b)
{
	const struct event *x = *(const struct event *const *)a, *y = *(const struct event *const *)b;
	const char *p = x->id, *q = y->id;

	while (*p && *p == *q)
		p++, q++;
	if (*p != *q)
		return (unsigned char)*p < (unsigned char)*q ? -1 : 1;
	if ((x->status == EVENT_STARTED) != (y->status == EVENT_STARTED))
		return x->status == EVENT_STARTED ? -1 : 1;
	if (x->not_before != y->not_before)
		return x->not_before < y->not_before ? -1 : 1;
	return x < y ? -1 : x > y;
}

static bool listed(const struct event *const *ours, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (str_equal(ours[i]->id, id))
			return true;
	return false;
}

void events_document(struct turn *t, const struct events_document *doc)
{
	const struct event *ours[LIMIT_EVENTS];
	const struct event *all = doc->events.items;
	size_t n = 0, known = t->s->events.n;

	for (size_t i = 0; i < doc->events.n && n < LIMIT_EVENTS; i++)
		if (event_names(&all[i], t->core->self, NULL))
			ours[n++] = &all[i];
	if (n > 0)
		qsort(ours, n, sizeof(*ours), by_id);

	t->v.incarnation = doc->incarnation;
	t->v.document_seen = true;
	if (n > 0)
		t->v.event_seen_boot = t->now.boot;

	for (size_t i = 0; i < known; i++)
		if (!listed(ours, n, drain_state_event(t->s, i)->id))
			not_seen(t, drain_state_event(t->s, i));
	forget_gone(t);

	for (size_t i = 0; i < n && t->r == 0; i++) {
		struct drain_event *e = events_find(t->s, ours[i]->id);
		bool first_name = false;

		if (i > 0 && str_equal(ours[i]->id, ours[i - 1]->id))
			continue;
		(void)event_names(ours[i], t->core->self, &first_name);
		if (e)
			seen_again(t, e, ours[i], first_name);
		else
			first_sight(t, ours[i], first_name);
	}
}

static bool ended_by_boot(const struct turn *t, const struct drain_event *e)
{
	enum event_type type = event_type_of(e->type);

	return (type == EVENT_REBOOT || type == EVENT_REDEPLOY) && t->drain && t->drain->restore_when_rebooted;
}

void events_rebooted(struct turn *t)
{
	for (size_t i = 0; i < t->s->events.n; i++)
		if (ended_by_boot(t, drain_state_event(t->s, i)))
			event_input(t, drain_state_event(t->s, i), EVENT_IN_REBOOTED);
}

void events_as_if_empty(struct turn *t)
{
	events_rebooted(t);
	for (size_t i = 0; i < t->s->events.n; i++)
		if (drain_state_event(t->s, i)->state != EVENT_NOTED)
			event_input(t, drain_state_event(t->s, i), EVENT_IN_REMOVED);
	forget_gone(t);
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
	for (size_t i = 0; i < t->s->events.n; i++) {
		struct drain_event *e = drain_state_event(t->s, i);

		if (e->state == EVENT_WAITING && due_at(t, e) <= t->now.boot)
			event_input(t, e, EVENT_IN_DUE);
	}
}

/* Acknowledgements. */

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
	if (t->v.peers_flying || t->v.peers_retry > t->now.boot)
		return;
	for (size_t i = 0; i < t->s->events.n; i++) {
		struct drain_event *e = drain_state_event(t->s, i);
		struct drain_action *a;

		if (e->ack != ACK_PEERS || !may_go_out(t, e) || !e->peers)
			continue;
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

usec_t events_next_time(const struct turn *t)
{
	usec_t next = USEC_INFINITY;

	for (size_t i = 0; i < t->s->events.n; i++) {
		const struct drain_event *e = drain_state_event(t->s, i);

		if (e->state == EVENT_WAITING)
			next = usec_min(next, usec_max(due_at(t, e), t->now.boot));
		if (!may_go_out(t, e))
			continue;
		if (e->ack == ACK_WANTED && !t->v.post_flying)
			next = usec_min(next, t->v.ack_retry);
		if (e->ack == ACK_PEERS && !t->v.peers_flying && e->peers)
			next = usec_min(next, t->v.peers_retry);
	}
	return next;
}

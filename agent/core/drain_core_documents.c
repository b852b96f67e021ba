/* Documents taken in: what is new about events that name us, and what that is to the event machine. */
#include <errno.h>
#include <stdlib.h>

#include "agent/codec/timefmt.h"
#include "agent/core/drain_core_internal.h"

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

void event_judge_lateness(struct turn *t, struct drain_event *e, bool first)
{
	bool none = e->status == EVENT_SCHEDULED && e->not_before_boot != 0 &&
		    usec_sub(e->not_before_boot, t->now.boot) <= margin(t);

	if (e->late == none || (none && !first))
		return;
	e->late = none;
	turn_touch(t);
}

/* Nobody else will step the application aside for it: a Preempt leaves half a minute. */
static void tell_paused(struct turn *t, const struct drain_event *e)
{
	enum log_level level = event_type_of(e->type) == EVENT_PREEMPT ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING;

	turn_tell(t, level, TOPIC_PROBLEM, e, true,
		  str_format("%s %s %s, but draining is paused: it is not drained for and not acknowledged until the pause ends (evenkeel pause --end)",
			     e->type, e->id, e->status == EVENT_STARTED ? "has started" : "is scheduled"));
}

void events_tell_paused(struct turn *t)
{
	for (size_t i = 0; i < t->s->events.n; i++)
		if (event_is_paused(&t->v, drain_state_event(t->s, i)))
			tell_paused(t, drain_state_event(t->s, i));
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
	if (event_is_paused(&t->v, e))
		tell_paused(t, e);
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
	event_judge_lateness(t, e, true);
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
		event_judge_lateness(t, e, t->v.rebooted);
	e->incarnation = t->v.incarnation;
	if (!keep_status(t, e, seen))
		return;
	if (seen->status == EVENT_SCHEDULED && event_is_put_by(e)) {
		event_input(t, e, EVENT_IN_WAIT); /* still to come */
		event_input(t, e, EVENT_IN_RELOAD);
	}
	/* There is no way back from started, nor from scheduled to what nobody knows. */
	if (e->status == EVENT_STATUS_OTHER && seen->status != EVENT_STATUS_OTHER) {
		e->status = seen->status;
		event_judge_lateness(t, e, true);
		turn_touch(t);
		event_input(t, e, EVENT_IN_RELOAD);
		tell_seen(t, e);
		return;
	}
	if (seen->status != EVENT_STARTED || e->status == EVENT_STARTED)
		return;
	e->status = EVENT_STARTED;
	event_drop_ack(t, e);
	turn_touch(t);
	if (event_is_put_by(e)) {
		e->settled = true; /* the boot was it */
		return;
	}
	if (event_is_paused(&t->v, e)) {
		tell_paused(t, e);
		return;
	}
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
	events_forget_gone(t);

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

/* What the boot may have been is put by: once a document comes, it is drained for if it is still Scheduled, but not if it has
 * started meanwhile, which nobody here could see. */
void events_as_if_empty(struct turn *t)
{
	events_rebooted(t);
	for (size_t i = 0; i < t->s->events.n; i++) {
		struct drain_event *e = drain_state_event(t->s, i);

		if (e->state == EVENT_NOTED)
			continue;
		if (!ended_by_boot(t, e)) {
			event_input(t, e, EVENT_IN_REMOVED);
			continue;
		}
		event_input(t, e, EVENT_IN_WAIVE);
		e->settled = false;
	}
	events_forget_gone(t);
}

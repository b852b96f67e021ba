/* The value that draining remembers: making, copying, releasing. */
#include "agent/core/drain_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

const char *const acknowledgement_names[] = { "none", "askingPeers", "wanted", "accepted", "refused", NULL };
const char *const ack_reason_names[] = { "whenDrained", "immediately", "operator", NULL };
const char *const hold_kind_names[] = { "operator", "shutdown", "backup", "rehearsal", NULL };
const char *const step_mark_names[] = { "untouched", "begun", "ok", "failed", "timeout", "stopped", NULL };
const char *const step_now_names[] = { "idle", "doing", "undoing", NULL };
const char *const drain_result_names[] = { "clean", "incomplete", "aborted", NULL };

static void event_done(struct drain_event *e)
{
	free(e->id);
	free(e->type);
	free(e->source);
	free(e->description);
	free(e->status_text);
	strv_free(e->peers);
}

static void texts_done(struct jd_list *l)
{
	char **texts = l->items;

	for (size_t i = 0; i < l->n; i++)
		free(texts[i]);
	free(texts);
	*l = (struct jd_list){};
}

static void ledger_done(struct drain_state *s)
{
	for (size_t i = 0; i < s->ledger.n; i++)
		free(drain_state_step(s, i)->detail);
	free(s->ledger.items);
	s->ledger = (struct jd_list){};
}

static void events_done_all(struct jd_list *l)
{
	struct drain_event *events = l->items;

	for (size_t i = 0; i < l->n; i++)
		event_done(&events[i]);
	free(events);
	*l = (struct jd_list){};
}

static void holds_done(struct jd_list *l)
{
	struct drain_hold *holds = l->items;

	for (size_t i = 0; i < l->n; i++)
		free(holds[i].reason);
	free(holds);
	*l = (struct jd_list){};
}

void drain_state_forget_former(struct drain_state *s)
{
	events_done_all(&s->former_events);
	holds_done(&s->former_holds);
}

int drain_state_new(struct drain_state **ret)
{
	struct drain_state *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->version = 1;
	s->next_token = 1;
	*ret = s;
	return 0;
}

void drain_state_free(struct drain_state *s)
{
	if (!s)
		return;
	events_done_all(&s->events);
	holds_done(&s->holds);
	drain_state_forget_former(s);
	ledger_done(s);
	texts_done(&s->snapshot);
	drain_plan_unref(s->plan);
	free(s->boot_id);
	free(s);
}

/* A list of structs, texts still those of `from`: the caller replaces them at once, from the first to the last,
 * counting `to->n` up, so that a half-made copy can be released. */
static int copy_list(const struct jd_list *from, size_t size, struct jd_list *to)
{
	if (from->n == 0)
		return 0;
	to->items = malloc(from->n * size);
	if (!to->items)
		return -ENOMEM;
	memcpy(to->items, from->items, from->n * size);
	return 0;
}

static int copy_text(const char *from, char **to)
{
	*to = NULL;
	return str_set(to, from);
}

static int copy_event(const struct drain_event *from, struct drain_event *to)
{
	int r = 0;

	to->id = to->type = to->source = to->description = to->status_text = NULL;
	to->peers = NULL;
	r = str_set(&to->id, from->id);
	r = r < 0 ? r : str_set(&to->type, from->type);
	r = r < 0 ? r : str_set(&to->source, from->source);
	r = r < 0 ? r : str_set(&to->description, from->description);
	r = r < 0 ? r : str_set(&to->status_text, from->status_text);
	if (r < 0 || !from->peers)
		return r;
	to->peers = strv_copy((const char *const *)from->peers);
	return to->peers ? 0 : -ENOMEM;
}

static int copy_events(const struct jd_list *from, struct jd_list *to)
{
	int r = copy_list(from, sizeof(struct drain_event), to);
	const struct drain_event *events = from->items;
	struct drain_event *copies = to->items;

	for (size_t i = 0; i < from->n && r == 0; i++) {
		to->n = i + 1;
		r = copy_event(&events[i], &copies[i]);
	}
	return r;
}

static int copy_holds(const struct jd_list *from, struct jd_list *to)
{
	int r = copy_list(from, sizeof(struct drain_hold), to);
	const struct drain_hold *holds = from->items;
	struct drain_hold *copies = to->items;

	for (size_t i = 0; i < from->n && r == 0; i++) {
		to->n = i + 1;
		r = copy_text(holds[i].reason, &copies[i].reason);
	}
	return r;
}

static int copy_ledger(const struct drain_state *s, struct drain_state *c)
{
	int r = copy_list(&s->ledger, sizeof(struct ledger_entry), &c->ledger);

	for (size_t i = 0; i < s->ledger.n && r == 0; i++) {
		c->ledger.n = i + 1;
		r = copy_text(drain_state_step(s, i)->detail, &drain_state_step(c, i)->detail);
	}
	return r;
}

static int copy_snapshot(const struct drain_state *s, struct drain_state *c)
{
	int r = copy_list(&s->snapshot, sizeof(char *), &c->snapshot);

	for (size_t i = 0; i < s->snapshot.n && r == 0; i++) {
		c->snapshot.n = i + 1;
		r = copy_text(((char **)s->snapshot.items)[i], &((char **)c->snapshot.items)[i]);
	}
	return r;
}

int drain_state_copy(const struct drain_state *s, struct drain_state **ret)
{
	_cleanup_(drain_state_freep) struct drain_state *c = malloc(sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = *s;
	c->boot_id = NULL;
	c->events = c->holds = c->former_events = c->former_holds = c->ledger = c->snapshot = (struct jd_list){};
	c->plan = drain_plan_ref(s->plan);

	r = str_set(&c->boot_id, s->boot_id);
	r = r < 0 ? r : copy_events(&s->events, &c->events);
	r = r < 0 ? r : copy_holds(&s->holds, &c->holds);
	r = r < 0 ? r : copy_events(&s->former_events, &c->former_events);
	r = r < 0 ? r : copy_holds(&s->former_holds, &c->former_holds);
	r = r < 0 ? r : copy_ledger(s, c);
	r = r < 0 ? r : copy_snapshot(s, c);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

static int append(struct jd_list *l, size_t size, void **ret)
{
	char *items = reallocarray(l->items, l->n + 1, size);

	if (!items)
		return -ENOMEM;
	l->items = items;
	*ret = memset(items + l->n * size, 0, size);
	l->n++;
	return 0;
}

static void take_out(struct jd_list *l, size_t size, size_t i)
{
	char *items = l->items;

	memmove(items + i * size, items + (i + 1) * size, (l->n - i - 1) * size);
	l->n--;
}

int drain_state_add_event(struct drain_state *s, struct drain_event **ret)
{
	void *p = NULL;
	int r = append(&s->events, sizeof(struct drain_event), &p);

	if (r < 0)
		return r;
	*ret = p;
	return 0;
}

void drain_state_remove_event(struct drain_state *s, size_t i)
{
	event_done(drain_state_event(s, i));
	take_out(&s->events, sizeof(struct drain_event), i);
}

int drain_state_add_hold(struct drain_state *s, struct drain_hold **ret)
{
	void *p = NULL;
	int r = append(&s->holds, sizeof(struct drain_hold), &p);

	if (r < 0)
		return r;
	*ret = p;
	return 0;
}

void drain_state_remove_hold(struct drain_state *s, size_t i)
{
	free(drain_state_hold(s, i)->reason);
	take_out(&s->holds, sizeof(struct drain_hold), i);
}

int drain_state_keep_event(struct drain_state *s, const struct drain_event *e)
{
	void *p = NULL;
	int r;

	for (size_t i = s->former_events.n; i-- > 0;)
		if (str_equal(drain_state_former_event(s, i)->id, e->id) ||
		    (i == 0 && s->former_events.n == LIMIT_FORMER)) {
			event_done(drain_state_former_event(s, i));
			take_out(&s->former_events, sizeof(struct drain_event), i);
		}
	r = append(&s->former_events, sizeof(struct drain_event), &p);
	if (r < 0)
		return r;
	*(struct drain_event *)p = *e;
	return copy_event(e, p);
}

int drain_state_keep_hold(struct drain_state *s, const struct drain_hold *h)
{
	void *p = NULL;
	int r;

	for (size_t i = s->former_holds.n; i-- > 0;)
		if (drain_state_former_hold(s, i)->kind == h->kind) {
			free(drain_state_former_hold(s, i)->reason);
			take_out(&s->former_holds, sizeof(struct drain_hold), i);
		}
	r = append(&s->former_holds, sizeof(struct drain_hold), &p);
	if (r < 0)
		return r;
	*(struct drain_hold *)p = *h;
	return copy_text(h->reason, &((struct drain_hold *)p)->reason);
}

int drain_state_set_plan(struct drain_state *s, struct drain_plan *plan)
{
	struct ledger_entry *entries = NULL;
	size_t n = plan ? plan->steps.n : 0;

	if (n > 0) {
		entries = calloc(n, sizeof(*entries));
		if (!entries)
			return -ENOMEM;
	}
	ledger_done(s);
	s->ledger = (struct jd_list){ .items = entries, .n = n };
	drain_plan_ref(plan);
	drain_plan_unref(s->plan);
	s->plan = plan;
	return 0;
}

void drain_state_forget_snapshot(struct drain_state *s)
{
	texts_done(&s->snapshot);
}

int drain_state_add_snapshot(struct drain_state *s, const char *const *units)
{
	size_t n = 0;
	char **texts;

	while (units[n])
		n++;
	texts = calloc(s->snapshot.n + n + 1, sizeof(char *));
	if (!texts)
		return -ENOMEM;
	if (s->snapshot.n > 0)
		memcpy(texts, s->snapshot.items, s->snapshot.n * sizeof(char *));
	free(s->snapshot.items);
	s->snapshot.items = texts;

	for (size_t i = 0; i < n && s->snapshot.n < LIMIT_SNAPSHOT_UNITS; i++) {
		if (drain_state_had_active(s, units[i]))
			continue;
		texts[s->snapshot.n] = strdup(units[i]);
		if (!texts[s->snapshot.n])
			return -ENOMEM;
		s->snapshot.n++;
	}
	return 0;
}

bool drain_state_had_active(const struct drain_state *s, const char *unit)
{
	char *const *units = s->snapshot.items;

	for (size_t i = 0; i < s->snapshot.n; i++)
		if (str_equal(units[i], unit))
			return true;
	return false;
}

size_t drain_state_n_holds(const struct drain_state *s)
{
	size_t n = s->holds.n;

	for (size_t i = 0; i < s->events.n; i++)
		n += event_state_holds((enum event_state)drain_state_event(s, i)->state);
	return n;
}

bool drain_state_ledger_empty(const struct drain_state *s)
{
	for (size_t i = 0; i < s->ledger.n; i++)
		if (drain_state_step(s, i)->mark != STEP_UNTOUCHED)
			return false;
	return true;
}

size_t drain_state_culprit(const struct drain_state *s)
{
	size_t first = (size_t)s->cursor;

	if (s->host != HOST_DRAINED || s->result == DRAIN_CLEAN || first >= s->ledger.n)
		return s->ledger.n;
	/* The cursor stands where the drain has ended. */
	for (size_t i = first; i < s->ledger.n; i++) {
		const struct ledger_entry *e = drain_state_step(s, i);
		const struct plan_step *p = drain_plan_step(s->plan, i);

		if (p->group != drain_plan_step(s->plan, first)->group)
			break;
		if (s->result == DRAIN_INCOMPLETE ? !e->over :
						    (e->mark == STEP_FAILED || e->mark == STEP_TIMED_OUT) &&
							    p->settings.on_failure == ON_FAILURE_ABORT)
			return i;
	}
	return s->ledger.n;
}

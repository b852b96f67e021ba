/* The view's tables, and its making from the core. */
#include "agent/core/drain_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/drain_status.h"

static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_type integer = { .kind = JD_INTEGER };
static const struct jd_type boolean = { .kind = JD_BOOLEAN };

/* clang-format off */
#define EVENT(member) offsetof(struct view_event, member)
static const struct jd_field event_fields[] = {
	{ "id",                &text,    EVENT(id) },
	{ "type",              &text,    EVENT(type) },
	{ "source",            &text,    EVENT(source) },
	{ "description",       &text,    EVENT(description) },
	{ "status",            &text,    EVENT(status) },
	{ "notBefore",         &text,    EVENT(not_before) },
	{ "durationInSeconds", &integer, EVENT(duration_seconds), .default_integer = -1 },
	{ "shared",            &boolean, EVENT(shared) },
	{ "leader",            &boolean, EVENT(leader) },
	{ "state",             &text,    EVENT(state) },
	{ "holds",             &boolean, EVENT(holds) },
	{ "action",            &text,    EVENT(action) },
	{ "drainAt",           &text,    EVENT(drain_at) },
	{ "acknowledge",       &text,    EVENT(acknowledge) },
	{ "acknowledgement",   &text,    EVENT(acknowledgement) },
	{ "acknowledgedAt",    &text,    EVENT(acknowledged_at) },
	{},
};
static const struct jd_field hold_fields[] = {
	{ "kind",      &text, offsetof(struct view_hold, kind) },
	{ "reason",    &text, offsetof(struct view_hold, reason) },
	{ "drainedBy", &text, offsetof(struct view_hold, drained_by) },
	{ "until",     &text, offsetof(struct view_hold, until) },
	{},
};
static const struct jd_field step_fields[] = {
	{ "name",                  &text,    offsetof(struct view_step, name) },
	{ "type",                  &text,    offsetof(struct view_step, type) },
	{ "state",                 &text,    offsetof(struct view_step, state) },
	{ "detail",                &text,    offsetof(struct view_step, detail) },
	{ "group",                 &integer, offsetof(struct view_step, group) },
	{ "timeoutInMilliseconds", &integer, offsetof(struct view_step, timeout_msec) },
	{ "reserveInMilliseconds", &integer, offsetof(struct view_step, reserve_msec) },
	{},
};
static const struct jd_field line_fields[] = {
	{ "number", &integer, offsetof(struct view_line, number) },
	{ "time",   &text,    offsetof(struct view_line, time) },
	{ "level",  &text,    offsetof(struct view_line, level) },
	{ "text",   &text,    offsetof(struct view_line, text) },
	{},
};
/* clang-format on */
static const struct jd_type event_type = { .kind = JD_OBJECT,
					   .fields = event_fields,
					   .size = sizeof(struct view_event) };
static const struct jd_type hold_type = { .kind = JD_OBJECT, .fields = hold_fields, .size = sizeof(struct view_hold) };
static const struct jd_type step_type = { .kind = JD_OBJECT, .fields = step_fields, .size = sizeof(struct view_step) };
static const struct jd_type line_type = { .kind = JD_OBJECT, .fields = line_fields, .size = sizeof(struct view_line) };
static const struct jd_type events = { .kind = JD_LIST, .element = &event_type };
static const struct jd_type holds = { .kind = JD_LIST, .element = &hold_type };
static const struct jd_type steps = { .kind = JD_LIST, .element = &step_type };
static const struct jd_type lines = { .kind = JD_LIST, .element = &line_type };

/* clang-format off */
static const struct jd_field view_fields[] = {
	{ "phase",      &text,    offsetof(struct drain_view, phase) },
	{ "result",     &text,    offsetof(struct drain_view, result) },
	{ "level",      &text,    offsetof(struct drain_view, level) },
	{ "sentence",   &text,    offsetof(struct drain_view, sentence) },
	{ "serving",    &boolean, offsetof(struct drain_view, serving) },
	{ "configured", &boolean, offsetof(struct drain_view, configured) },
	{ "events",     &events,  offsetof(struct drain_view, events) },
	{ "holds",      &holds,   offsetof(struct drain_view, holds) },
	{ "steps",      &steps,   offsetof(struct drain_view, steps) },
	{ "rehearsal",  &text,    offsetof(struct drain_view, rehearsal) },
	{ "told",       &integer, offsetof(struct drain_view, told) },
	{ "lines",      &lines,   offsetof(struct drain_view, lines) },
	{},
};
/* clang-format on */
const struct jd_type drain_view_type = { .kind = JD_OBJECT, .fields = view_fields, .size = sizeof(struct drain_view) };

/* ---- filling ---- */

static int set_wall(char **dst, usec_t wall)
{
	char time[TIMEFMT_MAX];

	return wall == 0 || wall == USEC_INFINITY ? 0 : str_set(dst, timefmt_utc(wall, time));
}

/* A time of the boot clock, as people say it. */
static usec_t to_wall(struct drain_now now, usec_t boot)
{
	return boot == 0 ? 0 : usec_add(usec_sub(now.wall, usec_sub(now.boot, boot)), usec_sub(boot, now.boot));
}

static int fill_event(struct view_event *v, const struct drain_event *e, const struct drain_settings *drain, bool paused)
{
	static const char *const actions[] = { "drain", "notify", "ignore" };
	static const char *const acknowledges[] = { "whenDrained", "immediately", "never" };
	usec_t lead = drain ? usec_from_seconds((uint64_t)drain->lead_seconds) : 0;
	int r = str_set(&v->id, e->id);

	v->duration_seconds = e->duration_seconds;
	v->shared = e->shared;
	v->leader = e->leader;
	v->holds = event_state_holds((enum event_state)e->state);
	r = r < 0 ? r : str_set(&v->type, e->type);
	r = r < 0 ? r : str_set(&v->source, e->source);
	r = r < 0 ? r : str_set(&v->description, e->description);
	r = r < 0 ? r : str_set(&v->status, e->status_text		   ? e->status_text :
					       e->status == EVENT_STARTED ? "Started" :
									    "Scheduled");
	r = r < 0 ? r : str_set(&v->state, paused && e->state == EVENT_WAITING ? "paused" : event_state_names[e->state]);
	r = r < 0 ? r : str_set(&v->action, actions[e->action]);
	r = r < 0 ? r : str_set(&v->acknowledge, e->acknowledge >= 0 ? acknowledges[e->acknowledge] : NULL);
	r = r < 0 ? r : str_set(&v->acknowledgement, acknowledgement_names[e->ack]);
	r = r < 0 ? r : set_wall(&v->not_before, e->not_before_wall);
	r = r < 0 ? r : set_wall(&v->acknowledged_at, e->acknowledged_wall);
	if (r >= 0 && e->state == EVENT_WAITING)
		r = set_wall(&v->drain_at, usec_sub(e->not_before_wall, lead));
	return r;
}

static int fill_events(struct drain_view *v, const struct drain_state *s, const struct drain_settings *drain, bool paused)
{
	struct view_event *items = calloc(s->events.n + 1, sizeof(*items));
	int r = 0;

	v->events.items = items;
	for (size_t i = 0; items && r >= 0 && i < s->events.n; i++) {
		v->events.n++;
		r = fill_event(&items[i], drain_state_event(s, i), drain, paused);
	}
	return items ? r : -ENOMEM;
}

static int fill_holds(struct drain_view *v, const struct drain_state *s, struct drain_now now)
{
	struct view_hold *items = calloc(s->holds.n + 1, sizeof(*items));
	int r = 0;

	v->holds.items = items;
	for (size_t i = 0; items && r >= 0 && i < s->holds.n; i++) {
		const struct drain_hold *h = drain_state_hold(s, i);

		v->holds.n++;
		r = str_set(&items[i].kind, hold_kind_names[h->kind]);
		r = r < 0 ? r : str_set(&items[i].reason, h->reason);
		r = r < 0 ? r : set_wall(&items[i].drained_by, to_wall(now, h->deadline_boot));
		r = r < 0 ? r : set_wall(&items[i].until, to_wall(now, h->until_boot));
	}
	return items ? r : -ENOMEM;
}

static const char *step_state(const struct ledger_entry *e)
{
	static const char *const marks[] = {
		[STEP_UNTOUCHED] = "planned", [STEP_BEGUN] = "running",	    [STEP_OK] = "done",
		[STEP_FAILED] = "failed",     [STEP_TIMED_OUT] = "timeout", [STEP_STOPPED] = "stopped",
	};

	if (e->now != STEP_IDLE)
		return e->now == STEP_UNDOING ? "undoing" : "running";
	return e->mark == STEP_UNTOUCHED && e->over ? "skipped" : marks[e->mark];
}

/* entry NULL: only planned. */
static int fill_step(struct view_step *v, const struct plan_step *p, const struct ledger_entry *e)
{
	int r = str_set(&v->name, p->settings.name);

	v->group = p->group;
	v->timeout_msec = p->timeout_usec / (int64_t)USEC_PER_MSEC;
	v->reserve_msec = p->reserve_usec / (int64_t)USEC_PER_MSEC;
	r = r < 0 ? r : str_set(&v->type, step_type_names[p->settings.type]);
	r = r < 0 ? r : str_set(&v->state, e ? step_state(e) : "planned");
	return r < 0 || !e ? r : str_set(&v->detail, e->detail);
}

static int fill_steps(struct drain_view *v, const struct drain_state *s, const struct drain_settings *drain)
{
	_cleanup_(drain_plan_unrefp) struct drain_plan *planned = NULL;
	const struct drain_plan *plan = s->plan;
	struct error ignored;
	struct view_step *items;
	int r = 0;

	/* A plan that cannot be made is told when it is needed; there is nothing to show of it. */
	if (!plan && drain && drain_plan_new(drain, &planned, &ignored) == -ENOMEM)
		return -ENOMEM;
	if (!plan)
		plan = planned;
	items = calloc((plan ? plan->steps.n : 0) + 1, sizeof(*items));
	v->steps.items = items;
	for (size_t i = 0; items && plan && r >= 0 && i < plan->steps.n; i++) {
		v->steps.n++;
		r = fill_step(&items[i], drain_plan_step(plan, i), s->plan ? drain_state_step(s, i) : NULL);
	}
	return items ? r : -ENOMEM;
}

int drain_view_fill(const struct drain_core *core, const struct drain_settings *drain, struct drain_now now,
		    struct drain_view *ret)
{
	static const char *const levels[] = {
		[DRAIN_LEVEL_SUCCESS] = "success",
		[DRAIN_LEVEL_TRANSITIONING] = "transitioning",
		[DRAIN_LEVEL_WARNING] = "warning",
		[DRAIN_LEVEL_ERROR] = "error",
	};
	const struct drain_state *s = drain_core_state(core);
	struct drain_view v = { .configured = drain != NULL };
	struct drain_status st;
	int r;

	drain_status_get(core, now, &st);
	v.serving = st.serving;
	r = str_set(&v.phase, host_state_names[s->host]);
	r = r < 0 ? r : str_set(&v.level, levels[st.level]);
	r = r < 0 ? r : str_set(&v.sentence, st.sentence);
	if (r >= 0 && s->host == HOST_DRAINED)
		r = str_set(&v.result, drain_result_names[s->result]);
	r = r < 0 ? r : fill_events(&v, s, drain, drain_core_paused(core));
	r = r < 0 ? r : fill_holds(&v, s, now);
	r = r < 0 ? r : fill_steps(&v, s, drain);
	if (r < 0) {
		jd_free(&drain_view_type, &v);
		return r;
	}
	*ret = v;
	return 0;
}

static void forget_times(struct drain_view *v)
{
	struct view_hold *h = v->holds.items;

	for (size_t i = 0; i < v->holds.n; i++) {
		free(TAKE_PTR(h[i].drained_by));
		free(TAKE_PTR(h[i].until));
	}
}

int drain_view_fill_record(const struct drain_state *s, bool this_boot, struct drain_now now, struct drain_view *ret)
{
	struct drain_view v = { .configured = true, .serving = !s->probe_down };
	int r = str_set(&v.phase, host_state_names[s->host]);

	if (r >= 0 && s->host == HOST_DRAINED)
		r = str_set(&v.result, drain_result_names[s->result]);
	r = r < 0 ? r : fill_events(&v, s, NULL, false);
	r = r < 0 ? r : fill_holds(&v, s, now);
	r = r < 0 ? r : fill_steps(&v, s, NULL);
	if (r < 0) {
		jd_free(&drain_view_type, &v);
		return r;
	}
	if (!this_boot)
		forget_times(&v);
	*ret = v;
	return 0;
}

int drain_view_add_line(struct drain_view *v, int64_t number, usec_t wall, const char *level, const char *line)
{
	struct view_line *items = reallocarray(v->lines.items, v->lines.n + 1, sizeof(*items)), *l;
	int r;

	if (!items)
		return -ENOMEM;
	v->lines.items = items;
	l = &items[v->lines.n++];
	*l = (struct view_line){ .number = number };
	r = set_wall(&l->time, wall);
	r = r < 0 ? r : str_set(&l->level, level);
	return r < 0 ? r : str_set(&l->text, line);
}

/* What the screen of `evenkeel status` says: one row for each thing that is true, few enough for 24 lines when all is well. */
#include <stdlib.h>
#include <string.h>

#include "agent/app/status_screen.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"

#define PROBLEMS_MAX	8
#define EXPIRIES_MAX	5
#define SCRIPTS_MAX	3
#define REVISION_LENGTH 12
#define DATE_LENGTH	10

/* ---- who this is ---- */

static void add(struct buf *b, const char *lead, const char *text)
{
	if (!str_empty(text))
		(void)buf_printf(b, "%s%s%s", b->len ? ", " : "", lead, text);
}

static void print_machine(const struct screen *s)
{
	const struct view_machine *m = &s->v->machine;
	_cleanup_buf_ struct buf first = BUF_INIT(SCREEN_ROW_MAX), second = BUF_INIT(SCREEN_ROW_MAX);

	add(&first, "", m->name ? m->name : m->host_name);
	add(&first, "", m->size);
	add(&first, "scale set ", m->scale_set);
	add(&first, "", m->location);
	screen_row(s, "VM", NULL, "%s", buf_str(&first));
	add(&second, "id ", m->vm_id);
	if (m->name)
		add(&second, "host name ", m->host_name);
	else if (s->v->running)
		add(&second, "",
		    m->problem ? "the metadata service does not say more" : "asking the metadata service for more");
	if (second.len)
		screen_row(s, "", NULL, "%s", buf_str(&second));
}

static void print_agent(const struct screen *s)
{
	const struct view_owner *o = &s->v->owner;

	screen_row(s, "Agent", NULL, "%s, %s of the %s%s%s%s%s", s->v->version ? s->v->version : "?",
		   s->v->running ? "service" : "stopped service", o->kind ? o->kind : "package",
		   o->version && !str_equal(o->version, s->v->version) ? " " : "",
		   o->version && !str_equal(o->version, s->v->version) ? o->version : "",
		   o->beside ? "; also installed: " : "", o->beside ? o->beside : "");
}

/* ---- problems ---- */

static size_t print_problems_of(const struct screen *s, const char *level, size_t shown)
{
	const struct item *items = s->body->items.items;

	for (size_t i = 0; i < s->body->items.n; i++) {
		if (!str_equal(items[i].level, level) || str_equal(items[i].name, "ErrorClarification"))
			continue;
		if (shown++ < PROBLEMS_MAX)
			screen_row(s, shown == 1 ? "Problems" : "", level, "%s: %s",
				   items[i].name ? items[i].name : "?",
				   items[i].message.text ? items[i].message.text : "");
	}
	return shown;
}

static void print_problems(const struct screen *s)
{
	size_t shown = 0;

	if (!s->v->running) {
		screen_row(s, "Problems", "error",
			   "the service is not running, or does not answer; see: systemctl status evenkeel.service");
		shown++;
	}
	if (s->body) {
		shown = print_problems_of(s, "error", shown);
		shown = print_problems_of(s, "warning", shown);
	}
	if (shown > PROBLEMS_MAX)
		screen_row(s, "", NULL, "and %zu more: evenkeel status --json", shown - PROBLEMS_MAX);
}

/* ---- the state of things ---- */

static void print_deployment(const struct screen *s)
{
	const char *message = s->body && s->body->message.text ? s->body->message.text : "";

	if (!s->body)
		screen_row(s, "Deployment", NULL, "none is known");
	else if (str_empty(s->v->sequence))
		screen_row(s, "Deployment", s->body->top, "settings of this machine: %s", message);
	else
		screen_row(s, "Deployment", s->body->top, "sequence %s: %s", s->v->sequence, message);
}

static void print_traffic(const struct screen *s)
{
	const struct status_view *v = s->v;
	bool told = str_equal(v->application, "healthy") || str_equal(v->application, "unhealthy");

	if (!v->running && !s->body)
		screen_row(s, "Traffic", NULL, "nobody answers the probe");
	else if (!v->running)
		screen_row(s, "Traffic", NULL, "%s when it was recorded last; nobody answers the probe now",
			   v->serving ? "serving" : "not serving");
	else if (v->ready)
		screen_row(s, "Traffic", "yes", "serving and ready%s%s", told ? ", application " : "",
			   told ? v->application : "");
	else
		screen_row(s, "Traffic", v->serving ? "warning" : "no", "%s: %s",
			   v->serving ? "serving, but not ready" : "not serving", v->not_ready ? v->not_ready : "?");
}

static void print_pause(const struct screen *s)
{
	const struct view_pause *p = s->v->pause;
	char left[TIMEFMT_MAX], until[TIMEFMT_MAX];

	if (!p)
		return;
	screen_row(s, "Paused", "warning", "%s left, until %s UTC%s%s",
		   timefmt_span(usec_from_seconds((uint64_t)p->remaining_seconds), left),
		   timefmt_clock(screen_time(p->until), until), p->reason ? ": " : "", p->reason ? p->reason : "");
}

/* What has started, else the earliest. */
static const struct view_event *next_event(const struct drain_view *d)
{
	const struct view_event *events = d->events.items, *next = NULL;

	for (size_t i = 0; i < d->events.n; i++) {
		const struct view_event *e = &events[i];

		if (str_equal(e->status, "Started"))
			return e;
		if (!next || (e->not_before && (!next->not_before || strcmp(e->not_before, next->not_before) < 0)))
			next = e;
	}
	return next;
}

static void print_event(const struct screen *s)
{
	const struct drain_view *d = &s->v->drain;
	const struct view_event *e = next_event(d);
	char away[2 * TIMEFMT_MAX], from[2 * TIMEFMT_MAX], clock[TIMEFMT_MAX], more[32] = "";

	if (!d->configured && !e)
		return;
	if (!e) {
		screen_row(s, "Next event", NULL, "none is known");
		return;
	}
	if (d->events.n > 1)
		(void)snprintf(more, sizeof(more), "; %zu more", d->events.n - 1);
	if (str_equal(e->status, "Started") || !e->not_before)
		screen_row(s, "Next event", NULL, "%s %s: %s, %s%s", e->type, e->id, e->status, e->state, more);
	else
		screen_row(s, "Next event", NULL, "%s %s, %s UTC, %s%s%s%s", e->type,
			   screen_distance(s, screen_time(e->not_before), away),
			   timefmt_clock(screen_time(e->not_before), clock), e->state,
			   screen_time(e->drain_at) > s->now ? ", drains " : "",
			   screen_time(e->drain_at) > s->now ? screen_distance(s, screen_time(e->drain_at), from) : "",
			   more);
}

static void print_holds(const struct screen *s)
{
	const struct drain_view *d = &s->v->drain;
	const struct view_event *events = d->events.items;
	const struct view_hold *holds = d->holds.items;
	_cleanup_buf_ struct buf b = BUF_INIT(SCREEN_ROW_MAX);
	char until[2 * TIMEFMT_MAX];

	for (size_t i = 0; i < d->events.n; i++)
		if (events[i].holds)
			(void)buf_printf(&b, "%s%s %s", b.len ? "; " : "", events[i].type, events[i].id);
	for (size_t i = 0; i < d->holds.n; i++) {
		(void)buf_printf(&b, "%s%s%s%s", b.len ? "; " : "", holds[i].kind, holds[i].reason ? ": " : "",
				 holds[i].reason ? holds[i].reason : "");
		if (holds[i].until)
			(void)buf_printf(&b, ", ends %s", screen_distance(s, screen_time(holds[i].until), until));
	}
	if (d->configured || b.len)
		screen_row(s, "Holds", NULL, "%s", b.len ? buf_str(&b) : "none");
}

/* While something is done by them. */
static void print_steps(const struct screen *s)
{
	const struct drain_view *d = &s->v->drain;
	const struct view_step *steps = d->steps.items;
	_cleanup_buf_ struct buf b = BUF_INIT(SCREEN_ROW_MAX);

	if (str_empty(d->phase) || str_equal(d->phase, "serving"))
		return;
	for (size_t i = 0; i < d->steps.n; i++)
		(void)buf_printf(&b, "%s%s %s", i ? ", " : "", steps[i].name, steps[i].state);
	screen_row(s, "Steps", NULL, "%s", b.len ? buf_str(&b) : "none");
}

/* ---- handlers ---- */

static size_t prefix_of(const char *name)
{
	return strcspn(name, "/");
}

static bool same_prefix(const char *a, const char *b)
{
	return prefix_of(a) == prefix_of(b) && strncmp(a, b, prefix_of(a)) == 0;
}

/* What has a row of its own, or is told among the problems only. */
static bool is_elsewhere(const struct item *i)
{
	static const char *const names[] = { "health", "pause", "ErrorClarification" };

	for (size_t k = 0; k < ARRAY_SIZE(names); k++)
		if (str_equal(i->name, names[k]))
			return true;
	return str_empty(i->name) || (str_equal(i->name, "settings") && str_equal(i->level, "success"));
}

static const char *worst_level(const struct screen *s, const char *name, size_t counts[static 4])
{
	static const char *const levels[] = { "error", "warning", "transitioning", "success" };
	const struct item *items = s->body->items.items;
	const char *worst = "success";

	for (size_t i = 0; i < s->body->items.n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(levels); k++)
			if (items[i].name && same_prefix(items[i].name, name) && str_equal(items[i].level, levels[k]))
				counts[k]++;
	for (size_t k = ARRAY_SIZE(levels); k-- > 0;)
		if (counts[k])
			worst = levels[k];
	return worst;
}

static void print_group(const struct screen *s, const struct item *first)
{
	static const char *const words[] = { "failed", "with a warning", "not done yet", "well" };
	char label[SCREEN_LABEL_WIDTH + 1];
	_cleanup_buf_ struct buf b = BUF_INIT(SCREEN_ROW_MAX);
	size_t counts[4] = { 0 }, all = 0;
	const char *worst = worst_level(s, first->name, counts), *own = strchr(first->name, '/');

	(void)snprintf(label, sizeof(label), "%.*s", (int)prefix_of(first->name), first->name);
	for (size_t k = 0; k < ARRAY_SIZE(counts); k++)
		all += counts[k];
	if (all <= 1 && (str_equal(worst, "error") || str_equal(worst, "warning"))) {
		screen_row(s, label, worst, "see above");
		return;
	}
	if (all <= 1) {
		screen_row(s, label, worst, "%s%s%s", own ? own + 1 : "", own ? ": " : "",
			   first->message.text ? first->message.text : "");
		return;
	}
	for (size_t k = 0; k < ARRAY_SIZE(counts); k++)
		if (counts[k])
			(void)buf_printf(&b, "%s%zu %s", counts[k] == all ? "all " : b.len ? ", " : "", counts[k], words[k]);
	screen_row(s, label, worst, "%s", buf_str(&b));
}

static void print_handlers(const struct screen *s)
{
	const struct item *items = s->body ? s->body->items.items : NULL;

	for (size_t i = 0; s->body && i < s->body->items.n; i++) {
		bool first = true;

		for (size_t k = 0; k < i; k++)
			first = first && !(items[k].name && items[i].name && same_prefix(items[k].name, items[i].name));
		if (first && !is_elsewhere(&items[i]))
			print_group(s, &items[i]);
	}
}

/* ---- certificates, scripts, user data ---- */

static void print_expiries(const struct screen *s)
{
	const struct view_certificate *c = s->v->certificates.items;
	char away[2 * TIMEFMT_MAX];
	size_t shown = 0, all = 0;

	for (size_t i = 0; i < s->v->certificates.n; i++) {
		if (!c[i].not_after)
			continue;
		all++;
		if (shown == EXPIRIES_MAX)
			continue;
		screen_row(s, shown++ == 0 ? "Expiry" : "", NULL, "%-16s %s%s, %.*s", c[i].name,
			   screen_time(c[i].not_after) < s->now ? "expired " : "",
			   screen_distance(s, screen_time(c[i].not_after), away), DATE_LENGTH, c[i].not_after);
	}
	if (all > shown)
		screen_row(s, "", NULL, "and %zu more", all - shown);
}

static const char *state_words(const char *state)
{
	return str_equal(state, "notRun")	? "not run"
	       : str_equal(state, "timedOut")	? "timed out"
	       : str_equal(state, "notStarted") ? "not started"
						: state;
}

static void print_scripts(const struct screen *s)
{
	const struct view_last *l = s->v->scripts.items;
	char ago[2 * TIMEFMT_MAX], took[TIMEFMT_MAX];

	for (size_t i = 0; i < s->v->scripts.n && i < SCRIPTS_MAX; i++) {
		const char *label = i == 0 ? "Last scripts" : "";
		const char *state = l[i].state ? state_words(l[i].state) : "?";

		if (l[i].started_at)
			screen_row(
				s, label, NULL, "%-16s %s%s%s, %s, %s %s", l[i].name, state, l[i].result ? ", " : "",
				l[i].result ? l[i].result : "", screen_distance(s, screen_time(l[i].started_at), ago),
				l[i].ended_at ? "took" : "for",
				l[i].duration_msec >= 0 ? timefmt_span((usec_t)l[i].duration_msec * USEC_PER_MSEC, took)
							: "?");
		else
			screen_row(s, label, NULL, "%-16s %s", l[i].name, state);
	}
	if (s->v->scripts.n > SCRIPTS_MAX)
		screen_row(s, "", NULL, "and %zu more: evenkeel scripts", s->v->scripts.n - SCRIPTS_MAX);
}

/* A component of its own tells more. */
static bool has_component(const struct screen *s, const char *name)
{
	const struct item *items = s->body ? s->body->items.items : NULL;

	for (size_t i = 0; s->body && i < s->body->items.n; i++)
		if (str_equal(items[i].name, name))
			return true;
	return false;
}

static void print_user_data(const struct screen *s)
{
	const struct view_user_data *u = s->v->user_data;
	char seen[2 * TIMEFMT_MAX];

	if (u && u->revision && !has_component(s, "userData"))
		screen_row(s, "User data", NULL, "revision %.*s, %lld bytes, seen %s%s", REVISION_LENGTH, u->revision,
			   (long long)u->size_bytes, screen_distance(s, screen_time(u->seen_at), seen),
			   u->removed_at ? ", removed since" : "");
}

void screen_rows(const struct screen *s)
{
	print_problems(s);
	print_machine(s);
	print_agent(s);
	print_deployment(s);
	print_traffic(s);
	print_pause(s);
	print_event(s);
	print_holds(s);
	print_steps(s);
	print_handlers(s);
	print_expiries(s);
	print_scripts(s);
	print_user_data(s);
}

/* From steps of the settings to a plan: defaults, waits computed, groups laid flat, copies of everything. */
#include "agent/core/drain_plan.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/core/settings_script.h"

const char *const step_type_names[] = { "probeDown", "refuseProbe", "run", "hooks", "http",
					"waitForConnections", "waitUntil", "stopUnits", "parallel", NULL };
static const char *const on_failure_names[] = { "continue", "finish", "abort", NULL };

static const struct {
	int64_t timeout_seconds, reserve_seconds;
} step_defaults[] = {
	[STEP_PROBE_DOWN] = { 0, 0 },
	[STEP_REFUSE_PROBE] = { 5, 1 },
	[STEP_RUN] = { 30, 5 },
	[STEP_HOOKS] = { 30, 5 },
	[STEP_HTTP] = { 10, 2 },
	[STEP_WAIT_FOR_CONNECTIONS] = { 60, 0 },
	[STEP_WAIT_UNTIL] = { 60, 0 },
	[STEP_STOP_UNITS] = { 30, 2 },
	[STEP_PARALLEL] = { 0, 0 },
};

int64_t step_default_timeout(enum step_type type)
{
	return step_defaults[type].timeout_seconds;
}

int64_t step_default_reserve(enum step_type type)
{
	return step_defaults[type].reserve_seconds;
}

bool step_is_wait(const struct step_settings *s)
{
	return s->type == STEP_PROBE_DOWN || s->type == STEP_WAIT_FOR_CONNECTIONS || s->type == STEP_WAIT_UNTIL;
}

bool step_has_undo(const struct step_settings *s)
{
	switch ((enum step_type)s->type) {
	case STEP_REFUSE_PROBE:
	case STEP_HOOKS:
	case STEP_STOP_UNITS:
		return true;
	case STEP_RUN:
		return s->undo_command.n > 0;
	case STEP_HTTP:
		return s->http_undo != NULL;
	case STEP_PROBE_DOWN: /* the probe goes up when everything else is done: the core's own matter */
	case STEP_WAIT_FOR_CONNECTIONS:
	case STEP_WAIT_UNTIL:
	case STEP_PARALLEL:
		break;
	}
	return false;
}

/* The plan as the record has it: flat, with every member a step may have. */

/* A document of our own: every text came through the limits of the settings. */
static const struct jd_type text_type = { .kind = JD_TEXT };
static const struct jd_type integer_type = { .kind = JD_INTEGER };
static const struct jd_type count_type = { .kind = JD_INTEGER, .min = 0, .max = INT64_MAX / 4 };
static const struct jd_type boolean_type = { .kind = JD_BOOLEAN };
static const struct jd_type secretable_type = { .kind = JD_SECRETABLE };
static const struct jd_type step_choice = { .kind = JD_CHOICE, .names = step_type_names };
static const struct jd_type failure_choice = { .kind = JD_CHOICE, .names = on_failure_names };
static const struct jd_type texts_type = { .kind = JD_LIST, .element = &text_type };
static const struct jd_type integers_type = { .kind = JD_LIST, .element = &integer_type };

/* clang-format off */
static const struct jd_field variable_fields[] = {
	{ "name",  &text_type,       offsetof(struct script_variable, name), JD_REQUIRED },
	{ "value", &secretable_type, offsetof(struct script_variable, value) },
	{},
};
static const struct jd_type variable_type = { .kind = JD_OBJECT, .fields = variable_fields, .size = sizeof(struct script_variable) };
static const struct jd_type variables_type = { .kind = JD_LIST, .element = &variable_type };

static const struct jd_field http_fields[] = {
	{ "method",  &text_type,       offsetof(struct http_step, method) },
	{ "url",     &secretable_type, offsetof(struct http_step, url) },
	{ "headers", &variables_type,  offsetof(struct http_step, headers), JD_OMIT_EMPTY },
	{ "body",    &text_type,       offsetof(struct http_step, body) },
	{ "expect",  &integers_type,   offsetof(struct http_step, expect),  JD_OMIT_EMPTY },
	{},
};
static const struct jd_type http_type = { .kind = JD_OBJECT, .fields = http_fields, .size = sizeof(struct http_step) };
static const struct jd_type http_pointer = { .kind = JD_POINTER, .fields = http_fields, .size = sizeof(struct http_step) };

static const struct jd_field retry_fields[] = {
	{ "times",          &count_type,    offsetof(struct retry_settings, times),         JD_OMIT_EMPTY },
	{ "delayInSeconds", &count_type,    offsetof(struct retry_settings, delay_seconds), JD_OMIT_EMPTY },
	{ "onExitCodes",    &integers_type, offsetof(struct retry_settings, on_exit_codes), JD_OMIT_EMPTY },
	{},
};
static const struct jd_type retry_type = { .kind = JD_OBJECT, .fields = retry_fields, .size = sizeof(struct retry_settings) };

#define SETTING(member) offsetof(struct plan_step, settings.member)
static const struct jd_field plan_step_fields[] = {
	{ "type",                  &step_choice,    SETTING(type), JD_REQUIRED },
	{ "name",                  &text_type,      SETTING(name), JD_REQUIRED },
	{ "group",                 &count_type,     offsetof(struct plan_step, group), JD_REQUIRED },
	{ "timeoutInMicroseconds", &count_type,     offsetof(struct plan_step, timeout_usec) },
	{ "reserveInMicroseconds", &count_type,     offsetof(struct plan_step, reserve_usec), JD_OMIT_EMPTY },
	{ "timeoutInSeconds",      &count_type,     SETTING(timeout_seconds), JD_OMIT_EMPTY },
	{ "reserveInSeconds",      &count_type,     SETTING(reserve_seconds), JD_OMIT_EMPTY },
	{ "retry",                 &retry_type,     SETTING(retry) },
	{ "onFailure",             &failure_choice, SETTING(on_failure) },
	{ "waitInSeconds",         &count_type,     SETTING(wait_seconds), JD_OMIT_EMPTY },
	{ "ports",                 &integers_type,  SETTING(ports), JD_OMIT_EMPTY },
	{ "portsFromLoadBalancer", &boolean_type,   SETTING(ports_from_load_balancer), JD_OMIT_EMPTY },
	{ "command",               &texts_type,     SETTING(command), JD_OMIT_EMPTY },
	{ "undo",                  &texts_type,     SETTING(undo_command), JD_OMIT_EMPTY },
	{ "user",                  &text_type,      SETTING(user) },
	{ "directory",             &text_type,      SETTING(directory) },
	{ "undoDirectory",         &text_type,      SETTING(undo_directory) },
	{ "http",                  &http_type,      SETTING(http) },
	{ "httpUndo",              &http_pointer,   SETTING(http_undo) },
	{ "atMost",                &count_type,     SETTING(at_most), JD_OMIT_EMPTY },
	{ "intervalInSeconds",     &count_type,     SETTING(interval_seconds), JD_OMIT_EMPTY },
	{ "units",                 &texts_type,     SETTING(units), JD_OMIT_EMPTY },
	{},
};
static const struct jd_type plan_step_type = { .kind = JD_OBJECT, .fields = plan_step_fields, .size = sizeof(struct plan_step) };
const struct jd_type drain_plan_steps_type = { .kind = JD_LIST, .element = &plan_step_type, .max = LIMIT_LEDGER };
/* clang-format on */

/* Building. The draft borrows every text from the settings; a trip through the table makes it our own. */

struct draft {
	struct plan_step steps[LIMIT_LEDGER];
	size_t n;
};

static int64_t usec_of(int64_t seconds)
{
	return seconds * (int64_t)USEC_PER_SEC;
}

static int64_t probe_wait(const struct step_settings *s, const struct health_settings *health)
{
	if (s->wait_seconds >= 0)
		return s->wait_seconds;
	return health ? health->probe.interval_seconds * (health->probe.unhealthy_threshold + 1) : 0;
}

/* How often timeout and reserve count: 1.3 says "each" of units. (Of hooks, too: the shell counts them.) */
static int64_t times(const struct step_settings *s)
{
	return s->type == STEP_STOP_UNITS && s->units.n > 0 ? (int64_t)s->units.n : 1;
}

static int draft_add(struct draft *d, const struct step_settings *s, const struct step_settings *parallel,
		     const struct health_settings *health, int64_t group)
{
	struct plan_step *p;
	struct step_settings *own;

	if (d->n == LIMIT_LEDGER)
		return -E2BIG;
	p = &d->steps[d->n++];
	*p = (struct plan_step){ .settings = *s, .group = group };
	own = &p->settings;

	if (own->timeout_seconds <= 0)
		own->timeout_seconds = step_default_timeout((enum step_type)own->type);
	if (own->reserve_seconds < 0)
		own->reserve_seconds = step_default_reserve((enum step_type)own->type);
	if (own->type == STEP_PROBE_DOWN)
		own->timeout_seconds = own->wait_seconds = probe_wait(s, health);
	else if (own->wait_seconds < 0)
		own->wait_seconds = 0;
	p->timeout_usec = usec_of(own->timeout_seconds * times(s));
	p->reserve_usec = usec_of(own->reserve_seconds * times(s));

	if (parallel) {
		if (parallel->timeout_seconds > 0 && usec_of(parallel->timeout_seconds) < p->timeout_usec)
			p->timeout_usec = usec_of(parallel->timeout_seconds);
		if (own->retry.times == 0)
			own->retry = parallel->retry;
		if (parallel->on_failure > own->on_failure)
			own->on_failure = parallel->on_failure;
	}
	if (p->reserve_usec > p->timeout_usec)
		p->reserve_usec = p->timeout_usec;
	return 0;
}

static int draft_settings(struct draft *d, const struct step_settings *steps, size_t n,
			  const struct health_settings *health)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		const struct step_settings *members = steps[i].steps.items;

		if (steps[i].type != STEP_PARALLEL) {
			r = draft_add(d, &steps[i], NULL, health, (int64_t)i);
			continue;
		}
		for (size_t k = 0; k < steps[i].steps.n && r == 0; k++)
			r = draft_add(d, &members[k], &steps[i], health, (int64_t)i);
	}
	return r;
}

static int draft_defaults(struct draft *d, const struct health_settings *health)
{
	char probe[] = "probeDown", hooks[] = "hooks";
	struct step_settings steps[] = {
		{ .type = STEP_PROBE_DOWN, .name = probe, .reserve_seconds = -1, .wait_seconds = -1 },
		{ .type = STEP_HOOKS, .name = hooks, .reserve_seconds = -1, .wait_seconds = -1 },
	};
	size_t first = health && !str_empty(health->listen) ? 0 : 1;

	return draft_settings(d, steps + first, ARRAY_SIZE(steps) - first, health);
}

static int own(const struct draft *d, struct jd_list *ret, struct error *err)
{
	const struct jd_options o = { .subject = "drain plan",
				      .max_bytes = LIMIT_RECORD,
				      .max_depth = LIMIT_JSON_DEPTH,
				      .max_values = LIMIT_JSON_VALUES };
	struct jd_list borrowed = { .items = (void *)(uintptr_t)d->steps, .n = d->n };
	_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_RECORD / 2);
	int r;

	r = jd_encode(&drain_plan_steps_type, &borrowed, false, &b);
	if (r < 0)
		return r == -ENOMEM ? error_oom(err) : error_set(err, ERROR_USER, -E2BIG, "drain: the steps are too large to be kept");
	return jd_decode(b.data, b.len, &drain_plan_steps_type, &o, ret, err);
}

int drain_plan_new(const struct drain_settings *settings, const struct health_settings *health,
		   struct drain_plan **ret, struct error *err)
{
	_cleanup_(drain_plan_unrefp) struct drain_plan *plan = NULL;
	_cleanup_free_ struct draft *d = NULL;
	int r;

	plan = calloc(1, sizeof(*plan));
	d = calloc(1, sizeof(*d));
	if (!plan || !d)
		return error_oom(err);
	plan->refs = 1;

	/* An empty list is a wish; only an absent one stands for the defaults. */
	if (settings && settings->steps.items)
		r = draft_settings(d, settings->steps.items, settings->steps.n, health);
	else
		r = draft_defaults(d, health);
	if (r < 0)
		return error_set(err, ERROR_USER, r, "drain.steps: more than %d steps, those of parallel groups included",
				 LIMIT_LEDGER);

	r = own(d, &plan->steps, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(plan);
	return 0;
}

struct drain_plan *drain_plan_ref(struct drain_plan *plan)
{
	if (plan)
		plan->refs++;
	return plan;
}

void drain_plan_unref(struct drain_plan *plan)
{
	if (!plan || --plan->refs > 0)
		return;
	jd_free(&drain_plan_steps_type, &plan->steps);
	free(plan);
}

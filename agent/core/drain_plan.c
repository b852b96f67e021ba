/* From steps of the settings to a plan: groups laid flat, times of whole steps, copies of everything. */
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
static const struct jd_type ports_choice = { .kind = JD_CHOICE, .names = (const char *const[]){ "fromLoadBalancer", NULL } };
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
	{ "portsWord",             &ports_choice,   SETTING(ports_word), .default_integer = -1 },
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

/* How often timeout and reserve count: 1.3 says "each" of units. (Of hooks, too: the shell counts them later.) */
static int64_t times(const struct step_settings *s)
{
	return s->type == STEP_STOP_UNITS && s->units.n > 0 ? (int64_t)s->units.n : 1;
}

/* What a group is to have at least, if that is more than the longest of its steps needs; its default is just that. */
static int64_t reserve_of(const struct step_settings *s, const struct step_settings *parallel)
{
	int64_t own = s->reserve_seconds * times(s), longest = 0;
	const struct step_settings *members = parallel ? parallel->steps.items : NULL;

	for (size_t i = 0; parallel && i < parallel->steps.n; i++)
		if (members[i].reserve_seconds * times(&members[i]) > longest)
			longest = members[i].reserve_seconds * times(&members[i]);
	return parallel && parallel->reserve_seconds > longest ? parallel->reserve_seconds : own;
}

static int draft_add(struct draft *d, const struct step_settings *s, const struct step_settings *parallel, int64_t group)
{
	struct plan_step *p;
	int64_t most = s->type == STEP_PROBE_DOWN ? s->wait_seconds : s->timeout_seconds * times(s);

	if (d->n == LIMIT_LEDGER)
		return -E2BIG;
	p = &d->steps[d->n++];
	*p = (struct plan_step){ .settings = *s, .group = group };
	if (parallel) {
		if (parallel->timeout_seconds > 0 && parallel->timeout_seconds < most)
			most = parallel->timeout_seconds;
		if (s->retry.times == 0)
			p->settings.retry = parallel->retry;
		if (parallel->on_failure > s->on_failure)
			p->settings.on_failure = parallel->on_failure;
	}
	p->timeout_usec = usec_of(most);
	p->reserve_usec = usec_of(reserve_of(s, parallel));
	if (p->reserve_usec > p->timeout_usec)
		p->reserve_usec = p->timeout_usec;
	return 0;
}

static int draft_settings(struct draft *d, const struct step_settings *steps, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		const struct step_settings *members = steps[i].steps.items;

		if (steps[i].type != STEP_PARALLEL) {
			r = draft_add(d, &steps[i], NULL, (int64_t)i);
			continue;
		}
		for (size_t k = 0; k < steps[i].steps.n && r == 0; k++)
			r = draft_add(d, &members[k], &steps[i], (int64_t)i);
	}
	return r;
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

int drain_plan_new(const struct drain_settings *settings, struct drain_plan **ret, struct error *err)
{
	_cleanup_(drain_plan_unrefp) struct drain_plan *plan = NULL;
	_cleanup_free_ struct draft *d = NULL;
	int r = 0;

	plan = calloc(1, sizeof(*plan));
	if (!plan)
		return error_oom(err);
	plan->refs = 1;
	d = calloc(1, sizeof(*d));
	if (!d)
		return error_oom(err);

	if (settings)
		r = draft_settings(d, settings->steps.items, settings->steps.n);
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

/* The record's tables, and the judgement that a decoded value could be one of ours. */
#include "agent/core/drain_record.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/limits.h"
#include "agent/codec/json.h"

static const char *const record_action_names[] = { "drain", "notify", "ignore", NULL };
static const char *const record_acknowledge_names[] = { "default", "whenDrained", "immediately", "never", NULL };
static const char *const record_status_names[] = { "Scheduled", "Started", "other", NULL };

static const struct jd_type text_type = { .kind = JD_TEXT, .max = LIMIT_EVENT_DESCRIPTION };
static const struct jd_type id_type = { .kind = JD_TEXT, .min = 1, .max = LIMIT_EVENT_TEXT };
static const struct jd_type integer_type = { .kind = JD_INTEGER };
static const struct jd_type count_type = { .kind = JD_INTEGER, .min = 0, .max = 1000000 };
static const struct jd_type index_type = { .kind = JD_INTEGER, .min = 0, .max = LIMIT_LEDGER };
static const struct jd_type token_type = { .kind = JD_INTEGER, .min = 0, .max = INT64_MAX / 2 };
/* Microseconds: 292,000 years in all, a third of it so that sums do not overflow. */
static const struct jd_type time_type = { .kind = JD_INTEGER, .min = 0, .max = INT64_MAX / 3 };
static const struct jd_type boolean_type = { .kind = JD_BOOLEAN };
static const struct jd_type host_choice = { .kind = JD_CHOICE, .names = host_state_names };
static const struct jd_type result_choice = { .kind = JD_CHOICE, .names = drain_result_names };
static const struct jd_type event_choice = { .kind = JD_CHOICE, .names = event_state_names };
static const struct jd_type status_choice = { .kind = JD_CHOICE, .names = record_status_names };
static const struct jd_type action_choice = { .kind = JD_CHOICE, .names = record_action_names };
static const struct jd_type acknowledge_choice = { .kind = JD_CHOICE, .names = record_acknowledge_names };
static const struct jd_type ack_choice = { .kind = JD_CHOICE, .names = acknowledgement_names };
static const struct jd_type reason_choice = { .kind = JD_CHOICE, .names = ack_reason_names };
static const struct jd_type hold_choice = { .kind = JD_CHOICE, .names = hold_kind_names };
static const struct jd_type mark_choice = { .kind = JD_CHOICE, .names = step_mark_names };
static const struct jd_type now_choice = { .kind = JD_CHOICE, .names = step_now_names };
static const struct jd_type units_type = { .kind = JD_LIST, .element = &id_type, .max = LIMIT_SNAPSHOT_UNITS };

/* clang-format off */
#define EVENT(member) offsetof(struct drain_event, member)
static const struct jd_field event_fields[] = {
	{ "id",               &id_type,            EVENT(id),   JD_REQUIRED },
	{ "type",             &id_type,            EVENT(type), JD_REQUIRED },
	{ "source",           &text_type,          EVENT(source) },
	{ "description",      &text_type,          EVENT(description) },
	{ "durationInSeconds", &integer_type,      EVENT(duration_seconds), .default_integer = -1 },
	{ "noticeInSeconds",  &integer_type,       EVENT(notice_seconds) },
	{ "status",           &status_choice,      EVENT(status) },
	{ "statusText",       &text_type,          EVENT(status_text),       JD_OMIT_EMPTY },
	{ "notBefore",        &time_type,          EVENT(not_before_wall),   JD_OMIT_EMPTY },
	{ "notBeforeBoot",    &time_type,          EVENT(not_before_boot),   JD_OMIT_EMPTY },
	{ "shared",           &boolean_type,       EVENT(shared),            JD_OMIT_EMPTY },
	{ "leader",           &boolean_type,       EVENT(leader),            JD_OMIT_EMPTY },
	{ "state",            &event_choice,       EVENT(state), JD_REQUIRED },
	{ "action",           &action_choice,      EVENT(action) },
	{ "acknowledge",      &acknowledge_choice, EVENT(acknowledge) },
	{ "settled",          &boolean_type,       EVENT(settled),           JD_OMIT_EMPTY },
	{ "late",             &boolean_type,       EVENT(late),              JD_OMIT_EMPTY },
	{ "acknowledgement",  &ack_choice,         EVENT(ack) },
	{ "reason",           &reason_choice,      EVENT(ack_reason) },
	{ "acknowledged",     &time_type,          EVENT(acknowledged_wall), JD_OMIT_EMPTY },
	{ "refusals",         &count_type,         EVENT(refusals),          JD_OMIT_EMPTY },
	{ "incarnation",      &integer_type,       EVENT(incarnation) },
	{},
};
static const struct jd_type event_type = { .kind = JD_OBJECT, .fields = event_fields, .size = sizeof(struct drain_event) };
static const struct jd_type events_type = { .kind = JD_LIST, .element = &event_type, .max = LIMIT_EVENTS, .unique = "id" };
static const struct jd_type former_type = { .kind = JD_LIST, .element = &event_type, .max = LIMIT_FORMER, .unique = "id" };

#define HOLD(member) offsetof(struct drain_hold, member)
static const struct jd_field hold_fields[] = {
	{ "kind",     &hold_choice, HOLD(kind), JD_REQUIRED },
	{ "reason",   &text_type,   HOLD(reason) },
	{ "deadline", &time_type,   HOLD(deadline_boot), JD_OMIT_EMPTY },
	{ "until",    &time_type,   HOLD(until_boot),    JD_OMIT_EMPTY },
	{},
};
static const struct jd_type hold_type = { .kind = JD_OBJECT, .fields = hold_fields, .size = sizeof(struct drain_hold) };
static const struct jd_type holds_type = { .kind = JD_LIST, .element = &hold_type, .max = _HOLD_KINDS };

#define STEP(member) offsetof(struct ledger_entry, member)
static const struct jd_field step_fields[] = {
	{ "mark",         &mark_choice,  STEP(mark), JD_REQUIRED },
	{ "now",          &now_choice,   STEP(now) },
	{ "over",         &boolean_type, STEP(over),          JD_OMIT_EMPTY },
	{ "stopping",     &boolean_type, STEP(stopping),      JD_OMIT_EMPTY },
	{ "token",        &token_type,   STEP(token),         JD_OMIT_EMPTY },
	{ "attempts",     &count_type,   STEP(attempts),      JD_OMIT_EMPTY },
	{ "undoFailures", &count_type,   STEP(undo_failures), JD_OMIT_EMPTY },
	{ "hooks",        &count_type,   STEP(hooks),         JD_OMIT_EMPTY },
	{ "begun",        &time_type,    STEP(begun_boot),    JD_OMIT_EMPTY },
	{ "deadline",     &time_type,    STEP(deadline_boot), JD_OMIT_EMPTY },
	{ "detail",       &text_type,    STEP(detail) },
	{},
};
static const struct jd_type step_type = { .kind = JD_OBJECT, .fields = step_fields, .size = sizeof(struct ledger_entry) };
static const struct jd_type ledger_type = { .kind = JD_LIST, .element = &step_type, .max = LIMIT_LEDGER };

static const struct jd_field plan_fields[] = {
	{ "steps", &drain_plan_steps_type, offsetof(struct drain_plan, steps), JD_REQUIRED },
	{},
};
static const struct jd_type plan_type = { .kind = JD_POINTER, .fields = plan_fields, .size = sizeof(struct drain_plan) };

#define STATE(member) offsetof(struct drain_state, member)
static const struct jd_field state_fields[] = {
	{ "version",        &integer_type,  STATE(version), JD_REQUIRED },
	{ "host",           &host_choice,   STATE(host),    JD_REQUIRED },
	{ "result",         &result_choice, STATE(result) },
	{ "since",          &time_type,     STATE(since_wall), JD_OMIT_EMPTY },
	{ "bootId",         &text_type,     STATE(boot_id) },
	{ "probeDown",      &boolean_type,  STATE(probe_down) },
	{ "plan",           &plan_type,     STATE(plan) },
	{ "ledger",         &ledger_type,   STATE(ledger),         JD_OMIT_EMPTY },
	{ "cursor",         &index_type,    STATE(cursor),         JD_OMIT_EMPTY },
	{ "nextToken",      &token_type,    STATE(next_token), .default_integer = 1 },
	{ "snapshot",       &units_type,    STATE(snapshot),       JD_OMIT_EMPTY },
	{ "snapshotWanted", &boolean_type,  STATE(snapshot_wanted), JD_OMIT_EMPTY },
	{ "degradedRounds", &count_type,    STATE(degraded_rounds), JD_OMIT_EMPTY },
	{ "events",         &events_type,   STATE(events),         JD_OMIT_EMPTY },
	{ "holds",          &holds_type,    STATE(holds),          JD_OMIT_EMPTY },
	{ "formerEvents",   &former_type,   STATE(former_events),  JD_OMIT_EMPTY },
	{ "formerHolds",    &holds_type,    STATE(former_holds),   JD_OMIT_EMPTY },
	{},
};
static const struct jd_type state_type = { .kind = JD_OBJECT, .fields = state_fields, .size = sizeof(struct drain_state) };

static const struct jd_field version_fields[] = {
	{ "version", &integer_type, 0, JD_REQUIRED },
	{},
};
static const struct jd_type version_type = { .kind = JD_OBJECT, .fields = version_fields, .size = sizeof(int64_t) };
/* clang-format on */

int drain_record_encode(const struct drain_state *s, struct buf *out)
{
	return jd_encode(&state_type, s, false, out);
}

/* NULL, or what a state of ours never looks like. */
static const char *plan_fault(const struct drain_state *s)
{
	int64_t group = -1;

	if (!s->plan)
		return s->ledger.n > 0 ? "a ledger without a plan" : NULL;
	if (s->plan->steps.n != s->ledger.n)
		return "plan and ledger do not match";
	for (size_t i = 0; i < s->ledger.n; i++) {
		const struct plan_step *p = drain_plan_step(s->plan, i);

		if (p->group < group)
			return "groups of the plan out of order";
		if (p->settings.type == STEP_PARALLEL)
			return "a group inside the plan";
		if (p->timeout_usec > time_type.max || p->reserve_usec > p->timeout_usec)
			return "a step's times";
		group = p->group;
	}
	return NULL;
}

static const char *ledger_fault(const struct drain_state *s)
{
	bool may_do = s->host == HOST_DRAINING;

	for (size_t i = 0; i < s->ledger.n; i++) {
		const struct ledger_entry *e = drain_state_step(s, i);

		if (e->token >= s->next_token)
			return "a token from the future";
		if (e->now != STEP_IDLE && (e->mark == STEP_UNTOUCHED || e->token == 0))
			return "a step runs that was not begun";
		if (e->now == STEP_DOING && !may_do && !e->stopping)
			return "a step runs outside draining";
		if (e->now == STEP_UNDOING && s->host != HOST_RESTORING && !e->stopping)
			return "an undo runs outside restoring";
		for (size_t k = 0; k < i; k++)
			if (e->token != 0 && drain_state_step(s, k)->token == e->token)
				return "the same token twice";
	}
	return NULL;
}

static const char *fault(const struct drain_state *s)
{
	const char *f = plan_fault(s);

	if (f || (f = ledger_fault(s)))
		return f;
	if ((s->host == HOST_SERVING) != (s->plan == NULL))
		return "a plan while serving, or none while not";
	if (s->cursor > (int64_t)s->ledger.n)
		return "the cursor is outside the plan";
	for (size_t i = 0; i < s->events.n; i++)
		if (drain_state_event(s, i)->state == EVENT_NEW)
			return "an event nothing was decided about";
	for (size_t i = 0; i < s->holds.n; i++)
		for (size_t k = 0; k < i; k++)
			if (drain_state_hold(s, i)->kind == drain_state_hold(s, k)->kind)
				return "two holds of one kind";
	return NULL;
}

int drain_record_decode(const char *text, size_t len, struct drain_state **ret, struct error *err)
{
	_cleanup_(drain_state_freep) struct drain_state *s = NULL;
	int64_t version = 0;
	const char *f;
	int r;

	/* The version first: a later one may mean something else by the same words. */
	r = jd_decode_document(text, len, "drain record", LIMIT_RECORD, &version_type, &version, err);
	if (r < 0)
		return r;
	if (version < 1)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "drain record: there is no version %lld", (long long)version);
	if (version > DRAIN_RECORD_VERSION)
		return error_set(err, ERROR_SYSTEM, -EPROTO,
				 "drain record: version %lld, this program knows %d; install the version that wrote it",
				 (long long)version, DRAIN_RECORD_VERSION);

	if (drain_state_new(&s) < 0)
		return error_oom(err);
	*s = (struct drain_state){};
	r = jd_decode_document(text, len, "drain record", LIMIT_RECORD, &state_type, s, err);
	if (r < 0)
		return r;
	if (s->plan)
		s->plan->refs = 1;
	f = fault(s);
	if (f)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "drain record: %s", f);
	*ret = TAKE_PTR(s);
	return 0;
}

/* The core's side of the host machine: what its actions mean. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/core/drain_core_internal.h"
#include "agent/core/settings_script.h"

/* For people. */

char *host_reasons(const struct drain_state *s)
{
	_cleanup_buf_ struct buf b = BUF_INIT(400);

	for (size_t i = 0; i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);

		if (event_state_holds((enum event_state)e->state))
			buf_printf(&b, "%s%s %s", b.len ? " and " : "", e->type, e->id);
	}
	for (size_t i = 0; i < s->holds.n; i++) {
		const struct drain_hold *h = drain_state_hold(s, i);

		buf_printf(&b, "%s%s%s%s", b.len ? " and " : "", hold_kind_names[h->kind], str_empty(h->reason) ? "" : ": ",
			   h->reason ? h->reason : "");
	}
	if (buf_ok(&b) == -ENOMEM)
		return NULL;
	return str_format("%s%s", buf_str(&b), buf_ok(&b) < 0 ? " and more" : "");
}

static void tell_phase(struct turn *t, enum log_level level, enum drain_topic topic, const char *what, const char *note)
{
	_cleanup_free_ char *why = host_reasons(t->s);
	const struct drain_event *about = NULL;

	for (size_t i = 0; i < t->s->events.n && !about; i++)
		if (event_state_holds((enum event_state)drain_state_event(t->s, i)->state))
			about = drain_state_event(t->s, i);
	turn_tell(t, level, topic, about, true,
		  why ? str_format("%s%s%s%s", what, *why ? " for " : "", why, note) : NULL);
}

static const char *step_name(const struct turn *t, size_t i)
{
	const char *name = turn_step_at(t, i)->settings.name;

	return name ? name : step_type_names[turn_step_at(t, i)->settings.type];
}

static void tell_step(struct turn *t, size_t i, const char *what)
{
	const char *detail = drain_state_step(t->s, i)->detail;

	turn_tell(t, LOG_LEVEL_WARNING, TOPIC_PROBLEM, NULL, false,
		  str_format("step %s %s%s%s", step_name(t, i), what, detail ? ": " : "", detail ? detail : ""));
}

/* Entering states. */

static void enter_drained(struct turn *t, enum drain_result result)
{
	static const char *const notes[] = { "", ", not all steps: time ran out in ", ", aborted by " };
	_cleanup_free_ char *note = NULL;
	size_t culprit;

	t->s->result = (int)result;
	culprit = drain_state_culprit(t->s);
	if (culprit < t->s->ledger.n) {
		note = str_format("%sstep %s", notes[result], step_name(t, culprit));
		if (!note)
			turn_fail(t, -ENOMEM);
	}
	turn_set_probe(t, true);
	turn_touch(t);
	tell_phase(t, result == DRAIN_CLEAN ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, TOPIC_DRAIN, "drained", note ? note : "");
	events_input_all(t, result == DRAIN_ABORTED ? EVENT_IN_ABORTED : EVENT_IN_DRAINED);
}

/* keep_ok: going on after an abort, those of the group that went well have had their turn. */
static void begin_pass(struct turn *t, size_t from, bool keep_ok)
{
	t->s->cursor = (int64_t)from;
	t->v.told_end = USEC_INFINITY;
	for (size_t i = 0; i < t->s->ledger.n; i++) {
		struct ledger_entry *e = drain_state_step(t->s, i);

		if (i >= from && !(keep_ok && e->over && e->mark == STEP_OK))
			e->over = false;
		e->attempts = 0;
		e->undo_failures = 0;
		e->retry_boot = 0;
	}
	turn_touch(t);
}

/* Nothing of a former boot runs any more. */
static void forget_running(struct turn *t)
{
	for (size_t i = 0; i < t->s->ledger.n; i++) {
		struct ledger_entry *e = drain_state_step(t->s, i);

		if (e->now != STEP_IDLE && e->mark == STEP_BEGUN)
			e->mark = STEP_STOPPED;
		e->now = STEP_IDLE;
		e->stopping = false;
		e->undo_failures = 0;
	}
	t->v.health_deadline = 0;
	t->s->probe_down = true; /* /ready has said 503 since the boot */
	turn_touch(t);
}

static void plan(struct turn *t)
{
	struct error err = ERROR_INIT;
	struct drain_plan *p = NULL;
	int r = drain_plan_new(t->drain, &p, &err);

	/* Settings that came through validation make a plan; should one not, being drained without steps is
	 * better than a hold that leads nowhere. */
	if (r == -ENOMEM) {
		turn_fail(t, r);
		return;
	}
	if (r < 0) {
		turn_tell(t, LOG_LEVEL_ERROR, TOPIC_PROBLEM, NULL, false, str_format("%s", err.msg));
		p = calloc(1, sizeof(*p));
		if (!p) {
			turn_fail(t, -ENOMEM);
			return;
		}
		p->refs = 1;
	}
	if (drain_state_set_plan(t->s, p) < 0)
		turn_fail(t, -ENOMEM);
	drain_plan_unref(p);
	drain_state_forget_former(t->s);
	t->s->snapshot_wanted = true;
	t->v.snapshot_token = 0;
	begin_pass(t, 0, false);
	tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining", "");
}

static void forget_all(struct turn *t)
{
	if (drain_state_set_plan(t->s, NULL) < 0)
		turn_fail(t, -ENOMEM);
	drain_state_forget_snapshot(t->s);
	drain_state_forget_former(t->s);
	t->s->snapshot_wanted = false;
	t->s->cursor = 0;
	t->s->degraded_rounds = 0;
	t->s->result = DRAIN_CLEAN;
	t->v.health_deadline = 0;
	t->v.snapshot_token = 0;
	turn_touch(t);
}

static void degrade(struct turn *t)
{
	usec_t delay = DEGRADED_FIRST;
	size_t bad = t->s->ledger.n;

	for (int64_t i = 0; i < t->s->degraded_rounds && delay < DEGRADED_LAST; i++)
		delay *= 2;
	t->s->degraded_rounds++;
	turn_set_probe(t, true); /* it may have been up still, when the drain was cut short */
	t->v.degraded_retry = t->now.boot + usec_min(delay, DEGRADED_LAST);
	t->v.health_deadline = 0;
	for (size_t i = t->s->ledger.n; i-- > 0;)
		if (drain_state_step(t->s, i)->mark != STEP_UNTOUCHED && drain_state_step(t->s, i)->undo_failures > 0)
			bad = i;
	if (bad == t->s->ledger.n)
		turn_tell(t, LOG_LEVEL_ERROR, TOPIC_PROBLEM, NULL, true,
			  str_format("not restored: the application has not become healthy; /ready stays down"));
	else
		turn_tell(t, LOG_LEVEL_ERROR, TOPIC_PROBLEM, NULL, true,
			  str_format("not restored: %s cannot be undone: %s", step_name(t, bad),
				     drain_state_step(t->s, bad)->detail ? drain_state_step(t->s, bad)->detail : "failed"));
}

/* A step has had its turn for good: what its group leads to. */
void host_end_of_group(struct turn *t)
{
	size_t from = (size_t)t->s->cursor, end = turn_group_end(t, from);
	int worst = ON_FAILURE_CONTINUE;

	for (size_t i = from; i < end; i++) {
		const struct ledger_entry *e = drain_state_step(t->s, i);

		if (!e->over || e->now != STEP_IDLE)
			return;
		if ((e->mark == STEP_FAILED || e->mark == STEP_TIMED_OUT) && turn_step_at(t, i)->settings.on_failure > worst)
			worst = turn_step_at(t, i)->settings.on_failure;
	}
	if (worst == ON_FAILURE_ABORT) {
		host_input(t, HOST_IN_ABORT, NULL);
		return;
	}
	t->s->cursor = (int64_t)(worst == ON_FAILURE_FINISH ? t->s->ledger.n : end);
	turn_touch(t);
}

static bool code_is_retried(const struct retry_settings *retry, int exit_code)
{
	const int64_t *codes = retry->on_exit_codes.items;

	for (size_t i = 0; i < retry->on_exit_codes.n; i++)
		if (codes[i] == exit_code)
			return true;
	return retry->on_exit_codes.n == 0;
}

/* Again only if there is a try left, and time for it besides what the others must have. */
static bool may_retry(const struct turn *t, const struct ledger_entry *e, int exit_code)
{
	const struct retry_settings *retry = &turn_step_at(t, turn_step_index(t, e))->settings.retry;
	struct shares s;

	if (e->attempts > retry->times || !code_is_retried(retry, exit_code))
		return false;
	turn_share(t, &s);
	return !s.started && (s.left == USEC_INFINITY ||
			      usec_add(drain_budget_reserves(s.items, s.n),
				       usec_from_seconds((uint64_t)retry->delay_seconds)) < s.left);
}

/* Time became shorter while a step waits to be tried again: the others must still have theirs. */
bool host_give_up_retry(struct turn *t)
{
	for (size_t i = 0; i < t->s->ledger.n; i++) {
		struct ledger_entry *e = drain_state_step(t->s, i);
		struct shares s;

		if (e->now != STEP_IDLE || e->over || e->retry_boot <= t->now.boot)
			continue;
		turn_share(t, &s);
		if (!s.started && usec_add(drain_budget_reserves(s.items, s.n), usec_sub(e->retry_boot, t->now.boot)) <=
						  usec_add(s.left, BUDGET_TOLERANCE))
			continue;
		tell_step(t, i, "is not tried again, for want of time");
		e->retry_boot = 0;
		e->over = true;
		turn_touch(t);
		host_end_of_group(t);
		return true;
	}
	return false;
}

static void step_failed(struct turn *t, struct ledger_entry *e, int exit_code)
{
	size_t i = turn_step_index(t, e);

	if (may_retry(t, e, exit_code)) {
		tell_step(t, i, "failed, trying again");
		e->retry_boot = usec_add(t->now.boot,
					 usec_from_seconds((uint64_t)turn_step_at(t, i)->settings.retry.delay_seconds));
		turn_touch(t);
		return;
	}
	tell_step(t, i, e->mark == STEP_TIMED_OUT ? "took too long" : "failed");
	e->over = true;
	turn_touch(t);
	host_end_of_group(t);
}

/* Time became shorter than what runs was told: a new hold, a jump of the wall clock, or an event began. */
static void rebudget(struct turn *t)
{
	struct shares s;
	size_t end = turn_group_end(t, (size_t)t->s->cursor);
	usec_t ends = turn_end_of_time(t);

	if (usec_add(ends, BUDGET_TOLERANCE) >= t->v.told_end)
		return;
	t->v.told_end = ends;
	turn_share(t, &s);
	for (size_t i = (size_t)t->s->cursor; i < end; i++) {
		struct ledger_entry *e = drain_state_step(t->s, i);
		bool wait = step_is_wait(&turn_step_at(t, i)->settings);
		usec_t rest = usec_sub(e->deadline_boot, t->now.boot), mine;

		if (e->now != STEP_DOING || e->stopping)
			continue;
		if (s.tight && wait) {
			e->over = true;
			turn_step_stop(t, i);
			if (turn_step_is_probe(t, i))
				e->mark = STEP_OK;
			host_end_of_group(t);
			continue;
		}
		mine = turn_share_of(t, &s, i);
		if (usec_add(mine, BUDGET_TOLERANCE) >= rest)
			continue;
		e->deadline_boot = usec_add(t->now.boot, mine);
		turn_touch(t);
		if (!turn_step_is_probe(t, i))
			turn_step_act(t, DRAIN_SHORTEN_STEP, i)->timeout_usec = mine;
	}
}

static void tell_hold(struct turn *t)
{
	if (t->s->result == DRAIN_ABORTED)
		host_input(t, HOST_IN_AGAIN, NULL);
	else
		events_input_all(t, EVENT_IN_DRAINED);
}

static void attach(struct turn *t)
{
	for (size_t i = 0; i < t->s->ledger.n; i++) {
		const struct ledger_entry *e = drain_state_step(t->s, i);
		struct drain_action *a;

		if (turn_step_at(t, i)->settings.type == STEP_REFUSE_PROBE && e->mark == STEP_OK && e->now == STEP_IDLE)
			(void)turn_step_act(t, DRAIN_PUT_BACK, i);
		if (e->now == STEP_IDLE || turn_step_is_probe(t, i))
			continue;
		a = turn_step_act(t, e->stopping ? DRAIN_STOP_STEP : DRAIN_BEGIN_STEP, i);
		a->undo = e->now == STEP_UNDOING;
		a->attach = !e->stopping;
		a->timeout_usec = usec_sub(e->deadline_boot, t->now.boot);
	}
}

static void undo(struct turn *t)
{
	turn_stop_all(t);
	for (size_t i = 0; i < t->s->ledger.n; i++)
		drain_state_step(t->s, i)->undo_failures = 0;
	t->v.health_deadline = 0;
	t->v.health_asked = false;
	t->s->degraded_rounds = 0;
	turn_touch(t);
	turn_tell(t, LOG_LEVEL_INFO, TOPIC_RESTORE, NULL, true, str_format("restoring"));
}

static void redrain(struct turn *t)
{
	turn_stop_all(t);
	begin_pass(t, 0, false);
	tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining", "");
}

static void host_act(struct turn *t, enum host_action action, struct ledger_entry *e, int exit_code)
{
	switch (action) {
	case HOST_ACT_PLAN:
		plan(t);
		break;
	case HOST_ACT_REBUDGET:
		rebudget(t);
		break;
	case HOST_ACT_NEXT:
		e->over = true;
		turn_touch(t);
		host_end_of_group(t);
		break;
	case HOST_ACT_STEP_FAILED:
		step_failed(t, e, exit_code);
		break;
	case HOST_ACT_DRAINED:
		enter_drained(t, DRAIN_CLEAN);
		break;
	case HOST_ACT_ABORTED:
		enter_drained(t, DRAIN_ABORTED);
		break;
	case HOST_ACT_INCOMPLETE:
		turn_stop_all(t);
		enter_drained(t, DRAIN_INCOMPLETE);
		break;
	case HOST_ACT_TELL_HOLD:
		tell_hold(t);
		break;
	case HOST_ACT_GO_ON:
		begin_pass(t, (size_t)t->s->cursor, true);
		tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining again", "");
		break;
	case HOST_ACT_UNDO:
		undo(t);
		break;
	case HOST_ACT_REDRAIN_ADD:
		t->s->snapshot_wanted = true;
		t->v.snapshot_token = 0;
		redrain(t);
		break;
	case HOST_ACT_REDRAIN:
		redrain(t);
		break;
	case HOST_ACT_REDRAIN_BOOTED:
		forget_running(t);
		begin_pass(t, 0, false);
		tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining after a boot", "");
		break;
	case HOST_ACT_UNDO_BOOTED:
		forget_running(t);
		undo(t);
		break;
	case HOST_ACT_NEXT_UNDO:
		e->mark = STEP_UNTOUCHED;
		turn_touch(t);
		break;
	case HOST_ACT_UNDO_FAILED:
		e->undo_failures++;
		tell_step(t, turn_step_index(t, e), "could not be undone");
		turn_touch(t);
		break;
	case HOST_ACT_FORGET:
		forget_all(t);
		turn_tell(t, LOG_LEVEL_INFO, TOPIC_RESTORE, NULL, true, str_format("restored, serving"));
		break;
	case HOST_ACT_DEGRADE:
		degrade(t);
		break;
	case HOST_ACT_ATTACH:
	case HOST_ACT_PUT_BACK:
		attach(t);
		break;
	case HOST_ACT_RETRY_UNDO:
		for (size_t i = 0; i < t->s->ledger.n; i++)
			drain_state_step(t->s, i)->undo_failures = 0;
		t->v.health_deadline = 0;
		t->v.health_asked = false;
		turn_touch(t);
		break;
	case HOST_ACT_FORCE:
		turn_stop_all(t);
		forget_all(t);
		turn_set_probe(t, false);
		turn_tell(t, LOG_LEVEL_WARNING, TOPIC_RESTORE, NULL, true,
			  str_format("serving by force: what was still to be undone is left as it is"));
		break;
	case HOST_ACT_NONE:
	case _HOST_ACTIONS:
		break;
	}
}

static void host_input_code(struct turn *t, enum host_input in, struct ledger_entry *e, int exit_code)
{
	enum host_state before = (enum host_state)t->s->host;
	struct host_cell cell = host_machine(before, in);

	t->s->host = cell.next;
	if (before != cell.next) {
		t->s->since_wall = t->now.wall;
		turn_touch(t);
		if (before == HOST_DRAINED)
			turn_act(t, DRAIN_TARGET)->on = false;
	}
	host_act(t, (enum host_action)cell.action, e, exit_code);
	if (before != HOST_DRAINED && cell.next == HOST_DRAINED)
		turn_act(t, DRAIN_TARGET)->on = true;
}

void host_input(struct turn *t, enum host_input in, struct ledger_entry *e)
{
	host_input_code(t, in, e, 0);
}

void host_resume(struct turn *t)
{
	t->v.told_end = turn_end_of_time(t);
	if (t->s->host == HOST_DEGRADED)
		t->v.degraded_retry = t->now.boot + DEGRADED_FIRST;
	host_input(t, HOST_IN_RESUMED, NULL);
}

void host_step_result(struct turn *t, int64_t token, enum step_outcome outcome, int exit_code, const char *detail)
{
	static const unsigned char marks[] = { STEP_OK, STEP_FAILED, STEP_TIMED_OUT, STEP_STOPPED, STEP_UNTOUCHED };
	struct ledger_entry *e = NULL;
	char cut[LIMIT_STEP_DETAIL + 1];
	size_t n;
	int was;

	for (size_t i = 0; i < t->s->ledger.n; i++)
		if (drain_state_step(t->s, i)->now != STEP_IDLE && drain_state_step(t->s, i)->token == token)
			e = drain_state_step(t->s, i);
	if (!e || turn_step_is_probe(t, turn_step_index(t, e)))
		return;

	was = e->now;
	e->now = STEP_IDLE;
	turn_touch(t);
	n = detail ? utf8_cut(detail, strlen(detail), LIMIT_STEP_DETAIL) : 0;
	memcpy(cut, detail ? detail : "", n);
	cut[n] = '\0';
	if (str_set(&e->detail, n > 0 ? cut : NULL) < 0)
		turn_fail(t, -ENOMEM);
	if (outcome == STEP_OUTCOME_NEVER_BEGUN && !e->stopping)
		outcome = STEP_OUTCOME_FAILED;
	if (was == STEP_DOING)
		e->mark = marks[outcome];

	/* Told to stop: no longer the current step, so no input of the table. An undo that came through all the
	 * same need not be done again. */
	if (e->stopping) {
		e->stopping = false;
		if (was == STEP_UNDOING && outcome == STEP_OUTCOME_OK)
			e->mark = STEP_UNTOUCHED;
		if (t->s->host == HOST_DRAINING && e->over)
			host_end_of_group(t);
		return;
	}
	host_input_code(t, outcome == STEP_OUTCOME_OK ? HOST_IN_STEP_OK : HOST_IN_STEP_FAILED, e, exit_code);
}

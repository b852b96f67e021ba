/* The core's steps as they end, or must end sooner: what a result means for the step, its group and the host. */
#include <errno.h>
#include <string.h>

#include "agent/core/drain_core_internal.h"
#include "agent/core/settings_script.h"

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
		host_tell_step(t, i, "is not tried again, for want of time");
		e->retry_boot = 0;
		e->over = true;
		turn_touch(t);
		host_end_of_group(t);
		return true;
	}
	return false;
}

void host_step_failed(struct turn *t, struct ledger_entry *e, int exit_code)
{
	size_t i = turn_step_index(t, e);

	if (may_retry(t, e, exit_code)) {
		host_tell_step(t, i, "failed, trying again");
		e->retry_boot = usec_add(t->now.boot,
					 usec_from_seconds((uint64_t)turn_step_at(t, i)->settings.retry.delay_seconds));
		turn_touch(t);
		return;
	}
	host_tell_step(t, i, e->mark == STEP_TIMED_OUT ? "took too long" : "failed");
	e->over = true;
	turn_touch(t);
	host_end_of_group(t);
}

void host_rebudget(struct turn *t)
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
	host_step_input(t, outcome == STEP_OUTCOME_OK ? HOST_IN_STEP_OK : HOST_IN_STEP_FAILED, e, exit_code);
}

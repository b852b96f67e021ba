/* The core's steps: beginning and stopping them, and whose turn it is. */
#include "agent/core/drain_core_internal.h"

const struct plan_step *turn_step_at(const struct turn *t, size_t i)
{
	return drain_plan_step(t->s->plan, i);
}

size_t turn_step_index(const struct turn *t, const struct ledger_entry *e)
{
	return (size_t)(e - drain_state_step(t->s, 0));
}

bool turn_step_is_probe(const struct turn *t, size_t i)
{
	return turn_step_at(t, i)->settings.type == STEP_PROBE_DOWN;
}

size_t turn_group_end(const struct turn *t, size_t i)
{
	int64_t group;

	if (i >= t->s->ledger.n)
		return t->s->ledger.n;
	for (group = turn_step_at(t, i)->group; i < t->s->ledger.n && turn_step_at(t, i)->group == group; i++)
		;
	return i;
}

static bool anything_runs(const struct turn *t)
{
	for (size_t i = 0; i < t->s->ledger.n; i++)
		if (drain_state_step(t->s, i)->now != STEP_IDLE)
			return true;
	return false;
}

/* Beginning and stopping. */

static int64_t new_token(struct turn *t)
{
	turn_touch(t);
	return t->s->next_token++;
}

struct drain_action *turn_step_act(struct turn *t, enum drain_action_kind kind, size_t i)
{
	struct drain_action *a = turn_act(t, kind);

	a->token = drain_state_step(t->s, i)->token;
	a->index = i;
	a->step = &turn_step_at(t, i)->settings;
	return a;
}

void turn_set_probe(struct turn *t, bool down)
{
	if (t->s->probe_down == down)
		return;
	t->s->probe_down = down;
	turn_touch(t);
	turn_act(t, DRAIN_PROBE)->on = !down;
}

static void begin(struct turn *t, size_t i, bool undo, usec_t timeout_usec)
{
	struct ledger_entry *e = drain_state_step(t->s, i);
	struct drain_action *a;

	e->token = new_token(t);
	e->now = undo ? STEP_UNDOING : STEP_DOING;
	e->stopping = false;
	e->retry_boot = 0;
	e->begun_boot = t->now.boot;
	e->deadline_boot = usec_add(t->now.boot, timeout_usec);
	if (!undo) {
		e->mark = STEP_BEGUN;
		e->attempts++;
	}
	/* The wait of probeDown is a matter of time only, and so ours. */
	if (turn_step_is_probe(t, i)) {
		turn_set_probe(t, true);
		return;
	}
	a = turn_step_act(t, DRAIN_BEGIN_STEP, i);
	a->undo = undo;
	a->timeout_usec = timeout_usec;
}

void turn_step_stop(struct turn *t, size_t i)
{
	struct ledger_entry *e = drain_state_step(t->s, i);

	if (e->now == STEP_IDLE || e->stopping)
		return;
	turn_touch(t);
	if (turn_step_is_probe(t, i)) {
		e->now = STEP_IDLE;
		e->mark = STEP_STOPPED;
		return;
	}
	e->stopping = true;
	(void)turn_step_act(t, DRAIN_STOP_STEP, i);
}

void turn_stop_all(struct turn *t)
{
	for (size_t i = 0; i < t->s->ledger.n; i++) {
		drain_state_step(t->s, i)->retry_boot = 0;
		turn_step_stop(t, i);
	}
}

/* Whose turn it is. */

static void begin_group(struct turn *t)
{
	size_t from = (size_t)t->s->cursor, end = turn_group_end(t, from);
	struct shares s;

	turn_share(t, &s);
	if (s.left == 0 && !s.started) {
		host_input(t, HOST_IN_EXHAUSTED, NULL);
		return;
	}
	t->v.told_end = turn_end_of_time(t);
	for (size_t i = from; i < end; i++) {
		struct ledger_entry *e = drain_state_step(t->s, i);
		bool skip = s.items[0].skip || (s.tight && step_is_wait(&turn_step_at(t, i)->settings));

		if (e->over || e->now != STEP_IDLE || e->retry_boot > t->now.boot)
			continue;
		/* The probe goes down all the same; only the wait for it to be noticed is skipped. */
		if (skip && !turn_step_is_probe(t, i)) {
			e->over = true;
			turn_touch(t);
			continue;
		}
		begin(t, i, false, skip ? 0 : turn_share_of(t, &s, i));
	}
	host_end_of_group(t);
}

/* A member of a group is tried again while the others still run. */
static bool retry_due(const struct turn *t)
{
	for (size_t i = 0; i < t->s->ledger.n; i++) {
		const struct ledger_entry *e = drain_state_step(t->s, i);

		if (e->now == STEP_IDLE && !e->over && e->retry_boot != 0 && e->retry_boot <= t->now.boot)
			return true;
	}
	return false;
}

static void pump_draining(struct turn *t)
{
	bool started;
	usec_t left = turn_time_left(t, &started);

	for (size_t i = 0; i < t->s->ledger.n; i++) {
		struct ledger_entry *e = drain_state_step(t->s, i);

		if (e->now != STEP_DOING || !turn_step_is_probe(t, i) || e->deadline_boot > t->now.boot)
			continue;
		e->now = STEP_IDLE;
		e->mark = STEP_OK;
		host_input(t, HOST_IN_STEP_OK, e);
		return;
	}

	if (host_give_up_retry(t))
		return;
	if (anything_runs(t) || t->s->snapshot_wanted) {
		if (left == 0 && !started) {
			host_input(t, HOST_IN_EXHAUSTED, NULL);
			return;
		}
		if (usec_add(turn_end_of_time(t), BUDGET_TOLERANCE) < t->v.told_end)
			host_input(t, HOST_IN_BUDGET, NULL);
	}
	if (t->s->snapshot_wanted) {
		if (t->v.snapshot_token == 0) {
			t->v.snapshot_token = new_token(t);
			turn_act(t, DRAIN_TAKE_SNAPSHOT)->token = t->v.snapshot_token;
		}
		return;
	}
	if ((size_t)t->s->cursor >= t->s->ledger.n)
		host_input(t, HOST_IN_DONE, NULL);
	else if (!anything_runs(t) || retry_due(t))
		begin_group(t);
}

/* Least failures first, then the last one begun. */
static size_t next_undo(const struct turn *t)
{
	size_t best = t->s->ledger.n;

	for (size_t i = t->s->ledger.n; i-- > 0;) {
		const struct ledger_entry *e = drain_state_step(t->s, i);

		if (e->mark == STEP_UNTOUCHED || e->undo_failures >= UNDO_TRIES)
			continue;
		if (best == t->s->ledger.n || e->undo_failures < drain_state_step(t->s, best)->undo_failures)
			best = i;
	}
	return best;
}

static void pump_restoring(struct turn *t)
{
	size_t i;

	if (anything_runs(t))
		return;
	i = next_undo(t);
	if (i < t->s->ledger.n) {
		if (step_has_undo(&turn_step_at(t, i)->settings))
			begin(t, i, true, turn_most_of(t, i));
		else
			host_input(t, HOST_IN_STEP_OK, drain_state_step(t->s, i));
		return;
	}
	if (!drain_state_ledger_empty(t->s)) {
		host_input(t, HOST_IN_EXHAUSTED, NULL);
		return;
	}

	if (t->s->probe_down && t->v.health_checked && !t->v.health_asked) {
		t->v.health_asked = true;
		t->v.healthy = false;
		(void)turn_act(t, DRAIN_ASK_HEALTH);
	}
	if (t->s->probe_down && !t->v.healthy) {
		usec_t patience = usec_from_seconds(t->drain ? (uint64_t)t->drain->restore_timeout_seconds : 120);

		if (t->v.health_deadline == 0)
			t->v.health_deadline = usec_add(t->now.boot, patience);
		if (t->v.health_deadline <= t->now.boot)
			host_input(t, HOST_IN_EXHAUSTED, NULL);
		return;
	}
	turn_set_probe(t, false);
	host_input(t, HOST_IN_DONE, NULL);
}

static void pump_once(struct turn *t)
{
	size_t holds = drain_state_n_holds(t->s);
	bool drains = t->s->host == HOST_DRAINING || t->s->host == HOST_DRAINED;

	if (drains != (holds > 0)) {
		t->new_hold = false;
		host_input(t, drains ? HOST_IN_RELEASE : HOST_IN_HOLD, NULL);
		return;
	}
	/* It may have come and gone within this turn, as one that the boot has ended. */
	if (t->new_hold && drains) {
		t->new_hold = false;
		host_input(t, HOST_IN_HOLD, NULL);
	}
	switch ((enum host_state)t->s->host) {
	case HOST_DRAINING:
		pump_draining(t);
		break;
	case HOST_RESTORING:
		pump_restoring(t);
		break;
	case HOST_DEGRADED:
		if (t->v.degraded_retry <= t->now.boot || (t->v.healthy && drain_state_ledger_empty(t->s)))
			host_input(t, HOST_IN_RETRY, NULL);
		break;
	case HOST_SERVING:
	case HOST_DRAINED:
	case _HOST_STATES:
		break;
	}
}

void turn_pump(struct turn *t)
{
	do {
		t->changed = false;
		pump_once(t);
	} while (t->changed && t->r == 0);
}

usec_t turn_next_time(const struct turn *t)
{
	bool started, busy = anything_runs(t) || t->s->snapshot_wanted;
	usec_t next = USEC_INFINITY, left = turn_time_left(t, &started);

	switch ((enum host_state)t->s->host) {
	case HOST_DRAINING:
		for (size_t i = 0; i < t->s->ledger.n; i++) {
			const struct ledger_entry *e = drain_state_step(t->s, i);

			if (e->now == STEP_DOING && turn_step_is_probe(t, i))
				next = usec_min(next, e->deadline_boot);
			if (e->now == STEP_IDLE && !e->over && e->retry_boot != 0) {
				next = usec_min(next, e->retry_boot);
				busy = true;
			}
		}
		if (busy && !started)
			next = usec_min(next, usec_add(t->now.boot, left));
		break;
	case HOST_RESTORING:
		if (t->v.health_deadline != 0)
			next = t->v.health_deadline;
		break;
	case HOST_DEGRADED:
		next = t->v.degraded_retry;
		break;
	case HOST_SERVING:
	case HOST_DRAINED:
	case _HOST_STATES:
		break;
	}
	return next;
}

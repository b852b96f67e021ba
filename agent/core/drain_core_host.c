/* The core's side of the host machine: what its actions mean. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/core/drain_core_internal.h"
#include "agent/core/settings_script.h"

static void enter_drained(struct turn *t, enum drain_result result)
{
	static const char *const notes[] = { "", ", not all steps: time ran out in ", ", aborted by " };
	_cleanup_free_ char *note = NULL;
	size_t culprit;

	t->s->result = (int)result;
	culprit = drain_state_culprit(t->s);
	if (culprit < t->s->ledger.n) {
		note = str_format("%sstep %s", notes[result], turn_step_name(t, culprit));
		if (!note)
			turn_fail(t, -ENOMEM);
	}
	turn_set_probe(t, true);
	turn_touch(t);
	host_tell_phase(t, result == DRAIN_CLEAN ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, TOPIC_DRAIN, "drained", note ? note : "");
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

static void want_snapshot(struct turn *t)
{
	t->s->snapshot_wanted = true;
	t->v.snapshot_token = 0;
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
	want_snapshot(t);
	begin_pass(t, 0, false);
	host_tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining", "");
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
			  str_format("not restored: %s cannot be undone: %s", turn_step_name(t, bad),
				     drain_state_step(t->s, bad)->detail ? drain_state_step(t->s, bad)->detail : "failed"));
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

static void undo_anew(struct turn *t)
{
	for (size_t i = 0; i < t->s->ledger.n; i++)
		drain_state_step(t->s, i)->undo_failures = 0;
	t->v.health_deadline = 0;
	t->v.health_asked = false;
	turn_touch(t);
}

static void undo(struct turn *t)
{
	turn_stop_all(t);
	undo_anew(t);
	t->s->degraded_rounds = 0;
	turn_tell(t, LOG_LEVEL_INFO, TOPIC_RESTORE, NULL, true, str_format("restoring"));
}

static void redrain(struct turn *t)
{
	turn_stop_all(t);
	begin_pass(t, 0, false);
	host_tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining", "");
}

static void redrain_booted(struct turn *t)
{
	forget_running(t);
	begin_pass(t, 0, false);
	host_tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining after a boot", "");
}

static void go_on(struct turn *t)
{
	begin_pass(t, (size_t)t->s->cursor, true);
	host_tell_phase(t, LOG_LEVEL_INFO, TOPIC_DRAIN, "draining again", "");
}

static void restored(struct turn *t)
{
	forget_all(t);
	turn_tell(t, LOG_LEVEL_INFO, TOPIC_RESTORE, NULL, true, str_format("restored, serving"));
}

static void force(struct turn *t)
{
	turn_stop_all(t);
	forget_all(t);
	turn_set_probe(t, false);
	turn_tell(t, LOG_LEVEL_WARNING, TOPIC_RESTORE, NULL, true,
		  str_format("serving by force: what was still to be undone is left as it is"));
}

/* Of a step's result, which comes with the step. */
static void step_act(struct turn *t, enum host_action action, struct ledger_entry *e, int exit_code)
{
	if (action == HOST_ACT_NEXT) {
		e->over = true;
		turn_touch(t);
		host_end_of_group(t);
	} else if (action == HOST_ACT_STEP_FAILED) {
		host_step_failed(t, e, exit_code);
	} else if (action == HOST_ACT_NEXT_UNDO) {
		e->mark = STEP_UNTOUCHED;
		turn_touch(t);
	} else if (action == HOST_ACT_UNDO_FAILED) {
		e->undo_failures++;
		host_tell_step(t, turn_step_index(t, e), "could not be undone");
		turn_touch(t);
	}
}

static void host_act(struct turn *t, enum host_action action, struct ledger_entry *e, int exit_code)
{
	switch (action) {
	case HOST_ACT_PLAN:
		plan(t);
		break;
	case HOST_ACT_REBUDGET:
		host_rebudget(t);
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
		go_on(t);
		break;
	case HOST_ACT_UNDO:
		undo(t);
		break;
	case HOST_ACT_REDRAIN_ADD:
		want_snapshot(t);
		redrain(t);
		break;
	case HOST_ACT_REDRAIN:
		redrain(t);
		break;
	case HOST_ACT_REDRAIN_BOOTED:
		redrain_booted(t);
		break;
	case HOST_ACT_UNDO_BOOTED:
		forget_running(t);
		undo(t);
		break;
	case HOST_ACT_FORGET:
		restored(t);
		break;
	case HOST_ACT_DEGRADE:
		degrade(t);
		break;
	case HOST_ACT_ATTACH:
	case HOST_ACT_PUT_BACK:
		attach(t);
		break;
	case HOST_ACT_RETRY_UNDO:
		undo_anew(t);
		break;
	case HOST_ACT_FORCE:
		force(t);
		break;
	case HOST_ACT_NEXT:
	case HOST_ACT_STEP_FAILED:
	case HOST_ACT_NEXT_UNDO:
	case HOST_ACT_UNDO_FAILED:
		if (e)
			step_act(t, action, e, exit_code);
		break;
	case HOST_ACT_NONE:
	case _HOST_ACTIONS:
		break;
	}
}

void host_step_input(struct turn *t, enum host_input in, struct ledger_entry *e, int exit_code)
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
	host_step_input(t, in, e, 0);
}

void host_resume(struct turn *t)
{
	t->v.told_end = turn_end_of_time(t);
	if (t->s->host == HOST_DEGRADED)
		t->v.degraded_retry = t->now.boot + DEGRADED_FIRST;
	host_input(t, HOST_IN_RESUMED, NULL);
}

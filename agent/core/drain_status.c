/* Sentences and numbers about draining. */
#include "agent/core/drain_status.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/drain_core_internal.h"

static const struct drain_event *next_event(const struct drain_state *s)
{
	const struct drain_event *next = NULL;

	for (size_t i = 0; i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);

		if (e->status == EVENT_SCHEDULED && (!next || e->not_before_wall < next->not_before_wall))
			next = e;
	}
	return next;
}

static usec_t earliest_deadline(const struct drain_state *s, struct drain_now now)
{
	usec_t earliest = USEC_INFINITY;

	for (size_t i = 0; i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);

		if (event_state_holds((enum event_state)e->state) && e->not_before_wall != 0)
			earliest = usec_min(earliest, e->not_before_wall);
	}
	for (size_t i = 0; i < s->holds.n; i++)
		if (drain_state_hold(s, i)->deadline_boot != 0)
			earliest = usec_min(earliest, usec_add(now.wall, usec_sub(drain_state_hold(s, i)->deadline_boot,
										  now.boot)));
	return earliest == USEC_INFINITY ? 0 : earliest;
}

/* The step that says most about what is wrong: the first failed undo, else the first failed step. */
static size_t worst_step(const struct drain_state *s)
{
	size_t worst = s->ledger.n;

	for (size_t i = s->ledger.n; i-- > 0;) {
		const struct ledger_entry *e = drain_state_step(s, i);
		bool failed = e->mark == STEP_FAILED ||
			      (e->mark == STEP_TIMED_OUT && !step_is_wait(&drain_plan_step(s->plan, i)->settings));

		if (s->host == HOST_DEGRADED ? e->mark != STEP_UNTOUCHED && e->undo_failures > 0 : failed)
			worst = i;
	}
	return worst;
}

static void say_step(const struct drain_state *s, size_t i, struct buf *b)
{
	const struct ledger_entry *e = drain_state_step(s, i);

	buf_printf(b, "step %s%s%s", drain_plan_step(s->plan, i)->settings.name, e->detail ? ": " : " failed",
		   e->detail ? e->detail : "");
}

static void say_current(const struct drain_state *s, struct buf *b)
{
	for (size_t i = 0; i < s->ledger.n; i++)
		if (drain_state_step(s, i)->now != STEP_IDLE) {
			buf_printf(b, ": %s, step %zu of %zu", drain_plan_step(s->plan, i)->settings.name, i + 1,
				   s->ledger.n);
			return;
		}
}

static void say_acknowledged(const struct drain_state *s, struct buf *b)
{
	char when[TIMEFMT_MAX];

	for (size_t i = 0; i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);

		if (event_state_holds((enum event_state)e->state) && e->ack == ACK_ACCEPTED) {
			buf_printf(b, ", acknowledged %s", timefmt_clock(e->acknowledged_wall, when));
			return;
		}
	}
}

static void say_paused(const struct drain_event *e, struct buf *b)
{
	char when[TIMEFMT_MAX];

	buf_printf(b, "paused: %s %s", e->type, e->id);
	if (e->status == EVENT_STARTED)
		buf_puts(b, " has started and");
	else if (e->not_before_wall != 0)
		buf_printf(b, " not before %s", timefmt_clock(e->not_before_wall, when));
	buf_puts(b, " is not drained for and not acknowledged until the pause ends");
}

static void say_serving(const struct drain_core *core, const struct drain_status *st, struct buf *b)
{
	const struct drain_event *paused = drain_core_paused_event(core);
	char when[TIMEFMT_MAX];

	if (paused) {
		say_paused(paused, b);
		return;
	}
	buf_puts(b, drain_core_paused(core) ? "watching, paused" : "watching");
	if (!st->next)
		return;
	buf_printf(b, "; %s %s", st->next->type, st->next->id);
	if (st->next->not_before_wall != 0)
		buf_printf(b, " not before %s", timefmt_clock(st->next->not_before_wall, when));
}

/* The step in which time ran out, and how many never had their turn. */
static void say_incomplete(const struct drain_state *s, struct buf *b)
{
	size_t culprit = drain_state_culprit(s), others = 0;

	buf_puts(b, ", incomplete: there was no time left for all steps");
	if (culprit == s->ledger.n)
		return;
	for (size_t i = (size_t)s->cursor; i < s->ledger.n; i++)
		others += i != culprit && !drain_state_step(s, i)->over && drain_state_step(s, i)->attempts == 0;
	buf_printf(b, "; step %s was %s", drain_plan_step(s->plan, culprit)->settings.name,
		   drain_state_step(s, culprit)->attempts > 0 ? "cut short" : "not begun");
	if (others > 0)
		buf_printf(b, ", and %zu more not begun", others);
}

static void say_drained(const struct drain_state *s, const char *why, struct buf *b)
{
	size_t bad = s->result == DRAIN_ABORTED ? drain_state_culprit(s) : worst_step(s);

	buf_printf(b, "drained%s%s", *why ? " for " : "", why);
	if (s->result == DRAIN_INCOMPLETE)
		say_incomplete(s, b);
	if (s->result == DRAIN_ABORTED)
		buf_puts(b, ", aborted and not acknowledged");
	say_acknowledged(s, b);
	if (bad < s->ledger.n) {
		buf_puts(b, "; ");
		say_step(s, bad, b);
	}
}

static void say_degraded(const struct drain_state *s, struct buf *b)
{
	size_t bad = worst_step(s);

	buf_puts(b, "not restored: ");
	if (bad < s->ledger.n)
		say_step(s, bad, b);
	else
		buf_puts(b, "the application is not healthy");
	buf_puts(b, "; tried again by itself, or mend it and run \"evenkeel restore --force\"");
}

static void say(const struct drain_core *core, const struct drain_status *st, struct buf *b)
{
	const struct drain_state *s = drain_core_state(core);
	_cleanup_free_ char *reasons = host_reasons(s);
	const char *why = reasons ? reasons : "";

	if (st->boot_pending) {
		buf_puts(b, "booted; waiting for the first answer about scheduled events");
		return;
	}
	switch (st->phase) {
	case HOST_SERVING:
		say_serving(core, st, b);
		break;
	case HOST_DRAINING:
		buf_printf(b, "draining%s%s", *why ? " for " : "", why);
		say_current(s, b);
		break;
	case HOST_DRAINED:
		say_drained(s, why, b);
		break;
	case HOST_RESTORING:
		buf_puts(b, "restoring");
		say_current(s, b);
		if (drain_state_ledger_empty(s) && s->probe_down)
			buf_puts(b, ": waiting for the application to become healthy");
		break;
	case HOST_DEGRADED:
		say_degraded(s, b);
		break;
	case _HOST_STATES:
		break;
	}
}

static enum drain_level level(const struct drain_core *core, const struct drain_state *s, bool boot_pending)
{
	const struct drain_event *paused = drain_core_paused_event(core);

	if (boot_pending || s->host == HOST_DRAINING || s->host == HOST_RESTORING)
		return DRAIN_LEVEL_TRANSITIONING;
	if (s->host == HOST_DEGRADED)
		return DRAIN_LEVEL_ERROR;
	if (s->host == HOST_DRAINED && (s->result != DRAIN_CLEAN || worst_step(s) < s->ledger.n))
		return DRAIN_LEVEL_WARNING;
	if (paused && s->host == HOST_SERVING)
		return event_type_of(paused->type) == EVENT_PREEMPT ? DRAIN_LEVEL_ERROR : DRAIN_LEVEL_WARNING;
	return DRAIN_LEVEL_SUCCESS;
}

void drain_status_get(const struct drain_core *core, struct drain_now now, struct drain_status *ret)
{
	const struct drain_state *s = drain_core_state(core);
	_cleanup_buf_ struct buf b = BUF_INIT(4096);
	size_t n;

	*ret = (struct drain_status){
		.phase = (enum host_state)s->host,
		.result = (enum drain_result)s->result,
		.boot_pending = drain_core_boot_pending(core),
		.n_holds = drain_state_n_holds(s),
		.n_steps = s->ledger.n,
		.next = next_event(s),
		.deadline_wall = earliest_deadline(s, now),
	};
	ret->level = level(core, s, ret->boot_pending);
	ret->serving = !s->probe_down && !ret->boot_pending;
	for (size_t i = 0; i < s->ledger.n; i++)
		ret->steps_over += drain_state_step(s, i)->over;

	say(core, ret, &b);
	n = utf8_cut(buf_str(&b), b.len, sizeof(ret->sentence) - 1);
	memcpy(ret->sentence, buf_str(&b), n);
	ret->sentence[n] = '\0';
}

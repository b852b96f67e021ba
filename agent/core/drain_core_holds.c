/* The core's holds, beside those of events: put and taken away by an operator, a shutdown, a rehearsal; and their ends. */
#include <errno.h>
#include <string.h>

#include "agent/core/drain_core_internal.h"

void turn_end_hold(struct turn *t, size_t i)
{
	if (t->s->host != HOST_SERVING && drain_state_keep_hold(t->s, drain_state_hold(t->s, i)) < 0)
		turn_fail(t, -ENOMEM);
	drain_state_remove_hold(t->s, i);
	turn_touch(t);
}

void turn_expire_holds(struct turn *t)
{
	for (size_t i = t->s->holds.n; i-- > 0;) {
		const struct drain_hold *h = drain_state_hold(t->s, i);

		/* A real reason takes over a rehearsal. */
		if ((h->until_boot != 0 && h->until_boot <= t->now.boot) ||
		    (h->kind == HOLD_REHEARSAL && drain_state_n_holds(t->s) > 1))
			turn_end_hold(t, i);
	}
}

void turn_drop_holds_of_boot(struct turn *t)
{
	for (size_t i = t->s->holds.n; i-- > 0;)
		if (drain_state_hold(t->s, i)->kind != HOLD_OPERATOR || drain_state_hold(t->s, i)->until_boot != 0)
			turn_end_hold(t, i);
		else
			drain_state_hold(t->s, i)->deadline_boot = 0;
}

/* Its place, or how many there are. */
static size_t find_hold(const struct drain_state *s, enum hold_kind kind)
{
	for (size_t i = 0; i < s->holds.n; i++)
		if (drain_state_hold(s, i)->kind == (int)kind)
			return i;
	return s->holds.n;
}

static void hold(struct turn *t, enum hold_kind kind, const char *reason, usec_t deadline_usec, usec_t lasts_usec)
{
	size_t i = find_hold(t->s, kind);
	struct drain_hold *h = NULL;
	char cut[LIMIT_STEP_DETAIL + 1];
	size_t n = reason ? utf8_cut(reason, strlen(reason), LIMIT_STEP_DETAIL) : 0;

	if (i < t->s->holds.n)
		h = drain_state_hold(t->s, i);
	else if (drain_state_add_hold(t->s, &h) < 0) {
		turn_fail(t, -ENOMEM);
		return;
	}
	memcpy(cut, reason ? reason : "", n);
	cut[n] = '\0';
	if (str_set(&h->reason, n > 0 ? cut : NULL) < 0)
		turn_fail(t, -ENOMEM);
	h->kind = (int)kind;
	h->deadline_boot = deadline_usec ? usec_add(t->now.boot, deadline_usec) : 0;
	h->until_boot = lasts_usec ? usec_add(t->now.boot, lasts_usec) : 0;
	t->new_hold = true;
	turn_touch(t);
}

int drain_core_hold(struct drain_core *core, enum hold_kind kind, const char *reason, usec_t deadline_usec,
		    usec_t lasts_usec, struct drain_now now)
{
	struct turn t;
	int r;

	if (!core->drain)
		return -ENOTSUP;
	if (kind == HOLD_REHEARSAL && drain_state_n_holds(core->state) > (find_hold(core->state, kind) < core->state->holds.n))
		return -EBUSY;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	hold(&t, kind, reason, deadline_usec, lasts_usec);
	return turn_end(&t);
}

int drain_core_release(struct drain_core *core, enum hold_kind kind, struct drain_now now)
{
	size_t i = find_hold(core->state, kind);
	struct turn t;
	int r;

	if (i == core->state->holds.n)
		return -ENOENT;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	turn_end_hold(&t, i);
	return turn_end(&t);
}

int drain_core_restore(struct drain_core *core, bool force, struct drain_now now)
{
	struct turn t;
	int r = turn_begin(core, now, &t);

	if (r < 0)
		return r;
	for (size_t i = t.s->holds.n; i-- > 0;)
		if (drain_state_hold(t.s, i)->kind != HOLD_SHUTDOWN)
			turn_end_hold(&t, i);
	if (force) {
		events_input_all(&t, EVENT_IN_WAIVE);
		if (!t.v.boot_pending)
			host_input(&t, HOST_IN_FORCE, NULL);
	}
	r = turn_end(&t);
	if (r < 0)
		return r;
	return drain_state_n_holds(core->state) > 0 ? DRAIN_STILL_HELD : 0;
}

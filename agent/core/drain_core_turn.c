/* A turn: begun on a copy of the core, which becomes the core only when everything has gone well. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/core/drain_core_internal.h"

enum { FIRST_PERSIST, BOOT_PROBE, BOOT_TARGET }; /* places in a turn's actions */

void turn_fail(struct turn *t, int r)
{
	if (t->r == 0)
		t->r = r;
}

struct drain_action *turn_act(struct turn *t, enum drain_action_kind kind)
{
	struct drain_action *a;

	if (t->n_actions == t->cap_actions) {
		size_t cap = t->cap_actions * 2;

		a = reallocarray(t->actions, cap, sizeof(*a));
		if (!a) {
			/* There is always one (turn_begin()); the turn is lost, and this one with it. */
			turn_fail(t, -ENOMEM);
			t->n_actions--;
			drain_action_done(&t->actions[t->n_actions]);
		} else {
			t->actions = a;
			t->cap_actions = cap;
		}
	}
	a = &t->actions[t->n_actions++];
	*a = (struct drain_action){ .kind = kind };
	return a;
}

void turn_tell(struct turn *t, enum log_level level, enum drain_topic topic, const struct drain_event *e,
	       bool milestone, char *text)
{
	struct drain_action *a = turn_act(t, DRAIN_TELL);

	/* What the policy ignores is not news. */
	if (e && topic == TOPIC_EVENT && e->action == POLICY_IGNORE) {
		level = LOG_LEVEL_DEBUG;
		milestone = false;
	}
	a->level = level;
	a->topic = topic;
	a->milestone = milestone;
	a->text = text;
	if (!text || (e && str_set(&a->event_id, e->id) < 0))
		turn_fail(t, -ENOMEM);
}

int turn_begin_with(struct drain_core *core, const struct drain_settings *drain, struct drain_now now, struct turn *t)
{
	*t = (struct turn){ .core = core, .drain = drain, .now = now, .v = core->v };
	if (core->n_actions - core->first_action >= LIMIT_DRAIN_ACTIONS)
		return -ENOBUFS;
	t->cap_actions = 16;
	t->actions = calloc(t->cap_actions, sizeof(*t->actions));
	if (!t->actions || drain_state_copy(core->state, &t->s) < 0) {
		free(t->actions);
		return -ENOMEM;
	}
	/* FIRST_PERSIST: what is begun must be durable before. */
	(void)turn_act(t, DRAIN_PERSIST);
	events_anchor(t);
	return 0;
}

int turn_begin(struct drain_core *core, struct drain_now now, struct turn *t)
{
	return turn_begin_with(core, core->drain, now, t);
}

static void turn_drop(struct turn *t)
{
	for (size_t i = 0; i < t->n_actions; i++)
		drain_action_done(&t->actions[i]);
	free(t->actions);
	drain_state_free(t->s);
}

static void set_timer(struct turn *t)
{
	usec_t next = usec_min(events_next_time(t), turn_next_time(t));

	if (t->v.boot_pending)
		next = usec_min(events_next_time(t), t->v.boot_deadline);
	for (size_t i = 0; i < t->s->holds.n; i++)
		if (drain_state_hold(t->s, i)->until_boot != 0)
			next = usec_min(next, drain_state_hold(t->s, i)->until_boot);

	/* What depends on the wall clock wanders a little with every reading. */
	if (next == t->v.timer || (next != USEC_INFINITY && t->v.timer != USEC_INFINITY &&
				   usec_sub(usec_max(next, t->v.timer), usec_min(next, t->v.timer)) < TIMER_TOLERANCE))
		return;
	t->v.timer = next;
	turn_act(t, DRAIN_SET_TIMER)->at_boot = next;
}

static int turn_commit(struct turn *t)
{
	struct drain_core *core = t->core;
	size_t left = core->n_actions - core->first_action, skip = t->dirty ? 0 : 1;
	struct drain_action *queue;

	if (t->r < 0)
		return t->r;
	queue = calloc(left + t->n_actions + 1, sizeof(*queue));
	if (!queue)
		return -ENOMEM;

	if (left > 0)
		memcpy(queue, core->actions + core->first_action, left * sizeof(*queue));
	if (t->n_actions > skip)
		memcpy(queue + left, t->actions + skip, (t->n_actions - skip) * sizeof(*queue));
	free(core->actions);
	core->actions = queue;
	core->first_action = 0;
	core->n_actions = left + t->n_actions - skip;
	t->n_actions = 0;

	drain_state_free(core->state);
	core->state = TAKE_PTR(t->s);
	core->v = t->v;
	core->drain = t->drain;
	return 0;
}

void turn_booted(struct turn *t)
{
	t->v.rebooted = false;
	if (str_set(&t->s->boot_id, t->core->boot_id) < 0)
		turn_fail(t, -ENOMEM);
	turn_touch(t);
	if (!t->v.boot_pending)
		return;
	t->v.boot_pending = false;
	host_input(t, drain_state_n_holds(t->s) > 0 ? HOST_IN_BOOTED_HELD : HOST_IN_BOOTED_FREE, NULL);
}

int turn_end(struct turn *t)
{
	int r;

	if (t->v.boot_pending && t->v.boot_deadline <= t->now.boot) {
		events_as_if_empty(t);
		turn_booted(t);
	}
	turn_expire_holds(t);
	events_due(t);
	turn_expire_holds(t);
	if (!t->v.boot_pending)
		turn_pump(t);
	/* What an operator has begun before the first document of a boot is of this boot: after a kill it is still running. */
	if (!t->v.boot_pending && t->s->host != HOST_SERVING && !str_equal(t->s->boot_id, t->core->boot_id)) {
		if (str_set(&t->s->boot_id, t->core->boot_id) < 0)
			turn_fail(t, -ENOMEM);
		t->dirty = true;
	}
	if (t->boot && t->r == 0) {
		t->actions[BOOT_PROBE].on = !t->s->probe_down && !t->v.boot_pending;
		t->actions[BOOT_TARGET].on = t->s->host == HOST_DRAINED && !t->v.boot_pending;
	}
	events_send(t);
	set_timer(t);
	r = turn_commit(t);
	turn_drop(t);
	return r;
}

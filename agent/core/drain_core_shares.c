/* The core's time: how much is left of what events and holds give, and which share of it each step may take. */
#include "agent/core/drain_core_internal.h"

usec_t turn_time_left(const struct turn *t, bool *ret_started)
{
	usec_t margin = t->drain ? usec_from_seconds((uint64_t)t->drain->margin_seconds) : 0;
	usec_t left = USEC_INFINITY;

	*ret_started = false;
	for (size_t i = 0; i < t->s->events.n; i++) {
		const struct drain_event *e = drain_state_event(t->s, i);

		if (e->state == EVENT_BEGUN || (e->late && event_state_holds((enum event_state)e->state)))
			*ret_started = true;
		else if (event_state_holds((enum event_state)e->state) && e->not_before_boot != 0)
			left = usec_min(left, usec_sub(usec_sub(e->not_before_boot, t->now.boot), margin));
	}
	for (size_t i = 0; i < t->s->holds.n; i++)
		if (drain_state_hold(t->s, i)->deadline_boot != 0)
			left = usec_min(left, usec_sub(drain_state_hold(t->s, i)->deadline_boot, t->now.boot));
	return left;
}

/* Boot time at which nothing may run any more; 0 when an event has begun. */
usec_t turn_end_of_time(const struct turn *t)
{
	bool started;
	usec_t left = turn_time_left(t, &started);

	return started ? 0 : usec_add(t->now.boot, left);
}

usec_t turn_most_of(const struct turn *t, size_t i)
{
	const struct plan_step *p = turn_step_at(t, i);
	int64_t hooks = drain_state_step(t->s, i)->hooks;

	return (usec_t)p->timeout_usec * (usec_t)(p->settings.type == STEP_HOOKS && hooks > 1 ? hooks : 1);
}

static usec_t least_of(const struct turn *t, size_t i)
{
	const struct plan_step *p = turn_step_at(t, i);
	int64_t hooks = drain_state_step(t->s, i)->hooks;

	return (usec_t)p->reserve_usec * (usec_t)(p->settings.type == STEP_HOOKS && hooks > 1 ? hooks : 1);
}

/* One item per group, from the one at the cursor to the last. What runs counts with its rest. */
void turn_share(const struct turn *t, struct shares *ret)
{
	*ret = (struct shares){};
	for (size_t i = (size_t)t->s->cursor, end; i < t->s->ledger.n; i = end) {
		struct budget_item *item = &ret->items[ret->n++];

		item->wait = true;
		end = turn_group_end(t, i);
		for (size_t k = i; k < end; k++) {
			const struct ledger_entry *e = drain_state_step(t->s, k);
			usec_t most = turn_most_of(t, k), least = least_of(t, k);

			if (e->over)
				continue;
			if (e->now == STEP_DOING) {
				most = usec_sub(e->deadline_boot, t->now.boot);
				least = usec_min(most, usec_sub(least, usec_sub(t->now.boot, e->begun_boot)));
			}
			item->timeout_usec = usec_max(item->timeout_usec, most);
			item->reserve_usec = usec_max(item->reserve_usec, least);
			item->wait = item->wait && step_is_wait(&turn_step_at(t, k)->settings);
		}
	}
	ret->left = turn_time_left(t, &ret->started);
	ret->tight = drain_budget_share(ret->left, ret->started, ret->items, ret->n);
}

usec_t turn_share_of(const struct turn *t, const struct shares *s, size_t i)
{
	usec_t mine = usec_min(s->items[0].share_usec, usec_max(turn_most_of(t, i), BUDGET_LEAST));

	if (s->tight)
		return usec_min(mine, usec_max(least_of(t, i), BUDGET_LEAST));
	return usec_min(mine, turn_most_of(t, i));
}

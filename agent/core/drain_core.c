/* The drain core: its life, its inputs, each of which is one turn, and what can be seen of it. */
#include "agent/core/drain_core.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/drain_core_internal.h"

/* Life. */

void drain_action_done(struct drain_action *a)
{
	strv_free(a->ids);
	free(a->event_id);
	free(a->text);
	*a = (struct drain_action){};
}

int drain_core_new(const struct drain_settings *drain, bool health_checked, struct drain_core **ret)
{
	_cleanup_(drain_core_freep) struct drain_core *core = calloc(1, sizeof(*core));

	if (!core || drain_state_new(&core->state) < 0)
		return -ENOMEM;
	core->drain = drain;
	core->v.health_checked = health_checked;
	core->v.healthy = !health_checked;
	core->v.told_end = core->v.timer = USEC_INFINITY;
	*ret = TAKE_PTR(core);
	return 0;
}

void drain_core_free(struct drain_core *core)
{
	if (!core)
		return;
	for (size_t i = core->first_action; i < core->n_actions; i++)
		drain_action_done(&core->actions[i]);
	free(core->actions);
	drain_state_free(core->state);
	free(core->self);
	free(core->boot_id);
	free(core);
}

int drain_core_set_self(struct drain_core *core, const char *self)
{
	return str_set(&core->self, self);
}

bool drain_core_next(struct drain_core *core, struct drain_action *ret)
{
	if (core->first_action == core->n_actions) {
		free(core->actions);
		core->actions = NULL;
		core->first_action = core->n_actions = 0;
		return false;
	}
	*ret = core->actions[core->first_action++];
	return true;
}

/* Inputs. */

/* No drain section: nothing is watched any more, nothing holds, and no document will come to be waited for. */
static void leave(struct turn *t)
{
	events_input_all(t, EVENT_IN_WAIVE);
	while (t->s->holds.n > 0)
		turn_end_hold(t, t->s->holds.n - 1);
	if (t->v.rebooted)
		turn_booted(t);
}

static void boot(struct turn *t)
{
	bool first = !t->s->boot_id;

	/* How they stand is told once for all, as the turn leaves them: turn_end(). */
	(void)turn_act(t, DRAIN_PROBE);
	(void)turn_act(t, DRAIN_TARGET);
	t->boot = true;
	if (!str_equal(t->s->boot_id, t->core->boot_id)) {
		/* While anything is pending the record keeps the former id, so that a kill now loses nothing. */
		t->v.rebooted = !first;
		t->v.boot_pending = !first && t->s->host != HOST_SERVING;
		t->v.boot_deadline = usec_add(t->now.boot, BOOT_PATIENCE);
		turn_drop_holds_of_boot(t);
		events_forget_anchors(t);
		if (first && str_set(&t->s->boot_id, t->core->boot_id) < 0)
			turn_fail(t, -ENOMEM);
		t->dirty = first;
	}
	if (!t->drain)
		leave(t);
	if (!t->v.boot_pending)
		host_resume(t);
}

int drain_core_boot(struct drain_core *core, struct drain_state *record, const char *boot_id, struct drain_now now)
{
	struct drain_state *fresh = core->state;
	struct turn t;
	int r;

	r = str_set(&core->boot_id, boot_id);
	if (r < 0)
		return r;
	if (record)
		core->state = record;
	r = turn_begin(core, now, &t);
	if (r == 0) {
		boot(&t);
		r = turn_end(&t);
	}
	if (r < 0)
		core->state = fresh;
	else if (record)
		drain_state_free(fresh);
	return r;
}

int drain_core_document(struct drain_core *core, const struct events_document *doc, struct drain_now now)
{
	struct turn t;
	int r;

	if (!core->self)
		return 0;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	events_document(&t, doc);
	if (t.v.rebooted) {
		events_rebooted(&t);
		turn_booted(&t);
	}
	return turn_end(&t);
}

usec_t drain_core_poll_delay(const struct drain_core *core, struct drain_now now, usec_t *ret_most)
{
	usec_t delay = core->drain ? usec_from_seconds((uint64_t)core->drain->polling_interval_seconds) : USEC_PER_SEC;
	bool known = core->state->events.n > 0 ||
		     (core->v.event_seen_boot != 0 && now.boot < usec_add(core->v.event_seen_boot, USEC_PER_MINUTE));

	*ret_most = known ? usec_max(delay, POLL_BACKOFF_KNOWN) : USEC_INFINITY;
	for (size_t i = 0; i < core->state->events.n; i++)
		if (drain_state_event(core->state, i)->ack_needs_document)
			return 0;
	return delay;
}

int drain_core_timer(struct drain_core *core, struct drain_now now)
{
	struct turn t;
	int r = turn_begin(core, now, &t);

	if (r < 0)
		return r;
	t.v.timer = USEC_INFINITY;
	return turn_end(&t);
}

int drain_core_snapshot_result(struct drain_core *core, int64_t token, const char *const *units, const unsigned *hooks,
			       struct drain_now now)
{
	struct turn t;
	int r;

	if (token == 0 || token != core->v.snapshot_token)
		return 0;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	if (drain_state_add_snapshot(t.s, units) < 0)
		turn_fail(&t, -ENOMEM);
	for (size_t i = 0; hooks && i < t.s->ledger.n; i++)
		drain_state_step(t.s, i)->hooks = hooks[i] < LIMIT_HOOKS ? (int64_t)hooks[i] : LIMIT_HOOKS;
	t.s->snapshot_wanted = false;
	t.v.snapshot_token = 0;
	turn_touch(&t);
	return turn_end(&t);
}

int drain_core_step_result(struct drain_core *core, int64_t token, enum step_outcome outcome, int exit_code,
			   const char *detail, struct drain_now now)
{
	struct turn t;
	int r;

	/* What ran before the boot has nothing to say any more. */
	if (core->v.boot_pending)
		return 0;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	host_step_result(&t, token, outcome, exit_code, detail);
	return turn_end(&t);
}

int drain_core_ack_result(struct drain_core *core, int64_t token, enum ack_outcome outcome, struct drain_now now)
{
	struct turn t;
	int r;

	if (token == 0 || token != core->v.post_flying)
		return 0;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	events_ack_result(&t, outcome);
	return turn_end(&t);
}

int drain_core_peers_result(struct drain_core *core, int64_t token, bool drained, struct drain_now now)
{
	struct turn t;
	int r;

	if (token == 0 || token != core->v.peers_flying)
		return 0;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	events_peers_result(&t, drained);
	return turn_end(&t);
}

int drain_core_acknowledge(struct drain_core *core, const char *event_id, struct drain_now now)
{
	const struct drain_event *e = events_find(core->state, event_id);
	struct turn t;
	int r;

	if (!e)
		return -ENOENT;
	if (e->status != EVENT_SCHEDULED || e->status_text || e->ack == ACK_ACCEPTED ||
	    (e->ack == ACK_WANTED && e->ack_reason == ACK_BY_OPERATOR))
		return -EALREADY;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	event_input(&t, events_find(t.s, event_id), EVENT_IN_OPERATOR_ACK);
	return turn_end(&t);
}

int drain_core_reload(struct drain_core *core, const struct drain_settings *drain, bool health_checked,
		      struct drain_now now)
{
	struct turn t;
	int r = turn_begin_with(core, drain, now, &t);

	if (r < 0)
		return r;
	t.v.health_checked = health_checked;
	t.v.healthy = t.v.healthy || !health_checked;
	if (drain)
		events_input_all(&t, EVENT_IN_RELOAD);
	else
		leave(&t);
	return turn_end(&t);
}

int drain_core_health(struct drain_core *core, bool healthy, struct drain_now now)
{
	struct turn t;
	int r;

	if (core->v.healthy == healthy)
		return 0;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	t.v.healthy = healthy;
	return turn_end(&t);
}

int drain_core_pause(struct drain_core *core, bool paused, struct drain_now now)
{
	struct turn t;
	int r;

	if (!core->boot_id) {
		core->v.paused = paused;
		return 0;
	}
	if (core->v.paused == paused)
		return 0;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	t.v.paused = paused;
	if (paused)
		events_tell_paused(&t);
	else
		events_input_all(&t, EVENT_IN_RELOAD);
	return turn_end(&t);
}

/* Looking. */

const struct drain_state *drain_core_state(const struct drain_core *core)
{
	return core->state;
}

bool drain_core_boot_pending(const struct drain_core *core)
{
	return core->v.boot_pending;
}

bool drain_core_paused(const struct drain_core *core)
{
	return core->v.paused;
}

/* What has started presses more than what is to come. */
static bool presses_more(const struct drain_event *a, const struct drain_event *b)
{
	if (a->status != b->status)
		return a->status == EVENT_STARTED;
	return a->not_before_wall < b->not_before_wall;
}

const struct drain_event *drain_core_paused_event(const struct drain_core *core)
{
	const struct drain_event *most = NULL;

	for (size_t i = 0; i < core->state->events.n; i++) {
		const struct drain_event *e = drain_state_event(core->state, i);

		if (event_is_paused(&core->v, e) && (!most || presses_more(e, most)))
			most = e;
	}
	return most;
}

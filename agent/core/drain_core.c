/* The drain core: inputs, each one turn over a copy that becomes the core's only when it has gone well. */
#include "agent/core/drain_core.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/drain_core_internal.h"

/* Turns. */

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

enum { FIRST_PERSIST, BOOT_PROBE, BOOT_TARGET }; /* places in a turn's actions */

/* drain: the settings in force from this turn on; those of the former one may be gone. */
static int turn_begin_with(struct drain_core *core, const struct drain_settings *drain, struct drain_now now, struct turn *t)
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

static int turn_begin(struct drain_core *core, struct drain_now now, struct turn *t)
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

static void end_hold(struct turn *t, size_t i)
{
	if (t->s->host != HOST_SERVING && drain_state_keep_hold(t->s, drain_state_hold(t->s, i)) < 0)
		turn_fail(t, -ENOMEM);
	drain_state_remove_hold(t->s, i);
	turn_touch(t);
}

static void expire_holds(struct turn *t)
{
	for (size_t i = t->s->holds.n; i-- > 0;) {
		const struct drain_hold *h = drain_state_hold(t->s, i);

		/* A real reason takes over a rehearsal. */
		if ((h->until_boot != 0 && h->until_boot <= t->now.boot) ||
		    (h->kind == HOLD_REHEARSAL && drain_state_n_holds(t->s) > 1))
			end_hold(t, i);
	}
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

/* The first document of the boot, or none for too long. */
static void booted(struct turn *t)
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

static int turn_end(struct turn *t)
{
	int r;

	if (t->v.boot_pending && t->v.boot_deadline <= t->now.boot) {
		events_as_if_empty(t);
		booted(t);
	}
	expire_holds(t);
	events_due(t);
	expire_holds(t);
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

/* Shutdowns, backups and rehearsals do not outlive the boot that they were for, nor does a hold that was to end
 * at a time of that boot's clock. */
static void drop_holds_of_boot(struct turn *t)
{
	for (size_t i = t->s->holds.n; i-- > 0;)
		if (drain_state_hold(t->s, i)->kind != HOLD_OPERATOR || drain_state_hold(t->s, i)->until_boot != 0)
			end_hold(t, i);
		else
			drain_state_hold(t->s, i)->deadline_boot = 0;
}

/* No drain section: nothing is watched any more, nothing holds, and no document will come to be waited for. */
static void leave(struct turn *t)
{
	events_input_all(t, EVENT_IN_WAIVE);
	while (t->s->holds.n > 0)
		end_hold(t, t->s->holds.n - 1);
	if (t->v.rebooted)
		booted(t);
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
		drop_holds_of_boot(t);
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
		booted(&t);
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

static ssize_t find_hold(const struct drain_state *s, enum hold_kind kind)
{
	for (size_t i = 0; i < s->holds.n; i++)
		if (drain_state_hold(s, i)->kind == (int)kind)
			return (ssize_t)i;
	return -1;
}

static void hold(struct turn *t, enum hold_kind kind, const char *reason, usec_t deadline_usec, usec_t lasts_usec)
{
	ssize_t i = find_hold(t->s, kind);
	struct drain_hold *h = NULL;
	char cut[LIMIT_STEP_DETAIL + 1];
	size_t n = reason ? utf8_cut(reason, strlen(reason), LIMIT_STEP_DETAIL) : 0;

	if (i >= 0)
		h = drain_state_hold(t->s, (size_t)i);
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
	if (kind == HOLD_REHEARSAL && drain_state_n_holds(core->state) > (find_hold(core->state, kind) >= 0))
		return -EBUSY;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	hold(&t, kind, reason, deadline_usec, lasts_usec);
	return turn_end(&t);
}

int drain_core_release(struct drain_core *core, enum hold_kind kind, struct drain_now now)
{
	ssize_t i = find_hold(core->state, kind);
	struct turn t;
	int r;

	if (i < 0)
		return -ENOENT;
	r = turn_begin(core, now, &t);
	if (r < 0)
		return r;
	end_hold(&t, (size_t)i);
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
			end_hold(&t, i);
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

/*
 * Random histories of the drain core in virtual time: a platform, a machine with units and jobs, a shell that is
 * killed between any two actions, boots, clock jumps. After every action and every input the invariants of
 * settings.md 2.3 are checked; at the end of each history the world calms down and must come to rest.
 *
 * A failure prints its seed; EK_HISTORY_SEED=N runs that one alone and tells what happens in it, EK_HISTORIES=N runs N.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json_report.h"
#include "agent/codec/timefmt.h"
#include "agent/core/drain_core.h"
#include "agent/core/drain_record.h"
#include "agent/core/drain_status.h"
#include "agent/core/settings.h"

#define HISTORIES 1500
#define OPERATIONS 60
#define UNITS 5
#define EVENTS 24
#define JOBS 2048
#define SELF "vmss_85"
#define MSEC USEC_PER_MSEC
#define SEC USEC_PER_SEC

static const char *const unit_names[UNITS] = { "a.service", "b.service", "c.service", "d.service", "e.service" };

static const char *const settings_texts[] = {
	/* Everything, in the usual order. */
	"{\"health\":{\"listen\":\"127.0.0.1:8008\"},\"drain\":{\"leadInSeconds\":300,\"steps\":["
	"{\"type\":\"probeDown\"},"
	"{\"type\":\"refuseProbe\",\"ports\":[8008]},"
	"{\"type\":\"run\",\"name\":\"pause\",\"command\":[\"/bin/pause\"],\"undo\":[\"/bin/resume\"],"
	"\"timeoutInSeconds\":20,\"retry\":{\"times\":2,\"delayInSeconds\":3}},"
	"{\"type\":\"waitForConnections\",\"ports\":[80],\"timeoutInSeconds\":60},"
	"{\"type\":\"stopUnits\",\"units\":[\"a.service\",\"b.service\"]},"
	"{\"type\":\"parallel\",\"steps\":["
	"{\"type\":\"http\",\"name\":\"tell\",\"method\":\"POST\",\"url\":\"http://127.0.0.1/x\","
	"\"undo\":{\"method\":\"POST\",\"url\":\"http://127.0.0.1/y\"}},"
	"{\"type\":\"waitUntil\",\"command\":[\"/bin/idle\"]},"
	"{\"type\":\"stopUnits\",\"name\":\"late\",\"units\":[\"c.service\",\"d.service\"],\"timeoutInSeconds\":8}]}]}}",
	/* A step that aborts, and acknowledgement at once. */
	"{\"drain\":{\"leadInSeconds\":0,\"marginInSeconds\":0,\"steps\":["
	"{\"type\":\"run\",\"name\":\"check\",\"command\":[\"/bin/check\"],\"onFailure\":\"abort\"},"
	"{\"type\":\"stopUnits\",\"units\":[\"a.service\",\"c.service\",\"e.service\"],\"onFailure\":\"finish\"},"
	"{\"type\":\"run\",\"name\":\"sync\",\"command\":[\"/bin/sync\"]}],"
	"\"policy\":[{\"types\":[\"Preempt\"],\"action\":\"drain\",\"acknowledge\":\"never\"},"
	"{\"types\":[\"Freeze\"],\"action\":\"ignore\",\"acknowledge\":\"immediately\"},"
	"{\"source\":\"User\",\"action\":\"drain\",\"acknowledge\":\"immediately\"},{\"action\":\"drain\"}],"
	"\"sharedEvents\":{\"acknowledge\":\"always\"}}}",
	/* The defaults: hooks only, and an application that is checked. */
	"{\"health\":{\"listen\":\"127.0.0.1:8008\",\"application\":{\"http\":\"http://127.0.0.1/h\"}},"
	"\"drain\":{\"restoreWhenRebooted\":false}}",
	/* Short waits in the middle, everything of one group at once, a group that aborts. */
	"{\"drain\":{\"leadInSeconds\":86400,\"sharedEvents\":{\"acknowledge\":\"leader\",\"peerUrl\":"
	"\"http://{name}:8008/drained\"},\"steps\":["
	"{\"type\":\"parallel\",\"onFailure\":\"abort\",\"retry\":{\"times\":1,\"delayInSeconds\":1},\"steps\":["
	"{\"type\":\"stopUnits\",\"name\":\"one\",\"units\":[\"e.service\"]},"
	"{\"type\":\"hooks\"}]},"
	"{\"type\":\"waitUntil\",\"command\":[\"/bin/idle\"],\"timeoutInSeconds\":10,\"reserveInSeconds\":2},"
	"{\"type\":\"stopUnits\",\"units\":[\"d.service\",\"b.service\"]}]}}",
};
#define N_SETTINGS ARRAY_SIZE(settings_texts)

struct platform_event {
	bool there, ours, shared, started, unknown, no_time, odd;
	int id, type, source;
	int64_t duration;
	usec_t not_before;
};

struct job {
	int64_t token;
	size_t index;
	int type; /* of its step */
	bool undo, over, watched, leaves; /* something that only its undo takes away */
	usec_t ends;
	enum step_outcome outcome;
	char units[UNITS];
};

struct world {
	uint64_t seed, random;
	bool loud;
	struct drain_now now;
	int boots;
	struct settings settings[N_SETTINGS];
	size_t setting;
	bool section; /* drain is in the settings */

	struct platform_event events[EVENTS];
	int next_event, incarnation;
	struct events_document document; /* of all this, unless stale */
	bool stale;

	bool active[UNITS], wanted[UNITS], broken[UNITS], ours[UNITS];
	bool in_snapshot[UNITS], touched[UNITS]; /* touched: a step that stops it was begun */
	bool effect[LIMIT_LEDGER]; /* what a step with an undo left behind */
	bool probe_up, target_on, healthy;
	struct job jobs[JOBS];
	size_t n_jobs;

	struct drain_core *core;
	char *record;
	size_t record_len;
	usec_t timer, next_poll;
	int64_t post, question; /* tokens; 0: none under way */
	usec_t post_at, question_at, health_at;

	bool may_kill, forced, was_degraded, calm;
	int posted[LIMIT_EVENTS];
	size_t n_posted;
	bool accepted[1000], operator_acked[1000];
	bool paused, begun[1000]; /* begun: held, or was to be acknowledged, when the pause began */
	size_t last_undo;
	unsigned kills, acks, drains, restores, jumps, pauses;
};

static void failed(const struct world *w, const char *what, int line)
{
	fprintf(stderr, "history %llu, wall %llu.%06llu, line %d: %s\n", (unsigned long long)w->seed,
		(unsigned long long)(w->now.wall / SEC), (unsigned long long)(w->now.wall % SEC), line, what);
	fail();
}
#define CHECK(w, e)                              \
	do {                                     \
		if (!(e))                        \
			failed(w, #e, __LINE__); \
	} while (0)
#define SAY(w, ...)                                                                                            \
	do {                                                                                                   \
		if ((w)->loud) {                                                                               \
			fprintf(stderr, "%10.3f ", (double)((w)->now.boot) / 1e6);                             \
			fprintf(stderr, __VA_ARGS__);                                                          \
			fputc('\n', stderr);                                                                   \
		}                                                                                              \
	} while (0)

static uint64_t rnd(struct world *w, uint64_t n)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % n;
}

static bool chance(struct world *w, unsigned percent)
{
	return rnd(w, 100) < percent;
}

static const struct drain_settings *settings_of(const struct world *w)
{
	return w->section ? w->settings[w->setting].drain : NULL;
}

static bool checked(const struct world *w)
{
	return w->settings[w->setting].health && w->settings[w->setting].health->application;
}

static void drain_actions(struct world *w);

/* Life and death of the shell. */

static void start_core(struct world *w)
{
	struct drain_state *record = NULL;
	struct error err = ERROR_INIT;
	char boot_id[16];

	snprintf(boot_id, sizeof(boot_id), "boot-%d", w->boots);
	assert_int_equal(drain_core_new(settings_of(w), checked(w), &w->core), 0);
	assert_int_equal(drain_core_set_self(w->core, SELF), 0);
	assert_int_equal(drain_core_pause(w->core, w->paused, w->now), 0);
	if (w->record && drain_record_decode(w->record, w->record_len, &record, &err) < 0)
		failed(w, err.msg, __LINE__);
	assert_int_equal(drain_core_boot(w->core, record, boot_id, w->now), 0);
	drain_actions(w);
	if (checked(w))
		assert_int_equal(drain_core_health(w->core, w->healthy, w->now), 0);
	w->next_poll = w->now.boot;
	drain_actions(w);
}

static void stop_core(struct world *w)
{
	drain_core_free(w->core);
	w->core = NULL;
	w->post = w->question = 0;
	w->timer = w->health_at = USEC_INFINITY;
	for (size_t i = 0; i < w->n_jobs; i++)
		w->jobs[i].watched = false;
}

static void die(struct world *w)
{
	SAY(w, "KILLED");
	w->last_undo = SIZE_MAX;
	w->kills++;
	stop_core(w);
	start_core(w);
}

static void reboot(struct world *w)
{
	SAY(w, "BOOT");
	stop_core(w);
	w->boots++;
	w->now.wall += 20 * SEC;
	w->now.boot = 5 * SEC;
	w->n_jobs = 0;
	w->last_undo = SIZE_MAX;
	w->target_on = false;
	w->probe_up = false;
	w->paused = false;
	/* What was enabled comes up, whoever had stopped it. */
	for (size_t u = 0; u < UNITS; u++)
		w->active[u] = w->wanted[u] && !w->broken[u];
	start_core(w);
}

/* Jobs. */

static struct job *find_job(struct world *w, int64_t token)
{
	for (size_t i = 0; i < w->n_jobs; i++)
		if (w->jobs[i].token == token)
			return &w->jobs[i];
	return NULL;
}

/* What a job has done by its end; cut short, perhaps only half of it. */
static void take_effect(struct world *w, struct job *j)
{
	bool whole = j->outcome == STEP_OUTCOME_OK;

	if (j->type == STEP_STOP_UNITS) {
		for (size_t u = 0; u < UNITS; u++) {
			if (!j->units[u] || (!whole && !j->undo && chance(w, 50)))
				continue;
			if (!j->undo) {
				w->active[u] = false;
			} else if (!w->active[u]) {
				CHECK(w, w->in_snapshot[u] || w->forced); /* 5 */
				if (w->broken[u] && j->outcome == STEP_OUTCOME_OK)
					j->outcome = STEP_OUTCOME_FAILED;
				else if (!w->broken[u] && (whole || chance(w, 50)))
					w->active[u] = true;
			}
			/* What becomes of it from now on is not our doing. */
			if (j->undo && w->active[u])
				w->touched[u] = false;
		}
	} else if (!j->undo) {
		w->effect[j->index] = j->leaves && (whole || chance(w, 50));
	} else if (whole) {
		w->effect[j->index] = false;
	}
}

static void end_job(struct world *w, struct job *j)
{
	if (j->over)
		return;
	j->over = true;
	take_effect(w, j);
}

static void deliver(struct world *w, struct job *j)
{
	static const char *const words[] = { "ok", "failed", "timeout", "cancelled", "never begun" };

	end_job(w, j);
	j->watched = false;
	SAY(w, "result %lld %s%s", (long long)j->token, words[j->outcome], j->undo ? " (undo)" : "");
	assert_int_equal(drain_core_step_result(w->core, j->token, j->outcome, j->outcome == STEP_OUTCOME_FAILED,
						j->outcome == STEP_OUTCOME_OK ? NULL : "it said no", w->now),
			 0);
}

/* The world's own idea of how much time there is. */
static usec_t time_left(const struct world *w, bool *started)
{
	const struct drain_state *s = drain_core_state(w->core);
	usec_t left = USEC_INFINITY, margin = settings_of(w) ? usec_from_seconds((uint64_t)settings_of(w)->margin_seconds) : 0;

	*started = false;
	for (size_t i = 0; i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);

		if (e->state == EVENT_BEGUN)
			*started = true;
		/* Late: the platform had it Scheduled when no time was left by our clock; to be drained for all the same. */
		if (e->late && (e->state == EVENT_HOLDING || e->state == EVENT_ACKED)) {
			CHECK(w, e->status == EVENT_SCHEDULED && e->not_before_wall != 0);
			*started = true;
		}
		/* By the wall clock, unless that says it is past: then by what was known before. */
		if ((e->state == EVENT_HOLDING || e->state == EVENT_ACKED) && e->not_before_wall)
			left = usec_min(left, e->not_before_wall > w->now.wall + margin ?
						      e->not_before_wall - w->now.wall - margin :
						      usec_sub(e->not_before_boot, w->now.boot + margin));
	}
	for (size_t i = 0; i < s->holds.n; i++)
		if (drain_state_hold(s, i)->deadline_boot)
			left = usec_min(left, usec_sub(drain_state_hold(s, i)->deadline_boot, w->now.boot));
	return left;
}

static usec_t reserves_after(const struct world *w, size_t index)
{
	const struct drain_plan *p = drain_core_state(w->core)->plan;
	usec_t sum = 0, longest = 0;

	for (size_t i = index; i < p->steps.n; i++) {
		const struct plan_step *s = drain_plan_step(p, i);

		if (s->group == drain_plan_step(p, index)->group)
			continue;
		if (i > 0 && s->group != drain_plan_step(p, i - 1)->group) {
			sum += longest;
			longest = 0;
		}
		longest = usec_max(longest, (usec_t)s->reserve_usec);
	}
	return sum + longest;
}

static void check_begin(struct world *w, const struct drain_action *a)
{
	const struct drain_state *s = drain_core_state(w->core);
	char token[48];
	bool started;
	usec_t left = time_left(w, &started);

	CHECK(w, !drain_core_boot_pending(w->core));
	/* 6: the intent is durable before the step begins. */
	snprintf(token, sizeof(token), "\"token\":%lld", (long long)a->token);
	CHECK(w, w->record && strstr(w->record, token));
	if (a->attach)
		return;
	CHECK(w, !find_job(w, a->token));
	/* 8: never two at a time. */
	for (size_t i = 0; i < w->n_jobs && !w->forced; i++)
		CHECK(w, w->jobs[i].over || w->jobs[i].index != a->index);
	if (!a->undo) {
		CHECK(w, s->host == HOST_DRAINING && !s->snapshot_wanted);
		/* 9 */
		CHECK(w, left > 0 || started);
		if (step_is_wait(a->step)) {
			CHECK(w, !started);
			CHECK(w, usec_add(a->timeout_usec, reserves_after(w, a->index)) <= left);
		} else if (!started) {
			CHECK(w, a->timeout_usec <= usec_max(left, SEC));
		}
		w->last_undo = SIZE_MAX;
	} else {
		CHECK(w, s->host == HOST_RESTORING);
		/* 5: in reverse, failed ones after the others. */
		if (drain_state_step(s, a->index)->undo_failures == 0) {
			CHECK(w, a->index < w->last_undo);
			w->last_undo = a->index;
		}
	}
}

static void begin_step(struct world *w, const struct drain_action *a)
{
	struct job *j = find_job(w, a->token);
	usec_t takes = chance(w, 10) ? rnd(w, 200) * SEC : rnd(w, 4000) * MSEC;
	char *const *units = a->step->units.items;

	check_begin(w, a);
	if (j) {
		j->watched = true;
		return;
	}
	CHECK(w, w->n_jobs < JOBS);
	j = &w->jobs[w->n_jobs++];
	*j = (struct job){ .token = a->token, .index = a->index, .type = a->step->type, .undo = a->undo, .watched = true };
	for (size_t i = 0; i < a->step->units.n; i++)
		for (size_t u = 0; u < UNITS; u++)
			if (str_equal(units[i], unit_names[u]) && drain_state_had_active(drain_core_state(w->core), units[i]))
				j->units[u] = true;
	for (size_t u = 0; u < UNITS && !a->undo; u++)
		w->touched[u] |= j->units[u];
	j->outcome = !w->calm && chance(w, 12) ? STEP_OUTCOME_FAILED : STEP_OUTCOME_OK;
	if (w->calm)
		takes = rnd(w, 1000) * MSEC;
	else if (chance(w, 4))
		takes = USEC_INFINITY;
	if (takes > a->timeout_usec) {
		takes = a->timeout_usec;
		j->outcome = STEP_OUTCOME_TIMEOUT;
	}
	j->ends = w->now.boot + takes;
	j->leaves = j->type != STEP_STOP_UNITS && step_has_undo(a->step);
	if (!a->undo)
		w->effect[a->index] = j->leaves;
}

static void stop_step(struct world *w, const struct drain_action *a)
{
	struct job *j = find_job(w, a->token);

	if (!j) {
		CHECK(w, w->n_jobs < JOBS);
		j = &w->jobs[w->n_jobs++];
		*j = (struct job){ .token = a->token, .index = a->index, .type = STEP_PROBE_DOWN, .over = true, .watched = true,
				   .outcome = STEP_OUTCOME_NEVER_BEGUN, .ends = w->now.boot };
		return;
	}
	j->watched = true;
	if (j->over || j->ends <= w->now.boot)
		return;
	j->ends = w->now.boot + rnd(w, 300) * MSEC;
	j->outcome = STEP_OUTCOME_CANCELLED;
}

/* Actions. */

static void persist(struct world *w)
{
	_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_RECORD);

	assert_int_equal(drain_record_encode(drain_core_state(w->core), &b), 0);
	free(w->record);
	w->record_len = b.len;
	w->record = buf_take(&b);
}

static void take_snapshot(struct world *w, const struct drain_action *a)
{
	const struct drain_state *s = drain_core_state(w->core);
	const char *units[UNITS + 1] = { NULL };
	unsigned hooks[LIMIT_LEDGER];
	size_t n = 0;

	/* 6: only with nothing begun; after a failed restore it is added to, never replaced. */
	CHECK(w, drain_state_ledger_empty(s) || w->was_degraded);
	for (size_t u = 0; u < UNITS && drain_state_ledger_empty(s); u++)
		w->in_snapshot[u] = false;
	for (size_t i = 0; i < s->plan->steps.n; i++) {
		const struct step_settings *step = &drain_plan_step(s->plan, i)->settings;
		char *const *names = step->units.items;

		hooks[i] = (unsigned)rnd(w, 4);
		for (size_t k = 0; k < step->units.n; k++)
			for (size_t u = 0; u < UNITS; u++)
				if (w->active[u] && str_equal(names[k], unit_names[u])) {
					units[n++] = unit_names[u];
					w->in_snapshot[u] = true;
				}
	}
	assert_int_equal(drain_core_snapshot_result(w->core, a->token, units, hooks, w->now), 0);
}

static void check_ack(struct world *w, const struct drain_action *a)
{
	const struct drain_state *s = drain_core_state(w->core);

	w->n_posted = 0;
	for (size_t i = 0; a->ids[i]; i++) {
		int id = atoi(a->ids[i] + 1);
		const struct platform_event *p = &w->events[id % EVENTS];
		const struct drain_event *e = NULL;

		for (size_t k = 0; k < s->events.n; k++)
			if (str_equal(drain_state_event(s, k)->id, a->ids[i]))
				e = drain_state_event(s, k);
		/* 1, 11 */
		CHECK(w, e && e->status == EVENT_SCHEDULED);
		CHECK(w, p->id != id || p->ours);
		CHECK(w, !e->status_text);
		CHECK(w, w->operator_acked[id] || event_type_of(e->type) != EVENT_OTHER);
		CHECK(w, w->operator_acked[id] || e->acknowledge == ACKNOWLEDGE_IMMEDIATELY ||
				 (e->acknowledge == ACKNOWLEDGE_WHEN_DRAINED && s->host == HOST_DRAINED &&
				  s->result != DRAIN_ABORTED));
		CHECK(w, !w->paused || w->begun[id] || w->operator_acked[id]);
		/* 2 */
		CHECK(w, !w->accepted[id]);
		w->posted[w->n_posted++] = id;
		SAY(w, "ack %s", a->ids[i]);
	}
}

static void carry_out(struct world *w, struct drain_action *a)
{
	const struct drain_state *s = drain_core_state(w->core);
	struct job *j;

	switch (a->kind) {
	case DRAIN_PERSIST:
		persist(w);
		break;
	case DRAIN_TAKE_SNAPSHOT:
		SAY(w, "snapshot");
		take_snapshot(w, a);
		break;
	case DRAIN_BEGIN_STEP:
		SAY(w, "begin %lld %s%s%s for %.3f s", (long long)a->token, a->step->name, a->undo ? " (undo)" : "",
		    a->attach ? " (attach)" : "", (double)a->timeout_usec / 1e6);
		begin_step(w, a);
		break;
	case DRAIN_SHORTEN_STEP:
		j = find_job(w, a->token);
		if (j && !j->over && j->ends > w->now.boot + a->timeout_usec) {
			j->ends = w->now.boot + a->timeout_usec;
			j->outcome = STEP_OUTCOME_TIMEOUT;
		}
		break;
	case DRAIN_STOP_STEP:
		SAY(w, "stop %lld", (long long)a->token);
		stop_step(w, a);
		break;
	case DRAIN_PUT_BACK:
		CHECK(w, a->step->type == STEP_REFUSE_PROBE);
		break;
	case DRAIN_ACKNOWLEDGE:
		CHECK(w, !w->post);
		check_ack(w, a);
		w->acks++;
		w->post = a->token;
		w->post_at = w->now.boot + rnd(w, 1500) * MSEC;
		break;
	case DRAIN_ASK_PEERS:
		CHECK(w, !w->question && a->ids[0] && !str_equal(a->ids[0], SELF));
		w->question = a->token;
		w->question_at = w->now.boot + rnd(w, 1000) * MSEC;
		break;
	case DRAIN_PROBE:
		SAY(w, "probe %s", a->on ? "up" : "down");
		if (a->on && !w->forced)
			CHECK(w, drain_state_ledger_empty(s) || !s->probe_down);
		w->probe_up = a->on;
		break;
	case DRAIN_TARGET:
		CHECK(w, !a->on || s->host == HOST_DRAINED);
		w->target_on = a->on;
		break;
	case DRAIN_ASK_HEALTH:
		w->health_at = w->now.boot + rnd(w, 1500) * MSEC;
		break;
	case DRAIN_SET_TIMER:
		w->timer = a->at_boot;
		break;
	case DRAIN_TELL:
		CHECK(w, a->text && *a->text && utf8_valid(a->text, strlen(a->text)));
		SAY(w, "tell: %s", a->text);
		break;
	}
}

/* 9: nor does a wait for another try. */
static void check_retries(struct world *w)
{
	const struct drain_state *s = drain_core_state(w->core);
	bool started;
	usec_t left = time_left(w, &started);

	for (size_t i = 0; s->host == HOST_DRAINING && i < s->ledger.n; i++) {
		const struct ledger_entry *e = drain_state_step(s, i);

		if (e->now != STEP_IDLE || e->over || e->retry_boot <= w->now.boot)
			continue;
		CHECK(w, !started);
		CHECK(w, usec_add(e->retry_boot - w->now.boot, reserves_after(w, i)) <= usec_add(left, SEC));
	}
}

static void check_state(struct world *w)
{
	const struct drain_state *s = drain_core_state(w->core);
	size_t holds = drain_state_n_holds(s);
	struct drain_status st;

	drain_status_get(w->core, w->now, &st);
	CHECK(w, *st.sentence && utf8_valid(st.sentence, strlen(st.sentence)));
	CHECK(w, st.serving == w->probe_up);
	CHECK(w, w->target_on == (s->host == HOST_DRAINED && !drain_core_boot_pending(w->core)));
	for (int i = 0; i < w->next_event; i++)
		if (w->accepted[i]) {
			bool known = false;

			for (size_t k = 0; k < s->events.n; k++)
				known |= atoi(drain_state_event(s, k)->id + 1) == i;
			w->accepted[i] = known;
		}
	if (drain_core_boot_pending(w->core)) {
		CHECK(w, !st.serving);
		return;
	}
	for (size_t k = 0; w->paused && k < s->events.n; k++) {
		const struct drain_event *e = drain_state_event(s, k);

		CHECK(w, !event_state_holds((enum event_state)e->state) || w->begun[atoi(e->id + 1)]);
	}
	check_retries(w);
	w->was_degraded |= s->host == HOST_DEGRADED;
	/* 3 */
	CHECK(w, (holds > 0) == (s->host == HOST_DRAINING || s->host == HOST_DRAINED));
	if (s->host == HOST_DRAINED || s->host == HOST_DEGRADED)
		CHECK(w, w->forced || !st.serving);
	if (s->host != HOST_RESTORING)
		w->last_undo = SIZE_MAX;
	if (s->host != HOST_SERVING)
		return;
	/* 4 */
	CHECK(w, drain_state_ledger_empty(s) && !s->plan && s->snapshot.n == 0 && st.serving);
	if (w->forced)
		return;
	for (size_t u = 0; u < UNITS; u++) {
		CHECK(w, !w->touched[u] || w->active[u]);
		w->in_snapshot[u] = w->touched[u] = false;
	}
	for (size_t i = 0; i < LIMIT_LEDGER; i++)
		CHECK(w, !w->effect[i]);
	w->was_degraded = false;
}

static void drain_actions(struct world *w)
{
	struct drain_action a;
	bool any = false;

	while (drain_core_next(w->core, &a)) {
		bool kill_now = w->may_kill && chance(w, 3);

		if (kill_now) {
			drain_action_done(&a);
			die(w);
			return;
		}
		any = true;
		carry_out(w, &a);
		drain_action_done(&a);
	}
	/* Whatever changes comes with an action: most polls bring none. */
	if (any)
		check_state(w);
}

/* The platform. */

static void write_event(struct buf *b, const struct platform_event *p, bool first)
{
	static const char *const types[] = { "Freeze", "Reboot", "Redeploy", "Preempt", "Terminate" };
	char when[TIMEFMT_MAX] = "";

	if (!p->started && !p->no_time)
		timefmt_utc_usec(p->not_before, when);
	buf_printf(b,
		   "%s{\"EventId\":\"E%d\",\"EventType\":\"%s\",\"EventStatus\":\"%s\",\"ResourceType\":\"VirtualMachine\","
		   "\"Resources\":[%s%s],\"NotBefore\":\"%s\",\"EventSource\":\"%s\",\"DurationInSeconds\":%lld}",
		   first ? "" : ",", p->id, p->unknown ? "Rebalance" : types[p->type],
		   p->odd ? "Delayed" : p->started ? "Started" : "Scheduled",
		   p->ours ? "\"VMSS_85\"" : "\"other_1\"", p->shared ? ",\"other_2\"" : "", when,
		   p->source ? "User" : "Platform", (long long)p->duration);
}

static void read_document(struct world *w, bool backwards, struct events_document *ret)
{
	_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_EVENTS_DOCUMENT);
	struct error err = ERROR_INIT;
	bool first = true;

	buf_printf(&b, "{\"DocumentIncarnation\":%d,\"Events\":[", w->incarnation);
	for (size_t k = 0; k < EVENTS; k++) {
		const struct platform_event *p = &w->events[backwards ? EVENTS - 1 - k : k];

		if (!p->there)
			continue;
		write_event(&b, p, first);
		first = false;
	}
	buf_puts(&b, "]}");
	assert_int_equal(buf_ok(&b), 0);
	if (events_parse(b.data, b.len, ret, &err) < 0)
		failed(w, err.msg, __LINE__);
}

static bool knows_more(const struct world *w)
{
	const struct drain_state *s = drain_core_state(w->core);

	for (size_t i = 0; i < s->events.n; i++) {
		int id = atoi(drain_state_event(s, i)->id + 1);
		const struct platform_event *p = &w->events[id % EVENTS];

		if (!p->there || p->id != id)
			return true;
	}
	return false;
}

static void poll_events(struct world *w)
{
	struct events_document doc = {};
	struct drain_action a;
	unsigned kills;

	if (!settings_of(w))
		return;
	w->next_poll = w->now.boot + SEC;
	if (!w->calm && chance(w, 5)) {
		usec_t most;

		w->next_poll = w->now.boot + usec_max(SEC, drain_core_poll_delay(w->core, w->now, &most)) + rnd(w, 4) * SEC;
		return;
	}
	if (w->stale) {
		events_done(&w->document);
		read_document(w, false, &w->document);
		w->stale = false;
	}
	assert_int_equal(drain_core_document(w->core, &w->document, w->now), 0);
	kills = w->kills;
	drain_actions(w);
	if (w->kills != kills || knows_more(w) || !chance(w, 4))
		return;

	/* 7: the same again, in another order: no action and no write. */
	read_document(w, true, &doc);
	assert_int_equal(drain_core_document(w->core, &doc, w->now), 0);
	events_done(&doc);
	CHECK(w, !drain_core_next(w->core, &a));
}

static void new_event(struct world *w)
{
	struct platform_event *p = &w->events[w->next_event % EVENTS];

	if (w->next_event >= EVENTS * 39)
		return;
	*p = (struct platform_event){
		.there = true,
		.id = w->next_event++,
		.ours = chance(w, 85),
		.shared = chance(w, 15),
		.started = chance(w, 10),
		.unknown = chance(w, 8),
		.no_time = chance(w, 3),
		.odd = chance(w, 4),
		.type = (int)rnd(w, 5),
		.source = (int)rnd(w, 2),
		.duration = (int64_t)rnd(w, 30) - 1,
		.not_before = w->now.wall + (chance(w, 30) ? rnd(w, 30) : rnd(w, 900)) * SEC,
	};
	if (chance(w, 5))
		p->not_before = w->now.wall - 10 * SEC;
	w->incarnation++;
	w->stale = true;
	SAY(w, "platform: E%d%s%s", p->id, p->ours ? "" : " (another VM's)", p->started ? " has started" : "");
}

static void change_event(struct world *w)
{
	struct platform_event *p = &w->events[rnd(w, EVENTS)];

	if (!p->there)
		return;
	w->incarnation += !chance(w, 10);
	w->stale = true;
	if (!p->started && chance(w, 50)) {
		p->started = true;
		SAY(w, "platform: E%d starts", p->id);
	} else if (chance(w, 10)) {
		p->odd = !p->odd;
	} else if (!p->started && chance(w, 20)) {
		p->not_before = w->now.wall + rnd(w, 300) * SEC;
	} else {
		p->there = false;
		SAY(w, "platform: E%d is gone", p->id);
	}
}

/* Time. */

/* Waiting again (by a reload) or started, the table takes no notice of an answer. */
static bool takes_notice(const struct world *w, int id)
{
	const struct drain_state *s = drain_core_state(w->core);

	for (size_t i = 0; i < s->events.n; i++)
		if (atoi(drain_state_event(s, i)->id + 1) == id)
			return drain_state_event(s, i)->state == EVENT_NOTED || drain_state_event(s, i)->state == EVENT_ACKED;
	return false;
}

static void answer_post(struct world *w)
{
	int64_t token = w->post;
	enum ack_outcome o = w->calm || chance(w, 60) ? ACK_OUTCOME_OK : chance(w, 70) ? ACK_OUTCOME_RETRY :
											  ACK_OUTCOME_BAD_REQUEST;

	unsigned kills;
	int posted[LIMIT_EVENTS];
	size_t n;

	SAY(w, "answer %d", (int)o);
	w->post = 0;
	assert_int_equal(drain_core_ack_result(w->core, token, o, w->now), 0);
	/* 2: from now on recorded, or at least to be made so; a kill before that may repeat it. */
	kills = w->kills;
	n = w->n_posted;
	memcpy(posted, w->posted, sizeof(posted));
	drain_actions(w);
	for (size_t i = 0; i < n && o == ACK_OUTCOME_OK && kills == w->kills; i++)
		w->accepted[posted[i]] = takes_notice(w, posted[i]);
	if (kills == w->kills && chance(w, 10))
		assert_int_equal(drain_core_ack_result(w->core, token, ACK_OUTCOME_RETRY, w->now), 0);
}

static usec_t next_moment(const struct world *w, struct job **ret)
{
	usec_t next = usec_min(usec_min(w->timer, w->health_at), settings_of(w) ? w->next_poll : USEC_INFINITY);

	*ret = NULL;
	if (w->post)
		next = usec_min(next, w->post_at);
	if (w->question)
		next = usec_min(next, w->question_at);
	for (size_t i = 0; i < w->n_jobs; i++) {
		const struct job *j = &w->jobs[i];

		if (j->watched && j->ends < next) {
			next = j->ends;
			*ret = (struct job *)(uintptr_t)j;
		}
	}
	return usec_max(next, w->now.boot);
}

static void advance(struct world *w, usec_t by)
{
	usec_t end = w->now.boot + by;
	int boots = w->boots;
	unsigned idle = 0;

	while (w->boots == boots) {
		struct job *j;
		usec_t next = next_moment(w, &j);

		if (next > end) {
			w->now.wall += end - w->now.boot;
			w->now.boot = end;
			return;
		}
		/* Nothing may ask for the same moment for ever. */
		idle = next == w->now.boot ? idle + 1 : 0;
		CHECK(w, idle < 400);
		w->now.wall += next - w->now.boot;
		w->now.boot = next;
		if (j) {
			deliver(w, j);
		} else if (w->post && w->post_at <= next) {
			answer_post(w);
		} else if (w->question && w->question_at <= next) {
			int64_t token = w->question;

			w->question = 0;
			assert_int_equal(drain_core_peers_result(w->core, token, chance(w, 50), w->now), 0);
		} else if (w->health_at <= next) {
			w->health_at = USEC_INFINITY;
			assert_int_equal(drain_core_health(w->core, w->healthy, w->now), 0);
		} else if (w->timer <= next) {
			w->timer = USEC_INFINITY;
			assert_int_equal(drain_core_timer(w->core, w->now), 0);
		} else {
			poll_events(w);
			continue;
		}
		drain_actions(w);
	}
}

/* What people and the machine do. */

static void operate(struct world *w)
{
	const struct drain_state *s = drain_core_state(w->core);
	enum hold_kind kind = (enum hold_kind)rnd(w, _HOLD_KINDS);
	bool restoring = s->host == HOST_RESTORING || s->host == HOST_DEGRADED;
	int r;

	switch (rnd(w, 6)) {
	case 0:
	case 1:
		SAY(w, "hold %s", hold_kind_names[kind]);
		r = drain_core_hold(w->core, kind, "maintenance", chance(w, 50) ? (1 + rnd(w, 120)) * SEC : 0,
				    chance(w, 50) ? (1 + rnd(w, 200)) * SEC : 0, w->now);
		CHECK(w, r == 0 || (r == -EBUSY && kind == HOLD_REHEARSAL) || (r == -ENOTSUP && !w->section));
		break;
	case 2:
		SAY(w, "release %s", hold_kind_names[kind]);
		r = drain_core_release(w->core, kind, w->now);
		CHECK(w, r == 0 || r == -ENOENT);
		break;
	case 3:
		SAY(w, "restore");
		r = drain_core_restore(w->core, false, w->now);
		CHECK(w, r == (drain_state_n_holds(drain_core_state(w->core)) > 0 ? DRAIN_STILL_HELD : 0));
		break;
	case 4:
		if (!chance(w, 30))
			break;
		SAY(w, "restore --force");
		if (restoring && !drain_core_boot_pending(w->core)) {
			w->forced = true;
			memset(w->effect, 0, sizeof(w->effect));
		}
		r = drain_core_restore(w->core, true, w->now);
		CHECK(w, r >= 0);
		break;
	default:
		if (s->events.n > 0) {
			_cleanup_free_ char *id = strdup(drain_state_event(s, rnd(w, s->events.n))->id);

			SAY(w, "operator: ack %s", id);
			w->operator_acked[atoi(id + 1)] = true;
			r = drain_core_acknowledge(w->core, id, w->now);
			CHECK(w, r == 0 || r == -EALREADY);
		}
		r = drain_core_acknowledge(w->core, "nothing", w->now);
		CHECK(w, r == -ENOENT);
		break;
	}
	drain_actions(w);
}

static void reload(struct world *w)
{
	w->setting = rnd(w, N_SETTINGS);
	w->section = !chance(w, 15);
	SAY(w, "reload %zu%s", w->setting, w->section ? "" : ", no drain");
	assert_int_equal(drain_core_reload(w->core, settings_of(w), checked(w), w->now), 0);
	if (checked(w))
		assert_int_equal(drain_core_health(w->core, w->healthy, w->now), 0);
	drain_actions(w);
}

/* 10: at the moment of the jump, whatever it does to budgets, no drain ends and none is acknowledged for it. */
static void jump(struct world *w)
{
	bool started, drains = drain_core_state(w->core)->host == HOST_DRAINING;
	bool had_time = time_left(w, &started) > 0;
	int result;

	w->now.wall = chance(w, 50) ? w->now.wall + USEC_PER_HOUR : w->now.wall - USEC_PER_HOUR;
	SAY(w, "JUMP");
	assert_int_equal(drain_core_timer(w->core, w->now), 0);
	drain_actions(w);
	if (!w->stale && settings_of(w)) {
		assert_int_equal(drain_core_document(w->core, &w->document, w->now), 0);
		drain_actions(w);
	}
	result = drain_core_state(w->core)->result;
	if (drains && had_time) {
		CHECK(w, drain_core_state(w->core)->host != HOST_DRAINED || result != DRAIN_INCOMPLETE);
		w->jumps++;
	}
}

static void old_result(struct world *w)
{
	int64_t token = w->n_jobs > 0 && chance(w, 70) ? w->jobs[rnd(w, w->n_jobs)].token : (int64_t)rnd(w, 100000);
	const struct job *j = find_job(w, token);

	/* One that is awaited would be an answer, not a repetition. */
	if (j && j->watched)
		return;
	assert_int_equal(drain_core_step_result(w->core, token, (enum step_outcome)rnd(w, 5), 1, "late", w->now), 0);
	assert_int_equal(drain_core_snapshot_result(w->core, token, (const char *const[]){ "x.service", NULL }, NULL, w->now),
			 0);
	drain_actions(w);
}

/* Nothing begins to hold while it is on; the moment it ends what has started holds. */
static void toggle_pause(struct world *w)
{
	const struct drain_state *s;

	SAY(w, w->paused ? "the pause ends" : "a pause begins");
	w->paused = !w->paused;
	s = drain_core_state(w->core);
	memset(w->begun, 0, sizeof(w->begun));
	for (size_t k = 0; k < s->events.n; k++) {
		const struct drain_event *e = drain_state_event(s, k);

		w->begun[atoi(e->id + 1)] = event_state_holds((enum event_state)e->state) || e->ack != ACK_NONE;
	}
	w->pauses += w->paused;
	assert_int_equal(drain_core_pause(w->core, w->paused, w->now), 0);
	drain_actions(w);
	s = drain_core_state(w->core);
	for (size_t k = 0; !w->paused && k < s->events.n; k++) {
		const struct drain_event *e = drain_state_event(s, k);

		CHECK(w, e->state != EVENT_WAITING || e->status != EVENT_STARTED);
	}
}

static void operation(struct world *w)
{
	size_t u = rnd(w, UNITS);

	switch (rnd(w, 20)) {
	case 0:
	case 1:
	case 2:
		new_event(w);
		break;
	case 3:
	case 4:
	case 5:
		change_event(w);
		break;
	case 6:
		w->incarnation = (int)rnd(w, 3);
		w->stale = true;
		break;
	case 7:
	case 8:
		operate(w);
		break;
	case 9:
		if (chance(w, 40))
			reboot(w);
		break;
	case 10:
		die(w);
		break;
	case 11:
		if (chance(w, 50))
			jump(w);
		break;
	case 12:
		if (chance(w, 50))
			reload(w);
		break;
	case 13:
		w->broken[u] = chance(w, 40);
		break;
	case 14:
		w->healthy = !w->healthy;
		if (checked(w))
			assert_int_equal(drain_core_health(w->core, w->healthy, w->now), 0);
		drain_actions(w);
		break;
	case 15:
		old_result(w);
		break;
	case 16:
		if (chance(w, 40))
			toggle_pause(w);
		break;
	default:
		advance(w, (chance(w, 15) ? rnd(w, 200) : rnd(w, 15)) * SEC + rnd(w, 1000) * MSEC);
		break;
	}
	advance(w, rnd(w, 3000) * MSEC);
}

static bool at_rest(const struct world *w)
{
	const struct drain_state *s = drain_core_state(w->core);

	return s->host == HOST_SERVING && s->events.n == 0;
}

/* The platform is done, everything works again: the host must come to rest, in serving. */
static void come_to_rest(struct world *w)
{
	bool may_kill = w->may_kill;

	/* A command that dies before it is durable has not been answered either; so not these. */
	w->may_kill = false;
	w->calm = true;
	for (size_t i = 0; i < EVENTS; i++)
		w->events[i].there = false;
	memset(w->broken, 0, sizeof(w->broken));
	w->healthy = true;
	w->incarnation++;
	w->stale = true;
	if (checked(w))
		assert_int_equal(drain_core_health(w->core, true, w->now), 0);
	drain_actions(w);
	if (!w->section || chance(w, 20)) {
		/* 12: the section is removed. */
		w->section = false;
		assert_int_equal(drain_core_reload(w->core, NULL, checked(w), w->now), 0);
	} else {
		int r = drain_core_release(w->core, HOLD_SHUTDOWN, w->now);

		assert_true(drain_core_restore(w->core, false, w->now) >= 0);
		CHECK(w, r == 0 || r == -ENOENT);
	}
	drain_actions(w);
	w->may_kill = may_kill;
	for (int i = 0; i < 200 && !at_rest(w); i++)
		advance(w, 6 * SEC);
	CHECK(w, drain_core_state(w->core)->host == HOST_SERVING);
	CHECK(w, w->probe_up && !w->target_on);
	for (size_t i = 0; i < w->n_jobs; i++)
		CHECK(w, !w->jobs[i].watched);
}

static void load_settings(struct world *w)
{
	for (size_t i = 0; i < N_SETTINGS; i++) {
		struct settings_source source = { .door = DOOR_FILES,
						  .name = "settings",
						  .public_text = settings_texts[i],
						  .public_len = strlen(settings_texts[i]) };
		struct jd_report report = {};
		struct error err = ERROR_INIT;

		if (settings_load(&source, 1, &w->settings[i], &report, &err) < 0)
			fail_msg("settings %zu: %s", i, err.msg);
		jd_report_done(&report);
	}
}

static void run_history(struct world *w, uint64_t seed)
{
	struct settings settings[N_SETTINGS];

	memcpy(settings, w->settings, sizeof(settings));
	*w = (struct world){ .seed = seed,
			     .random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1,
			     .loud = w->loud,
			     .now = { .wall = UINT64_C(1795000000) * SEC, .boot = 1000 * SEC },
			     .boots = 1,
			     .section = true,
			     .healthy = true,
			     .timer = USEC_INFINITY,
			     .health_at = USEC_INFINITY,
			     .last_undo = SIZE_MAX,
			     .incarnation = 1,
			     .stale = true,
			     .drains = w->drains,
			     .kills = w->kills,
			     .acks = w->acks,
			     .jumps = w->jumps,
			     .pauses = w->pauses };
	memcpy(w->settings, settings, sizeof(settings));
	for (int i = 0; i < 8; i++)
		(void)rnd(w, 2);
	w->setting = rnd(w, N_SETTINGS);
	for (size_t u = 0; u < UNITS; u++)
		w->active[u] = w->wanted[u] = chance(w, 70);
	w->may_kill = chance(w, 70);

	start_core(w);
	for (int i = 0; i < OPERATIONS; i++)
		operation(w);
	come_to_rest(w);

	stop_core(w);
	free(w->record);
	w->record = NULL;
	events_done(&w->document);
}

static void test_histories(void **state)
{
	static struct world w;
	const char *one = getenv("EK_HISTORY_SEED"), *many = getenv("EK_HISTORIES");
	uint64_t n = many ? strtoull(many, NULL, 10) : HISTORIES;

	(void)state;
	load_settings(&w);
	w.loud = one != NULL;
	if (one)
		run_history(&w, strtoull(one, NULL, 10));
	for (uint64_t seed = 1; !one && seed <= n; seed++)
		run_history(&w, seed);
	fprintf(stderr, "%u kills, %u acknowledgements, %u jumps of the clock in mid-drain, %u pauses\n", w.kills, w.acks, w.jumps,
		w.pauses);
	for (size_t i = 0; i < N_SETTINGS; i++)
		settings_done(&w.settings[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_histories) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

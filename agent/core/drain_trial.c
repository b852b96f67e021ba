/* A platform, a machine on which everything takes its time, and the drain core between them. */
#include "agent/core/drain_trial.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"

#define SELF	  "this"
#define EVENT_ID  "rehearsal"
#define TURNS_MAX 10000

struct running { /* a step that was begun */
	int64_t token;
	usec_t ends;
};

struct world {
	const struct drain_trial *trial;
	struct buf *out;
	struct drain_core *core;
	struct drain_now now;
	struct running running[LIMIT_LEDGER];
	size_t n_running;
	usec_t timer;

	struct event event;
	bool gone;
	int64_t incarnation;
	usec_t platform; /* boot time at which the event starts, or ends */
	int r;
};

static void fail(struct world *w, int r)
{
	if (r < 0 && w->r == 0)
		w->r = r;
}

static void say(struct world *w, const char *what, const char *detail)
{
	usec_t since = usec_sub(w->now.boot, w->trial->now.boot);

	(void)buf_printf(w->out, "%8.1f s  %s%s\n", (double)since / (double)USEC_PER_SEC, what, detail);
}

static void say_span(struct world *w, const char *what, const char *name, usec_t span)
{
	char text[TIMEFMT_MAX];
	double seconds = (double)((span + 50 * USEC_PER_MSEC) / (100 * USEC_PER_MSEC)) / 10;
	bool exact = span < 2 * USEC_PER_MINUTE; /* of a short budget tenths of seconds matter */
	_cleanup_free_ char *line = exact ? str_format("%s%s: up to %g s", what, name, seconds)
					  : str_format("%s%s: up to %s", what, name, timefmt_span(span, text));

	if (!line)
		fail(w, -ENOMEM);
	else
		say(w, line, "");
}

static void publish(struct world *w)
{
	struct events_document doc = { .incarnation = ++w->incarnation,
				       .events = { .items = &w->event, .n = w->gone ? 0 : 1 } };

	fail(w, drain_core_document(w->core, &doc, w->now));
}

static void begin_step(struct world *w, const struct drain_action *a)
{
	if (w->n_running == LIMIT_LEDGER) {
		fail(w, -ENOBUFS);
		return;
	}
	say_span(w, a->undo ? "undo " : "step ", a->step->name, a->timeout_usec);
	/* In time, if barely. */
	w->running[w->n_running++] =
		(struct running){ a->token, usec_add(w->now.boot, usec_sub(a->timeout_usec, USEC_PER_MSEC)) };
}

static struct running *find(struct world *w, int64_t token)
{
	for (size_t i = 0; i < w->n_running; i++)
		if (w->running[i].token == token)
			return &w->running[i];
	return NULL;
}

static void end_step(struct world *w, struct running *run, enum step_outcome outcome)
{
	int64_t token = run->token;

	*run = w->running[--w->n_running];
	fail(w, drain_core_step_result(w->core, token, outcome, 0, NULL, w->now));
}

/* Every unit that a step names is taken for one that runs. */
static void take_snapshot(struct world *w, int64_t token)
{
	const struct drain_plan *plan = drain_core_state(w->core)->plan;
	const char *units[LIMIT_SNAPSHOT_UNITS + 1] = { NULL };
	size_t n = 0;

	for (size_t i = 0; plan && i < plan->steps.n; i++) {
		const struct jd_list *names = &drain_plan_step(plan, i)->settings.units;

		for (size_t k = 0; k < names->n && n < LIMIT_SNAPSHOT_UNITS; k++)
			units[n++] = ((char *const *)names->items)[k];
	}
	fail(w, drain_core_snapshot_result(w->core, token, units, w->trial->hooks, w->now));
}

/* The wait of probeDown is the core's own, so it is read from its ledger. */
static void say_probe(struct world *w, bool on)
{
	const struct drain_state *s = drain_core_state(w->core);

	say(w, on ? "/ready says 200" : "/ready says 503", "");
	for (size_t i = 0; !on && i < s->ledger.n; i++) {
		const struct ledger_entry *e = drain_state_step(s, i);

		if (e->now == STEP_DOING && drain_plan_step(s->plan, i)->settings.type == STEP_PROBE_DOWN)
			say_span(w, "step ", drain_plan_step(s->plan, i)->settings.name,
				 usec_sub(e->deadline_boot, w->now.boot));
	}
}

static void acknowledge(struct world *w, int64_t token)
{
	say(w, "acknowledged: the platform begins at once", "");
	fail(w, drain_core_ack_result(w->core, token, ACK_OUTCOME_OK, w->now));
	w->platform = usec_min(w->platform, w->now.boot);
}

static void carry_out(struct world *w, struct drain_action *a, bool first)
{
	struct running *run = find(w, a->token);

	switch (a->kind) {
	case DRAIN_TAKE_SNAPSHOT:
		take_snapshot(w, a->token);
		break;
	case DRAIN_BEGIN_STEP:
		begin_step(w, a);
		break;
	case DRAIN_SHORTEN_STEP:
		if (run)
			run->ends = usec_min(run->ends, usec_add(w->now.boot, a->timeout_usec));
		break;
	case DRAIN_STOP_STEP:
		if (run)
			end_step(w, run, STEP_OUTCOME_CANCELLED);
		break;
	case DRAIN_ACKNOWLEDGE:
		acknowledge(w, a->token);
		break;
	case DRAIN_PROBE:
		if (!first)
			say_probe(w, a->on);
		break;
	case DRAIN_SET_TIMER:
		w->timer = a->at_boot;
		break;
	case DRAIN_TELL:
		say(w, a->text, "");
		break;
	case DRAIN_PERSIST:
	case DRAIN_PUT_BACK:
	case DRAIN_ASK_HEALTH: /* nothing is checked */
	case DRAIN_ASK_PEERS: /* the event names this VM alone */
	case DRAIN_TARGET:
		break;
	}
}

static void carry_out_all(struct world *w, bool first)
{
	struct drain_action a;

	while (drain_core_next(w->core, &a)) {
		if (w->r == 0)
			carry_out(w, &a, first);
		drain_action_done(&a);
	}
}

/* It starts at NotBefore or when acknowledged, and is over after its duration. */
static void platform_moves(struct world *w)
{
	usec_t lasts = w->trial->duration_seconds > 0 ? usec_from_seconds((uint64_t)w->trial->duration_seconds)
						      : DRAIN_TRIAL_STARTED_USEC;

	if (w->event.status == EVENT_SCHEDULED) {
		w->event.status = EVENT_STARTED;
		w->event.not_before = 0;
		w->platform = usec_add(w->now.boot, lasts);
	} else {
		w->gone = true;
		w->platform = USEC_INFINITY;
	}
	publish(w);
}

static struct running *first_to_end(struct world *w)
{
	struct running *first = NULL;

	for (size_t i = 0; i < w->n_running; i++)
		if (!first || w->running[i].ends < first->ends)
			first = &w->running[i];
	return first;
}

/* False: nothing is left to happen. */
static bool turn(struct world *w)
{
	struct running *run = first_to_end(w);
	usec_t next = usec_min(usec_min(w->timer, w->platform), run ? run->ends : USEC_INFINITY);

	if (next == USEC_INFINITY)
		return false;
	next = usec_max(next, w->now.boot);
	w->now.wall = usec_add(w->now.wall, next - w->now.boot);
	w->now.boot = next;
	if (run && run->ends <= next) {
		end_step(w, run, STEP_OUTCOME_OK);
	} else if (w->timer <= next) {
		w->timer = USEC_INFINITY;
		fail(w, drain_core_timer(w->core, w->now));
	} else {
		platform_moves(w);
	}
	carry_out_all(w, false);
	return w->r == 0;
}

int drain_trial_run(const struct drain_trial *trial, struct buf *out)
{
	_cleanup_(drain_core_freep) struct drain_core *core = NULL;
	_cleanup_free_ char *type = NULL, *self = NULL;
	char id[] = EVENT_ID, source[] = "Platform";
	struct world w = { .trial = trial, .out = out, .now = trial->now, .timer = USEC_INFINITY };
	int r = drain_core_new(trial->drain, false, &core);

	r = r < 0 ? r : drain_core_set_self(core, SELF);
	r = r < 0 ? r : str_set(&type, trial->type);
	r = r < 0 ? r : str_set(&self, SELF);
	if (r < 0)
		return r;
	r = drain_core_boot(core, NULL, "trial", w.now);
	if (r < 0)
		return r;
	w.core = core;
	w.event = (struct event){
		.id = id,
		.type = type,
		.source = source,
		.resources = { .items = &self, .n = 1 },
		.status = EVENT_SCHEDULED,
		.duration_seconds = trial->duration_seconds,
		.not_before = usec_add(trial->now.wall, trial->notice_usec),
	};
	w.platform = usec_add(w.now.boot, trial->notice_usec);
	carry_out_all(&w, true);
	publish(&w);
	carry_out_all(&w, false);
	for (unsigned turns = 0; turns < TURNS_MAX && turn(&w); turns++)
		;
	return w.r < 0 ? w.r : buf_ok(out);
}

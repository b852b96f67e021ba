/* What the core wants done, carried out in its order: after every input, until nothing is left. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/codec/timefmt.h"
#include "agent/core/drain_core.h"
#include "agent/core/drain_record.h"
#include "agent/io/bus.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/drain/drain_private.h"
#include "handlers/drain/guard.h"
#include "handlers/drain/steps.h"

#define TEXT_MAX 600
/* What is told of draining is made anew at least so often: some of it, as whether nft is there, nobody tells us. */
#define TELL_USEC (30 * USEC_PER_SEC)

void drain_say(struct handler *h, enum log_level level, const char *event_id, bool milestone, const char *text)
{
	struct told_line *l = &h->told[h->n_told % TOLD_MAX];
	char *copy = strdup(text);

	log_for(level, (.handler = "drain", .event_id = event_id, .milestone = milestone), "%s", text);
	if (!copy || level == LOG_LEVEL_DEBUG) {
		free(copy);
		return;
	}
	free(l->text);
	*l = (struct told_line){
		.number = ++h->n_told, .wall = loop_now_wall(h->host->loop), .level = level, .text = copy
	};
}

static void persist(struct handler *h)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = drain_record_encode(drain_core_state(h->core), &text);

	if (r < 0)
		(void)error_errno(&e, r, "cannot encode the drain record");
	else
		r = record_save(h->record, text.data, text.len, &e);
	if (r < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"),
			"%s; draining goes on, but a restart would not know of it", e.msg);
	else if (r == 1 && !h->fallback_told)
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"),
			"the drain record is kept in %s: it is lost at a reboot", h->host->paths->run);
	h->fallback_told = r == 1;
}

static void set_target(struct handler *h, bool on)
{
	struct error e = ERROR_INIT;

	/* Nobody waits for it: units of others may hang on it. */
	if (h->host->bus &&
	    bus_unit_job(h->host->bus, on ? UNIT_START : UNIT_STOP, "evenkeel-drained.target", false, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "units that wait for evenkeel-drained.target are not told: %s", e.msg);
}

static void begin_step(struct handler *h, const struct drain_action *a)
{
	char text[TEXT_MAX], span[TIMEFMT_MAX];

	(void)snprintf(text, sizeof(text), "%s %s, at most %s%s", a->undo ? "undoing" : "step", a->step->name,
		       timefmt_span(a->timeout_usec, span), a->attach ? ", taken up again" : "");
	drain_say(h, LOG_LEVEL_INFO, NULL, false, text);
	if (drain_steps_begin(h->steps, a, drain_core_state(h->core)) < 0)
		drain_after_input(h,
				  drain_core_step_result(h->core, a->token, STEP_OUTCOME_FAILED, 0, "out of memory",
							 drain_now(h)),
				  "a step that could not be begun");
}

/* A step that an earlier process of ours began: a command left its job, units may have been stopped in any number, a request
 * may have arrived. */
static enum step_outcome outcome_of_former(struct handler *h, int64_t token)
{
	const struct drain_state *s = drain_core_state(h->core);

	for (size_t i = 0; i < s->ledger.n; i++)
		if (drain_state_step(s, i)->token == token &&
		    !drain_steps_leaves_trace((enum step_type)drain_plan_step(s->plan, i)->settings.type))
			return STEP_OUTCOME_CANCELLED;
	return STEP_OUTCOME_NEVER_BEGUN;
}

static void stop_step(struct handler *h, int64_t token)
{
	if (drain_steps_stop(h->steps, token) == -ENOENT)
		drain_after_input(
			h, drain_core_step_result(h->core, token, outcome_of_former(h, token), 0, NULL, drain_now(h)),
			"a step's end");
}

static void carry_out(struct handler *h, const struct drain_action *a)
{
	switch (a->kind) {
	case DRAIN_PERSIST:
		persist(h);
		break;
	case DRAIN_TAKE_SNAPSHOT:
		drain_take_snapshot(h, a->token);
		break;
	case DRAIN_BEGIN_STEP:
		begin_step(h, a);
		break;
	case DRAIN_SHORTEN_STEP:
		drain_steps_shorten(h->steps, a->token, a->timeout_usec);
		break;
	case DRAIN_STOP_STEP:
		stop_step(h, a->token);
		break;
	case DRAIN_ACKNOWLEDGE:
		drain_acknowledge(h, a);
		break;
	case DRAIN_ASK_PEERS:
		drain_ask_peers(h, a);
		break;
	case DRAIN_PROBE:
		h->host->set_serving(h->host, a->on);
		break;
	case DRAIN_TARGET:
		set_target(h, a->on);
		break;
	case DRAIN_ASK_HEALTH:
		h->host->ask_application(h->host);
		break;
	case DRAIN_SET_TIMER:
		loop_timer_at(h->core_timer, a->at_boot);
		break;
	case DRAIN_PUT_BACK:
		drain_steps_put_back(h->steps, drain_core_state(h->core));
		break;
	case DRAIN_TELL:
		drain_say(h, a->level, a->event_id, a->milestone, a->text);
		drain_notify(h, a);
		break;
	}
}

/* What others wait for: peers of a shared event, and a shutdown that is held back. */
static void tell_drained(struct handler *h)
{
	const struct drain_state *s = drain_core_state(h->core);
	bool drained = s->host == HOST_DRAINED && !drain_core_boot_pending(h->core);

	h->host->set_drained(h->host, drained && s->result != DRAIN_ABORTED);
	for (size_t i = 0; drained && i < s->holds.n; i++)
		if (drain_state_hold(s, i)->kind == HOLD_SHUTDOWN)
			guard_let_go(h->guard);
}

/* Inputs that come while actions are carried out only add to the list: one loop takes them all. Was there anything? */
static bool run_actions(struct handler *h)
{
	struct drain_action a;
	bool any = false;

	if (h->running_actions)
		return false;
	h->running_actions = true;
	while (drain_core_next(h->core, &a)) {
		any = true;
		carry_out(h, &a);
		drain_action_done(&a);
	}
	h->running_actions = false;
	drain_steps_tidy(h->steps, drain_core_state(h->core));
	tell_drained(h);
	drain_count(h);
	rehearsal_look(h);
	return any;
}

static void tell_changed(struct handler *h)
{
	h->told_boot = loop_now_boot(h->host->loop);
	h->host->changed(h->host);
}

/* An input that did not get through changes nothing, so it is said and the next one (a poll, a timer) brings the same again. */
static bool take_in(struct handler *h, int r, const char *input)
{
	if (r == -ENOMEM || r == -ENOBUFS)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "%s could not be taken in: %s", input, strerror(-r));
	return run_actions(h);
}

void drain_run_actions(struct handler *h)
{
	(void)run_actions(h);
	tell_changed(h);
}

void drain_after_input(struct handler *h, int r, const char *input)
{
	(void)take_in(h, r, input);
	tell_changed(h);
}

void drain_after_poll(struct handler *h, int r)
{
	if (take_in(h, r, "a document") || loop_now_boot(h->host->loop) >= usec_add(h->told_boot, TELL_USEC))
		tell_changed(h);
}

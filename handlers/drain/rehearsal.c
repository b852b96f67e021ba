/*
 * Rehearsals: the life of an event played with real steps and no platform. The hold is the core's kind for it, which is
 * never acknowledged and gives way to anything real; what is played here is only the platform's part.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/drain_status.h"
#include "agent/core/drain_trial.h"
#include "agent/core/policy.h"
#include "agent/io/loop.h"
#include "handlers/drain/drain_private.h"

#define ACK_TO_STARTED_USEC USEC_PER_SEC
/* A hold that outlives its rehearsal ends by itself. */
#define SPARE_USEC (10 * USEC_PER_MINUTE)
#define TEXT_MAX   400

const char *const rehearsal_phase_names[] = { "",	   "waiting", "draining", "drained", "started",
					      "restoring", "done",    "failed",	  NULL };
static const char *const types[] = { "Freeze", "Reboot", "Redeploy", "Preempt", "Terminate" };

static bool plays(const struct handler *h)
{
	return h->rehearsal.phase > REHEARSAL_NONE && h->rehearsal.phase < REHEARSAL_DONE;
}

static bool held(const struct handler *h)
{
	const struct drain_state *s = drain_core_state(h->core);

	for (size_t i = 0; i < s->holds.n; i++)
		if (drain_state_hold(s, i)->kind == HOLD_REHEARSAL)
			return true;
	return false;
}

static void say(struct handler *h, enum log_level level, const char *text)
{
	char line[TEXT_MAX];

	(void)snprintf(line, sizeof(line), "rehearsal: %s", text);
	drain_say(h, level, NULL, true, line);
}

static void say_of_type(struct handler *h, const char *before, const char *after)
{
	char text[TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%s%s%s", before, h->rehearsal.type, after);
	say(h, LOG_LEVEL_INFO, text);
}

static void finish(struct handler *h, bool well, const char *text)
{
	h->rehearsal.phase = well ? REHEARSAL_DONE : REHEARSAL_FAILED;
	loop_timer_stop(h->rehearsal.timer);
	say(h, well ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, text);
}

/* ---- the platform's part ---- */

static int drain_now_for_it(struct handler *h)
{
	usec_t now = loop_now_boot(h->host->loop), left = usec_sub(h->rehearsal.not_before_boot, now);
	usec_t margin = h->settings ? usec_from_seconds((uint64_t)h->settings->margin_seconds) : 0;
	int r;

	h->rehearsal.phase = REHEARSAL_DRAINING;
	r = drain_core_hold(h->core, HOLD_REHEARSAL, h->rehearsal.type, usec_max(usec_sub(left, margin), 1),
			    usec_add(usec_add(left, h->rehearsal.lasts_usec), SPARE_USEC), drain_now(h));
	if (r < 0)
		finish(h, false, r == -EBUSY ? "something real came first" : "it cannot begin");
	drain_after_input(h, r, "a rehearsal");
	return r;
}

static void on_drained(struct handler *h)
{
	const struct drain_state *s = drain_core_state(h->core);
	usec_t now = loop_now_boot(h->host->loop);
	struct drain_status status;
	bool acknowledged = h->rehearsal.acknowledge == ACKNOWLEDGE_IMMEDIATELY ||
			    (h->rehearsal.acknowledge == ACKNOWLEDGE_WHEN_DRAINED && s->result != DRAIN_ABORTED);

	h->rehearsal.phase = REHEARSAL_DRAINED;
	drain_status_get(h->core, drain_now(h), &status);
	h->rehearsal.clean = status.level == DRAIN_LEVEL_SUCCESS;
	if (h->rehearsal.acknowledge == ACKNOWLEDGE_IMMEDIATELY)
		say_of_type(h, "a real ", " would have been acknowledged at once");
	else if (acknowledged)
		say_of_type(h, "a real ", " would be acknowledged now, and begin");
	else
		say_of_type(h, "a real ", " would not be acknowledged: it begins when its notice is over");
	loop_timer_at(h->rehearsal.timer,
		      acknowledged ? usec_add(now, ACK_TO_STARTED_USEC) : usec_max(now, h->rehearsal.not_before_boot));
}

static void on_timer(void *userdata)
{
	struct handler *h = userdata;

	switch (h->rehearsal.phase) {
	case REHEARSAL_WAITING:
		(void)drain_now_for_it(h);
		break;
	case REHEARSAL_DRAINED:
		h->rehearsal.phase = REHEARSAL_STARTED;
		say_of_type(h, "the ", " has started");
		loop_timer_after(h->rehearsal.timer, h->rehearsal.lasts_usec);
		h->host->changed(h->host);
		break;
	case REHEARSAL_STARTED:
		h->rehearsal.phase = REHEARSAL_RESTORING;
		say_of_type(h, "the ", " is over");
		drain_after_input(h, drain_core_release(h->core, HOLD_REHEARSAL, drain_now(h)),
				  "the end of a rehearsal");
		break;
	default:
		break;
	}
}

void rehearsal_look(struct handler *h)
{
	const struct drain_state *s = drain_core_state(h->core);
	enum rehearsal_phase phase = h->rehearsal.phase;

	if (!plays(h) || phase == REHEARSAL_WAITING) {
		if (held(h)) {
			say(h, LOG_LEVEL_WARNING, "the service has been started anew; the rehearsal ends here");
			drain_after_input(h, drain_core_release(h->core, HOLD_REHEARSAL, drain_now(h)),
					  "the end of a rehearsal");
		} else if (phase == REHEARSAL_WAITING && s->host != HOST_SERVING) {
			finish(h, false, "something real came first");
		}
	} else if (phase != REHEARSAL_RESTORING && !held(h)) {
		finish(h, false,
		       drain_state_n_holds(s) > 0 ? "something real has taken over" : "it was ended before its end");
	} else if (phase == REHEARSAL_DRAINING && s->host == HOST_DRAINED) {
		on_drained(h);
	} else if (phase == REHEARSAL_RESTORING && s->host == HOST_SERVING) {
		finish(h, h->rehearsal.clean,
		       h->rehearsal.clean ? "over: drained by all steps, and restored"
					  : "over: restored, but it was not drained by all steps");
	} else if (phase == REHEARSAL_RESTORING && (s->host == HOST_DEGRADED || s->host == HOST_DRAINING)) {
		finish(h, false,
		       s->host == HOST_DEGRADED ? "over: not everything could be restored"
						: "something real has taken over");
	}
}

/* ---- orders ---- */

void rehearsal_end(struct handler *h)
{
	/* One that holds already ends with its hold. */
	if (h->rehearsal.phase == REHEARSAL_WAITING)
		finish(h, false, "it was ended before its end");
}

static const char *canonical(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_equal_nocase(types[i], type))
			return types[i];
	return NULL;
}

static int check(const struct handler *h, const char **type, struct error *err)
{
	if (!h->settings)
		return error_set(err, ERROR_USER, -ENOTSUP,
				 "there is no drain section in the settings, so nothing is drained");
	if (!canonical(*type))
		return error_set(
			err, ERROR_USER, -EINVAL,
			"no type of event is called \"%.40s\"; there are Freeze, Reboot, Redeploy, Preempt and Terminate",
			*type);
	*type = canonical(*type);
	return 0;
}

int rehearsal_begin(struct handler *h, const char *type, usec_t notice, int64_t duration_seconds, struct error *err)
{
	static const char *const words[] = { "to drain", "only to tell about it", "to ignore it" };
	struct rehearsal *re = &h->rehearsal;
	usec_t now = loop_now_boot(h->host->loop), lead;
	char text[TEXT_MAX], span[TIMEFMT_MAX], clock[TIMEFMT_MAX];
	struct policy_decision d;
	int r = check(h, &type, err);

	if (r < 0)
		return r;
	if (plays(h))
		return error_set(err, ERROR_USER, -EBUSY, "a rehearsal is going on; evenkeel restore ends it");
	if (drain_core_state(h->core)->host != HOST_SERVING)
		return error_set(err, ERROR_USER, -EBUSY,
				 "this VM does not serve now, so there is nothing to rehearse with");
	d = policy_decide(h->settings, &(struct policy_question){ .type = type,
								  .source = "Platform",
								  .duration_seconds = duration_seconds,
								  .notice_seconds = (int64_t)(notice / USEC_PER_SEC) });
	if (d.action != POLICY_DRAIN)
		return error_set(err, ERROR_USER, -ENOTSUP,
				 "the policy for such a %s is %s; there is nothing to rehearse", type, words[d.action]);
	if (str_set(&re->type, type) < 0)
		return error_oom(err);
	re->acknowledge = d.acknowledge;
	re->clean = false;
	re->not_before_boot = usec_add(now, notice);
	re->lasts_usec =
		duration_seconds > 0 ? usec_from_seconds((uint64_t)duration_seconds) : DRAIN_TRIAL_STARTED_USEC;
	(void)snprintf(
		text, sizeof(text), "a %s is scheduled, not before %s (in %s); the platform hears nothing of this",
		type, timefmt_clock(usec_add(loop_now_wall(h->host->loop), notice), clock), timefmt_span(notice, span));
	say(h, LOG_LEVEL_INFO, text);
	lead = usec_from_seconds((uint64_t)h->settings->lead_seconds);
	if (notice > lead) {
		re->phase = REHEARSAL_WAITING;
		loop_timer_at(re->timer, usec_add(now, notice - lead));
		return 0;
	}
	r = drain_now_for_it(h);
	return r < 0 ? error_errno(err, r, "the rehearsal cannot begin") : 0;
}

int rehearsal_dry_run(struct handler *h, const char *type, usec_t notice, int64_t duration_seconds, struct buf *out,
		      struct error *err)
{
	_cleanup_(drain_plan_unrefp) struct drain_plan *plan = NULL;
	unsigned hooks[LIMIT_LEDGER] = { 0 };
	struct drain_trial trial = {
		.notice_usec = notice, .duration_seconds = duration_seconds, .hooks = hooks, .now = drain_now(h)
	};
	int r = check(h, &type, err);

	if (r < 0)
		return r;
	r = drain_plan_new(h->settings, &plan, err);
	if (r < 0)
		return r;
	drain_count_hooks(h, plan, hooks);
	trial.drain = h->settings;
	trial.type = type;
	r = drain_trial_run(&trial, out);
	return r < 0 ? error_errno(err, r, "the plan of the rehearsal cannot be told") : 0;
}

int rehearsal_open(struct handler *h)
{
	return loop_timer_new(h->host->loop, "rehearsal", on_timer, h, &h->rehearsal.timer);
}

void rehearsal_close(struct handler *h)
{
	loop_timer_free(h->rehearsal.timer);
	free(h->rehearsal.type);
}

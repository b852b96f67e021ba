/* `stopUnits`: units that were active are stopped one after the other, and started again in reverse. */
#include "handlers/drain/steps_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"

static void next_unit(struct doing *d);

/* A unit that does not stop in time is killed whole: at the end of a notice nothing else is left. */
static void kill_unit(struct doing *d)
{
	struct error e = ERROR_INIT;

	if (!d->undo && unit_kill(d->steps->host->bus, d->units[d->at], SIGKILL, &e) < 0)
		log_warning("%s has not stopped in time and cannot be killed: %s", d->units[d->at], e.msg);
}

static void note_failure(struct doing *d, const char *detail)
{
	if (!d->detail[0])
		(void)snprintf(d->detail, sizeof(d->detail), "%s", detail);
}

/* One that hangs leaves those after it their reserve, or else their equal part of what is left. */
static usec_t share_of_unit(const struct doing *d)
{
	usec_t left = usec_sub(d->deadline_boot, loop_now_boot(d->steps->host->loop));
	size_t after = strv_length(d->units + d->at + 1);

	return usec_max(usec_sub(left, d->reserve_usec * after), left / (after + 1));
}

/* Starting is not cut short: what must run again may take its time. */
static void limit_unit(struct doing *d)
{
	usec_t share = share_of_unit(d);

	if (d->call && !d->undo && d->units[d->at + 1] && share < d->each_usec)
		loop_timer_after(d->again, share);
	else
		loop_timer_stop(d->again);
}

static void cut_short(struct doing *d)
{
	char text[DETAIL_MAX];

	(void)snprintf(text, sizeof(text), "%.200s did not stop in time and was killed: the units after it need the rest", d->units[d->at]);
	note_failure(d, text);
	kill_unit(d);
	d->at++;
	next_unit(d);
}

static void on_unit(const struct unit_answer *answer, void *userdata)
{
	struct doing *d = userdata;

	/* What an operator has masked meanwhile is left alone. */
	if (answer->result < 0 && !(d->undo && answer->result == -EACCES))
		note_failure(d, answer->detail);
	if (answer->result == -ETIMEDOUT)
		kill_unit(d);
	d->at++;
	next_unit(d);
}

static void next_unit(struct doing *d)
{
	struct error e = ERROR_INIT;

	bus_call_free(TAKE_PTR(d->call));
	if (d->stopping)
		step_end_stopped(d);
	else if (!d->units[d->at])
		step_end(d, d->detail[0] ? STEP_OUTCOME_FAILED : STEP_OUTCOME_OK, 0, d->detail);
	else if (unit_do(d->steps->host->bus, d->undo ? UNIT_START : UNIT_STOP, d->units[d->at], d->each_usec, on_unit, d, &d->call,
			 &e) < 0)
		step_end_failed(d, &e);
	else
		limit_unit(d);
}

/* In order to stop, in reverse order to start; only what was active before the first step. */
static int list_units(struct doing *d, const struct step_settings *s, const struct drain_state *state)
{
	char *const *names = s->units.items;
	size_t n = 0;

	d->units = calloc(s->units.n + 1, sizeof(*d->units));
	if (!d->units)
		return -ENOMEM;
	for (size_t i = 0; i < s->units.n; i++) {
		const char *name = names[d->undo ? s->units.n - 1 - i : i];

		if (!drain_state_had_active(state, name))
			continue;
		d->units[n] = strdup(name);
		if (!d->units[n++])
			return -ENOMEM;
	}
	return 0;
}

static void begin_units(struct doing *d, const struct drain_action *a, const struct drain_state *state)
{
	struct error e = ERROR_INIT;

	d->each_usec = usec_from_seconds((uint64_t)a->step->timeout_seconds);
	d->reserve_usec = usec_from_seconds((uint64_t)a->step->reserve_seconds);
	if (list_units(d, a->step, state) < 0) {
		(void)error_oom(&e);
		step_end_failed(d, &e);
	} else if (!d->steps->host->bus && (!d->undo || d->units[0])) {
		/* What was active could not even be asked: an empty list does not mean that there is nothing to stop. */
		step_end(d, STEP_OUTCOME_FAILED, 0, "no systemd manager answers, so units can be neither stopped nor started");
	} else {
		next_unit(d);
	}
}

static void stop_units(struct doing *d)
{
	if (d->call)
		kill_unit(d); /* its job ends with it, and next_unit() ends the step */
	else
		step_end_stopped(d);
}

const struct step_kind step_units = { .begin = begin_units, .stop = stop_units, .again = cut_short, .shortened = limit_unit };

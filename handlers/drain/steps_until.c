/*
 * `waitUntil`: a command is asked again and again, each time as a job of its own ("drain-TOKEN-N"), until it exits with 0.
 * One that hangs is ended after RUN_MAX_USEC and asked again. Only the last job is kept, so after a restart of ours the one
 * that is found is the one that runs.
 */
#include "handlers/drain/steps_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"

#define RUN_MAX_USEC (30 * USEC_PER_SEC)

static void on_run(const struct job_result *r, void *userdata);

static usec_t time_left(const struct doing *d)
{
	return usec_sub(d->deadline_boot, loop_now_boot(d->steps->host->loop));
}

static int name_job(struct doing *d)
{
	free(d->job);
	d->job = str_format("drain-%lld-%lld", (long long)d->token, (long long)++d->round);
	return d->job ? str_set(&d->spec->id, d->job) : -ENOMEM;
}

static void ask(struct doing *d)
{
	usec_t most = usec_min(RUN_MAX_USEC, usec_max(time_left(d), USEC_PER_SEC));
	struct error e = ERROR_INIT;
	int r = name_job(d);

	d->asked_boot = loop_now_boot(d->steps->host->loop);
	d->spec->timeout_seconds = (int64_t)((most + USEC_PER_SEC - 1) / USEC_PER_SEC);
	r = r < 0 ? error_oom(&e) : step_job_start(d, on_run, &e);
	if (r < 0)
		step_end_failed(d, &e);
}

static void on_run(const struct job_result *r, void *userdata)
{
	struct doing *d = userdata;
	char phrase[128];

	if (r->end == JOB_SUCCEEDED || (r->end == JOB_NOT_STARTED && !d->may_be_lost && !d->stopping)) {
		step_job_end(d, r);
		return;
	}
	if (r->end == JOB_EXITED || r->end == JOB_SIGNALED || r->end == JOB_TIMED_OUT)
		(void)snprintf(d->seen, sizeof(d->seen), "; the command was asked %lld times, its last run: %.80s", (long long)d->round,
			       job_result_phrase(r, phrase));
	d->may_be_lost = false;
	step_job_forget(d);
	if (d->stopping)
		step_end_stopped(d);
	else
		loop_timer_at(d->again, usec_add(d->asked_boot, d->interval_usec));
}

static int make_spec(struct doing *d, const struct drain_action *a, const struct drain_state *state, struct error *err)
{
	int r = spec_new("-", a->step->name, RUN_MAX_USEC, &d->spec, err);

	if (r < 0)
		return r;
	r = spec_argv(d->spec, a->step->command.items, a->step->command.n);
	if (r >= 0)
		r = steps_tell(d->spec, a, state);
	return r < 0 ? error_errno(err, r, "the step cannot be written down") : 0;
}

/* The run that an earlier process of ours has begun; false: there is none. */
static bool take_up(struct doing *d, struct error *err)
{
	char *found = step_job_find(d->steps, d->token);
	const char *number = found ? strrchr(found, '-') : NULL;

	if (!number)
		return false;
	d->job = found;
	d->round = strtoll(number + 1, NULL, 10);
	d->may_be_lost = true;
	return jobs_attach(d->steps->host->jobs, d->job, on_run, d, &d->handle, err) >= 0;
}

static void begin_until(struct doing *d, const struct drain_action *a, const struct drain_state *state)
{
	struct error e = ERROR_INIT;

	d->interval_usec = usec_from_seconds((uint64_t)a->step->interval_seconds);
	d->asked_boot = loop_now_boot(d->steps->host->loop);
	if (make_spec(d, a, state, &e) < 0)
		step_end_failed(d, &e);
	else if (!a->attach || !take_up(d, &e))
		ask(d);
}

const struct step_kind step_wait_until = { .begin = begin_until, .stop = step_job_stop, .again = ask };

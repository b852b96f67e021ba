/* Steps under way: beginning and stopping them, their deadlines, and one answer each. */
#include "handlers/drain/steps_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "agent/io/http.h"

/* The wait of probeDown is the core's own, and groups are laid flat in the plan. */
static const struct step_kind *kind_of(enum step_type type)
{
	switch (type) {
	case STEP_RUN:
	case STEP_HOOKS:
		return &step_job;
	case STEP_STOP_UNITS:
		return &step_units;
	case STEP_HTTP:
		return &step_http;
	case STEP_WAIT_UNTIL:
		return &step_wait_until;
	case STEP_WAIT_FOR_CONNECTIONS:
		return &step_wait_for_connections;
	case STEP_REFUSE_PROBE:
		return &step_refuse_probe;
	case STEP_PROBE_DOWN:
	case STEP_PARALLEL:
		break;
	}
	return NULL;
}

static void doing_free(struct doing *d)
{
	jobs_handle_free(d->handle);
	bus_call_free(d->call);
	http_call_free(d->request);
	loop_timer_free(d->deadline);
	loop_timer_free(d->again);
	strv_free(d->units);
	spec_free(d->spec);
	free(d->job);
	free(d);
}

static struct doing *find(struct drain_steps *s, int64_t token)
{
	for (struct doing *d = s->first; d; d = d->next)
		if (d->token == token)
			return d;
	return NULL;
}

static void detach(struct doing *d)
{
	for (struct doing **at = &d->steps->first; *at; at = &(*at)->next)
		if (*at == d) {
			*at = d->next;
			return;
		}
}

/* ---- ends ---- */

/* The answer goes out with the next turn of the loop, never from inside the call that began or stopped the step. The detail
 * is copied: it may live in what goes away meanwhile. */
void step_end(struct doing *d, enum step_outcome outcome, int exit_code, const char *detail)
{
	if (d->ended)
		return;
	d->ended = true;
	d->outcome = outcome;
	d->exit_code = exit_code;
	if (!detail)
		d->detail[0] = '\0';
	else if (detail != d->detail)
		(void)snprintf(d->detail, sizeof(d->detail), "%.*s", (int)utf8_cut(detail, strlen(detail), sizeof(d->detail) - 1),
			       detail);
	loop_timer_stop(d->again);
	loop_timer_after(d->deadline, 0);
}

void step_end_failed(struct doing *d, const struct error *e)
{
	step_end(d, STEP_OUTCOME_FAILED, 0, e->msg);
}

void step_end_stopped(struct doing *d)
{
	char text[DETAIL_MAX];

	(void)snprintf(text, sizeof(text), "it took longer than it was given%s", d->seen);
	step_end(d, d->timed_out ? STEP_OUTCOME_TIMEOUT : STEP_OUTCOME_CANCELLED, 0, d->timed_out ? text : NULL);
}

static void deliver(struct doing *d)
{
	struct drain_steps *s = d->steps;
	int64_t token = d->token;
	enum step_outcome outcome = d->outcome;
	int exit_code = d->exit_code;
	char text[DETAIL_MAX];

	memcpy(text, d->detail, sizeof(text));
	step_job_forget(d);
	detach(d);
	doing_free(d);
	s->result(s->userdata, token, outcome, exit_code, text[0] ? text : NULL);
}

static void on_deadline(void *userdata)
{
	struct doing *d = userdata;

	if (d->ended) {
		deliver(d);
		return;
	}
	d->timed_out = true;
	(void)drain_steps_stop(d->steps, d->token);
}

static void on_again(void *userdata)
{
	struct doing *d = userdata;

	if (!d->ended && !d->stopping)
		d->kind->again(d);
}

/* ---- beginning and stopping ---- */

static struct doing *doing_new(struct drain_steps *s, int64_t token, int type, const struct step_kind *kind)
{
	struct doing *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	*d = (struct doing){ .steps = s, .token = token, .type = type, .kind = kind };
	if (loop_timer_new(s->host->loop, "drain-step", on_deadline, d, &d->deadline) < 0 ||
	    loop_timer_new(s->host->loop, "drain-step-again", on_again, d, &d->again) < 0) {
		doing_free(d);
		return NULL;
	}
	d->next = s->first;
	s->first = d;
	return d;
}

int drain_steps_begin(struct drain_steps *s, const struct drain_action *a, const struct drain_state *state)
{
	struct doing *d = doing_new(s, a->token, a->step->type, kind_of((enum step_type)a->step->type));

	if (!d)
		return -ENOMEM;
	d->undo = a->undo;
	d->deadline_boot = usec_add(loop_now_boot(s->host->loop), a->timeout_usec);
	loop_timer_at(d->deadline, d->deadline_boot);
	if (d->kind)
		d->kind->begin(d, a, state);
	else
		step_end(d, STEP_OUTCOME_FAILED, 0, "there is nothing to be done for a step of this type");
	return 0;
}

void drain_steps_shorten(struct drain_steps *s, int64_t token, usec_t timeout)
{
	struct doing *d = find(s, token);

	if (!d || d->stopping || d->ended)
		return;
	d->deadline_boot = usec_min(d->deadline_boot, usec_add(loop_now_boot(s->host->loop), timeout));
	loop_timer_at(d->deadline, d->deadline_boot);
	if (d->kind->shortened)
		d->kind->shortened(d);
}

/* What an earlier process of ours has begun and the core no longer wants. */
static struct doing *take_up(struct drain_steps *s, int64_t token)
{
	_cleanup_free_ char *id = step_job_find(s, token);
	struct doing *d = id ? doing_new(s, token, STEP_RUN, &step_job) : NULL;

	if (d)
		step_job_take_up(d, id);
	return d;
}

int drain_steps_stop(struct drain_steps *s, int64_t token)
{
	struct doing *d = find(s, token);

	if (!d)
		d = take_up(s, token);
	if (!d)
		return -ENOENT;
	if (d->stopping || d->ended)
		return 0;
	d->stopping = true;
	loop_timer_stop(d->deadline);
	loop_timer_stop(d->again);
	d->kind->stop(d);
	return 0;
}

/* A request may have arrived, units may have been stopped; what runs as a job would have left its directory. */
bool drain_steps_leaves_trace(enum step_type type)
{
	return type == STEP_RUN || type == STEP_HOOKS || type == STEP_WAIT_UNTIL || type == STEP_REFUSE_PROBE;
}

/* ---- what settings ask for ---- */

static int check_step(const struct paths *paths, const struct step_settings *step, const char *path, struct error *err)
{
	_cleanup_free_ char *nft = NULL;

	if (step->type != STEP_REFUSE_PROBE)
		return 0;
	nft = steps_find_nft(paths, err);
	return nft ? 0 : error_wrap(err, -ENOENT, "%s", path);
}

int drain_steps_check(const struct paths *paths, const struct drain_settings *settings, struct error *err)
{
	const struct step_settings *steps = settings->steps.items;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < settings->steps.n; i++) {
		const struct step_settings *inner = steps[i].steps.items;
		char path[64];

		(void)snprintf(path, sizeof(path), "drain.steps[%zu]", i);
		r = check_step(paths, &steps[i], path, err);
		for (size_t k = 0; r >= 0 && k < steps[i].steps.n; k++) {
			(void)snprintf(path, sizeof(path), "drain.steps[%zu].steps[%zu]", i, k);
			r = check_step(paths, &inner[k], path, err);
		}
	}
	return r;
}

/* ---- life ---- */

int drain_steps_new(const struct handler_host *host, drain_steps_result_fn result, void *userdata, struct drain_steps **ret, struct error *err)
{
	_cleanup_(drain_steps_freep) struct drain_steps *s = calloc(1, sizeof(*s));

	if (!s)
		return error_oom(err);
	*s = (struct drain_steps){ .host = host, .result = result, .userdata = userdata };
	if (steps_table_init(s) < 0)
		return error_oom(err);
	*ret = TAKE_PTR(s);
	return 0;
}

void drain_steps_free(struct drain_steps *s)
{
	if (!s)
		return;
	while (s->first) {
		struct doing *d = s->first;

		s->first = d->next;
		doing_free(d);
	}
	imds_call_free(s->balancer.call);
	steps_table_done(s);
	steps_secrets_done(s);
	free(s);
}

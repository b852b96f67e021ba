/* The doing of drain steps. */
#include "handlers/drain/steps.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/job.h"
#include "agent/io/bus.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/common/jobs.h"

#define JOB_PREFIX "drain-"
/* A stopped command has this long to end well before its whole cgroup is killed. */
#define STOP_GRACE_USEC (2 * USEC_PER_SEC)
#define DETAIL_MAX	400

/* One step under way. */
struct doing {
	struct doing *next;
	struct drain_steps *steps;
	int64_t token;
	enum step_type type;
	bool undo, stopping, timed_out;
	bool ended; /* only the answer is still to go out */
	enum step_outcome outcome;
	int exit_code;
	struct loop_timer *deadline;
	usec_t deadline_boot;

	/* run, hooks */
	struct jobs_handle *handle;
	char *job;
	struct job *spec; /* to begin it again when it was lost */
	bool may_be_lost; /* taken up from an earlier process of ours */

	/* stopUnits */
	char **units; /* in the order of work */
	size_t at;
	usec_t each_usec;
	struct bus_call *call;
	char failure[DETAIL_MAX];
};

struct drain_steps {
	const struct handler_host *host;
	drain_steps_result_fn result;
	void *userdata;
	struct doing *first;
};

static void spec_free(struct job *spec)
{
	if (!spec)
		return;
	jd_free(&job_type, spec);
	free(spec);
}

DEFINE_CLEANUP(struct job *, spec_free)

static void doing_free(struct doing *d)
{
	jobs_handle_free(d->handle);
	bus_call_free(d->call);
	loop_timer_free(d->deadline);
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

/* The one way a step ends: its answer goes out with the next turn of the loop, never from inside the call that began or
 * stopped it. The detail is copied: it may live in what goes away meanwhile. */
static void end(struct doing *d, enum step_outcome outcome, int exit_code, const char *detail)
{
	if (d->ended)
		return;
	d->ended = true;
	d->outcome = outcome;
	d->exit_code = exit_code;
	if (!detail)
		d->failure[0] = '\0';
	else if (detail != d->failure)
		(void)snprintf(d->failure, sizeof(d->failure), "%.*s",
			       (int)utf8_cut(detail, strlen(detail), sizeof(d->failure) - 1), detail);
	loop_timer_after(d->deadline, 0);
}

static void deliver(struct doing *d)
{
	struct drain_steps *s = d->steps;
	int64_t token = d->token;
	enum step_outcome outcome = d->outcome;
	int exit_code = d->exit_code;
	char text[DETAIL_MAX];

	memcpy(text, d->failure, sizeof(text));
	if (d->job)
		jobs_forget(s->host->jobs, d->job, true);
	detach(d);
	doing_free(d);
	s->result(s->userdata, token, outcome, exit_code, text[0] ? text : NULL);
}

static void end_failed(struct doing *d, const struct error *e)
{
	end(d, STEP_OUTCOME_FAILED, 0, e->msg);
}

/* ---- commands and hooks: jobs ---- */

static void on_job(const struct job_result *r, void *userdata);

static int start_job(struct doing *d, struct error *err)
{
	const struct jobs_request req = { .job = d->spec };

	jobs_handle_free(TAKE_PTR(d->handle));
	return jobs_start(d->steps->host->jobs, &req, on_job, d, &d->handle, err);
}

/* Lost without a result (we were killed, the machine was booted): steps run at least once. Once: what cannot be started
 * now is a failure like any other, and the core's to decide about. */
static void begin_again(struct doing *d)
{
	struct error e = ERROR_INIT;

	d->may_be_lost = false;
	jobs_handle_free(TAKE_PTR(d->handle));
	jobs_forget(d->steps->host->jobs, d->job, true);
	if (start_job(d, &e) < 0)
		end_failed(d, &e);
}

static void on_job(const struct job_result *r, void *userdata)
{
	struct doing *d = userdata;
	char phrase[128];

	if ((r->end == JOB_INTERRUPTED || r->end == JOB_NOT_STARTED) && d->may_be_lost && !d->stopping) {
		begin_again(d);
		return;
	}
	if (r->end == JOB_SUCCEEDED)
		end(d, STEP_OUTCOME_OK, 0, NULL);
	else if (d->timed_out || r->end == JOB_TIMED_OUT)
		end(d, STEP_OUTCOME_TIMEOUT, 0, "it took longer than it was given");
	else if (d->stopping)
		end(d, STEP_OUTCOME_CANCELLED, 0, NULL);
	else
		end(d, STEP_OUTCOME_FAILED, (int)r->exit_code,
		    !str_empty(r->message) ? r->message : job_result_phrase(r, phrase));
}

static int add_variable(struct job *spec, const char *name, const char *value)
{
	struct job_variable *v = reallocarray(spec->environment.items, spec->environment.n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	spec->environment.items = v;
	v += spec->environment.n;
	*v = (struct job_variable){ .name = strdup(name), .value = strdup(value) };
	spec->environment.n++;
	return v->name && v->value ? 0 : -ENOMEM;
}

/* What a hook may want to know: which way, and what for. */
static int describe(struct job *spec, bool undo, const struct drain_state *state)
{
	const struct drain_event *first = NULL;
	char number[24], time[TIMEFMT_MAX];
	int r;

	for (size_t i = 0; i < state->events.n; i++) {
		const struct drain_event *e = drain_state_event(state, i);

		if (!first || (e->not_before_wall && e->not_before_wall < first->not_before_wall))
			first = e;
	}
	r = add_variable(spec, "EVENKEEL_PHASE", undo ? "restore" : "drain");
	if (r < 0 || !first)
		return r;
	(void)snprintf(number, sizeof(number), "%lld", (long long)first->duration_seconds);
	r = add_variable(spec, "EVENKEEL_EVENT_ID", first->id);
	r = r < 0 ? r : add_variable(spec, "EVENKEEL_EVENT_TYPE", first->type);
	r = r < 0 ? r : add_variable(spec, "EVENKEEL_EVENT_SOURCE", first->source ? first->source : "");
	r = r < 0 ? r : add_variable(spec, "EVENKEEL_EVENT_STATUS", first->status == EVENT_STARTED ? "Started" : "Scheduled");
	r = r < 0 ? r : add_variable(spec, "EVENKEEL_EVENT_DURATION_IN_SECONDS", number);
	return r < 0 ? r : add_variable(spec, "EVENKEEL_EVENT_NOT_BEFORE",
					first->not_before_wall ? timefmt_utc(first->not_before_wall, time) : "");
}

static int copy_texts(const struct jd_list *from, struct jd_list *to)
{
	char *const *texts = from->items;
	char **copy = calloc(from->n ? from->n : 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	to->items = copy;
	to->n = from->n;
	for (size_t i = 0; i < from->n; i++) {
		copy[i] = strdup(texts[i]);
		if (!copy[i])
			return -ENOMEM;
	}
	return 0;
}

static int make_spec(struct doing *d, const struct drain_action *a, const struct drain_state *state, struct error *err)
{
	const struct step_settings *s = a->step;
	_cleanup_(spec_freep) struct job *spec = calloc(1, sizeof(*spec));
	const char *hooks = a->undo ? s->undo_directory : s->directory;
	int r;

	if (!spec)
		return error_oom(err);
	job_init(spec);
	spec->kind = s->type == STEP_HOOKS ? JOB_HOOKS : JOB_COMMAND;
	spec->id = strdup(d->job);
	spec->handler = strdup("drain");
	spec->title = strdup(s->name);
	spec->output_max_bytes = LIMIT_CHILD_OUTPUT;
	spec->tail_bytes = LIMIT_LOG_LINE;
	/* Backup of our own deadline, for when we are not there: in whole seconds, rounded up. A hook directory's is each hook's. */
	spec->timeout_seconds = (int64_t)((a->timeout_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
	r = spec->id && spec->handler && spec->title ? describe(spec, a->undo, state) : -ENOMEM;
	if (r >= 0 && s->type == STEP_HOOKS) {
		spec->directory = path_under_root(d->steps->host->paths, hooks);
		r = spec->directory ? 0 : -ENOMEM;
	} else if (r >= 0) {
		r = copy_texts(a->undo ? &s->undo_command : &s->command, &spec->argv);
		if (r >= 0)
			r = str_set(&spec->user, str_empty(s->user) ? NULL : s->user);
	}
	if (r < 0)
		return error_oom(err);
	d->spec = TAKE_PTR(spec);
	return 0;
}

static void begin_job(struct doing *d, const struct drain_action *a, const struct drain_state *state)
{
	struct error e = ERROR_INIT;
	int r;

	d->job = str_format(JOB_PREFIX "%lld", (long long)d->token);
	r = d->job ? make_spec(d, a, state, &e) : error_oom(&e);
	d->may_be_lost = a->attach;
	if (r >= 0)
		r = a->attach ? jobs_attach(d->steps->host->jobs, d->job, on_job, d, &d->handle, &e) : start_job(d, &e);
	if (r < 0)
		end_failed(d, &e);
}

void drain_steps_forget_all(struct drain_steps *s)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;

	if (fs_list(s->host->paths->jobs, LIMIT_JOB_DIRECTORIES, &names, &e) < 0) {
		log_warning("%s", e.msg);
		return;
	}
	for (char **n = names; *n; n++)
		if (str_starts(*n, JOB_PREFIX))
			jobs_forget(s->host->jobs, *n, true);
}

/* ---- units ---- */

static void next_unit(struct doing *d);

/* A unit that does not stop in time is killed whole: at the end of a notice nothing else is left. */
static void kill_unit(struct doing *d)
{
	struct error e = ERROR_INIT;

	if (!d->undo && unit_kill(d->steps->host->bus, d->units[d->at], SIGKILL, &e) < 0)
		log_warning("%s", e.msg);
}

static void note_failure(struct doing *d, const char *detail)
{
	if (!d->failure[0])
		(void)snprintf(d->failure, sizeof(d->failure), "%s", detail);
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
	if (d->stopping) {
		end(d, d->timed_out ? STEP_OUTCOME_TIMEOUT : STEP_OUTCOME_CANCELLED, 0,
		    d->timed_out ? "it took longer than it was given" : NULL);
		return;
	}
	if (!d->units[d->at]) {
		end(d, d->failure[0] ? STEP_OUTCOME_FAILED : STEP_OUTCOME_OK, 0, d->failure);
		return;
	}
	if (unit_do(d->steps->host->bus, d->undo ? UNIT_START : UNIT_STOP, d->units[d->at], d->each_usec, on_unit, d, &d->call,
		    &e) < 0)
		end_failed(d, &e);
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
	if (list_units(d, a->step, state) < 0) {
		(void)error_oom(&e);
		end_failed(d, &e);
	} else if (!d->steps->host->bus && (!d->undo || d->units[0])) {
		/* What was active could not even be asked: an empty list does not mean that there is nothing to stop. */
		end(d, STEP_OUTCOME_FAILED, 0, "no systemd manager answers, so units can be neither stopped nor started");
	} else {
		next_unit(d);
	}
}

/* ---- all steps ---- */

static void on_deadline(void *userdata)
{
	struct doing *d = userdata;

	if (d->ended) {
		deliver(d);
		return;
	}
	if (d->type == STEP_PROBE_DOWN) {
		end(d, STEP_OUTCOME_OK, 0, NULL); /* the wait is the step */
		return;
	}
	d->timed_out = true;
	(void)drain_steps_stop(d->steps, d->token);
}

static struct doing *doing_new(struct drain_steps *s, int64_t token, enum step_type type)
{
	struct doing *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->steps = s;
	d->token = token;
	d->type = type;
	if (loop_timer_new(s->host->loop, "drain-step", on_deadline, d, &d->deadline) < 0) {
		free(d);
		return NULL;
	}
	d->next = s->first;
	s->first = d;
	return d;
}

const char *drain_steps_unbuilt(enum step_type type)
{
	switch (type) {
	case STEP_PROBE_DOWN:
	case STEP_RUN:
	case STEP_HOOKS:
	case STEP_STOP_UNITS:
	case STEP_PARALLEL:
		return NULL;
	default:
		return "steps of this type are accepted but cannot be carried out by this version; use run with a command of your own";
	}
}

int drain_steps_begin(struct drain_steps *s, const struct drain_action *a, const struct drain_state *state)
{
	struct doing *d = doing_new(s, a->token, (enum step_type)a->step->type);
	usec_t span = a->timeout_usec;

	if (!d)
		return -ENOMEM;
	d->undo = a->undo;
	if (d->type == STEP_PROBE_DOWN && !a->undo)
		span = usec_min(span, usec_from_seconds((uint64_t)a->step->wait_seconds));
	d->deadline_boot = usec_add(loop_now_boot(s->host->loop), span);
	loop_timer_at(d->deadline, d->deadline_boot);
	if (drain_steps_unbuilt(d->type))
		end(d, STEP_OUTCOME_FAILED, 0, drain_steps_unbuilt(d->type));
	else if (d->type == STEP_STOP_UNITS)
		begin_units(d, a, state);
	else if (d->type != STEP_PROBE_DOWN)
		begin_job(d, a, state);
	else if (a->undo)
		end(d, STEP_OUTCOME_OK, 0, NULL); /* the probe itself is the core's */
	return 0;
}

void drain_steps_shorten(struct drain_steps *s, int64_t token, usec_t timeout)
{
	struct doing *d = find(s, token);

	if (!d || d->stopping || d->ended)
		return;
	d->deadline_boot = usec_min(d->deadline_boot, usec_add(loop_now_boot(s->host->loop), timeout));
	loop_timer_at(d->deadline, d->deadline_boot);
}

/* A job that an earlier process of ours began, to be ended now. */
static struct doing *take_up_job(struct drain_steps *s, int64_t token)
{
	_cleanup_free_ char *directory = NULL;
	struct doing *d;
	char id[48];
	struct error e = ERROR_INIT;

	(void)snprintf(id, sizeof(id), JOB_PREFIX "%lld", (long long)token);
	directory = path_join(s->host->paths->jobs, id);
	if (!directory || !fs_is_dir(directory))
		return NULL;
	d = doing_new(s, token, STEP_RUN);
	if (!d)
		return NULL;
	d->job = strdup(id);
	if (!d->job || jobs_attach(s->host->jobs, id, on_job, d, &d->handle, &e) < 0)
		end(d, STEP_OUTCOME_CANCELLED, 0, NULL);
	return d;
}

int drain_steps_stop(struct drain_steps *s, int64_t token)
{
	struct doing *d = find(s, token);

	if (!d)
		d = take_up_job(s, token);
	if (!d)
		return -ENOENT;
	if (d->stopping || d->ended)
		return 0;
	d->stopping = true;
	loop_timer_stop(d->deadline);
	if (d->handle)
		jobs_stop(d->handle, STOP_GRACE_USEC);
	else if (d->call)
		kill_unit(d); /* its job ends with it, and next_unit() ends the step */
	else
		end(d, d->timed_out ? STEP_OUTCOME_TIMEOUT : STEP_OUTCOME_CANCELLED, 0, NULL);
	return 0;
}

int drain_steps_new(const struct handler_host *host, drain_steps_result_fn result, void *userdata, struct drain_steps **ret, struct error *err)
{
	struct drain_steps *s = calloc(1, sizeof(*s));

	if (!s)
		return error_oom(err);
	*s = (struct drain_steps){ .host = host, .result = result, .userdata = userdata };
	*ret = s;
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
	free(s);
}

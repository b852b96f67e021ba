/* Steps that run something: `run` and `hooks`, and what `waitUntil` and `refuseProbe` share with them. */
#include "handlers/drain/steps_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"

#define JOB_PREFIX "drain-"

/* ---- what is to be run ---- */

void spec_free(struct job *spec)
{
	if (!spec)
		return;
	jd_free(&job_type, spec);
	free(spec);
}

int spec_new(const char *id, const char *title, usec_t timeout, struct job **ret, struct error *err)
{
	_cleanup_(spec_freep) struct job *spec = calloc(1, sizeof(*spec));

	if (!spec)
		return error_oom(err);
	job_init(spec);
	spec->kind = JOB_COMMAND;
	spec->output_max_bytes = LIMIT_CHILD_OUTPUT;
	spec->tail_bytes = LIMIT_LOG_LINE;
	/* Backup of our own deadline, for when we are not there: in whole seconds, rounded up. */
	spec->timeout_seconds = (int64_t)((usec_min(timeout, USEC_PER_DAY) + USEC_PER_SEC - 1) / USEC_PER_SEC);
	spec->id = strdup(id);
	spec->handler = strdup("drain");
	spec->title = strdup(title);
	if (!spec->id || !spec->handler || !spec->title)
		return error_oom(err);
	*ret = TAKE_PTR(spec);
	return 0;
}

int spec_argv(struct job *spec, char *const *argv, size_t n)
{
	char **copy = calloc(n ? n : 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	spec->argv.items = copy;
	spec->argv.n = n;
	for (size_t i = 0; i < n; i++) {
		copy[i] = strdup(argv[i]);
		if (!copy[i])
			return -ENOMEM;
	}
	return 0;
}

/* ---- starting, finding, forgetting ---- */

int step_job_start(struct doing *d, jobs_done_fn done, struct error *err)
{
	const struct jobs_request req = d->type == STEP_REFUSE_PROBE ? spec_of_nft(d->spec) :
								       (struct jobs_request){ .job = d->spec };

	jobs_handle_free(TAKE_PTR(d->handle));
	return jobs_start(d->steps->host->jobs, &req, done, d, &d->handle, err);
}

/* waitUntil numbers its runs: "drain-TOKEN-N". */
static bool is_job_of(const char *name, const char *id)
{
	size_t len = strlen(id);

	return strncmp(name, id, len) == 0 && (name[len] == '\0' || name[len] == '-');
}

static char *find_in(const char *directory, const char *id)
{
	_cleanup_strv_ char **names = NULL;
	struct error ignored;

	if (!fs_exists(directory) || fs_list(directory, LIMIT_JOB_DIRECTORIES, &names, &ignored) < 0)
		return NULL;
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *path = is_job_of(*n, id) ? path_join(directory, *n) : NULL;

		if (path && fs_is_dir(path))
			return strdup(*n);
	}
	return NULL;
}

char *step_job_find(const struct drain_steps *s, int64_t token)
{
	char id[48], *found;

	(void)snprintf(id, sizeof(id), JOB_PREFIX "%lld", (long long)token);
	found = find_in(s->host->paths->jobs, id);
	/* Jobs that the disk could not take. */
	return found ? found : find_in(s->host->paths->run_jobs, id);
}

void step_job_forget(struct doing *d)
{
	jobs_handle_free(TAKE_PTR(d->handle));
	if (d->job)
		jobs_forget(d->steps->host->jobs, d->job, true);
}

void drain_steps_forget_all(struct drain_steps *s)
{
	_cleanup_strv_ char **names = NULL;
	struct error e = ERROR_INIT;

	if (fs_list(s->host->paths->jobs, LIMIT_JOB_DIRECTORIES, &names, &e) < 0) {
		log_warning("jobs of former steps are not forgotten: %s", e.msg);
		return;
	}
	for (char **n = names; *n; n++)
		if (str_starts(*n, JOB_PREFIX))
			jobs_forget(s->host->jobs, *n, true);
}

/* ---- its end ---- */

void step_job_end(struct doing *d, const struct job_result *r)
{
	char phrase[128];

	if (r->end == JOB_SUCCEEDED)
		step_end(d, STEP_OUTCOME_OK, 0, NULL);
	else if (d->stopping)
		step_end_stopped(d);
	else if (r->end == JOB_TIMED_OUT)
		step_end(d, STEP_OUTCOME_TIMEOUT, 0, job_result_why(r, phrase));
	else
		step_end(d, STEP_OUTCOME_FAILED, (int)r->exit_code, job_result_why(r, phrase));
}

static void on_job(const struct job_result *r, void *userdata);

/* Lost without a result (we were killed, the machine was booted): steps run at least once. Once: what cannot be started
 * now is a failure like any other, and the core's to decide about. */
static void begin_again(struct doing *d)
{
	struct error e = ERROR_INIT;

	d->may_be_lost = false;
	step_job_forget(d);
	if (step_job_start(d, on_job, &e) < 0)
		step_end_failed(d, &e);
}

static void on_job(const struct job_result *r, void *userdata)
{
	struct doing *d = userdata;

	if ((r->end == JOB_INTERRUPTED || r->end == JOB_NOT_STARTED) && d->may_be_lost && !d->stopping)
		begin_again(d);
	else
		step_job_end(d, r);
}

void step_job_stop(struct doing *d)
{
	if (d->handle)
		jobs_stop(d->handle, STOP_GRACE_USEC);
	else
		step_end_stopped(d);
}

/* A job that an earlier process of ours began, to be ended now. */
void step_job_take_up(struct doing *d, const char *id)
{
	struct error e = ERROR_INIT;

	d->job = strdup(id);
	if (!d->job || jobs_attach(d->steps->host->jobs, id, on_job, d, &d->handle, &e) < 0)
		step_end(d, STEP_OUTCOME_CANCELLED, 0, NULL);
}

/* ---- commands and hooks ---- */

static int make_spec(struct doing *d, const struct drain_action *a, const struct drain_state *state, struct error *err)
{
	const struct step_settings *s = a->step;
	const struct jd_list *command = a->undo ? &s->undo_command : &s->command;
	int r;

	r = spec_new(d->job, s->name, a->timeout_usec, &d->spec, err);
	if (r < 0)
		return r;
	if (s->type == STEP_HOOKS) {
		/* Each has its own time, so that one that hangs takes none from the next; together they have the step's, and where
		 * that is short what is kept for those that follow, SIGKILL included. */
		d->spec->kind = JOB_HOOKS;
		d->spec->grace_seconds = (int64_t)(STOP_GRACE_USEC / USEC_PER_SEC);
		d->spec->reserve_seconds = s->reserve_seconds;
		d->spec->deadline_boot_usec = (int64_t)d->deadline_boot;
		if (s->timeout_seconds > 0 && s->timeout_seconds < d->spec->timeout_seconds)
			d->spec->timeout_seconds = s->timeout_seconds;
		d->spec->directory = path_under_root(d->steps->host->paths, a->undo ? s->undo_directory : s->directory);
		r = d->spec->directory ? str_set(&d->spec->boot_id, d->steps->host->boot_id) : -ENOMEM;
	} else {
		r = spec_argv(d->spec, command->items, command->n);
		if (r >= 0)
			r = str_set(&d->spec->user, str_empty(s->user) ? NULL : s->user);
	}
	if (r >= 0)
		r = steps_tell(d->spec, a, state);
	return r < 0 ? error_errno(err, r, "the step cannot be written down") : 0;
}

/* The plan has counted what drains; those that undo are counted when it is their turn, and have their time each as well. */
static void give_each_undo_its_time(struct doing *d, const struct step_settings *s)
{
	_cleanup_free_ char *directory = path_under_root(d->steps->host->paths, s->undo_directory);
	_cleanup_strv_ char **names = NULL;
	struct error ignored;
	usec_t end;

	if (!directory || fs_list(directory, LIMIT_HOOKS, &names, &ignored) < 0)
		return;
	end = usec_add(loop_now_boot(d->steps->host->loop), usec_from_seconds((uint64_t)s->timeout_seconds * strv_length(names)));
	if (end <= d->deadline_boot)
		return;
	d->deadline_boot = end;
	loop_timer_at(d->deadline, end);
}

static void begin_job(struct doing *d, const struct drain_action *a, const struct drain_state *state)
{
	struct error e = ERROR_INIT;
	int r;

	if (a->undo && a->step->type == STEP_HOOKS)
		give_each_undo_its_time(d, a->step);
	d->job = str_format(JOB_PREFIX "%lld", (long long)d->token);
	r = d->job ? make_spec(d, a, state, &e) : error_oom(&e);
	d->may_be_lost = a->attach;
	if (r >= 0)
		r = a->attach ? jobs_attach(d->steps->host->jobs, d->job, on_job, d, &d->handle, &e) : step_job_start(d, on_job, &e);
	if (r < 0)
		step_end_failed(d, &e);
}

const struct step_kind step_job = { .begin = begin_job, .stop = step_job_stop };

/* What both ways of running a job have in common: identities, the one end, stopping in two steps. */
#include "agent/io/executor.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/executor_internal.h"

#define ID_MAX_LENGTH 101

int executor_new(struct executor **ret, struct loop *loop, struct bus *bus, const char *binary, const char *run_jobs,
		 struct error *err)
{
	_cleanup_(executor_freep) struct executor *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return error_oom(err);
	e->ops = bus ? &executor_units : &executor_children;
	e->loop = loop;
	e->bus = bus;
	e->binary = strdup(binary);
	e->run_jobs = strdup(run_jobs);
	if (!e->binary || !e->run_jobs)
		return error_oom(err);
	r = e->ops->init(e, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(e);
	return 0;
}

void executor_free(struct executor *e)
{
	if (!e)
		return;
	assert(!e->jobs); /* jobs hold a pointer to their executor */
	e->ops->done(e);
	free(e->binary);
	free(e->run_jobs);
	free(e);
}

enum executor_kind executor_kind(const struct executor *e)
{
	return e->ops == &executor_units ? EXECUTOR_UNITS : EXECUTOR_CHILDREN;
}

/* ---- jobs ---- */

static void job_destroy(struct executor_job *job)
{
	for (struct executor_job **p = &job->executor->jobs; *p; p = &(*p)->next)
		if (*p == job) {
			*p = job->next;
			break;
		}
	job->executor->ops->forget(job);
	loop_timer_free(job->kill_timer);
	loop_timer_free(job->later);
	free(job->id);
	free(job);
}

void executor_job_free(struct executor_job *job)
{
	if (!job)
		return;
	if (job->calling)
		job->freed = true;
	else
		job_destroy(job);
}

void executor_job_end(struct executor_job *job, const struct executor_outcome *outcome)
{
	struct executor_outcome told = *outcome;

	if (job->ended)
		return;
	job->ended = true;
	loop_timer_stop(job->kill_timer);
	told.id = job->id;
	/* If it frees its own job, the id must last until it returns. */
	job->calling = true;
	job->done(&told, job->userdata);
	job->calling = false;
	if (job->freed)
		job_destroy(job);
}

static void on_later(void *userdata)
{
	struct executor_job *job = userdata;

	executor_job_end(job, &job->outcome);
}

void executor_job_end_later(struct executor_job *job, enum executor_end end)
{
	job->outcome = (struct executor_outcome){ .end = end };
	loop_timer_after(job->later, 0);
}

static void on_grace_over(void *userdata)
{
	struct executor_job *job = userdata;

	job->executor->ops->kill(job, true);
}

void executor_stop(struct executor_job *job, usec_t grace)
{
	if (job->ended)
		return;
	job->stopping = true;
	job->executor->ops->kill(job, false);
	loop_timer_after(job->kill_timer, grace);
}

/* The id is part of a unit's name, of file names and of a command line. */
static bool is_id(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.-");

	return n && !s[n] && n <= ID_MAX_LENGTH && s[0] != '.' && s[0] != '-';
}

static int job_new(struct executor *e, const char *id, executor_done_fn done, void *userdata, struct executor_job **ret,
		   struct error *err)
{
	struct executor_job *job;

	if (!is_id(id))
		return error_set(err, ERROR_SYSTEM, -EINVAL, "\"%.120s\" is not a job's id", id);
	for (job = e->jobs; job; job = job->next)
		if (!job->ended && str_equal(job->id, id))
			return error_set(err, ERROR_SYSTEM, -EEXIST, "job %s is running and watched already", id);
	job = calloc(1, sizeof(*job));
	if (!job)
		return error_oom(err);
	*job = (struct executor_job){ .executor = e, .next = e->jobs, .done = done, .userdata = userdata };
	e->jobs = job;
	job->id = strdup(id);
	if (!job->id || loop_timer_new(e->loop, "job-kill", on_grace_over, job, &job->kill_timer) < 0 ||
	    loop_timer_new(e->loop, "job-later", on_later, job, &job->later) < 0) {
		job_destroy(job);
		return error_oom(err);
	}
	*ret = job;
	return 0;
}

int executor_start(struct executor *e, const struct executor_request *req, executor_done_fn done, void *userdata,
		   struct executor_job **ret, struct error *err)
{
	_cleanup_(executor_job_freep) struct executor_job *job = NULL;
	int r = job_new(e, req->id, done, userdata, &job, err);

	if (r < 0)
		return r;
	r = e->ops->start(job, req, err);
	if (r < 0)
		return error_wrap(err, r, "cannot start job %s", req->id);
	*ret = TAKE_PTR(job);
	return 0;
}

int executor_attach(struct executor *e, const char *id, executor_done_fn done, void *userdata,
		    struct executor_job **ret, struct error *err)
{
	_cleanup_(executor_job_freep) struct executor_job *job = NULL;
	int r = job_new(e, id, done, userdata, &job, err);

	if (r < 0)
		return r;
	r = e->ops->attach(job, err);
	if (r < 0)
		return error_wrap(err, r, "cannot watch job %s", id);
	*ret = TAKE_PTR(job);
	return 0;
}

void executor_release(struct executor *e, const char *id)
{
	if (is_id(id))
		e->ops->release(e, id);
}

/* ---- environment ---- */

static bool is_wanted(const char *assignment, const char *const *also)
{
	if (str_starts(assignment, "EVENKEEL_"))
		return true;
	for (; also && *also; also++) {
		size_t n = strlen(*also);

		if (strncmp(assignment, *also, n) == 0 && assignment[n] == '=')
			return true;
	}
	return false;
}

char **executor_environment(const char *const *also)
{
	_cleanup_(strv_freep) char **list = NULL;
	size_t n = strv_length(environ), at = 0;

	list = calloc(n + 1, sizeof(*list));
	for (size_t i = 0; list && i < n; i++) {
		if (!is_wanted(environ[i], also))
			continue;
		list[at] = strdup(environ[i]);
		if (!list[at++])
			return NULL;
	}
	return TAKE_PTR(list);
}

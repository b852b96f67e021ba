/* Jobs of the handlers: started or found again, watched, and a result in any case. */
#include "handlers/common/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/executor.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/common/job_files.h"

/* The runner ends its work and writes the result after the grace, before the executor kills it. */
#define RUNNER_MORE_USEC (5 * USEC_PER_SEC)

struct jobs {
	struct loop *loop;
	struct executor *executor;
	const struct paths *paths;
	char *boot_id;
	struct jobs_handle *list;
	size_t n;
};

struct jobs_handle {
	struct jobs *jobs;
	struct jobs_handle *next;
	char *id;
	jobs_done_fn done;
	void *userdata;
	struct executor_job *job;
	struct loop_timer *later; /* tells a result that is there already */
	struct loop_timer *impatient;
	bool stopping, ended;
	bool calling, freed; /* it is freed when its callback returns */
};

int jobs_new(struct jobs **ret, struct loop *loop, struct executor *executor, const struct paths *paths,
	     const char *boot_id, struct error *err)
{
	struct jobs *j = calloc(1, sizeof(*j));

	if (j)
		*j = (struct jobs){ .loop = loop, .executor = executor, .paths = paths, .boot_id = strdup(boot_id) };
	if (!j || !j->boot_id) {
		free(j);
		return error_oom(err);
	}
	*ret = j;
	return 0;
}

void jobs_free(struct jobs *j)
{
	if (!j)
		return;
	free(j->boot_id);
	free(j);
}

bool jobs_can_bind(const struct jobs *j)
{
	return executor_kind(j->executor) == EXECUTOR_UNITS;
}

/* ---- results ---- */

/* No result file: what has become of it is made out from what is there. */
static void infer_result(const struct jobs_handle *h, const struct executor_outcome *o, struct job_result *r)
{
	const struct jobs *j = h->jobs;
	const char *why = o && !str_empty(o->detail) ? o->detail : o && !str_empty(o->result) ? o->result : NULL;

	r->format = JOB_FORMAT;
	r->id = strdup(h->id);
	r->code = CODE_INTERRUPTED;
	if (!job_has(j->paths, h->id, "started")) {
		r->end = h->stopping ? JOB_STOPPED : JOB_NOT_STARTED;
		r->code = h->stopping ? CODE_INTERRUPTED : CODE_INTERNAL;
		r->message = str_format("the job %s%s%s", h->stopping ? "was stopped before it began" : "could not be started", why ? ": " : "",
					why ? why : "");
		return;
	}
	job_files_times(j->paths, h->id, r);
	r->end = h->stopping ? JOB_STOPPED : JOB_INTERRUPTED;
	if (h->stopping)
		r->message = strdup("it was stopped, and had to be killed");
	else if (r->boot_id && *r->boot_id && !str_equal(r->boot_id, j->boot_id))
		r->message = str_format("interrupted by a reboot after %" PRId64 " s or more", r->duration_msec / 1000);
	else
		r->message = str_format("interrupted: the process that ran it is gone without a result%s%s%s", why ? " (" : "",
					why ? why : "", why ? ")" : "");
}

static void handle_destroy(struct jobs_handle *h)
{
	for (struct jobs_handle **p = &h->jobs->list; *p; p = &(*p)->next)
		if (*p == h) {
			*p = h->next;
			h->jobs->n--;
			break;
		}
	executor_job_free(h->job);
	loop_timer_free(h->later);
	loop_timer_free(h->impatient);
	free(h->id);
	free(h);
}

static void finish(struct jobs_handle *h, const struct executor_outcome *o)
{
	struct job_result result = { 0 };
	struct error e = ERROR_INIT;
	int r;

	if (h->ended)
		return;
	h->ended = true;
	loop_timer_stop(h->impatient);
	r = job_files_result(h->jobs->paths, h->id, &result, &e);
	if (r < 0) {
		if (r != -ENOENT)
			log_for(LOG_LEVEL_DEBUG, (.job = h->id), "%s", e.msg);
		infer_result(h, o, &result);
		if (result.end != JOB_NOT_STARTED)
			job_files_clean_up(h->jobs->paths, h->id);
	}
	h->calling = true;
	h->done(&result, h->userdata);
	h->calling = false;
	jd_free(&job_result_type, &result);
	if (h->freed)
		handle_destroy(h);
}

static void on_executor(const struct executor_outcome *o, void *userdata)
{
	finish(userdata, o);
}

static void on_later(void *userdata)
{
	finish(userdata, NULL);
}

static void on_impatient(void *userdata)
{
	struct jobs_handle *h = userdata;

	if (h->job)
		executor_stop(h->job, RUNNER_MORE_USEC);
}

/* ---- starting, attaching, stopping ---- */

static int handle_new(struct jobs *j, const char *id, jobs_done_fn done, void *userdata, struct jobs_handle **ret,
		      struct error *err)
{
	struct jobs_handle *h;

	if (!job_id_valid(id))
		return error_set(err, ERROR_SYSTEM, -EINVAL, "\"%.120s\" is not the id of a job", id ? id : "");
	if (j->n >= LIMIT_JOBS)
		return error_set(err, ERROR_TRANSIENT, -EBUSY, "%lu jobs are running already; job %s waits", (unsigned long)LIMIT_JOBS,
				 id);
	h = calloc(1, sizeof(*h));
	if (!h)
		return error_oom(err);
	*h = (struct jobs_handle){ .jobs = j, .next = j->list, .id = strdup(id), .done = done, .userdata = userdata };
	j->list = h;
	j->n++;
	if (!h->id || loop_timer_new(j->loop, "job-result", on_later, h, &h->later) < 0 ||
	    loop_timer_new(j->loop, "job-impatient", on_impatient, h, &h->impatient) < 0) {
		handle_destroy(h);
		return error_oom(err);
	}
	*ret = h;
	return 0;
}

static int attach(struct jobs_handle *h, struct error *err)
{
	if (!job_has(h->jobs->paths, h->id, "result.json"))
		return executor_attach(h->jobs->executor, h->id, on_executor, h, &h->job, err);
	loop_timer_after(h->later, 0);
	return 0;
}

static int start(struct jobs_handle *h, const struct jobs_request *req, struct error *err)
{
	struct jobs *j = h->jobs;
	struct job job = *req->job;
	const char *writable[JOBS_WRITABLE_MAX + 3] = { NULL };
	_cleanup_free_ char *description = str_format("EvenKeel job %s: %s %s", job.id, job.handler ? job.handler : "",
						      job.title ? job.title : "");
	const struct executor_request er = { .id = job.id,
					     .description = description,
					     .leave_survivors = job.leave_survivors,
					     .memory_max_bytes = req->memory_max_bytes,
					     .cpu_percent = req->cpu_percent,
					     .confined = req->confined,
					     .capabilities = req->capabilities,
					     .writable = writable,
					     .bind = { req->bind_from, req->bind_to } };
	size_t n = 0;
	int r;

	if (!description)
		return error_oom(err);
	/* A confined runner writes its own result. */
	writable[n++] = j->paths->jobs;
	writable[n++] = j->paths->run_jobs;
	for (const char *const *w = req->writable; w && *w; w++) {
		if (n == JOBS_WRITABLE_MAX + 2)
			return error_set(err, ERROR_SYSTEM, -E2BIG, "job %s needs too many directories", job.id);
		writable[n++] = *w;
	}
	/* A former try that never began may have left its unit. */
	if (job_has(j->paths, job.id, "job.json"))
		executor_release(j->executor, job.id);
	job.format = JOB_FORMAT;
	job.boot_id = j->boot_id;
	r = job_files_secrets(j->paths, job.id, req->secrets, err);
	if (r >= 0)
		r = job_files_write(j->paths, &job, err);
	if (r >= 0)
		r = executor_start(j->executor, &er, on_executor, h, &h->job, err);
	if (r < 0) {
		_cleanup_free_ char *secrets = job_secrets_file(j->paths, job.id);

		if (secrets)
			(void)unlink(secrets);
	}
	return r;
}

int jobs_start(struct jobs *j, const struct jobs_request *req, jobs_done_fn done, void *userdata, struct jobs_handle **ret,
	       struct error *err)
{
	struct jobs_handle *h;
	int r = handle_new(j, req->job->id, done, userdata, &h, err);

	if (r < 0)
		return r;
	r = job_has(j->paths, h->id, "started") ? attach(h, err) : start(h, req, err);
	if (r < 0) {
		handle_destroy(h);
		return r;
	}
	*ret = h;
	return 0;
}

int jobs_attach(struct jobs *j, const char *id, jobs_done_fn done, void *userdata, struct jobs_handle **ret,
		struct error *err)
{
	struct jobs_handle *h;
	int r = handle_new(j, id, done, userdata, &h, err);

	if (r < 0)
		return r;
	r = attach(h, err);
	if (r < 0) {
		handle_destroy(h);
		return r;
	}
	*ret = h;
	return 0;
}

/* A second SIGTERM tells the runner that the grace is over; only if it does not answer is it killed itself, for then
 * nobody counts what is left and no result is written. */
void jobs_stop(struct jobs_handle *h, usec_t grace)
{
	if (!h || h->ended || !h->job)
		return;
	h->stopping = true;
	executor_stop(h->job, usec_add(grace, RUNNER_MORE_USEC));
	loop_timer_after(h->impatient, grace);
}

void jobs_handle_free(struct jobs_handle *h)
{
	if (!h)
		return;
	if (h->calling)
		h->freed = true;
	else
		handle_destroy(h);
}

/* ---- afterwards ---- */

int jobs_tail(struct jobs *j, const char *id, bool standard_error, size_t max, struct buf *out)
{
	return job_files_tail(j->paths, id, standard_error, max, out);
}

void jobs_keep_result(struct jobs *j, const char *id, const struct job_result *result)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = job_id_valid(id) ? job_file(j->paths, id, "result.json") : NULL;
	struct job_result told = *result;
	struct error e = ERROR_INIT;
	int r;

	if (!path || !job_has(j->paths, id, "job.json") || fs_exists(path))
		return;
	told.format = JOB_FORMAT;
	told.id = (char *)(uintptr_t)id;
	r = jd_encode(&job_result_type, &told, false, &text);
	if (r >= 0)
		r = fs_write(path, text.data, text.len, 0600, FS_KEEP, &e);
	if (r < 0 && r != -EEXIST)
		log_for(LOG_LEVEL_DEBUG, (.job = id), "its result is not kept: %s", e.msg);
}

void jobs_forget(struct jobs *j, const char *id, bool remove)
{
	_cleanup_free_ char *directory = job_id_valid(id) ? path_of_job(j->paths, id) : NULL;
	_cleanup_free_ char *secrets = directory ? job_secrets_file(j->paths, id) : NULL;
	struct error e = ERROR_INIT;

	if (!secrets)
		return;
	executor_release(j->executor, id);
	(void)unlink(secrets);
	if (remove && fs_remove_tree(directory, &e) < 0)
		log_for(LOG_LEVEL_DEBUG, (.job = id), "%s", e.msg);
}

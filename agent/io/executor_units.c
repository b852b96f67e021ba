/* Jobs as transient units: started, stopped, taken up again, and their names given back. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/executor_units_internal.h"

#define CALL_TIMEOUT (60 * USEC_PER_SEC) /* a manager that reloads its units answers nobody meanwhile */
#define NAME_TRIES   40 /* until the name of a unit we released is free */
#define NAME_USEC    (50 * USEC_PER_MSEC)

struct release {
	struct executor *executor;
	struct release *next;
	struct bus_call *call;
	char unit[160];
};

struct units {
	struct executor *executor;
	struct bus_hook hook;
	struct release *releases;
};

/* ---- starting ---- */

static void check_start(struct unit_watch *w)
{
	const char *result = bus_job_result(w->job->executor->bus, w->start_job);

	if (!result)
		return;
	free(TAKE_PTR(w->start_job));
	if (!str_equal(result, "done"))
		(void)snprintf(w->job_result, sizeof(w->job_result), "%s", result);
	if (w->job->stopping)
		unit_watch_kill(w, w->kill_all);
	unit_watch_query(w);
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct unit_watch *w = userdata;
	const char *path;

	(void)error;
	w->start = sd_bus_slot_unref(w->start);
	if (w->job->ended)
		return 0;
	if (bus_error_result(sd_bus_message_get_error(m)) == -EEXIST && w->name_tries) {
		w->name_tries--;
		loop_timer_after(w->send_later, NAME_USEC);
		return 0;
	}
	w->request = sd_bus_message_unref(w->request);
	w->seen = true;
	if (sd_bus_message_is_method_error(m, NULL)) {
		const sd_bus_error *e = sd_bus_message_get_error(m);

		/* Of an earlier process. The same when the connection went away: it may have been started. */
		if (bus_error_result(e) == -EEXIST || bus_error_result(e) == -ENOTCONN) {
			w->seen = bus_error_result(e) == -EEXIST;
			if (w->job->stopping)
				unit_watch_kill(w, w->kill_all);
			unit_watch_query(w);
			return 0;
		}
		unit_watch_fail_start(w, e->message ? e->message : e->name);
		return 0;
	}
	if (sd_bus_message_read(m, "o", &path) < 0 || str_set(&w->start_job, path) < 0) {
		unit_watch_query(w);
		return 0;
	}
	check_start(w);
	return 0;
}

/* A message is sent once, so each try is a copy. */
static int send_start(struct unit_watch *w)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	struct bus *b = w->job->executor->bus;
	int r = bus_manager_call(b, "StartTransientUnit", &m);

	if (r >= 0)
		r = sd_bus_message_rewind(w->request, 1);
	if (r >= 0)
		r = sd_bus_message_copy(m, w->request, 1);
	return r < 0 ? r : sd_bus_call_async(bus_sd(b), &w->start, m, on_started, w, CALL_TIMEOUT);
}

static void on_send_later(void *userdata)
{
	struct unit_watch *w = userdata;

	if (send_start(w) >= 0)
		return;
	w->request = sd_bus_message_unref(w->request);
	unit_watch_fail_start(w, "the connection to systemd is lost");
}

static bool is_being_released(const struct executor *e, const char *unit)
{
	const struct units *u = e->backend;

	for (const struct release *rel = u->releases; rel; rel = rel->next)
		if (str_equal(rel->unit, unit))
			return true;
	return false;
}

static int units_start(struct executor_job *job, const struct executor_request *req, struct error *err)
{
	_cleanup_message_ sd_bus_message *m = NULL;
	struct executor *e = job->executor;
	struct unit_watch *w;
	int r = unit_watch_new(job, on_send_later, &w);

	if (r >= 0)
		r = bus_manager_call(e->bus, "StartTransientUnit", &m);
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", w->unit, "fail");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = unit_append_properties(m, e, job->id, req);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	if (r >= 0)
		r = sd_bus_message_append(m, "a(sa(sv))", 0);
	if (r >= 0)
		r = sd_bus_message_seal(m, 1, 0);
	if (r >= 0) {
		w->request = TAKE_PTR(m);
		/* The old unit of that name has to go first; then the name is asked for until it is free. */
		if (is_being_released(e, w->unit)) {
			w->name_tries = NAME_TRIES;
			return 0;
		}
		r = send_start(w);
	}
	return r < 0 ? error_errno(err, r, "systemd cannot be asked") : 0;
}

static int units_attach(struct executor_job *job, struct error *err)
{
	struct unit_watch *w;
	int r = unit_watch_new(job, on_send_later, &w);

	if (r < 0)
		return error_errno(err, r, "systemd cannot be asked");
	unit_watch_query(w);
	return 0;
}

void unit_watch_kill(struct unit_watch *w, bool all)
{
	if (w->request || w->start_job) { /* there is no process yet: the end of the start job sends it */
		w->kill_all = w->kill_all || all;
		return;
	}
	bus_manager_tell(w->job->executor->bus, "KillUnit", "ssi", w->unit, all ? "all" : "main",
			 (int32_t)(all ? SIGKILL : SIGTERM));
}

static void units_kill(struct executor_job *job, bool all)
{
	unit_watch_kill(job->backend, all);
}

static void units_forget(struct executor_job *job)
{
	if (job->backend)
		unit_watch_free(job->backend);
}

/* ---- releasing ---- */

static void release_free(struct release *rel)
{
	struct units *u = rel->executor->backend;

	for (struct release **p = &u->releases; *p; p = &(*p)->next)
		if (*p == rel) {
			*p = rel->next;
			break;
		}
	bus_call_free(rel->call);
	free(rel);
}

/* A unit that failed, or fails in being stopped, keeps its name until it is reset. */
static void on_stopped(const struct unit_answer *answer, void *userdata)
{
	struct release *rel = userdata;

	(void)answer;
	bus_manager_tell(rel->executor->bus, "ResetFailedUnit", "s", rel->unit);
	for (struct executor_job *job = rel->executor->jobs; job; job = job->next) {
		struct unit_watch *w = job->backend;

		if (!job->ended && w && w->request && !w->start && str_equal(w->unit, rel->unit))
			loop_timer_after(w->send_later, 0);
	}
	release_free(rel);
}

static void units_release(struct executor *e, const char *id)
{
	struct units *u = e->backend;
	struct release *rel = calloc(1, sizeof(*rel));

	if (!rel)
		return;
	rel->executor = e;
	(void)snprintf(rel->unit, sizeof(rel->unit), UNIT_PREFIX "%s.service", id);
	rel->next = u->releases;
	u->releases = rel;
	if (unit_do(e->bus, UNIT_STOP, rel->unit, CALL_TIMEOUT, on_stopped, rel, &rel->call, NULL) < 0)
		release_free(rel);
}

/* ---- the executor ---- */

static void on_job_removed(const char *path, const char *result, void *userdata)
{
	struct units *u = userdata;

	(void)result;
	for (struct executor_job *job = u->executor->jobs; job; job = job->next) {
		struct unit_watch *w = job->backend;

		if (!job->ended && w && str_equal(w->start_job, path)) {
			check_start(w); /* may change the list; a job has one path */
			return;
		}
	}
}

/* What happened meanwhile was not heard; the state of each unit still tells it. */
static void on_reconnected(void *userdata)
{
	struct units *u = userdata;

	for (struct executor_job *job = u->executor->jobs; job; job = job->next) {
		struct unit_watch *w = job->backend;

		if (job->ended || !w)
			continue;
		w->query = sd_bus_slot_unref(w->query);
		w->start = sd_bus_slot_unref(w->start);
		w->request = sd_bus_message_unref(w->request);
		loop_timer_stop(w->send_later);
		free(TAKE_PTR(w->start_job));
		(void)unit_watch_add_match(w);
		if (job->stopping)
			unit_watch_kill(w, w->kill_all);
		unit_watch_query(w);
	}
}

static int units_init(struct executor *e, struct error *err)
{
	struct units *u = calloc(1, sizeof(*u));

	if (!u)
		return error_oom(err);
	u->executor = e;
	u->hook = (struct bus_hook){ .reconnected = on_reconnected, .job_removed = on_job_removed, .userdata = u };
	bus_add_hook(e->bus, &u->hook);
	e->backend = u;
	return 0;
}

static void units_done(struct executor *e)
{
	struct units *u = e->backend;

	if (!u)
		return;
	while (u->releases)
		release_free(u->releases);
	bus_remove_hook(e->bus, &u->hook);
	free(u);
}

const struct executor_ops executor_units = {
	.init = units_init,
	.done = units_done,
	.start = units_start,
	.attach = units_attach,
	.kill = units_kill,
	.forget = units_forget,
	.release = units_release,
};

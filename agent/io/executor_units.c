/*
 * Jobs as transient units. How they behave was measured (design: transient units); what matters here:
 * the first signal of a new unit says inactive and success, so a unit has ended only when it failed, or when its main
 * process has ended; a property read of a name that never was answers inactive, too, so LoadState is read first; all
 * properties are read in one call, since one by one they are of different moments. A start job that "failed" says
 * little: a program that ended at once was executed nevertheless, and only its status tells.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/bus_internal.h"
#include "agent/io/executor_internal.h"

#define UNIT_PREFIX   "evenkeel-job-"
#define SLICE	      "evenkeel-jobs.slice"
#define CALL_TIMEOUT  (60 * USEC_PER_SEC) /* a manager that reloads its units answers nobody meanwhile */
#define STOP_TIMEOUT  (5 * USEC_PER_SEC)
#define RETRY_USEC    (2 * USEC_PER_SEC)
#define NAME_TRIES    40 /* until the name of a unit we released is free */
#define NAME_USEC     (50 * USEC_PER_MSEC)
#define EXIT_SYSTEMD  200 /* from here on the status is systemd's own; the runner has none of these */

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

struct watch {
	struct executor_job *job;
	char unit[160];
	sd_bus_slot *match, *query, *start;
	sd_bus_message *request; /* until the start is answered */
	unsigned name_tries;	 /* left; only after a release */
	struct loop_timer *retry, *send_later;
	char *start_job;  /* until it ended */
	bool asked_again; /* something changed while a query was under way */
	bool seen;	  /* loaded at least once, or started by us */
	bool kill_all;	  /* the time to stop was over before the start was answered */
	char job_result[16]; /* of our start job, when it was not "done" */
	char result[32], detail[400];
};

static void query(struct watch *w);
static void on_send_later(void *userdata);
static void units_kill(struct executor_job *job, bool all);

/* ---- ends ---- */

static void end(struct watch *w, enum executor_end how, const struct unit_properties *p)
{
	struct executor_outcome o = { .end = how, .detail = w->detail[0] ? w->detail : NULL };

	/* What it left running is not a survivor of a job that had to be stopped. */
	if (w->job->stopping)
		units_kill(w->job, true);
	if (p) {
		o.code = p->main_code;
		o.status = p->main_status;
		(void)snprintf(w->result, sizeof(w->result), "%s", p->result);
		o.result = w->result;
	}
	executor_job_end(w->job, &o); /* may free w */
}

static void fail_start(struct watch *w, const char *why)
{
	(void)snprintf(w->detail, sizeof(w->detail), "%s could not be started: %s", w->unit, why);
	/* Nothing ran, so there is no result to wait for: the name is given back at once. */
	executor_release(w->job->executor, w->job->id);
	end(w, EXECUTOR_START_FAILED, NULL);
}

/* What stands between fork and exec has codes of its own; no process at all has none. */
static bool has_never_run(const struct watch *w, const struct unit_properties *p)
{
	if (p->main_code == CLD_EXITED && p->main_status >= EXIT_SYSTEMD)
		return true;
	return !p->main_code && (w->job_result[0] || str_equal(p->active, "failed"));
}

static void judge_start(struct watch *w, const struct unit_properties *p)
{
	char why[120];

	if (p->main_code)
		(void)snprintf(why, sizeof(why), "its program was not executed (status %d); the journal tells more",
			       p->main_status);
	else
		(void)snprintf(why, sizeof(why), "start job %s, result %s", w->job_result[0] ? w->job_result : "unknown",
			       p->result);
	fail_start(w, why);
}

static bool has_ended(const struct unit_properties *p)
{
	if (str_equal(p->active, "failed"))
		return true;
	return p->main_code > 0 && (str_equal(p->sub, "exited") || str_equal(p->active, "inactive"));
}

static void judge(struct watch *w, const struct unit_properties *p)
{
	if (str_equal(p->load, "loaded")) {
		w->seen = true;
		/* While our start job is there the unit may look failed before the job says so. */
		if (w->request || w->start_job)
			return;
		if (has_never_run(w, p))
			judge_start(w, p);
		else if (has_ended(p))
			end(w, EXECUTOR_ENDED, p);
		return;
	}
	if (w->request || w->start_job)
		return;
	if (!w->seen) {
		end(w, EXECUTOR_NOT_FOUND, NULL);
		return;
	}
	if (w->job_result[0]) {
		fail_start(w, w->job_result);
		return;
	}
	(void)snprintf(w->detail, sizeof(w->detail), "%s was stopped and removed by somebody else", w->unit);
	end(w, EXECUTOR_ENDED, NULL);
}

/* ---- watching ---- */

static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct watch *w = userdata;
	struct unit_properties p;

	(void)error;
	w->query = sd_bus_slot_unref(w->query);
	if (w->job->ended)
		return 0;
	if (sd_bus_message_is_method_error(m, NULL) || bus_read_unit(m, &p) < 0) {
		loop_timer_after(w->retry, RETRY_USEC);
		return 0;
	}
	if (w->asked_again) {
		w->asked_again = false;
		query(w);
		return 0;
	}
	judge(w, &p);
	return 0;
}

static void query(struct watch *w)
{
	if (w->query) {
		w->asked_again = true;
		return;
	}
	if (bus_unit_get_all(w->job->executor->bus, w->unit, on_properties, w, &w->query) < 0)
		loop_timer_after(w->retry, RETRY_USEC);
}

static void on_retry(void *userdata)
{
	query(userdata);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct watch *w = userdata;

	(void)m;
	(void)error;
	if (!w->job->ended)
		query(w);
	return 0;
}

static int add_match(struct watch *w)
{
	struct bus *b = w->job->executor->bus;
	_cleanup_free_ char *path = NULL;
	int r;

	w->match = sd_bus_slot_unref(w->match);
	if (!bus_sd(b))
		return -ENOTCONN;
	r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", w->unit, &path);
	if (r < 0)
		return r;
	/* Asynchronous, and in order: what is asked after it is answered after it is in force. */
	return sd_bus_match_signal_async(bus_sd(b), &w->match, bus_destination(b), path,
					 "org.freedesktop.DBus.Properties", "PropertiesChanged", on_changed, NULL, w);
}

static int watch_new(struct executor_job *job, struct watch **ret)
{
	struct watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->job = job;
	job->backend = w;
	(void)snprintf(w->unit, sizeof(w->unit), UNIT_PREFIX "%s.service", job->id);
	r = loop_timer_new(job->executor->loop, "unit-retry", on_retry, w, &w->retry);
	if (r >= 0)
		r = loop_timer_new(job->executor->loop, "unit-send", on_send_later, w, &w->send_later);
	if (r >= 0)
		r = add_match(w);
	*ret = w;
	return r < 0 ? r : 0;
}

static void units_forget(struct executor_job *job)
{
	struct watch *w = job->backend;

	if (!w)
		return;
	sd_bus_slot_unref(w->match);
	sd_bus_slot_unref(w->query);
	sd_bus_slot_unref(w->start);
	sd_bus_message_unref(w->request);
	loop_timer_free(w->retry);
	loop_timer_free(w->send_later);
	free(w->start_job);
	free(w);
	job->backend = NULL;
}

/* ---- starting ---- */

static int append_list(sd_bus_message *m, const char *name, char *const *list)
{
	int r = sd_bus_message_open_container(m, 'r', "sv");

	if (r >= 0)
		r = sd_bus_message_append(m, "s", name);
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'v', "as");
	if (r >= 0)
		r = sd_bus_message_append_strv(m, (char **)(uintptr_t)list);
	if (r >= 0)
		r = sd_bus_message_close_container(m);
	return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_environment(sd_bus_message *m)
{
	_cleanup_(strv_freep) char **list = executor_environment(NULL);

	return list ? append_list(m, "Environment", list) : -ENOMEM;
}

static int append_writable(sd_bus_message *m, const char *const *writable)
{
	static const char *const none[] = { NULL };

	return append_list(m, "ReadWritePaths", (char *const *)(uintptr_t)(writable ? writable : none));
}

#define APPEND(...) (r = r < 0 ? r : sd_bus_message_append(m, __VA_ARGS__))

static int append_confinement(sd_bus_message *m, const struct executor_request *req)
{
	int r = 0;

	APPEND("(sv)", "CapabilityBoundingSet", "t", req->capabilities);
	APPEND("(sv)", "NoNewPrivileges", "b", 1);
	APPEND("(sv)", "ProtectSystem", "s", "strict");
	APPEND("(sv)", "PrivateTmp", "b", 1);
	APPEND("(sv)", "PrivateDevices", "b", 1);
	APPEND("(sv)", "ProtectKernelTunables", "b", 1);
	APPEND("(sv)", "ProtectKernelModules", "b", 1);
	APPEND("(sv)", "ProtectControlGroups", "b", 1);
	APPEND("(sv)", "RestrictSUIDSGID", "b", 1);
	APPEND("(sv)", "LockPersonality", "b", 1);
	return r < 0 ? r : append_writable(m, req->writable);
}

static int append_properties(sd_bus_message *m, const struct executor *e, const char *id,
			     const struct executor_request *req)
{
	int r = 0;

	APPEND("(sv)", "Description", "s", req->description);
	APPEND("(sv)", "Type", "s", "exec");
	/* Both ends stay readable by name until we release them; without it a success is gone at once. */
	APPEND("(sv)", "RemainAfterExit", "b", 1);
	APPEND("(sv)", "Slice", "s", SLICE);
	/* At shutdown jobs are stopped before the daemon, which can still record what came of them. */
	APPEND("(sv)", "After", "as", 1, "evenkeel.service");
	APPEND("(sv)", "KillMode", "s", req->leave_survivors ? "process" : "control-group");
	APPEND("(sv)", "TimeoutStopUSec", "t", (uint64_t)STOP_TIMEOUT);
	/* The runner tells whose child ran out of memory; it is not to be killed for it. */
	APPEND("(sv)", "OOMPolicy", "s", "continue");
	APPEND("(sv)", "StandardInput", "s", "null");
	APPEND("(sv)", "StandardOutput", "s", "journal");
	APPEND("(sv)", "StandardError", "s", "journal");
	APPEND("(sv)", "SyslogIdentifier", "s", "evenkeel-job");
	APPEND("(sv)", "ExecStart", "a(sasb)", 1, e->binary, 3, e->binary, "run", id, 0);
	if (req->memory_max_bytes)
		APPEND("(sv)", "MemoryMax", "t", req->memory_max_bytes);
	if (req->cpu_percent)
		APPEND("(sv)", "CPUQuotaPerSecUSec", "t", req->cpu_percent * (USEC_PER_SEC / 100));
	if (req->bind.from)
		APPEND("(sv)", "BindReadOnlyPaths", "a(ssbt)", 1, req->bind.from, req->bind.to, 0, (uint64_t)0);
	r = r < 0 ? r : append_environment(m);
	return r < 0 || !req->confined ? r : append_confinement(m, req);
}
#undef APPEND

static void check_start(struct watch *w)
{
	const char *result = bus_job_result(w->job->executor->bus, w->start_job);

	if (!result)
		return;
	free(TAKE_PTR(w->start_job));
	if (!str_equal(result, "done"))
		(void)snprintf(w->job_result, sizeof(w->job_result), "%s", result);
	if (w->job->stopping)
		units_kill(w->job, w->kill_all);
	query(w);
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct watch *w = userdata;
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
				units_kill(w->job, w->kill_all);
			query(w);
			return 0;
		}
		fail_start(w, e->message ? e->message : e->name);
		return 0;
	}
	if (sd_bus_message_read(m, "o", &path) < 0 || str_set(&w->start_job, path) < 0) {
		query(w);
		return 0;
	}
	check_start(w);
	return 0;
}

/* A message is sent once, so each try is a copy. */
static int send_start(struct watch *w)
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
	struct watch *w = userdata;

	if (send_start(w) >= 0)
		return;
	w->request = sd_bus_message_unref(w->request);
	fail_start(w, "the connection to systemd is lost");
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
	struct watch *w;
	int r = watch_new(job, &w);

	if (r >= 0)
		r = bus_manager_call(e->bus, "StartTransientUnit", &m);
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", w->unit, "fail");
	if (r >= 0)
		r = sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = append_properties(m, e, job->id, req);
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
	struct watch *w;
	int r = watch_new(job, &w);

	if (r < 0)
		return error_errno(err, r, "systemd cannot be asked");
	query(w);
	return 0;
}

static void units_kill(struct executor_job *job, bool all)
{
	struct watch *w = job->backend;

	if (w->request || w->start_job) { /* there is no process yet: the end of the start job sends it */
		w->kill_all = w->kill_all || all;
		return;
	}
	bus_manager_tell(job->executor->bus, "KillUnit", "ssi", w->unit, all ? "all" : "main",
			 (int32_t)(all ? SIGKILL : SIGTERM));
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
		struct watch *w = job->backend;

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
		struct watch *w = job->backend;

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
		struct watch *w = job->backend;

		if (job->ended || !w)
			continue;
		w->query = sd_bus_slot_unref(w->query);
		w->start = sd_bus_slot_unref(w->start);
		w->request = sd_bus_message_unref(w->request);
		loop_timer_stop(w->send_later);
		free(TAKE_PTR(w->start_job));
		(void)add_match(w);
		if (job->stopping)
			units_kill(job, w->kill_all);
		query(w);
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

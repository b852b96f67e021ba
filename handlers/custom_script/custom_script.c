/*
 * Custom scripts: carries out the script plan, one job after the other. What has begun stands in the record before it
 * begins, so that after a kill, a restart or a boot the plan goes on where it was and nothing runs twice.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/custom_script/script_private.h"

#define TICK_USEC	(5 * USEC_PER_SEC)
#define WAIT_POLL_USEC	USEC_PER_SEC
#define CANCEL_GRACE	(10 * USEC_PER_SEC)
#define REBOOT_AGAIN	(60 * USEC_PER_SEC)
/* A script that somebody else stopped was perhaps stopped by a shutdown, after which onReboot decides. */
#define SHUTDOWN_USEC	(120 * USEC_PER_SEC)
#define RECORD_NAME	"custom-script"

static void advance(struct handler *h);

/* ---- the record ---- */

static int save(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct script_run *runs = h->memory.runs.items;
	int r = jd_encode(&script_memory_type, &h->memory, false, &text);

	if (r == -EFBIG) {
		/* Outputs are for people; what has run is for the machine. */
		for (size_t i = 0; i < h->memory.runs.n; i++)
			if (str_set(&runs[i].output, NULL) < 0)
				return error_oom(err);
		buf_reset(&text);
		r = jd_encode(&script_memory_type, &h->memory, false, &text);
	}
	if (r < 0)
		return error_errno(err, r, "cannot make the record of the scripts");
	r = record_save(h->record, text.data, text.len, err);
	if (r > 0)
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER),
			"the record of the scripts is kept below %s only; after a reboot they would run again", h->host->paths->run);
	return r < 0 ? r : 0;
}

/* Where nothing more can be done than to go on. */
static void save_or_log(struct handler *h)
{
	struct error e = ERROR_INIT;

	if (save(h, &e) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "%s", e.msg);
}

static int load(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = record_load(h->record, &text, NULL, &e);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = jd_decode_document(buf_str(&text), text.len, "record of the scripts", LIMIT_RECORD, &script_memory_type,
				       &h->memory, &e);
	if (r == -EBADMSG || r == -EINVAL) {
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER),
			"%s; what has run before is not known any more, the scripts of these settings run anew", e.msg);
		return 0;
	}
	if (r < 0 && err)
		*err = e;
	return r;
}

/* ---- lives ---- */

static void live_free(struct script_live *l)
{
	jobs_handle_free(l->handle);
	jd_free(&job_result_type, &l->result);
	free(l->progress);
	free(l->name);
	free(l->job);
	free(l);
}

static void sweep(struct handler *h)
{
	for (struct script_live **p = &h->lives; *p;) {
		struct script_live *l = *p;

		if (l->over) {
			*p = l->next;
			live_free(l);
		} else {
			p = &l->next;
		}
	}
}

static struct script_live *find_live(const struct handler *h, const char *name)
{
	for (struct script_live *l = h->lives; l; l = l->next)
		if (!l->over && str_equal(l->name, name))
			return l;
	return NULL;
}

static struct script_live *live_new(struct handler *h, const char *name, const char *job)
{
	struct script_live *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	*l = (struct script_live){ .handler = h, .next = h->lives, .name = strdup(name), .job = strdup(job),
				   .since_boot = loop_now_boot(h->host->loop) };
	if (!l->name || !l->job) {
		live_free(l);
		return NULL;
	}
	h->lives = l;
	if (loop_timer_due(h->tick) == USEC_INFINITY)
		loop_timer_after(h->tick, TICK_USEC);
	return l;
}

static const struct script_settings *find_script(const struct handler *h, const char *name)
{
	const struct script_settings *s = h->section ? h->section->scripts.items : NULL;

	for (size_t i = 0; s && i < h->section->scripts.n; i++)
		if (str_equal(s[i].name, name))
			return &s[i];
	return NULL;
}

/* ---- results ---- */

static const char *const next_words[] = {
	[SCRIPT_ENDED_WELL] = "ended well", [SCRIPT_ENDED_BADLY] = "failed", [SCRIPT_TRY_AGAIN] = "failed and is tried again",
	[SCRIPT_BEGIN_AGAIN] = "begins again", [SCRIPT_REBOOT] = "asks for a reboot",
};

static void apply_next(struct handler *h, const struct script_settings *s, struct script_run *run, enum script_next next)
{
	switch (next) {
	case SCRIPT_ENDED_WELL:
		run->state = SCRIPT_DONE;
		break;
	case SCRIPT_ENDED_BADLY:
		run->state = SCRIPT_FAILED;
		break;
	case SCRIPT_TRY_AGAIN:
		run->state = SCRIPT_PENDING;
		h->try_at = usec_add(loop_now_boot(h->host->loop), usec_from_seconds((uint64_t)s->retry.delay_seconds));
		break;
	case SCRIPT_BEGIN_AGAIN:
		run->state = SCRIPT_PENDING;
		run->attempts = 0;
		break;
	case SCRIPT_REBOOT:
		run->state = SCRIPT_DONE;
		h->memory.reboots++;
		if (str_set(&h->memory.reboot_boot_id, h->host->boot_id) < 0)
			run->state = SCRIPT_FAILED;
		break;
	}
}

static void judge(struct script_live *l, const struct job_result *r)
{
	struct handler *h = l->handler;
	struct script_run *run = script_memory_find(&h->memory, l->name);
	const struct script_settings *s;
	enum script_next next;

	l->over = true;
	if (!run || run->state != SCRIPT_RUNNING || !str_equal(run->job, l->job))
		return;
	/* Of a former number the result is kept, but nothing follows from it. */
	s = str_equal(run->key, h->key) ? find_script(h, l->name) : NULL;
	next = script_after(s, run, r, l->attached, h->memory.reboots, h->host->boot_id);
	if (script_report_result(run, s, r, next, h->host->boot_id) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER, .job = l->job), "out of memory: the result of %s is not told", l->name);
	apply_next(h, s, run, next);
	log_for(next == SCRIPT_ENDED_BADLY || next == SCRIPT_TRY_AGAIN ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
		(.handler = SCRIPT_HANDLER, .job = l->job, .sequence = run->sequence, .milestone = true), "script %s %s: %s", l->name,
		next_words[next], run->message ? run->message : "");
	save_or_log(h);
	jobs_forget(h->host->jobs, l->job, false);
	script_job_prune(h, l->name, h->section ? h->section->keep_runs : 1, NULL);
}

static void on_done(const struct job_result *r, void *userdata)
{
	struct script_live *l = userdata;
	struct handler *h = l->handler;
	const struct script_run *run = script_memory_find(&h->memory, l->name);

	if (r->end == JOB_STOPPED && !l->cancelled && run && str_equal(run->boot_id, h->host->boot_id)) {
		/* Nothing is recorded until it is clear that the machine goes on. */
		struct job_result told = { .format = r->format, .end = r->end, .code = r->code, .duration_msec = r->duration_msec };

		l->result = told;
		if (str_set(&l->result.stdout_tail, r->stdout_tail) < 0 || str_set(&l->result.stderr_tail, r->stderr_tail) < 0)
			log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "out of memory: the output of %s is not told", l->name);
		l->judge_at = usec_add(loop_now_boot(h->host->loop), SHUTDOWN_USEC);
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER, .job = l->job), "script %s was stopped from outside", l->name);
		return;
	}
	judge(l, r);
	h->host->changed(h->host);
	advance(h);
}

static void on_tick(void *userdata)
{
	struct handler *h = userdata;
	bool judged = false, any = false;

	for (struct script_live *l = h->lives; l; l = l->next) {
		if (l->over)
			continue;
		if (l->judge_at && loop_now_boot(h->host->loop) >= l->judge_at) {
			judge(l, &l->result);
			judged = true;
			continue;
		}
		any = true;
		script_report_progress(h, l);
	}
	if (any || h->phase == SCRIPTS_WAITING || h->phase == SCRIPTS_DELAYED)
		loop_timer_after(h->tick, TICK_USEC);
	h->host->changed(h->host);
	if (judged)
		advance(h);
}

/* ---- beginning ---- */

static void fail(struct handler *h, struct script_run *run, enum script_state state, int code, const char *message)
{
	run->state = (int)state;
	run->code = code;
	if (str_set(&run->message, message) < 0 || str_set(&run->output, NULL) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "out of memory: %s", message);
	if (state == SCRIPT_FAILED)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER, .sequence = h->sequence, .milestone = true), "script %s failed: %s",
			run->name, message);
	h->host->changed(h->host);
}

/* Everything of the run but its job. */
static struct script_run *prepare_run(struct handler *h, size_t i)
{
	const struct script_settings *s = (const struct script_settings *)h->section->scripts.items + i;
	struct script_run *run = script_memory_get(&h->memory, s->name);
	bool again = run && run->state == SCRIPT_PENDING && str_equal(run->key, h->key);

	if (!run || str_set(&run->key, h->key) < 0 || str_set(&run->sequence, h->sequence) < 0 ||
	    str_set(&run->content, h->content[i]) < 0 || str_set(&run->boot_id, h->host->boot_id) < 0)
		return NULL;
	run->asynchronous = s->asynchronous;
	if (!again)
		run->attempts = 0;
	return run;
}

static int start_job(struct handler *h, const struct script_settings *s, const char *id, struct error *err)
{
	struct job_secrets secrets = { 0 };
	struct job job = { 0 };
	struct script_live *l;
	int r = script_job_make(h, s, id, &job, &secrets, err);
	const struct jobs_request request = { .job = &job,
					      .secrets = &secrets,
					      .memory_max_bytes = (uint64_t)s->limits.memory_bytes,
					      .cpu_percent = (uint64_t)s->limits.cpu_percent };

	if (r < 0)
		return r;
	l = live_new(h, s->name, id);
	r = l ? jobs_start(h->host->jobs, &request, on_done, l, &l->handle, err) : error_oom(err);
	if (l && r < 0)
		l->over = true;
	jd_free(&job_secrets_type, &secrets);
	jd_free(&job_type, &job);
	if (r >= 0)
		script_report_progress(h, l);
	return r;
}

/* The record says "running" before anything runs: whatever happens next, it is not begun a second time unseen. */
static int begin(struct handler *h, struct script_run *run, const struct script_settings *s, struct error *err)
{
	_cleanup_free_ char *id = script_job_id(s->name, h->memory.jobs + 1);
	int r;

	if (!id || str_set(&run->job, id) < 0)
		return error_oom(err);
	h->memory.jobs++;
	run->attempts++;
	run->state = SCRIPT_RUNNING;
	r = save(h, err);
	if (r < 0)
		return error_wrap(err, r, "not run, because that could not be recorded");
	log_for(LOG_LEVEL_INFO, (.handler = SCRIPT_HANDLER, .job = id, .sequence = h->sequence, .milestone = true),
		"script %s begins, try %" PRId64, s->name, run->attempts);
	return start_job(h, s, id, err);
}

static void run_script(struct handler *h, size_t i)
{
	const struct script_settings *s = (const struct script_settings *)h->section->scripts.items + i;
	struct script_run *run = prepare_run(h, i);
	struct error e = ERROR_INIT;
	int r;

	if (!run) {
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "out of memory: script %s is not run", s->name);
		return;
	}
	if (!s->asynchronous && loop_now_boot(h->host->loop) >= h->deadline) {
		fail(h, run, SCRIPT_FAILED, CODE_TIMEOUT, "not begun: deadlineInSeconds of customScript has passed");
	} else if (script_job_possible(s, &e) < 0) {
		fail(h, run, SCRIPT_FAILED, e.code == -EINVAL ? CODE_BAD_URI : CODE_BAD_CONFIGURATION, e.msg);
	} else {
		r = begin(h, run, s, &e);
		if (r >= 0) {
			h->host->changed(h->host);
			return;
		}
		fail(h, run, SCRIPT_FAILED, r == -EINVAL ? CODE_BAD_URI : CODE_INTERNAL, e.msg);
	}
	save_or_log(h);
}

/* ---- the plan, carried out: looks at everything anew each time, so that it can be called at any moment ---- */

static int attach_run(struct handler *h, const struct script_run *run)
{
	struct script_live *l = live_new(h, run->name, run->job ? run->job : "");
	struct error e = ERROR_INIT;
	int r;

	if (!l)
		return -ENOMEM;
	l->attached = true;
	r = jobs_attach(h->host->jobs, l->job, on_done, l, &l->handle, &e);
	if (r < 0) {
		l->over = true;
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER, .job = l->job), "%s", e.msg);
	}
	return r;
}

/* Runs of the record that nobody watches yet: after a restart, also those of a former number. */
static void attach_all(struct handler *h)
{
	struct script_run *runs = h->memory.runs.items;
	const struct job_result gone = { .end = JOB_INTERRUPTED,
					 .code = CODE_INTERRUPTED,
					 .message = (char[]){ "interrupted: its job cannot be found any more" } };

	for (size_t i = 0; i < h->memory.runs.n; i++) {
		if (runs[i].state != SCRIPT_RUNNING || find_live(h, runs[i].name))
			continue;
		if (attach_run(h, &runs[i]) < 0) {
			if (script_report_result(&runs[i], NULL, &gone, SCRIPT_ENDED_BADLY, h->host->boot_id) < 0)
				return;
			runs[i].state = SCRIPT_FAILED;
			save_or_log(h);
		}
	}
}

/* Whether something of a former number must end first; the asynchronous ones only when they are due again. */
static bool former_runs(struct handler *h)
{
	bool any = false;

	for (struct script_live *l = h->lives; l; l = l->next) {
		const struct script_run *run = script_memory_find(&h->memory, l->name);

		if (l->over || !run || str_equal(run->key, h->key) || (run->asynchronous && !find_script(h, l->name)))
			continue;
		any = true;
		if (h->section->when_busy == WHEN_BUSY_CANCEL && !l->cancelled) {
			l->cancelled = true;
			log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER, .job = l->job),
				"script %s of sequence %s is stopped: sequence %s has come", l->name, run->sequence ? run->sequence : "?",
				h->sequence);
			if (l->judge_at)
				l->judge_at = 1;
			jobs_stop(l->handle, CANCEL_GRACE);
		}
	}
	return any;
}

static void not_run(struct handler *h, size_t i, const char *why)
{
	struct script_run *run = prepare_run(h, i);

	if (run) {
		fail(h, run, SCRIPT_NOT_RUN, CODE_EXECUTION_UNKNOWN, why);
		save_or_log(h);
	}
}

/* 0: met; 1: not yet; -ETIME: it did not come. */
static int wait_for(struct handler *h)
{
	usec_t now = loop_now_boot(h->host->loop), most = usec_from_seconds((uint64_t)h->section->wait_timeout_seconds);

	if (h->waited)
		return 0;
	h->waiting_for = script_wait_unmet(h->host, h->section);
	if (!h->waiting_for) {
		h->waited = true;
		h->wait_since = 0;
		return 0;
	}
	if (!h->wait_since) {
		h->wait_since = now;
		loop_timer_after(h->tick, TICK_USEC);
		h->host->changed(h->host);
	}
	if (usec_sub(now, h->wait_since) >= most || now >= h->deadline)
		return -ETIME;
	loop_timer_after(h->timer, WAIT_POLL_USEC);
	return 1;
}

/* The first script that is due tells why, the others follow as after any failure. */
static void give_up_waiting(struct handler *h, size_t i)
{
	struct script_run *run = prepare_run(h, i);
	char text[200], span[TIMEFMT_MAX];

	timefmt_span(usec_sub(loop_now_boot(h->host->loop), h->wait_since), span);
	(void)snprintf(text, sizeof(text), "nothing was run: waited %s for %s", span, h->waiting_for);
	if (run) {
		fail(h, run, SCRIPT_FAILED, CODE_TIMEOUT, text);
		save_or_log(h);
	}
}

static void on_reboot_result(const struct job_result *r, void *userdata)
{
	struct handler *h = userdata;

	if (r->end != JOB_SUCCEEDED)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "the machine could not be rebooted: %s; it is tried again",
			r->message ? r->message : "");
	jobs_forget(h->host->jobs, r->id ? r->id : "", true);
	jobs_handle_free(h->reboot);
	h->reboot = NULL;
	loop_timer_after(h->timer, REBOOT_AGAIN);
}

/* True while a reboot that a script has asked for is still to come. */
static bool rebooting(struct handler *h)
{
	char *argv[] = { (char[]){ "systemctl" }, (char[]){ "reboot" } };
	_cleanup_free_ char *id = NULL;
	struct error e = ERROR_INIT;
	struct job job;
	const struct jobs_request request = { .job = &job };

	if (!h->memory.reboot_boot_id)
		return false;
	if (!str_equal(h->memory.reboot_boot_id, h->host->boot_id)) {
		free(h->memory.reboot_boot_id);
		h->memory.reboot_boot_id = NULL;
		save_or_log(h);
		return false;
	}
	if (h->reboot || loop_timer_due(h->timer) != USEC_INFINITY)
		return true;
	/* Where no manager answers this is a container, a test or a rehearsal: the machine is not ours to reboot. */
	if (!h->host->bus) {
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "a script asked for a reboot, but no systemd manager answers");
		loop_timer_after(h->timer, REBOOT_AGAIN);
		return true;
	}
	id = script_job_id("reboot", ++h->memory.jobs);
	job_init(&job);
	job.id = id;
	job.handler = (char[]){ SCRIPT_HANDLER };
	job.title = (char[]){ "reboot" };
	job.kind = JOB_COMMAND;
	job.argv = (struct jd_list){ argv, ARRAY_SIZE(argv) };
	log_for(LOG_LEVEL_INFO, (.handler = SCRIPT_HANDLER, .sequence = h->sequence, .milestone = true),
		"rebooting: a script asked for it");
	if (!id || jobs_start(h->host->jobs, &request, on_reboot_result, h, &h->reboot, &e) < 0) {
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "the machine could not be rebooted: %s", e.msg);
		loop_timer_after(h->timer, REBOOT_AGAIN);
	}
	return true;
}

/* What to do about script i. False: nothing further until something has happened. */
static bool look_at(struct handler *h, size_t i, const char **failed)
{
	const struct script_settings *s = (const struct script_settings *)h->section->scripts.items + i;
	const struct script_run *run = script_memory_find(&h->memory, s->name);
	enum script_action action = script_decide(s, run, h->key, h->content[i], h->host->boot_id);
	char why[160];
	int r;

	if (action == SCRIPT_ATTACH) {
		h->phase = SCRIPTS_RUNNING;
		return s->asynchronous;
	}
	if (action == SCRIPT_RUN && *failed) {
		(void)snprintf(why, sizeof(why), "script %s before it failed", *failed);
		not_run(h, i, why);
		return true;
	}
	if (action == SCRIPT_RUN) {
		if (h->try_at > loop_now_boot(h->host->loop)) {
			h->phase = SCRIPTS_DELAYED;
			loop_timer_at(h->timer, h->try_at);
			return false;
		}
		h->try_at = 0;
		r = wait_for(h);
		if (r > 0) {
			h->phase = SCRIPTS_WAITING;
			return false;
		}
		if (r < 0)
			give_up_waiting(h, i);
		else
			run_script(h, i);
		run = script_memory_find(&h->memory, s->name);
		if (run && run->state == SCRIPT_RUNNING) {
			h->phase = SCRIPTS_RUNNING;
			return s->asynchronous;
		}
	}
	if (run && run->state == SCRIPT_FAILED && !s->continue_on_failure)
		*failed = s->name;
	return true;
}

static void advance(struct handler *h)
{
	const char *failed = NULL;

	sweep(h);
	if (!h->section || h->retired)
		return;
	attach_all(h);
	h->phase = SCRIPTS_BUSY;
	if (former_runs(h))
		return;
	h->phase = SCRIPTS_REBOOTING;
	if (rebooting(h))
		return;
	h->phase = SCRIPTS_OVER;
	for (size_t i = 0; i < h->section->scripts.n; i++)
		if (!look_at(h, i, &failed))
			return;
	sweep(h);
}

static void on_timer(void *userdata)
{
	struct handler *h = userdata;

	advance(h);
	h->host->changed(h->host);
}

/* ---- the handler ---- */

static void free_handler(struct handler *h)
{
	if (!h)
		return;
	while (h->lives) {
		struct script_live *l = h->lives;

		h->lives = l->next;
		live_free(l);
	}
	jobs_handle_free(h->reboot);
	loop_timer_free(h->timer);
	loop_timer_free(h->tick);
	record_close(h->record);
	jd_free(&script_memory_type, &h->memory);
	free(h->content);
	free(h->key);
	free(h->sequence);
	free(h);
}

static int open_handler(struct handler *h, struct error *err)
{
	_cleanup_free_ char *path = path_join(h->host->paths->records, RECORD_NAME);
	_cleanup_free_ char *fallback = path_join(h->host->paths->run, RECORD_NAME);
	int r;

	if (!path || !fallback)
		return error_oom(err);
	r = record_open(path, fallback, LIMIT_RECORD, SCRIPT_RECORD_VERSION, &h->record, err);
	if (r >= 0)
		r = load(h, err);
	if (r < 0)
		return r;
	if (loop_timer_new(h->host->loop, "scripts", on_timer, h, &h->timer) < 0 ||
	    loop_timer_new(h->host->loop, "scripts-progress", on_tick, h, &h->tick) < 0)
		return error_oom(err);
	return 0;
}

static int handler_start(const struct handler_host *host, struct handler **ret, struct error *err)
{
	struct handler *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return error_oom(err);
	h->host = host;
	r = open_handler(h, err);
	if (r < 0) {
		free_handler(h);
		return r;
	}
	*ret = h;
	return 0;
}

static int hash_contents(struct handler *h, const struct settings *settings, struct error *err)
{
	const struct custom_script_settings *section = settings->custom_script;
	const struct script_settings *s = section ? section->scripts.items : NULL;
	int r = 0;

	free(h->content);
	h->content = section ? calloc(section->scripts.n + 1, sizeof(*h->content)) : NULL;
	if (section && !h->content)
		return error_oom(err);
	for (size_t i = 0; r >= 0 && section && i < section->scripts.n; i++)
		r = script_content_hash(settings, &s[i], h->content[i], err);
	return r;
}

/* What runs on in the background and would not be begun again for the new goal state belongs to it from now on. */
static int adopt(struct handler *h, struct error *err)
{
	const struct script_settings *s = h->section->scripts.items;

	for (size_t i = 0; i < h->section->scripts.n; i++) {
		struct script_run *run = script_memory_find(&h->memory, s[i].name);

		if (!run || run->state != SCRIPT_RUNNING || !run->asynchronous || !s[i].asynchronous ||
		    s[i].run_policy != RUN_ONCE_PER_CONTENT || !str_equal(run->content, h->content[i]))
			continue;
		if (str_set(&run->key, h->key) < 0 || str_set(&run->sequence, h->sequence) < 0)
			return error_oom(err);
	}
	return 0;
}

/* A new goal state: a new deadline. After a boot the deadline counts anew, too: nobody knows how long the machine was off. */
static int begin_goal(struct handler *h, bool fresh, struct error *err)
{
	struct script_memory *m = &h->memory;

	if (fresh || !str_equal(m->key, h->key)) {
		if (str_set(&m->key, h->key) < 0 || str_set(&m->reboot_boot_id, NULL) < 0)
			return error_oom(err);
		m->reboots = 0;
		free(m->began_boot_id);
		m->began_boot_id = NULL;
		if (adopt(h, err) < 0)
			return -ENOMEM;
	}
	if (!str_equal(m->began_boot_id, h->host->boot_id)) {
		if (str_set(&m->began_boot_id, h->host->boot_id) < 0)
			return error_oom(err);
		m->began_boot_usec = (int64_t)loop_now_boot(h->host->loop);
		save_or_log(h);
	}
	h->deadline = usec_add((usec_t)m->began_boot_usec, usec_from_seconds((uint64_t)h->section->deadline_seconds));
	return 0;
}

static int handler_apply(struct handler *h, const struct handler_goal *goal, struct error *err)
{
	bool fresh = h->key && !str_equal(h->key, goal->key);
	int r = hash_contents(h, goal->settings, err);

	/* The former settings end with this call, whatever comes of it. */
	h->settings = NULL;
	h->section = NULL;
	if (r < 0)
		return r;
	if (str_set(&h->key, goal->key) < 0 || str_set(&h->sequence, goal->sequence) < 0)
		return error_oom(err);
	h->settings = goal->settings;
	h->section = goal->settings->custom_script;
	if (fresh) {
		h->waited = false;
		h->wait_since = h->try_at = 0;
	}
	loop_timer_stop(h->timer);
	if (h->section)
		r = begin_goal(h, fresh, err);
	else
		attach_all(h);
	if (r < 0)
		return r;
	script_memory_prune(&h->memory, h->section);
	advance(h);
	h->host->changed(h->host);
	return 0;
}

static int handler_report(struct handler *h, handler_report_fn add, void *userdata)
{
	return script_report_all(h, add, userdata);
}

/* Asynchronous scripts need nobody. */
static bool handler_busy(const struct handler *h)
{
	for (const struct script_live *l = h->lives; l; l = l->next) {
		const struct script_run *run = script_memory_find(&h->memory, l->name);

		if (!l->over && run && !run->asynchronous)
			return true;
	}
	return h->section && !h->retired &&
	       (h->phase == SCRIPTS_WAITING || h->phase == SCRIPTS_DELAYED || h->phase == SCRIPTS_REBOOTING ||
		h->phase == SCRIPTS_BUSY);
}

/* What runs, runs on to its end; nothing more is begun. */
static void handler_retire(struct handler *h)
{
	h->retired = true;
	loop_timer_stop(h->timer);
}

const struct handler_class custom_script_class = {
	.name = SCRIPT_HANDLER,
	.section = SECTION_CUSTOM_SCRIPT,
	.start = handler_start,
	.apply = handler_apply,
	.report = handler_report,
	.busy = handler_busy,
	.retire = handler_retire,
	.free = free_handler,
};

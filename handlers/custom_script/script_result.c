/* What follows from how a job ended, and when that is judged. */
#include <inttypes.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/metrics.h"
#include "agent/io/loop.h"
#include "handlers/custom_script/script_private.h"

/* A script that somebody else stopped was perhaps stopped by a shutdown, after which onReboot decides. */
#define SHUTDOWN_USEC (120 * USEC_PER_SEC)

const struct script_settings *script_find(const struct handler *h, const char *name)
{
	const struct script_settings *s = h->section ? h->section->scripts.items : NULL;

	for (size_t i = 0; s && i < h->section->scripts.n; i++)
		if (str_equal(s[i].name, name))
			return &s[i];
	return NULL;
}

static const char *const next_words[] = {
	[SCRIPT_ENDED_WELL] = "ended well", [SCRIPT_ENDED_BADLY] = "failed", [SCRIPT_TRY_AGAIN] = "failed and is tried again",
	[SCRIPT_BEGIN_AGAIN] = "begins again", [SCRIPT_REBOOT] = "asks for a reboot",
};

static usec_t try_at(const struct handler *h, const struct script_settings *s)
{
	return usec_add(loop_now_boot(h->host->loop), usec_from_seconds((uint64_t)s->retry.delay_seconds));
}

/* The deadline would have passed before the next try: then this one's result is what there is to tell. */
static bool too_late(const struct handler *h, const struct script_settings *s)
{
	return !s->asynchronous && try_at(h, s) >= h->deadline;
}

static void say_too_late(struct script_run *run)
{
	char *text = str_format("%s; no time is left for another try", run->message ? run->message : "");

	if (!text)
		return;
	free(run->message);
	run->message = text;
}

static void apply_next(struct handler *h, const struct script_settings *s, struct script_run *run, enum script_next next,
		       const struct job_result *r)
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
		run->try_at = try_at(h, s);
		break;
	case SCRIPT_BEGIN_AGAIN:
		run->state = SCRIPT_PENDING;
		run->attempts = 0;
		run->reruns += script_interrupted(run, r, h->host->boot_id);
		break;
	case SCRIPT_REBOOT:
		run->state = SCRIPT_DONE;
		h->memory.reboots++;
		if (str_set(&h->memory.reboot_boot_id, h->host->boot_id) < 0)
			run->state = SCRIPT_FAILED;
		break;
	}
}

/* The log, who is to be told, and who counts. */
static void tell(const struct handler *h, const struct script_live *l, const struct script_run *run, enum script_next next,
		 const struct job_result *r)
{
	static const char *const results[] = {
		[SCRIPT_ENDED_WELL] = "succeeded",	[SCRIPT_ENDED_BADLY] = "failed", [SCRIPT_TRY_AGAIN] = "failed",
		[SCRIPT_BEGIN_AGAIN] = "interrupted",	[SCRIPT_REBOOT] = "succeeded",
	};
	_cleanup_free_ char *text =
		str_format("script %s %s: %s", l->name, next_words[next], run->message ? run->message : "");

	metrics_count(h->host->metrics, METRIC_SCRIPT_RUNS, l->name, results[next]);
	metrics_observe(h->host->metrics, METRIC_SCRIPT_SECONDS, (double)r->duration_msec / 1000, l->name);
	if (!text)
		return;
	log_for(next == SCRIPT_ENDED_BADLY || next == SCRIPT_TRY_AGAIN ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
		(.handler = SCRIPT_HANDLER, .job = l->job, .sequence = run->sequence, .milestone = true), "%s", text);
	h->host->tell(h->host, NOTICE_SCRIPT, l->name, NULL, text);
}

static void judge(struct script_live *l, const struct job_result *r)
{
	struct handler *h = l->handler;
	struct script_run *run = script_memory_find(&h->memory, l->name);
	const struct script_settings *s;
	enum script_next next;
	bool late;

	l->over = true;
	if (!run || run->state != SCRIPT_RUNNING || !str_equal(run->job, l->job))
		return;
	/* Of a former number the result is kept, but nothing follows from it. */
	s = str_equal(run->key, h->key) ? script_find(h, l->name) : NULL;
	next = script_after(s, run, r, l->attached, h->memory.reboots, h->host->boot_id);
	late = s && next == SCRIPT_TRY_AGAIN && too_late(h, s);
	next = late ? SCRIPT_ENDED_BADLY : next;
	if (script_report_result(h, run, s, r, next) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER, .job = l->job), "out of memory: the result of %s is not told", l->name);
	if (late)
		say_too_late(run);
	apply_next(h, s, run, next, r);
	tell(h, l, run, next, r);
	script_record_save_or_log(h);
	jobs_keep_result(h->host->jobs, l->job, r);
	jobs_forget(h->host->jobs, l->job, false);
	script_prune_soon(h);
}

/* While it shuts down systemd stops what runs, and begins nothing any more. */
static bool may_be_shutdown(const struct script_live *l, const struct job_result *r)
{
	if (l->cancelled)
		return false;
	return r->end == JOB_STOPPED || (r->end == JOB_NOT_STARTED && !r->started_at && !l->attached && l->handler->host->bus);
}

void script_on_done(const struct job_result *r, void *userdata)
{
	struct script_live *l = userdata;
	struct handler *h = l->handler;
	const struct script_run *run = script_memory_find(&h->memory, l->name);

	if (may_be_shutdown(l, r) && run && str_equal(run->boot_id, h->host->boot_id)) {
		/* Nothing is recorded until it is clear that the machine goes on. */
		struct job_result told = { .format = r->format, .end = r->end, .code = r->code, .duration_msec = r->duration_msec,
					   .survivors = r->survivors };

		l->result = told;
		if (str_set(&l->result.stdout_tail, r->stdout_tail) < 0 || str_set(&l->result.stderr_tail, r->stderr_tail) < 0 ||
		    str_set(&l->result.message, r->message) < 0)
			log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "out of memory: the output of %s is not told", l->name);
		l->judge_at = usec_add(loop_now_boot(h->host->loop), SHUTDOWN_USEC);
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER, .job = l->job), "script %s %s", l->name,
			r->end == JOB_STOPPED ? "was stopped from outside" : r->message ? r->message : "could not be started");
		script_report_progress(h, l);
		h->host->changed(h->host);
		return;
	}
	judge(l, r);
	h->host->changed(h->host);
	script_advance(h);
}

void script_on_tick(void *userdata)
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
		script_advance(h);
}

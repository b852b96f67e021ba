/* Jobs that may be alive: of these settings, and what a former number or an earlier process has left running. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "handlers/custom_script/script_private.h"

#define CANCEL_GRACE (10 * USEC_PER_SEC)

void script_live_free(struct script_live *l)
{
	jobs_handle_free(l->handle);
	jd_free(&job_result_type, &l->result);
	free(l->progress);
	free(l->name);
	free(l->job);
	free(l);
}

void script_lives_sweep(struct handler *h)
{
	for (struct script_live **p = &h->lives; *p;) {
		struct script_live *l = *p;

		if (l->over) {
			*p = l->next;
			script_live_free(l);
		} else {
			p = &l->next;
		}
	}
}

struct script_live *script_lives_find(const struct handler *h, const char *name)
{
	for (struct script_live *l = h->lives; l; l = l->next)
		if (!l->over && str_equal(l->name, name))
			return l;
	return NULL;
}

struct script_live *script_live_new(struct handler *h, const char *name, const char *job)
{
	struct script_live *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	*l = (struct script_live){ .handler = h, .next = h->lives, .name = strdup(name), .job = strdup(job),
				   .since_boot = loop_now_boot(h->host->loop) };
	if (!l->name || !l->job) {
		script_live_free(l);
		return NULL;
	}
	h->lives = l;
	if (loop_timer_due(h->tick) == USEC_INFINITY)
		loop_timer_after(h->tick, TICK_USEC);
	return l;
}

static int attach_run(struct handler *h, const struct script_run *run)
{
	struct script_live *l = script_live_new(h, run->name, run->job ? run->job : "");
	struct error e = ERROR_INIT;
	int r;

	if (!l)
		return -ENOMEM;
	l->attached = true;
	r = jobs_attach(h->host->jobs, l->job, script_on_done, l, &l->handle, &e);
	if (r < 0) {
		l->over = true;
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER, .job = l->job), "the run of script %s cannot be found again: %s", l->name,
			e.msg);
	}
	return r;
}

void script_lives_attach(struct handler *h)
{
	struct script_run *runs = h->memory.runs.items;
	const struct job_result gone = { .end = JOB_INTERRUPTED,
					 .code = CODE_INTERRUPTED,
					 .message = (char[]){ "interrupted: its job cannot be found any more" } };

	for (size_t i = 0; i < h->memory.runs.n; i++) {
		if (runs[i].state != SCRIPT_RUNNING || script_lives_find(h, runs[i].name))
			continue;
		if (attach_run(h, &runs[i]) < 0) {
			if (script_report_result(h, &runs[i], NULL, &gone, SCRIPT_ENDED_BADLY) < 0)
				return;
			runs[i].state = SCRIPT_FAILED;
			script_record_save_or_log(h);
		}
	}
}

bool script_lives_former(struct handler *h)
{
	bool any = false;

	for (struct script_live *l = h->lives; l; l = l->next) {
		const struct script_run *run = script_memory_find(&h->memory, l->name);

		if (l->over || !run || str_equal(run->key, h->key) || (run->asynchronous && !script_find(h, l->name)))
			continue;
		any = true;
		if (h->section->when_busy == WHEN_BUSY_CANCEL && !l->cancelled) {
			l->cancelled = true;
			log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER, .job = l->job),
				"script %s of sequence %s is stopped: sequence %s has come", l->name, run->sequence ? run->sequence : "?",
				h->sequence);
			if (l->judge_at) {
				l->judge_at = 1;
				loop_timer_after(h->tick, 0);
			}
			jobs_stop(l->handle, CANCEL_GRACE);
		}
	}
	return any;
}

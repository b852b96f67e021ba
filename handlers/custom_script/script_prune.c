/*
 * What is kept of runs that are over: looked at on start and after each run, in a moment of its own, since no result has to
 * wait for it. What is to go is removed by a job: it may be another user's, and much.
 */
#include <inttypes.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/custom_script/script_private.h"
#include "handlers/custom_script/script_runs.h"

#define PRUNE_USEC   USEC_PER_SEC
#define DEFAULT_RUNS 5 /* settings.md 1.2 "keepRuns", for what is run by hand where there is no section */

static bool in_use(const struct handler *h, const struct script_kept *k)
{
	const struct script_run *run = script_memory_find(&h->memory, k->name);

	for (const struct script_live *l = h->lives; l; l = l->next)
		if (!l->over && str_equal(l->job, k->id))
			return true;
	if (script_memory_by_hand(&h->memory, k->id))
		return true;
	return run && run->state == SCRIPT_RUNNING && str_equal(run->job, k->id);
}

static void on_forgotten(const struct job_result *r, void *userdata)
{
	struct handler *h = userdata;
	char phrase[128];

	if (r->end != JOB_SUCCEEDED)
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER, .job = h->forget_id), "old runs could not be removed: %s",
			job_result_why(r, phrase));
	/* What it has left itself is small, and the service's own. */
	jobs_forget(h->host->jobs, h->forget_id, true);
	jobs_handle_free(h->forget);
	h->forget = NULL;
}

/* The files borrow the names. */
static int start(struct handler *h, struct job_file *files, size_t n, struct error *err)
{
	const char *const writable[] = { h->host->paths->jobs, h->host->paths->run_jobs, NULL };
	struct job job;
	const struct jobs_request request = { .job = &job,
					      .confined = true,
					      .capabilities = (1ULL << CAP_DAC_OVERRIDE) | (1ULL << CAP_FOWNER),
					      .writable = writable };
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = time_wall();
	free(h->forget_id);
	h->forget_id = str_format(SCRIPT_FORGET_PREFIX "%016" PRIx64, random);
	if (!h->forget_id)
		return error_oom(err);
	job_init(&job);
	job.id = h->forget_id;
	job.handler = (char[]){ SCRIPT_HANDLER };
	job.title = (char[]){ "old runs" };
	job.kind = JOB_FORGET;
	job.files = (struct jd_list){ files, n };
	return jobs_start(h->host->jobs, &request, on_forgotten, h, &h->forget, err);
}

static void forget(struct handler *h, const struct script_runs *runs)
{
	struct job_file files[JOB_FILES_MAX] = { 0 };
	struct error e = ERROR_INIT;
	size_t n = 0;

	for (size_t i = runs->n; i-- > 0 && n < ARRAY_SIZE(files);)
		if (runs->items[i].remove)
			files[n++].name = runs->items[i].id;
	if (n > 0 && start(h, files, n, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER), "old runs could not be removed: %s", e.msg);
}

void script_prune(void *userdata)
{
	struct handler *h = userdata;
	const struct script_keep_limits limits = { .runs = h->section ? (size_t)h->section->keep_runs : DEFAULT_RUNS,
						   .age = LIMIT_KEPT_RUNS_DAYS * USEC_PER_DAY,
						   .bytes = LIMIT_KEPT_RUNS_BYTES };
	struct script_runs runs = { 0 };
	struct error e = ERROR_INIT;

	loop_timer_stop(h->pruning);
	if (h->retired)
		return;
	if (h->forget) {
		script_prune_soon(h);
		return;
	}
	if (script_runs_read(h->host->paths, h->host->boot_id, &runs, &e) < 0) {
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER), "old runs are not removed: %s", e.msg);
		return;
	}
	for (size_t i = 0; i < runs.n; i++) {
		runs.items[i].in_use = in_use(h, &runs.items[i]);
		runs.items[i].wanted = !runs.items[i].by_hand && script_find(h, runs.items[i].name);
	}
	script_keep_plan(runs.items, runs.n, &limits, loop_now_wall(h->host->loop));
	forget(h, &runs);
	script_runs_done(&runs);
}

void script_prune_soon(struct handler *h)
{
	loop_timer_after(h->pruning, PRUNE_USEC);
}

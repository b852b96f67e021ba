/* What is kept of runs that are over: looked at after each run and on start, in a moment of its own, since reading and
 * removing take time that a result has to wait for nowhere. */
#include <stdlib.h>

#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
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

void script_prune(struct handler *h)
{
	const struct script_keep_limits limits = { .runs = h->section ? (size_t)h->section->keep_runs : DEFAULT_RUNS,
						   .age = LIMIT_KEPT_RUNS_DAYS * USEC_PER_DAY,
						   .bytes = LIMIT_KEPT_RUNS_BYTES };
	struct script_runs runs = { 0 };
	struct error e = ERROR_INIT;

	loop_timer_stop(h->pruning);
	if (script_runs_read(h->host->paths, h->host->boot_id, &runs, &e) < 0) {
		log_for(LOG_LEVEL_WARNING, (.handler = SCRIPT_HANDLER), "old runs are not removed: %s", e.msg);
		return;
	}
	for (size_t i = 0; i < runs.n; i++) {
		runs.items[i].in_use = in_use(h, &runs.items[i]);
		runs.items[i].wanted = !runs.items[i].by_hand && script_find(h, runs.items[i].name);
	}
	script_keep_plan(runs.items, runs.n, &limits, loop_now_wall(h->host->loop));
	for (size_t i = 0; i < runs.n; i++)
		if (runs.items[i].remove) {
			log_for(LOG_LEVEL_DEBUG, (.handler = SCRIPT_HANDLER, .job = runs.items[i].id), "an old run of %s is removed",
				runs.items[i].name);
			jobs_forget(h->host->jobs, runs.items[i].id, true);
		}
	script_runs_done(&runs);
}

void script_prune_soon(struct handler *h)
{
	loop_timer_after(h->pruning, PRUNE_USEC);
}

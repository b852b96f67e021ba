/* Runs the parts of a revision, one after the other, each a job, and judges how each has ended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "handlers/user_data/userdata_private.h"

#define BUSY_USEC (10 * USEC_PER_SEC) /* too many jobs at once, or systemd begins none */
/* A shutdown takes less time. A part that fails before one is over would not be run after the boot either. */
#define REFUSALS_MAX 12

static void say_result(struct userdata_run *run, const struct job_result *r)
{
	char span[TIMEFMT_MAX], phrase[128];
	_cleanup_free_ char *text = NULL;

	timefmt_span((usec_t)(r->duration_msec > 0 ? r->duration_msec : 0) * USEC_PER_MSEC, span);
	if (r->end == JOB_NOT_STARTED || r->end == JOB_INTERRUPTED)
		text = str_format("%.300s", r->message ? r->message : "not started");
	else if (r->end == JOB_SUCCEEDED)
		text = str_format("exit code 0 after %s%s", span,
				  r->survivors > 0 ? "; it has left processes running" : "");
	else
		text = str_format("%s after %s", job_result_phrase(r, phrase), span);
	run->code = r->end == JOB_SUCCEEDED ? CODE_NONE : r->code ? r->code : CODE_EXECUTION_UNKNOWN;
	free(run->message);
	run->message = TAKE_PTR(text);
}

static struct userdata_run *running_part(const struct userdata_revision *r, size_t *ret_index)
{
	struct userdata_run *runs = r->runs.items;

	for (size_t i = 0; i < r->runs.n; i++)
		if (runs[i].state == USERDATA_RUN_RUNNING) {
			*ret_index = i;
			return &runs[i];
		}
	return NULL;
}

static void try_after(struct handler *h, usec_t span)
{
	h->try_at = usec_add(loop_now_boot(h->host->loop), span);
	h->progress.phase = USERDATA_DELAYED;
	h->progress.next_boot = h->try_at;
}

static void judge(struct handler *h, struct userdata_revision *r, struct userdata_run *run, size_t i,
		  const struct job_result *result)
{
	bool patient = h->host->bus && h->refusals < REFUSALS_MAX;
	enum userdata_after after = userdata_after(h->section, run, result, h->attached, patient);

	if (h->cancelling && after != USERDATA_ENDED_WELL)
		after = USERDATA_ENDED_BADLY;
	h->refusals = after == USERDATA_BEGIN_AGAIN && !h->attached ? h->refusals + 1 : 0;
	say_result(run, result);
	switch (after) {
	case USERDATA_ENDED_WELL:
		run->state = USERDATA_RUN_DONE;
		break;
	case USERDATA_ENDED_BADLY:
		run->state = USERDATA_RUN_FAILED;
		break;
	case USERDATA_BEGIN_AGAIN:
		run->state = USERDATA_RUN_PENDING;
		run->attempts--;
		if (h->refusals)
			try_after(h, BUSY_USEC);
		break;
	case USERDATA_TRY_AGAIN:
		run->state = USERDATA_RUN_PENDING;
		try_after(h, usec_from_seconds((uint64_t)h->section->retry.delay_seconds));
		break;
	}
	log_for(after == USERDATA_ENDED_WELL ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING,
		(.handler = HANDLER, .job = run->job), "revision %.*s, part %zu (%s): %s%s", USERDATA_REVISION_CHARS,
		r->sha256, i + 1, run->name, run->message ? run->message : "",
		after == USERDATA_TRY_AGAIN || h->refusals ? "; it is tried again" : "");
	userdata_save_or_log(h);
}

static void on_done(const struct job_result *result, void *userdata)
{
	struct handler *h = userdata;
	struct userdata_revision *r = userdata_memory_running(&h->memory);
	size_t i = 0;
	struct userdata_run *run = r ? running_part(r, &i) : NULL;

	jobs_handle_free(TAKE_PTR(h->job));
	if (run) {
		jobs_forget(h->host->jobs, run->job ? run->job : "", false);
		judge(h, r, run, i, result);
	}
	h->attached = false;
	h->host->changed(h->host);
	userdata_apply_soon(h);
}

static void attach(struct handler *h, struct userdata_revision *r, struct userdata_run *run, size_t i)
{
	struct job_result gone = { .end = JOB_INTERRUPTED,
				   .code = CODE_INTERRUPTED,
				   .message = (char[]){ "interrupted: its job cannot be found any more" } };
	struct error e = ERROR_INIT;

	h->attached = true;
	if (jobs_attach(h->host->jobs, run->job ? run->job : "", on_done, h, &h->job, &e) >= 0)
		return;
	log_for(LOG_LEVEL_ERROR, (.handler = HANDLER, .job = run->job), "part %s cannot be found again: %s", run->name, e.msg);
	judge(h, r, run, i, &gone);
	h->attached = false;
	userdata_apply_soon(h);
}

static void start(struct handler *h, struct userdata_revision *r, struct userdata_run *run, size_t i)
{
	struct error e = ERROR_INIT;
	int k;

	h->attached = false;
	h->progress.phase = USERDATA_APPLYING;
	k = userdata_part_start(h, r, i, on_done, &e);
	if (k == -EBUSY) {
		run->state = USERDATA_RUN_PENDING;
		run->attempts--;
		h->try_at = usec_add(loop_now_boot(h->host->loop), BUSY_USEC);
		userdata_apply_soon(h);
	} else if (k < 0) {
		struct job_result not_run = { .end = JOB_NOT_STARTED, .code = CODE_INTERNAL, .message = e.msg };

		judge(h, r, run, i, &not_run);
		userdata_apply_soon(h);
	} else {
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER, .job = run->job), "revision %.*s, part %zu (%s) begins",
			USERDATA_REVISION_CHARS, r->sha256, i + 1, run->name);
	}
	h->host->changed(h->host);
}

/* A part that has not begun needs consent that stands: why it has none any more, or NULL. */
static const char *withdrawn(const struct handler *h, const struct userdata_revision *r, size_t i)
{
	const struct userdata_item *items = h->parts.items.items;
	const char *why = NULL;

	if (h->section->action != USERDATA_APPLY && !r->ordered)
		return "userData.action is not \"apply\" any more";
	return i < h->parts.items.n && !userdata_part_due(&items[i], h->section, false, &why) ? why : NULL;
}

static void skip(struct handler *h, const struct userdata_revision *r, struct userdata_run *run, size_t i, const char *why)
{
	/* What was tried already has failed. */
	run->state = run->attempts ? USERDATA_RUN_FAILED : USERDATA_RUN_SKIPPED;
	if (!run->attempts && str_set(&run->message, why) < 0)
		run->message = NULL;
	log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "revision %.*s, part %zu (%s) is not run: %s", USERDATA_REVISION_CHARS,
		r->sha256, i + 1, run->name, why);
	userdata_save_or_log(h);
}

bool userdata_next_part(struct handler *h, struct userdata_revision *r)
{
	struct userdata_run *runs = r->runs.items;

	for (size_t i = 0; i < r->runs.n; i++) {
		const char *why;

		if (runs[i].state == USERDATA_RUN_RUNNING) {
			attach(h, r, &runs[i], i);
			return true;
		}
		if (runs[i].state != USERDATA_RUN_PENDING)
			continue;
		why = withdrawn(h, r, i);
		if (why) {
			skip(h, r, &runs[i], i, why);
			continue;
		}
		if (handler_paused(h->host) && !r->ordered) {
			h->progress.phase = USERDATA_PAUSED;
			h->host->changed(h->host);
			return true;
		}
		if (h->try_at > loop_now_boot(h->host->loop)) {
			loop_timer_at(h->apply_timer, h->try_at);
			return true;
		}
		start(h, r, &runs[i], i);
		return true;
	}
	return false;
}

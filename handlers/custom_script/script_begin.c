/* Beginning a script: recorded first, then its job; or saying why it is not begun. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/custom_script/script_private.h"

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
	run->try_at = 0;
	run->fleeting = false;
	if (!again)
		run->attempts = run->reruns = 0;
	return run;
}

static int start_job(struct handler *h, const struct script_settings *s, const struct script_run *run, const char *id, struct error *err)
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
	job.attempt = run->attempts;
	if (str_set(&job.sequence, h->sequence) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = SCRIPT_HANDLER), "out of memory: job %s does not say its sequence", id);
	l = script_live_new(h, s->name, id);
	r = l ? jobs_start(h->host->jobs, &request, script_on_done, l, &l->handle, err) : error_oom(err);
	if (l && r < 0)
		l->over = true;
	jd_free(&job_secrets_type, &secrets);
	jd_free(&job_type, &job);
	if (r >= 0)
		script_report_progress(h, l);
	return r;
}

/* Of what no disk holds a reboot leaves nothing; it has not run the less for that. */
static void note_place(struct handler *h, struct script_run *run)
{
	_cleanup_free_ char *directory = path_of_job(h->host->paths, run->job);

	if (!directory || !str_starts(directory, h->host->paths->run_jobs))
		return;
	run->fleeting = true;
	script_record_save_or_log(h);
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
	r = script_record_save(h, err);
	if (r < 0) {
		(void)error_wrap(err, r, "not run, because that could not be recorded");
	} else {
		log_for(LOG_LEVEL_INFO, (.handler = SCRIPT_HANDLER, .job = id, .sequence = h->sequence, .milestone = true),
			"script %s begins, try %" PRId64, s->name, run->attempts);
		r = start_job(h, s, run, id, err);
	}
	if (r >= 0)
		note_place(h, run);
	run->attempts -= r < 0;
	return r;
}

void script_begin(struct handler *h, size_t i)
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
	} else if ((r = script_allow(h, s, &e)) < 0) {
		fail(h, run, SCRIPT_FAILED, r == -EKEYREJECTED ? CODE_POLICY_REFUSED : CODE_POLICY_BROKEN, e.msg);
	} else {
		r = begin(h, run, s, &e);
		if (r >= 0) {
			h->host->changed(h->host);
			return;
		}
		fail(h, run, SCRIPT_FAILED, r == -EINVAL ? CODE_BAD_URI : CODE_INTERNAL, e.msg);
	}
	script_record_save_or_log(h);
}

void script_not_run(struct handler *h, size_t i, const char *why)
{
	struct script_run *run = prepare_run(h, i);

	if (run) {
		fail(h, run, SCRIPT_NOT_RUN, CODE_EXECUTION_UNKNOWN, why);
		script_record_save_or_log(h);
	}
}

void script_give_up_waiting(struct handler *h, size_t i)
{
	struct script_run *run = prepare_run(h, i);
	char text[200], span[TIMEFMT_MAX];

	timefmt_span(usec_sub(loop_now_boot(h->host->loop), h->wait_since), span);
	(void)snprintf(text, sizeof(text), "nothing was run: waited %s for %s", span, h->waiting_for);
	if (run) {
		fail(h, run, SCRIPT_FAILED, CODE_TIMEOUT, text);
		script_record_save_or_log(h);
	}
}

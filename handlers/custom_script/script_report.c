/* What is told of scripts: results as sentences, progress, and components for the status. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "handlers/custom_script/script_private.h"

/* Both tails together. All scripts share what the file of the status has room for; each has at least what stays, with
 * heads and first line, within LIMIT_STATUS_MESSAGE. */
#define OUTPUT_ALL   (32 * 1024)
#define OUTPUT_LEAST 3600
#define STDOUT_HEAD  "\n[stdout]\n"
#define STDERR_HEAD  "\n[stderr]\n"
#define SENTENCE_MAX 400 /* a longer one, up to twice that, takes its room from the tails */
#define LIVE_MAX     600 /* of each stream while it runs */
#define NAME_MAX_LENGTH 96

/* ---- results ---- */

/* What one stream does not need, the other may have. */
static char *both_tails(const char *out, size_t n_out, const char *err, size_t n_err, size_t max, int64_t *ret_stderr_at)
{
	size_t half = max / 2;
	size_t take_out = n_out, take_err = n_err, from_out, from_err;

	if (n_out + n_err > max) {
		take_err = n_out < half ? max - n_out : n_err < half ? n_err : half;
		take_out = max - take_err < n_out ? max - take_err : n_out;
	}
	from_out = n_out ? utf8_tail(out, n_out, take_out) : 0;
	from_err = n_err ? utf8_tail(err, n_err, take_err) : 0;
	*ret_stderr_at = (int64_t)(strlen(STDOUT_HEAD) + n_out - from_out);
	return str_format(STDOUT_HEAD "%.*s" STDERR_HEAD "%.*s", (int)(n_out - from_out), n_out ? out + from_out : "",
			  (int)(n_err - from_err), n_err ? err + from_err : "");
}

/* Of each stream what it may have at most when they are told a second time. NULL on out of memory. */
static char *shorter_output(const struct script_run *run)
{
	const char *output = run->output ? run->output : "";
	size_t len = strlen(output), out = strlen(STDOUT_HEAD), at = (size_t)run->stderr_at, err = at + strlen(STDERR_HEAD);
	int64_t ignored;

	if (run->stderr_at <= 0 || at < out || err > len)
		return strdup(output);
	return both_tails(output + out, at - out, output + err, len - err, OUTPUT_LEAST, &ignored);
}

static void say_end(const struct script_settings *s, const struct job_result *r, enum script_next next, bool rebooted,
		    bool interrupted, const char *span, struct buf *out)
{
	char phrase[128];

	if (interrupted)
		(void)buf_printf(out, "interrupted by a reboot after %s", span);
	else if (r->end == JOB_TIMED_OUT)
		(void)buf_printf(out, "timed out after %s and was ended with all it had started", span);
	else if (r->end == JOB_STOPPED)
		(void)buf_printf(out, "stopped after %s", span);
	else if (r->end == JOB_NOT_STARTED || r->end == JOB_INTERRUPTED)
		(void)buf_printf(out, "%s", r->message ? r->message : "not started");
	else
		(void)buf_printf(out, "%s after %s", job_result_phrase(r, phrase), span);
	if (next == SCRIPT_REBOOT)
		(void)buf_puts(out, "; it asks for a reboot");
	else if (s && s->reboot_exit_code && r->end == JOB_EXITED && r->exit_code == s->reboot_exit_code && rebooted)
		(void)buf_puts(out, "; the reboot that it asks for has been");
	else if (s && s->reboot_exit_code && r->end == JOB_EXITED && r->exit_code == s->reboot_exit_code)
		(void)buf_printf(out, "; it asks for a reboot once more, after %d", SCRIPT_REBOOTS_MAX);
	if (!str_empty(r->notice))
		(void)buf_printf(out, "; %s", r->notice);
	if (r->survivors > 0)
		(void)buf_printf(out, "; %" PRId64 " process%s left running", r->survivors, r->survivors == 1 ? "" : "es");
}

/* What the runner has kept of each stream is no more than tailInBytes. */
static size_t output_most(const struct handler *h, const struct script_settings *s)
{
	size_t most = s ? OUTPUT_ALL / h->section->scripts.n : OUTPUT_LEAST;

	return most < OUTPUT_LEAST ? OUTPUT_LEAST : most;
}

int script_report_result(const struct handler *h, struct script_run *run, const struct script_settings *s,
			 const struct job_result *r, enum script_next next)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);
	_cleanup_free_ char *output = NULL;
	char span[TIMEFMT_MAX];
	size_t len, most;

	timefmt_span((usec_t)(r->duration_msec > 0 ? r->duration_msec : 0) * USEC_PER_MSEC, span);
	say_end(s, r, next, !str_equal(run->boot_id, h->host->boot_id), script_interrupted(run, r, h->host->boot_id), span, &text);
	if (s && !h->host->bus && (s->limits.memory_bytes || s->limits.cpu_percent))
		(void)buf_puts(&text, "; it ran without its limits of memory and processor time, since no systemd manager answers");
	if (buf_ok(&text) < 0 || str_set(&run->message, buf_str(&text)) < 0)
		return -ENOMEM;
	len = utf8_cut(run->message, strlen(run->message), 2 * SENTENCE_MAX);
	run->message[len] = '\0';
	most = output_most(h, s);
	output = both_tails(r->stdout_tail, r->stdout_tail ? strlen(r->stdout_tail) : 0, r->stderr_tail,
			    r->stderr_tail ? strlen(r->stderr_tail) : 0, len > SENTENCE_MAX ? most + SENTENCE_MAX - len : most,
			    &run->stderr_at);
	if (!output)
		return -ENOMEM;
	run->code = next == SCRIPT_ENDED_WELL || next == SCRIPT_REBOOT ? CODE_NONE : r->code ? r->code : CODE_EXECUTION_UNKNOWN;
	free(run->output);
	run->output = TAKE_PTR(output);
	return 0;
}

/* ---- progress ---- */

static void elapsed(const struct handler *h, usec_t since, char out[static TIMEFMT_MAX])
{
	timefmt_span(usec_sub(loop_now_boot(h->host->loop), since), out);
}

void script_report_progress(struct handler *h, struct script_live *live)
{
	const struct script_run *run = script_memory_find(&h->memory, live->name);
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE), out = BUF_INIT(4 * LIVE_MAX),
				 err = BUF_INIT(4 * LIVE_MAX);
	_cleanup_free_ char *tails = NULL;
	char span[TIMEFMT_MAX];
	int64_t ignored;

	elapsed(h, live->since_boot, span);
	if (live->judge_at)
		(void)buf_printf(&text, "%s; if the machine is not shut down now, it has failed",
				 live->result.end == JOB_NOT_STARTED && live->result.message ? live->result.message : "stopped from outside");
	else
		(void)buf_printf(&text, "running for %s", span);
	if (run && run->attempts > 1)
		(void)buf_printf(&text, ", try %" PRId64, run->attempts);
	if (jobs_tail(h->host->jobs, live->job, false, LIVE_MAX, &out) >= 0 &&
	    jobs_tail(h->host->jobs, live->job, true, LIVE_MAX, &err) >= 0 && (out.len || err.len)) {
		tails = both_tails(buf_str(&out), out.len, buf_str(&err), err.len, 2 * LIVE_MAX, &ignored);
		(void)buf_puts(&text, tails ? tails : "");
	}
	if (buf_ok(&text) == 0 && str_set(&live->progress, buf_str(&text)) < 0)
		live->progress = NULL;
}

/* ---- components ---- */

struct told {
	struct component c;
	char name[NAME_MAX_LENGTH];
	struct buf message, headline;
};

static void say_busy(const struct handler *h, struct buf *out)
{
	for (const struct script_live *l = h->lives; l; l = l->next) {
		const struct script_run *run = script_memory_find(&h->memory, l->name);
		char span[TIMEFMT_MAX];

		if (l->over || !run || str_equal(run->key, h->key) || (run->asynchronous && !script_find(h, l->name)))
			continue;
		elapsed(h, l->since_boot, span);
		(void)buf_printf(out, "waiting for %s of sequence %s, running %s", l->name, run->sequence ? run->sequence : "?",
				 span);
		return;
	}
	(void)buf_puts(out, "waiting for scripts of a former sequence");
}

void script_report_waiting(const struct handler *h, const struct script_run *run, struct buf *out)
{
	char span[TIMEFMT_MAX];

	if (h->phase == SCRIPTS_BUSY || h->phase == SCRIPTS_LATE) {
		say_busy(h, out);
	} else if (h->phase == SCRIPTS_PAUSED) {
		(void)buf_puts(out, "paused; begins when the pause ends");
	} else if (h->phase == SCRIPTS_WAITING) {
		elapsed(h, h->wait_since, span);
		(void)buf_printf(out, "waiting for %s for %s", h->waiting_for, span);
	} else if (h->phase == SCRIPTS_REBOOTING) {
		(void)buf_printf(out, "waiting for the reboot that an earlier script asked for%s",
				 handler_paused(h->host) ? ", which waits for the pause to end" : "");
	} else if (script_delayed(h, run)) {
		timefmt_span(usec_sub(run->try_at, loop_now_boot(h->host->loop)), span);
		(void)buf_printf(out, "try %" PRId64 ": %s; tried again in %s", run->attempts, run->message ? run->message : "failed",
				 span);
	} else {
		(void)buf_puts(out, "waiting for its turn");
	}
}

/* Nobody waits for this deployment any longer. */
static void tell_late(const struct handler *h, const struct script_settings *s, struct told *t)
{
	t->c.level = STATUS_ERROR;
	t->c.duty = s->treat_failure_as_deployment_failure ? DUTY_FAILED : DUTY_DONE;
	t->c.code = CODE_TIMEOUT;
	(void)buf_puts(&t->message, "not begun before deadlineInSeconds of customScript had passed: ");
	say_busy(h, &t->message);
}

static void tell_pending(const struct handler *h, const struct script_settings *s, const struct script_run *run, struct told *t)
{
	if (h->phase == SCRIPTS_LATE) {
		tell_late(h, s, t);
		return;
	}
	t->c.level = STATUS_TRANSITIONING;
	/* The duty of one in the background is to have been started. */
	t->c.duty = s->asynchronous && script_delayed(h, run) ? DUTY_DONE : DUTY_OPEN;
	script_report_waiting(h, run, &t->message);
}

static void tell_running(const struct handler *h, const struct script_settings *s, const struct script_run *run,
			 struct told *t)
{
	const struct script_live *live = script_lives_find(h, run->name);
	bool ours = str_equal(run->key, h->key);

	if (!ours && h->phase == SCRIPTS_LATE) {
		tell_late(h, s, t);
		return;
	}
	t->c.level = s->asynchronous && ours ? STATUS_SUCCESS : STATUS_TRANSITIONING;
	t->c.duty = s->asynchronous && ours ? DUTY_DONE : DUTY_OPEN;
	if (!ours)
		say_busy(h, &t->message);
	else
		(void)buf_printf(&t->message, "%s%s", s->asynchronous ? "started; " : "",
				 live && live->progress ? live->progress : "running");
}

/* Of one script alone the top message tells all that there is. */
static void tell_output(const struct handler *h, const struct script_run *run, struct told *t)
{
	_cleanup_free_ char *less = NULL;

	t->c.has_output = true;
	if (!run->output)
		return;
	if (h->section->scripts.n == 1)
		less = shorter_output(run);
	(void)buf_puts(&t->message, less ? less : run->output);
}

static void tell_done(const struct handler *h, const struct script_run *run, bool skipped, struct told *t)
{
	t->c.level = STATUS_SUCCESS;
	t->c.duty = DUTY_DONE;
	(void)buf_printf(&t->message, "%s%s", skipped ? "not run again, its content is the same: " : "",
			 run->message ? run->message : "done");
	tell_output(h, run, t);
	/* What tools that read the result of Custom Script look for. */
	if (h->section->scripts.n == 1)
		(void)buf_printf(&t->headline, "Enable succeeded: %s", run->output ? run->output : "\n[stdout]\n\n[stderr]\n");
}

static void tell_failed(const struct handler *h, const struct script_settings *s, const struct script_run *run, struct told *t)
{
	int64_t status;
	const char *output = run->output ? run->output : "";

	t->c.level = STATUS_ERROR;
	/* One in the background has done its duty once it has been started. */
	t->c.duty = s->treat_failure_as_deployment_failure && (!s->asynchronous || !run->attempts) ? DUTY_FAILED : DUTY_DONE;
	t->c.code = (int)run->code;
	(void)buf_puts(&t->message, run->message ? run->message : "failed");
	tell_output(h, run, t);
	if (t->c.duty != DUTY_FAILED)
		return;
	if (h->settings->drop_in_script && run->message && sscanf(run->message, "exit code %" SCNd64, &status) == 1)
		(void)buf_printf(&t->headline,
				 "Enable failed: failed to execute command: command terminated with exit status=%" PRId64 "%s", status,
				 output);
	else
		(void)buf_printf(&t->headline, "Enable failed: script %s: %s%s", s->name, run->message ? run->message : "failed", output);
}

/* The one that failed before it has said why; this one only counts where that one was allowed to fail. */
static void tell_not_run(const struct handler *h, const struct script_settings *s, const struct script_run *run, struct told *t)
{
	const struct script_settings *all = h->section->scripts.items;
	bool told = false;

	for (const struct script_settings *before = all; before < s; before++) {
		const struct script_run *b = script_memory_find(&h->memory, before->name);

		told = told || (b && b->state == SCRIPT_FAILED && before->treat_failure_as_deployment_failure);
	}
	t->c.level = STATUS_ERROR;
	t->c.duty = !s->treat_failure_as_deployment_failure ? DUTY_DONE : told ? DUTY_NONE : DUTY_FAILED;
	t->c.code = CODE_EXECUTION_UNKNOWN;
	(void)buf_printf(&t->message, "not run: %s", run->message ? run->message : "an earlier script failed");
}

static void tell(const struct handler *h, size_t i, struct told *t)
{
	const struct script_settings *s = (const struct script_settings *)h->section->scripts.items + i;
	const struct script_run *run = script_memory_find(&h->memory, s->name);
	enum script_action action = script_decide(s, run, h->key, h->content[i], h->host->boot_id);

	if (action == SCRIPT_RUN)
		tell_pending(h, s, run, t);
	else if (action == SCRIPT_ATTACH)
		tell_running(h, s, run, t);
	else if (run->state == SCRIPT_DONE)
		tell_done(h, run, action == SCRIPT_SKIP, t);
	else if (run->state == SCRIPT_FAILED)
		tell_failed(h, s, run, t);
	else
		tell_not_run(h, s, run, t);
}

static int add_told(struct told *t, const char *name, handler_report_fn add, void *userdata)
{
	int r;

	(void)snprintf(t->name, sizeof(t->name), SCRIPT_HANDLER "/%s", name);
	t->c.name = t->name;
	t->c.message = buf_str(&t->message);
	t->c.headline = t->headline.len ? t->headline.data : NULL;
	r = buf_ok(&t->message) < 0 || buf_ok(&t->headline) < 0 ? -ENOMEM : add(userdata, &t->c);
	buf_done(&t->message);
	buf_done(&t->headline);
	return r;
}

/* Scripts that nobody asks for any more, but that still run. */
static int report_left(struct handler *h, handler_report_fn add, void *userdata)
{
	int r = 0;

	for (const struct script_live *l = h->lives; r >= 0 && l; l = l->next) {
		struct told t = { .message = BUF_INIT(2 * LIMIT_STATUS_OUTPUT), .headline = BUF_INIT(2 * LIMIT_STATUS_OUTPUT) };

		if (l->over)
			continue;
		t.c.level = STATUS_SUCCESS;
		(void)buf_printf(&t.message, "no longer in the settings; %s", l->progress ? l->progress : "still running");
		r = add_told(&t, l->name, add, userdata);
	}
	return r;
}

int script_report_all(struct handler *h, handler_report_fn add, void *userdata)
{
	const struct script_settings *s = h->section ? h->section->scripts.items : NULL;
	int r = 0;

	if (!s)
		return report_left(h, add, userdata);
	for (size_t i = 0; r >= 0 && i < h->section->scripts.n; i++) {
		struct told t = { .message = BUF_INIT(2 * LIMIT_STATUS_OUTPUT), .headline = BUF_INIT(2 * LIMIT_STATUS_OUTPUT) };

		tell(h, i, &t);
		r = add_told(&t, s[i].name, add, userdata);
	}
	return r;
}

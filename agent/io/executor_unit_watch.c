/*
 * A job's transient unit, watched until it ends. How units behave was measured (design: transient units); what matters
 * here: the first signal of a new unit says inactive and success, so a unit has ended only when it failed, or when its
 * main process has ended; a property read of a name that never was answers inactive, too, so LoadState is read first; all
 * properties are read in one call, since one by one they are of different moments. A start job that "failed" says
 * little: a program that ended at once was executed nevertheless, and only its status tells.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/io/executor_units_internal.h"

#define RETRY_USEC   (2 * USEC_PER_SEC)
#define EXIT_SYSTEMD 200 /* from here on the status is systemd's own; the runner has none of these */

static void end(struct unit_watch *w, enum executor_end how, const struct unit_properties *p)
{
	struct executor_outcome o = { .end = how, .detail = w->detail[0] ? w->detail : NULL };

	/* What it left running is not a survivor of a job that had to be stopped. */
	if (w->job->stopping)
		unit_watch_kill(w, true);
	if (p) {
		o.code = p->main_code;
		o.status = p->main_status;
		(void)snprintf(w->result, sizeof(w->result), "%s", p->result);
		o.result = w->result;
	}
	executor_job_end(w->job, &o); /* may free w */
}

void unit_watch_fail_start(struct unit_watch *w, const char *why)
{
	(void)snprintf(w->detail, sizeof(w->detail), "%s could not be started: %s", w->unit, why);
	/* Nothing ran, so there is no result to wait for: the name is given back at once. */
	executor_release(w->job->executor, w->job->id);
	end(w, EXECUTOR_START_FAILED, NULL);
}

/* What stands between fork and exec has codes of its own; no process at all has none. */
static bool has_never_run(const struct unit_watch *w, const struct unit_properties *p)
{
	if (p->main_code == CLD_EXITED && p->main_status >= EXIT_SYSTEMD)
		return true;
	return !p->main_code && (w->job_result[0] || str_equal(p->active, "failed"));
}

static void judge_start(struct unit_watch *w, const struct unit_properties *p)
{
	char why[120];

	if (p->main_code)
		(void)snprintf(why, sizeof(why), "its program was not executed (status %d); the journal tells more",
			       p->main_status);
	else
		(void)snprintf(why, sizeof(why), "start job %s, result %s", w->job_result[0] ? w->job_result : "unknown",
			       p->result);
	unit_watch_fail_start(w, why);
}

static bool has_ended(const struct unit_properties *p)
{
	if (str_equal(p->active, "failed"))
		return true;
	return p->main_code > 0 && (str_equal(p->sub, "exited") || str_equal(p->active, "inactive"));
}

static void judge(struct unit_watch *w, const struct unit_properties *p)
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
		unit_watch_fail_start(w, w->job_result);
		return;
	}
	(void)snprintf(w->detail, sizeof(w->detail), "%s was stopped and removed by somebody else", w->unit);
	end(w, EXECUTOR_ENDED, NULL);
}

static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct unit_watch *w = userdata;
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
		unit_watch_query(w);
		return 0;
	}
	judge(w, &p);
	return 0;
}

void unit_watch_query(struct unit_watch *w)
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
	unit_watch_query(userdata);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct unit_watch *w = userdata;

	(void)m;
	(void)error;
	if (!w->job->ended)
		unit_watch_query(w);
	return 0;
}

int unit_watch_add_match(struct unit_watch *w)
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

int unit_watch_new(struct executor_job *job, void (*send_later)(void *userdata), struct unit_watch **ret)
{
	struct unit_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->job = job;
	job->backend = w;
	(void)snprintf(w->unit, sizeof(w->unit), UNIT_PREFIX "%s.service", job->id);
	r = loop_timer_new(job->executor->loop, "unit-retry", on_retry, w, &w->retry);
	if (r >= 0)
		r = loop_timer_new(job->executor->loop, "unit-send", send_later, w, &w->send_later);
	if (r >= 0)
		r = unit_watch_add_match(w);
	*ret = w;
	return r < 0 ? r : 0;
}

void unit_watch_free(struct unit_watch *w)
{
	if (!w)
		return;
	sd_bus_slot_unref(w->match);
	sd_bus_slot_unref(w->query);
	sd_bus_slot_unref(w->start);
	sd_bus_message_unref(w->request);
	loop_timer_free(w->retry);
	loop_timer_free(w->send_later);
	free(w->start_job);
	w->job->backend = NULL;
	free(w);
}

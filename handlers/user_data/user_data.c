/*
 * User data, watched: asks the metadata service, keeps the last good copy, tells what it is. What an answer means is
 * decided in agent/core/userdata_plan.h. Nothing of the content is ever logged or told, and nothing of it is run.
 *
 * On disk, both below state/: user-data (the bytes, 0600), user-data.record (agent/io/record.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/imds.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/core/userdata_plan.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/common/handler.h"

#define HANDLER "userData"

struct handler {
	const struct handler_host *host;
	struct userdata_settings settings; /* scalars only; the lists belong to the goal state */
	bool present;
	struct userdata_plan plan;
	struct record *record;
	char *copy_path;
	struct imds_call *call;
	struct loop_timer *timer;
};

static struct userdata_clock clock_of(const struct handler *h)
{
	return (struct userdata_clock){ .interval = usec_from_seconds((uint64_t)h->settings.polling_interval_seconds),
					.random = random_jitter(),
					.now_boot = loop_now_boot(h->host->loop),
					.now_wall = loop_now_wall(h->host->loop) };
}

/* ---- keeping ---- */

static void save_record(struct handler *h)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = userdata_record_encode(&h->plan.record, &text);

	if (r < 0)
		(void)error_oom(&e);
	else
		r = record_save(h->record, text.data, text.len, &e);
	if (r < 0)
		h->plan.copy_problem = e;
	else if (r > 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "the record is kept below %s only; a reboot loses it",
			h->host->paths->run);
}

static void keep(struct handler *h, const struct userdata_step *step, const void *data, size_t len)
{
	struct error e = ERROR_INIT;

	if (step->keep_copy || step->save)
		h->plan.copy_problem = ERROR_INIT;
	if (step->keep_copy) {
		if (fs_write(h->copy_path, data, len, 0600, FS_REPLACE, &e) < 0)
			h->plan.copy_problem = e;
		else
			h->plan.copy_due = false;
	}
	if (step->save)
		save_record(h);
}

static void log_change(const struct handler *h, enum userdata_change change)
{
	const struct userdata_record *r = &h->plan.record;

	switch (change) {
	case USERDATA_SAME:
		return;
	case USERDATA_REMOVED:
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER),
			"user data was removed; the copy of revision %.*s is kept", USERDATA_REVISION_CHARS, r->sha256);
		return;
	case USERDATA_FIRST:
	case USERDATA_CHANGED:
	case USERDATA_RETURNED:
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER, .milestone = true),
			"user data %s: revision %.*s, %lld bytes, %s%s",
			change == USERDATA_FIRST     ? "seen"
			: change == USERDATA_CHANGED ? "changed"
						     : "is there again",
			USERDATA_REVISION_CHARS, r->sha256, (long long)r->size, r->form.gzip ? "gzip of " : "",
			userdata_format_phrase(r->form.format));
	}
}

/* ---- looking ---- */

static void failed(struct handler *h, const struct imds_failure *f)
{
	const struct userdata_clock clock = clock_of(h);
	bool first = !h->plan.problem.msg[0];
	struct userdata_step step;

	userdata_failed(&h->plan, f->status, f->retry_after, &f->err, &clock, &step);
	if (first)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "user data cannot be read: %s; it is tried again",
			h->plan.problem.msg);
}

static void answered(struct handler *h, const void *data, size_t len)
{
	const struct userdata_clock clock = clock_of(h);
	struct userdata_step step;
	struct imds_failure f = { .status = 0 };
	bool kept = !h->plan.copy_problem.msg[0];

	if (userdata_answered(&h->plan, data, len, &clock, &step) < 0) {
		(void)error_oom(&f.err);
		failed(h, &f);
		h->host->changed(h->host);
		return;
	}
	if (step.recovered)
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER), "user data can be read again");
	keep(h, &step, data, len);
	log_change(h, step.change);
	if (kept && h->plan.copy_problem.msg[0])
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "user data cannot be kept: %s",
			h->plan.copy_problem.msg);
	if (step.tell || kept == !!h->plan.copy_problem.msg[0])
		h->host->changed(h->host);
}

static void on_answer(const char *body, size_t len, const struct imds_failure *failure, void *userdata)
{
	struct handler *h = userdata;
	/* Freed at the end: what is given here may belong to it. */
	_cleanup_(imds_call_freep) _unused_ struct imds_call *call = TAKE_PTR(h->call);

	if (failure) {
		failed(h, failure);
		h->host->changed(h->host);
	} else {
		answered(h, body, len);
	}
	loop_timer_at(h->timer, h->plan.next_boot);
}

static void on_due(void *userdata)
{
	struct handler *h = userdata;
	struct imds_failure f = { .status = 0 };

	if (h->call)
		return;
	if (imds_get_user_data(h->host->http, on_answer, h, &h->call, &f.err) >= 0)
		return;
	failed(h, &f);
	h->host->changed(h->host);
	loop_timer_at(h->timer, h->plan.next_boot);
}

/* ---- the handler ---- */

static void stop_looking(struct handler *h)
{
	loop_timer_stop(h->timer);
	imds_call_free(TAKE_PTR(h->call));
}

static void handler_free(struct handler *h)
{
	if (!h)
		return;
	imds_call_free(h->call);
	loop_timer_free(h->timer);
	record_close(h->record);
	userdata_plan_done(&h->plan);
	free(h->copy_path);
	free(h);
}
DEFINE_CLEANUP(struct handler *, handler_free)

static int load_record(struct handler *h, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = record_load(h->record, &text, NULL, &e);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = userdata_record_decode(buf_str(&text), text.len, &h->plan.record, &e);
	if (r == -ENOMEM)
		return error_oom(err);
	if (r == -EPROTO) {
		*err = e;
		return r;
	}
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s; what is seen next is taken for new", e.msg);
	return 0;
}

static int load(struct handler *h, struct error *err)
{
	_cleanup_free_ char *record = path_join(h->host->paths->records, "user-data.record");
	_cleanup_free_ char *fallback = path_join(h->host->paths->run, "user-data.record");
	_cleanup_buf_ struct buf copy = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED);
	struct error e = ERROR_INIT;
	int r;

	h->copy_path = path_join(h->host->paths->records, "user-data");
	if (!record || !fallback || !h->copy_path)
		return error_oom(err);
	r = record_open(record, fallback, LIMIT_USER_DATA_RECORD, USERDATA_RECORD_VERSION, &h->record, err);
	if (r >= 0)
		r = load_record(h, err);
	if (r < 0)
		return r;
	r = fs_read_nofollow(h->copy_path, LIMIT_USER_DATA_DECODED, &copy, &e);
	if (r < 0 && r != -ENOENT)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s", e.msg);
	r = userdata_found(&h->plan, r < 0 ? NULL : buf_str(&copy), copy.len, loop_now_wall(h->host->loop));
	return r < 0 ? error_oom(err) : 0;
}

static int user_data_start(const struct handler_host *host, struct handler **ret, struct error *err)
{
	_cleanup_(handler_freep) struct handler *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return error_oom(err);
	h->host = host;
	r = load(h, err);
	if (r < 0)
		return r;
	if (loop_timer_new(host->loop, "user-data", on_due, h, &h->timer) < 0)
		return error_oom(err);
	*ret = TAKE_PTR(h);
	return 0;
}

static int user_data_apply(struct handler *h, const struct handler_goal *goal, struct error *err)
{
	const struct userdata_settings *s = goal->settings->user_data;
	bool watched = h->present && h->settings.source == USERDATA_IMDS;
	int64_t former = h->settings.polling_interval_seconds;

	(void)err;
	h->present = s;
	if (s) {
		h->settings = *s;
		h->settings.parts = h->settings.settings_sections = (struct jd_list){ 0 };
		h->settings.retry.on_exit_codes = (struct jd_list){ 0 };
	}
	if (!s || s->source != USERDATA_IMDS)
		stop_looking(h);
	else if (!watched)
		loop_timer_after(h->timer, 0);
	else if (s->polling_interval_seconds != former && !h->call)
		loop_timer_at(h->timer, usec_min(loop_timer_due(h->timer),
						 usec_add(loop_now_boot(h->host->loop),
							  usec_from_seconds((uint64_t)s->polling_interval_seconds))));
	h->host->changed(h->host);
	return 0;
}

static int user_data_report(struct handler *h, handler_report_fn add, void *userdata)
{
	_cleanup_buf_ struct buf message = BUF_INIT(LIMIT_STATUS_MESSAGE);
	struct component c = { .name = HANDLER, .duty = DUTY_NONE };

	if (!h->present)
		return 0;
	c.level = userdata_describe(&h->plan, &h->settings, loop_now_boot(h->host->loop), loop_now_wall(h->host->loop),
				    &message, &c.code);
	if (buf_ok(&message) < 0)
		return buf_ok(&message);
	c.message = buf_str(&message);
	return add(userdata, &c);
}

static bool user_data_busy(const struct handler *h)
{
	(void)h;
	return false;
}

/* Nothing of ours on the machine but the copy, which goes with the state directory. */
static void user_data_retire(struct handler *h)
{
	stop_looking(h);
}

const struct handler_class user_data_class = {
	.name = HANDLER,
	.section = SECTION_USER_DATA,
	.start = user_data_start,
	.apply = user_data_apply,
	.report = user_data_report,
	.busy = user_data_busy,
	.retire = user_data_retire,
	.free = handler_free,
};

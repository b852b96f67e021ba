/*
 * Watching: asks the metadata service, or reads what provisioning has left, keeps the last good copy, tells what it is. What
 * an answer means is decided in agent/core/userdata_plan.h. Nothing of the content is ever logged or told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/custom_data.h"
#include "agent/azure/imds.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/user_data/userdata_private.h"

static struct userdata_clock clock_of(const struct handler *h)
{
	return (struct userdata_clock){ .interval = usec_from_seconds((uint64_t)h->interval_seconds),
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
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "the record of what user data is there is kept below %s only; a reboot loses it",
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

int userdata_copy(const struct handler *h, struct buf *out, struct error *err)
{
	char digest[SHA256_HEX_MAX];
	int r = fs_read_nofollow(h->copy_path, LIMIT_USER_DATA_DECODED, out, err);

	if (r < 0)
		return r;
	if (sha256_hex(buf_str(out), out->len, digest) < 0)
		return error_oom(err);
	return str_equal(digest, h->plan.record.sha256)
		       ? 0
		       : error_set(err, ERROR_SYSTEM, -EBADMSG, "%s is not what was seen", h->copy_path);
}

static void tell_change(const struct handler *h, enum userdata_change change)
{
	const struct userdata_record *r = &h->plan.record;
	const char *what = h->source == USERDATA_CUSTOM_DATA ? "custom data" : "user data";
	_cleanup_free_ char *text = NULL;

	if (change == USERDATA_SAME)
		return;
	if (change == USERDATA_REMOVED)
		text = str_format("%s was removed; the copy of revision %.*s is kept", what, USERDATA_REVISION_CHARS,
				  r->sha256);
	else
		text = str_format("%s %s: revision %.*s, %lld bytes, %s%s", what,
				  change == USERDATA_FIRST     ? "seen"
				  : change == USERDATA_CHANGED ? "changed"
							       : "is there again",
				  USERDATA_REVISION_CHARS, r->sha256, (long long)r->size,
				  r->form.gzip ? "gzip of " : "", userdata_format_phrase(r->form.format));
	if (!text)
		return;
	log_for(LOG_LEVEL_INFO, (.handler = HANDLER, .milestone = change != USERDATA_REMOVED), "%s", text);
	if (change != USERDATA_FIRST && h->host->tell)
		h->host->tell(h->host, NOTICE_USER_DATA, NULL, NULL, text);
}

/* ---- looking ---- */

static void failed(struct handler *h, int status, usec_t retry_after, const struct error *why)
{
	const struct userdata_clock clock = clock_of(h);
	bool first = !h->plan.problem.msg[0];
	struct userdata_step step;

	userdata_failed(&h->plan, status, retry_after, why, &clock, &step);
	if (first)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "user data cannot be read: %s; it is tried again",
			h->plan.problem.msg);
	h->host->changed(h->host);
}

static void answered(struct handler *h, const void *data, size_t len)
{
	const struct userdata_clock clock = clock_of(h);
	bool kept = !h->plan.copy_problem.msg[0], was_due = h->plan.copy_due;
	struct error e = ERROR_INIT;
	struct userdata_step step;

	if (userdata_answered(&h->plan, data, len, &clock, &step) < 0) {
		(void)error_oom(&e);
		failed(h, 0, 0, &e);
		return;
	}
	if (step.recovered)
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER), "user data can be read again");
	if (len && h->plan.record.source != h->source) {
		h->plan.record.source = h->source;
		step.save = true;
	}
	keep(h, &step, data, len);
	tell_change(h, step.change);
	if (kept && h->plan.copy_problem.msg[0])
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "user data cannot be kept: %s",
			h->plan.copy_problem.msg);
	if (step.tell || kept == !!h->plan.copy_problem.msg[0] || was_due != h->plan.copy_due)
		h->host->changed(h->host);
	/* Also when nothing has changed: something may have been waiting for the copy. */
	if (step.change != USERDATA_SAME || was_due || !(h->memory.looked >> h->source & 1))
		userdata_apply_soon(h);
}

static void on_answer(const char *body, size_t len, const struct imds_failure *failure, void *userdata)
{
	struct handler *h = userdata;
	/* Freed at the end: what is given here may belong to it. */
	_cleanup_(imds_call_freep) _unused_ struct imds_call *call = TAKE_PTR(h->call);

	if (failure)
		failed(h, failure->status, failure->retry_after, &failure->err);
	else
		answered(h, body, len);
	loop_timer_at(h->watch_timer, h->plan.next_boot);
}

static void read_custom_data(struct handler *h)
{
	_cleanup_buf_ struct buf data = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED);
	struct error e = ERROR_INIT;
	int r = custom_data_read(h->host->paths, &data, &e);

	if (r < 0 && r != -ENOENT)
		failed(h, 200, 0, &e);
	else
		answered(h, buf_str(&data), data.len);
	loop_timer_at(h->watch_timer, h->plan.next_boot);
}

static void on_due(void *userdata)
{
	struct handler *h = userdata;
	struct error e = ERROR_INIT;

	if (h->call)
		return;
	if (h->source == USERDATA_CUSTOM_DATA) {
		read_custom_data(h);
		return;
	}
	if (imds_get_user_data(h->host->http, on_answer, h, &h->call, &e) >= 0)
		return;
	failed(h, 0, 0, &e);
	loop_timer_at(h->watch_timer, h->plan.next_boot);
}

void userdata_unwatch(struct handler *h)
{
	loop_timer_stop(h->watch_timer);
	imds_call_free(TAKE_PTR(h->call));
	h->source = -1;
}

/* What was seen, or not seen, of another source says nothing of this one: neither that it is unset nor that it was removed.
 * What has been applied is remembered elsewhere. */
static void begin_source(struct handler *h, int source)
{
	h->plan.unset = false;
	h->plan.empties = 0;
	h->source = source;
	if (!h->plan.record.sha256 || h->plan.record.source == source)
		return;
	userdata_record_done(&h->plan.record);
	h->plan.record = (struct userdata_record){ .source = source };
	h->plan.copy_due = false;
}

void userdata_watch(struct handler *h)
{
	const struct userdata_settings *s = h->section;
	int64_t former = h->interval_seconds;

	if (!s) {
		userdata_unwatch(h);
		return;
	}
	h->interval_seconds = s->polling_interval_seconds;
	if (h->source != s->source) {
		userdata_unwatch(h);
		begin_source(h, s->source);
		loop_timer_after(h->watch_timer, 0);
	} else if (h->interval_seconds != former && !h->call) {
		loop_timer_at(h->watch_timer, usec_min(loop_timer_due(h->watch_timer),
						       usec_add(loop_now_boot(h->host->loop),
								usec_from_seconds((uint64_t)h->interval_seconds))));
	}
}

/* ---- opening and closing ---- */

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

int userdata_watch_open(struct handler *h, struct error *err)
{
	_cleanup_free_ char *record = path_join(h->host->paths->records, "user-data.record");
	_cleanup_free_ char *fallback = path_join(h->host->paths->run, "user-data.record");
	_cleanup_buf_ struct buf copy = BUF_SECRET_INIT(LIMIT_USER_DATA_DECODED);
	struct error e = ERROR_INIT;
	int r;

	h->source = -1;
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
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "the last good copy of user data is lost: %s", e.msg);
	r = userdata_found(&h->plan, r < 0 ? NULL : buf_str(&copy), copy.len, loop_now_wall(h->host->loop));
	if (r >= 0)
		r = loop_timer_new(h->host->loop, "user-data", on_due, h, &h->watch_timer);
	return r < 0 ? error_oom(err) : 0;
}

void userdata_watch_close(struct handler *h)
{
	imds_call_free(h->call);
	loop_timer_free(h->watch_timer);
	record_close(h->record);
	userdata_plan_done(&h->plan);
	free(h->copy_path);
}

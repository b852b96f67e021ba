/* The pause: its file, its end, and who is told. */
#include "agent/app/daemon_pause.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/daemon_private.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/json_record.h"
#include "agent/codec/timefmt.h"
#include "agent/io/loop.h"

#define FILE_NAME "pause.json"
#define FORMAT	 1 /* agent/codec/json_record.h */
#define FILE_MAX  4096

/* What stands in the file. */
struct note {
	char *boot_id, *reason;
	int64_t until_boot_usec, since_wall_usec, until_wall_usec; /* the last as told when it began */
};

static const struct jd_type text = { .kind = JD_TEXT };
static const struct jd_type number = { .kind = JD_INTEGER, .min = 0, .max = INT64_MAX };

/* clang-format off */
static const struct jd_field note_fields[] = {
	{ "bootId",        &text,   offsetof(struct note, boot_id),         JD_REQUIRED },
	{ "untilBootUsec", &number, offsetof(struct note, until_boot_usec), JD_REQUIRED },
	{ "sinceUsec",     &number, offsetof(struct note, since_wall_usec), JD_REQUIRED },
	{ "untilUsec",     &number, offsetof(struct note, until_wall_usec), JD_REQUIRED },
	{ "reason",        &text,   offsetof(struct note, reason) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type note_type = { .kind = JD_OBJECT, .fields = note_fields, .size = sizeof(struct note) };

struct pause {
	struct daemon *daemon;
	char *path;
	struct note note;
	bool on;
	struct loop_timer *timer;
};

bool pause_is_on(const struct pause *p)
{
	return p && p->on;
}

static usec_t remaining(const struct pause *p)
{
	return usec_sub((usec_t)p->note.until_boot_usec, loop_now_boot(p->daemon->loop));
}

static usec_t until_wall(const struct pause *p)
{
	return usec_add(loop_now_wall(p->daemon->loop), remaining(p));
}

static void tell_handlers(struct pause *p)
{
	struct daemon *d = p->daemon;

	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].class->pause_changed)
			d->slots[i].class->pause_changed(d->slots[i].handler);
	daemon_changed(d);
}

/* ---- the file ---- */

static int save(const struct pause *p, const struct note *n, struct error *err)
{
	_cleanup_buf_ struct buf json = BUF_INIT(FILE_MAX);
	int r = jd_encode_record(&note_type, FORMAT, n, &json);

	return r < 0 ? error_errno(err, r, "the pause cannot be noted")
		     : fs_write(p->path, json.data, json.len, 0600, FS_REPLACE, err);
}

static void forget(struct pause *p)
{
	struct error e = ERROR_INIT;

	p->on = false;
	loop_timer_stop(p->timer);
	jd_free(&note_type, &p->note);
	if (fs_unlink(p->path, &e) < 0)
		log_error("%s; a restart would take the pause up again", e.msg);
}

/* One of another boot has ended with it. */
static void take_up(struct pause *p)
{
	_cleanup_buf_ struct buf json = BUF_INIT(FILE_MAX);
	struct error e = ERROR_INIT;
	int r = fs_read_nofollow(p->path, FILE_MAX, &json, &e);

	if (r == -ENOENT)
		return;
	if (r >= 0)
		r = jd_decode_record(buf_str(&json), json.len, p->path, FILE_MAX, &note_type, FORMAT, &p->note, &e);
	if (r < 0)
		log_warning("%s; starting without a pause", e.msg);
	if (r == -EPROTO)
		return;
	if (r < 0 || !str_equal(p->note.boot_id, p->daemon->boot_id) || remaining(p) == 0) {
		forget(p);
		return;
	}
	p->on = true;
	loop_timer_at(p->timer, (usec_t)p->note.until_boot_usec);
}

/* ---- beginning and ending ---- */

static void end(struct pause *p, const char *why)
{
	forget(p);
	log_for(LOG_LEVEL_INFO, (.handler = "daemon", .milestone = true), "the pause has ended: %s", why);
	tell_handlers(p);
}

static void on_timer(void *userdata)
{
	end(userdata, "its time is up");
}

static int begin(struct pause *p, usec_t lasts, const char *reason, struct error *err)
{
	struct note n = { .until_boot_usec = (int64_t)usec_add(loop_now_boot(p->daemon->loop), lasts),
			  .since_wall_usec = (int64_t)loop_now_wall(p->daemon->loop),
			  .until_wall_usec = (int64_t)usec_add(loop_now_wall(p->daemon->loop), lasts) };
	char span[TIMEFMT_MAX];
	int r = str_set(&n.boot_id, p->daemon->boot_id);

	if (r >= 0)
		r = str_set(&n.reason, str_empty(reason) ? NULL : reason);
	r = r < 0 ? error_oom(err) : save(p, &n, err);
	if (r < 0) {
		jd_free(&note_type, &n);
		return r;
	}
	jd_free(&note_type, &p->note);
	p->note = n;
	p->on = true;
	loop_timer_at(p->timer, (usec_t)n.until_boot_usec);
	log_for(LOG_LEVEL_WARNING, (.handler = "daemon", .milestone = true),
		"paused for %s%s%s: no drain, script or renewal begins but what an operator orders",
		timefmt_span(lasts, span), n.reason ? ": " : "", n.reason ? n.reason : "");
	tell_handlers(p);
	return 0;
}

static int order_end(struct pause *p, struct buf *reply, struct error *err)
{
	if (!p->on)
		return error_set(err, ERROR_USER, -ENOENT,
				 "nothing is paused: it was not asked for, or its time was up");
	end(p, "an operator ended it");
	return buf_puts(reply, "the pause has ended; what was kept back begins now");
}

int pause_operate(struct pause *p, const char *argument, struct buf *reply, struct error *err)
{
	_cleanup_free_ char *copy = strndup(argument, utf8_cut(argument, strlen(argument), LIMIT_STEP_DETAIL));
	char *reason, span[TIMEFMT_MAX], clock[TIMEFMT_MAX];
	uint64_t seconds;
	int r;

	if (!copy)
		return error_oom(err);
	if (str_equal(copy, "end"))
		return order_end(p, reply, err);
	reason = strchr(copy, ' ');
	if (reason)
		*reason++ = '\0';
	if (!str_to_u64(copy, PAUSE_SECONDS_MAX, &seconds) || seconds == 0)
		return error_set(err, ERROR_USER, -EINVAL,
				 "expected seconds from 1 to %d and perhaps a reason, or \"end\"", PAUSE_SECONDS_MAX);
	r = begin(p, usec_from_seconds(seconds), reason, err);
	if (r < 0)
		return r;
	return buf_printf(reply, "paused for %s, until %s UTC; evenkeel pause --end ends it",
			  timefmt_span(remaining(p), span), timefmt_clock(until_wall(p), clock));
}

/* ---- telling ---- */

int pause_report(const struct pause *p, handler_report_fn add, void *userdata)
{
	struct component c = { .name = "pause", .level = STATUS_WARNING };
	char message[LIMIT_STEP_DETAIL + 256], until[TIMEFMT_MAX];

	if (!pause_is_on(p))
		return 0;
	/* As it was told first: clocks wander a little, and that is no news. */
	(void)timefmt_utc((usec_t)p->note.until_wall_usec, until);
	(void)snprintf(
		message, sizeof(message),
		"paused until %s%s%s; no drain, script or renewal begins, what runs goes on; evenkeel pause --end ends it",
		until, p->note.reason ? ": " : "", p->note.reason ? p->note.reason : "");
	c.message = message;
	return add(userdata, &c);
}

static void describe(const struct note *n, usec_t now_boot, usec_t now_wall, struct buf *out)
{
	usec_t rest = usec_sub((usec_t)n->until_boot_usec, now_boot);
	char since[TIMEFMT_MAX], until[TIMEFMT_MAX];

	(void)buf_printf(out, "{\"since\":\"%s\",\"until\":\"%s\",\"remainingInSeconds\":%llu",
			 timefmt_utc((usec_t)n->since_wall_usec, since), timefmt_utc(usec_add(now_wall, rest), until),
			 (unsigned long long)(rest / USEC_PER_SEC));
	if (n->reason) {
		(void)buf_puts(out, ",\"reason\":");
		(void)jd_quote(out, n->reason, strlen(n->reason));
	}
	(void)buf_puts(out, "}");
}

bool pause_describe(const struct pause *p, struct buf *out)
{
	if (pause_is_on(p))
		describe(&p->note, loop_now_boot(p->daemon->loop), loop_now_wall(p->daemon->loop), out);
	return pause_is_on(p);
}

bool pause_describe_file(const struct paths *p, struct buf *out)
{
	_cleanup_free_ char *path = path_join(p->run, FILE_NAME);
	_cleanup_buf_ struct buf json = BUF_INIT(FILE_MAX);
	struct note n = { 0 };
	char boot[MACHINE_ID_MAX];
	struct error ignored;
	bool on;

	if (!path || fs_read_nofollow(path, FILE_MAX, &json, &ignored) < 0 || machine_boot_id(p, boot, &ignored) < 0 ||
	    jd_decode_document(buf_str(&json), json.len, path, FILE_MAX, &note_type, &n, &ignored) < 0)
		return false;
	on = str_equal(n.boot_id, boot) && (usec_t)n.until_boot_usec > time_boot();
	if (on)
		describe(&n, time_boot(), time_wall(), out);
	jd_free(&note_type, &n);
	return on;
}

/* ---- life ---- */

int pause_new(struct daemon *d, struct pause **ret, struct error *err)
{
	_cleanup_(pause_freep) struct pause *p = calloc(1, sizeof(*p));

	if (!p)
		return error_oom(err);
	p->daemon = d;
	p->path = path_join(d->paths.run, FILE_NAME);
	if (!p->path || loop_timer_new(d->loop, "pause", on_timer, p, &p->timer) < 0)
		return error_oom(err);
	take_up(p);
	*ret = TAKE_PTR(p);
	return 0;
}

void pause_free(struct pause *p)
{
	if (!p)
		return;
	loop_timer_free(p->timer);
	jd_free(&note_type, &p->note);
	free(p->path);
	free(p);
}

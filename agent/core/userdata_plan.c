/* Watching user data: formats, the record, what an answer means, the sentence. */
#include "agent/core/userdata_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings_common.h"

#define SAVE_AGAIN_USEC USEC_PER_HOUR
#define MAX_WALL_USEC	INT64_MAX

/* ---- the record ---- */

static const char *const format_names[] = { "unknown",
					    "binary",
					    "mime",
					    "shellscript",
					    "cloudConfig",
					    "cloudConfigArchive",
					    "cloudConfigJsonp",
					    "boothook",
					    "include",
					    "includeOnce",
					    "partHandler",
					    "jinja",
					    NULL };
static const char *const change_names[] = { "same", "first", "changed", "removed", "returned", NULL };
_Static_assert(ARRAY_SIZE(format_names) == _USERDATA_FORMAT_MAX + 1, "a name for each format");

static int check_sha256(const char *text, struct error *err)
{
	if (strlen(text) != SHA256_HEX_MAX - 1 || strspn(text, "0123456789abcdef") != SHA256_HEX_MAX - 1)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "expected a SHA-256 in hexadecimal");
	return 0;
}

static const struct jd_type digest_type = { .kind = JD_TEXT, .max = SHA256_HEX_MAX, .check = check_sha256 };
static const struct jd_type size_type = { .kind = JD_INTEGER, .max = INT64_MAX };
static const struct jd_type format_type = { .kind = JD_CHOICE, .names = format_names, .lenient = true };
static const struct jd_type change_type = { .kind = JD_CHOICE, .names = change_names, .lenient = true };
static const struct jd_type flag_type = { .kind = JD_BOOLEAN };

/* clang-format off */
static const struct jd_field record_fields[] = {
	{ "sha256",        &digest_type, offsetof(struct userdata_record, sha256),         0 },
	{ "size",          &size_type,   offsetof(struct userdata_record, size),           0 },
	{ "source",        &size_type,   offsetof(struct userdata_record, source),         JD_OMIT_EMPTY },
	{ "format",        &format_type, offsetof(struct userdata_record, form.format),    0 },
	{ "gzip",          &flag_type,   offsetof(struct userdata_record, form.gzip),      0 },
	{ "change",        &change_type, offsetof(struct userdata_record, change),         0 },
	{ "seenUsec",      &size_type,   offsetof(struct userdata_record, seen_usec),      0 },
	{ "confirmedUsec", &size_type,   offsetof(struct userdata_record, confirmed_usec), 0 },
	{ "removedUsec",   &size_type,   offsetof(struct userdata_record, removed_usec),   0 },
	{},
};
const struct jd_type userdata_record_type = { .kind = JD_OBJECT, .fields = record_fields,
					    .size = sizeof(struct userdata_record) };
/* clang-format on */

int userdata_record_encode(const struct userdata_record *r, struct buf *out)
{
	return jd_encode(&userdata_record_type, r, false, out);
}

int userdata_record_decode(const char *text, size_t len, struct userdata_record *ret, struct error *err)
{
	struct userdata_record r = { 0 };
	int e = jd_decode_document(text, len, "user data record", LIMIT_RECORD, &userdata_record_type, &r, err);

	if (e < 0)
		return e;
	/* Words of a later program. */
	if (r.form.format < 0)
		r.form.format = USERDATA_FORMAT_UNKNOWN;
	if (r.change < 0)
		r.change = USERDATA_CHANGED;
	*ret = r;
	return 0;
}

void userdata_record_done(struct userdata_record *r)
{
	jd_free(&userdata_record_type, r);
}

void userdata_plan_done(struct userdata_plan *p)
{
	userdata_record_done(&p->record);
}

/* ---- what an answer means ---- */

static int64_t stamp(usec_t wall)
{
	return wall > (usec_t)MAX_WALL_USEC ? MAX_WALL_USEC : (int64_t)wall;
}

static void look_again(struct userdata_plan *p, usec_t after, const struct userdata_clock *c)
{
	p->next_boot = usec_add(c->now_boot, retry_jitter(after, USERDATA_JITTER_PERCENT, c->random));
}

static void confirmed(struct userdata_plan *p, usec_t now_wall, struct userdata_step *step)
{
	p->record.confirmed_usec = stamp(now_wall);
	if (step->change != USERDATA_SAME || now_wall < p->saved_usec || now_wall - p->saved_usec >= SAVE_AGAIN_USEC) {
		step->save = true;
		p->saved_usec = now_wall;
	}
}

static void empty(struct userdata_plan *p, const struct userdata_clock *c, struct userdata_step *step)
{
	bool settled = p->unset || p->record.removed_usec;

	if (!settled && ++p->empties < USERDATA_EMPTY_LOOKS) {
		step->tell = true;
		look_again(p, usec_min(c->interval, USERDATA_EMPTY_USEC), c);
		return;
	}
	look_again(p, c->interval, c);
	if (settled)
		return;
	step->tell = true;
	if (!p->record.sha256) {
		p->unset = true;
		return;
	}
	step->change = USERDATA_REMOVED;
	step->save = true;
	p->record.change = USERDATA_REMOVED;
	p->record.removed_usec = stamp(c->now_wall);
	p->saved_usec = c->now_wall;
}

static int content(struct userdata_plan *p, const void *data, size_t len, const struct userdata_clock *c,
		   struct userdata_step *step)
{
	struct userdata_record *r = &p->record;
	char digest[SHA256_HEX_MAX];
	int e = sha256_hex(data, len, digest);

	if (e < 0)
		return e;
	if (!str_equal(r->sha256, digest)) {
		step->change = r->sha256 ? USERDATA_CHANGED : USERDATA_FIRST;
		e = str_set(&r->sha256, digest);
		if (e < 0)
			return e;
		r->size = (int64_t)len;
		r->form = userdata_detect(data, len);
		r->seen_usec = stamp(c->now_wall);
		p->copy_due = true;
	} else if (r->removed_usec) {
		step->change = USERDATA_RETURNED;
	}
	if (step->change != USERDATA_SAME) {
		r->change = (int)step->change;
		r->removed_usec = 0;
	}
	step->tell = step->change != USERDATA_SAME || p->empties;
	step->keep_copy = p->copy_due;
	p->unset = false;
	p->empties = 0;
	confirmed(p, c->now_wall, step);
	look_again(p, c->interval, c);
	return 0;
}

int userdata_answered(struct userdata_plan *p, const void *data, size_t len, const struct userdata_clock *c,
		      struct userdata_step *ret)
{
	struct userdata_step step = { .change = USERDATA_SAME };
	bool failing = p->problem.msg[0];

	if (len) {
		int e = content(p, data, len, c, &step);

		if (e < 0)
			return e;
	} else {
		empty(p, c, &step);
	}
	retry_succeeded(&p->retry);
	p->problem = ERROR_INIT;
	step.recovered = failing;
	step.tell = step.tell || failing;
	*ret = step;
	return 0;
}

void userdata_failed(struct userdata_plan *p, int status, usec_t retry_after, const struct error *why,
		     const struct userdata_clock *c, struct userdata_step *ret)
{
	usec_t wait;

	/* A look that failed says nothing about what is there: empty answers must follow one another. */
	p->empties = 0;
	if (retry_failed(&retry_imds, &p->retry, status, retry_after, c->random, c->now_boot, &wait) == RETRY_AFTER)
		p->next_boot = usec_add(c->now_boot, wait);
	else
		look_again(p, c->interval, c);
	p->problem = *why;
	if (!p->problem.msg[0])
		(void)error_set(&p->problem, ERROR_PLATFORM, -EIO, "the metadata service gave no answer");
	*ret = (struct userdata_step){ .change = USERDATA_SAME, .tell = true };
}

int userdata_found(struct userdata_plan *p, const void *data, size_t len, usec_t now_wall)
{
	char digest[SHA256_HEX_MAX];
	int e;

	p->saved_usec = (usec_t)p->record.confirmed_usec;
	if (!data) {
		p->copy_due = p->record.sha256;
		return 0;
	}
	e = sha256_hex(data, len, digest);
	if (e < 0)
		return e;
	if (p->record.sha256) {
		p->copy_due = !str_equal(p->record.sha256, digest);
		return 0;
	}
	e = str_set(&p->record.sha256, digest);
	if (e < 0)
		return e;
	p->record.size = (int64_t)len;
	p->record.form = userdata_detect(data, len);
	p->record.change = USERDATA_FIRST;
	p->record.seen_usec = p->record.confirmed_usec = stamp(now_wall);
	return 0;
}

/* ---- the sentence ---- */

/* How the sources are called. */
static const struct source_words {
	const char *first, *inside, *service;
} source_words[] = { { "User data", "user data", "The metadata service answers" },
		     { "Custom data", "custom data", "Provisioning has left the machine" } };

static void put_revision(const struct userdata_record *r, struct buf *out)
{
	char since[TIMEFMT_MAX];

	(void)buf_printf(out, "revision %.*s, %lld %s, %s%s, seen since %s", USERDATA_REVISION_CHARS, r->sha256,
			 (long long)r->size, r->size == 1 ? "byte" : "bytes", r->form.gzip ? "gzip of " : "",
			 userdata_format_phrase(r->form.format), timefmt_utc((usec_t)r->seen_usec, since));
}

static void put_kept(const struct userdata_plan *p, const struct source_words *what, usec_t now_wall, struct buf *out)
{
	char age[TIMEFMT_MAX];

	if (!p->record.sha256) {
		(void)buf_printf(out, "no %s has been seen so far", what->inside);
		return;
	}
	(void)buf_puts(out, p->copy_due ? "last seen: " : "the last good copy is kept: ");
	put_revision(&p->record, out);
	if (!p->record.removed_usec)
		(void)buf_printf(out, ", last confirmed %s ago",
				 timefmt_span(usec_sub(now_wall, (usec_t)p->record.confirmed_usec), age));
}

static enum status_level put_failing(const struct userdata_plan *p, const struct source_words *what, usec_t now_boot,
				     usec_t now_wall, struct buf *out, int *ret_code)
{
	char wait[TIMEFMT_MAX];

	(void)buf_printf(out, "%s cannot be read: %s; next try in %s; ", what->first, p->problem.msg,
			 timefmt_span(usec_sub(p->next_boot, now_boot), wait));
	put_kept(p, what, now_wall, out);
	*ret_code = CODE_IMDS_ERROR;
	return STATUS_WARNING;
}

static enum status_level put_answered(const struct userdata_plan *p, const struct source_words *what, usec_t now_wall,
				      struct buf *out)
{
	const struct userdata_record *r = &p->record;
	char when[TIMEFMT_MAX];

	if (p->unset) {
		(void)buf_printf(out, "No %s is set", what->inside);
		return STATUS_SUCCESS;
	}
	if (r->sha256 && r->removed_usec) {
		(void)buf_printf(out, "%s was removed (seen %s); ", what->first,
				 timefmt_utc((usec_t)r->removed_usec, when));
		put_kept(p, what, now_wall, out);
		return STATUS_SUCCESS;
	}
	if (p->empties) {
		(void)buf_printf(out, "%s without %s (%u of %d looks before that counts); ", what->service,
				 what->inside, p->empties, USERDATA_EMPTY_LOOKS);
		put_kept(p, what, now_wall, out);
		return r->sha256 ? STATUS_SUCCESS : STATUS_TRANSITIONING;
	}
	if (!r->sha256) {
		(void)buf_printf(out, "Looking for %s", what->inside);
		return STATUS_TRANSITIONING;
	}
	(void)buf_printf(out, "%s ", what->first);
	put_revision(r, out);
	if (r->change == USERDATA_CHANGED)
		(void)buf_puts(out, "; it replaced an earlier revision");
	return STATUS_SUCCESS;
}

enum status_level userdata_describe(const struct userdata_plan *p, const struct userdata_settings *s, usec_t now_boot,
				    usec_t now_wall, struct buf *out, int *ret_code)
{
	const struct source_words *what = &source_words[s->source == USERDATA_CUSTOM_DATA];
	enum status_level level;

	*ret_code = CODE_NONE;
	level = p->problem.msg[0] ? put_failing(p, what, now_boot, now_wall, out, ret_code)
				  : put_answered(p, what, now_wall, out);
	/* The record is ahead of it, after a kill or a loss; the next answer brings it. */
	if (p->copy_due && p->record.sha256 && !p->problem.msg[0] && !p->copy_problem.msg[0]) {
		(void)buf_puts(out, "; its copy is yet to be kept");
		level = level == STATUS_SUCCESS ? STATUS_TRANSITIONING : level;
	}
	if (p->copy_problem.msg[0]) {
		(void)buf_printf(out, "; it cannot be kept: %s", p->copy_problem.msg);
		level = level == STATUS_SUCCESS ? STATUS_WARNING : level;
	}
	return level;
}

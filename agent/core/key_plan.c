/* Key refresh: what is worth installing, and when to ask again. */
#include "agent/core/key_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/timefmt.h"

#define FIRST_JITTER_PERCENT 33 /* around three quarters: half an interval to a whole one */

void key_item_done(struct key_item *i)
{
	key_record_done(&i->record);
}

static int64_t stamp(usec_t wall)
{
	return wall > (usec_t)INT64_MAX ? INT64_MAX : (int64_t)wall;
}

/* ---- what is worth installing ---- */

static bool has_one(const struct key_item *i)
{
	return i->record.version;
}

bool key_installed(const struct key_item *i)
{
	return has_one(i) && str_equal(i->record.shape, i->shape) && str_equal(i->record.url, key_url(&i->wish));
}

static bool same_version(const struct key_record *r, const struct key_found *f)
{
	return str_equal(r->version, f->version) && str_equal(r->thumbprint, f->thumbprint);
}

/* Which of two versions of one secret is the later one: by their making, else by the certificates. */
static bool is_older(const struct key_record *r, const struct key_found *f)
{
	if (r->created_usec && f->created && (usec_t)r->created_usec != f->created)
		return f->created < (usec_t)r->created_usec;
	return f->not_before < (usec_t)r->not_before_usec;
}

static bool has_expired(const struct key_record *r, usec_t now_wall)
{
	return r->not_after_usec && (usec_t)r->not_after_usec <= now_wall;
}

enum key_verdict key_judge(const struct key_item *i, const struct key_found *f, bool pinned, bool files_there,
			   usec_t now_wall, struct error *why)
{
	const struct key_record *r = &i->record;
	bool same = has_one(i) && same_version(r, f);
	char when[TIMEFMT_MAX];

	if (same && files_there && key_installed(i))
		return KEY_KEEP;
	/* It becomes a name on disk. */
	if (!f->version[0] || strspn(f->version, "0123456789abcdefABCDEF") != strlen(f->version)) {
		(void)error_set(why, ERROR_PLATFORM, -EBADMSG, "the vault's answer names no version of the secret");
		return KEY_REFUSE;
	}
	if (f->not_after && f->not_after <= now_wall) {
		(void)error_set(why, ERROR_USER, -EKEYEXPIRED,
				"version %.64s of the vault expired on %s; renew it there", f->version,
				timefmt_utc(f->not_after, when));
		return KEY_REFUSE;
	}
	if (!same && f->not_before > usec_add(now_wall, KEY_SKEW_USEC)) {
		(void)error_set(why, ERROR_USER, -EKEYREJECTED,
				"version %.64s of the vault is not valid before %s; it is installed then", f->version,
				timefmt_utc(f->not_before, when));
		return KEY_REFUSE;
	}
	/* A pinned version and another secret are what somebody asked for; what has expired is no better than an older
	 * one. */
	if (has_one(i) && !same && !pinned && str_equal(r->url, key_url(&i->wish)) && !has_expired(r, now_wall) &&
	    is_older(r, f)) {
		(void)error_set(why, ERROR_USER, -EKEYREJECTED,
				"version %.64s of the vault is older than the one installed (%.64s), which stays; to "
				"go back on "
				"purpose, name the version in the url",
				f->version, r->version);
		return KEY_REFUSE;
	}
	return KEY_INSTALL;
}

const char *key_set_name(const struct key_item *i, const struct key_found *f, char out[static KEY_SET_MAX])
{
	int n = snprintf(out, KEY_SET_MAX, "%.63s-%.8s", f->version, i->shape);

	if (n > 0 && key_installed(i) && same_version(&i->record, f))
		(void)snprintf(out + n, KEY_SET_MAX - (size_t)n, "-%llx", (unsigned long long)i->record.installed_usec);
	return out;
}

/* ---- when to ask again ---- */

static void next(struct key_item *i, usec_t after, const struct key_clock *c)
{
	i->next_boot = usec_add(c->now_boot, after);
	i->record.next_usec = stamp(usec_add(c->now_wall, after));
}

/* A thousand VMs that were made in the same second have begun at the same moment: the first poll comes anywhere in the second
 * half of an interval, later ones stay apart. */
static void next_poll(struct key_item *i, const struct key_clock *c)
{
	if (!i->spread) {
		i->spread = true;
		next(i, retry_jitter(c->interval / 4 * 3, FIRST_JITTER_PERCENT, c->random), c);
		return;
	}
	next(i, retry_jitter(c->interval, KEY_JITTER_PERCENT, c->random), c);
}

static void went_well(struct key_item *i, const struct key_clock *c)
{
	retry_succeeded(&i->vault);
	retry_succeeded(&i->work);
	i->problem = ERROR_INIT;
	i->problem_status = 0;
	free(TAKE_PTR(i->record.error));
	next_poll(i, c);
}

static void went_wrong(struct key_item *i, int status, const struct error *why)
{
	i->problem = *why;
	i->problem_status = status;
	if (!i->problem.msg[0])
		(void)error_set(&i->problem, ERROR_SYSTEM, -EIO, "it failed for an unknown reason");
	/* Told from the problem; a record that lacks it for want of memory misleads nobody. */
	if (str_set(&i->record.error, i->problem.msg) < 0)
		free(TAKE_PTR(i->record.error));
}

void key_kept(struct key_item *i, const struct key_clock *c)
{
	went_well(i, c);
}

int key_was_installed(struct key_item *i, const struct key_found *f, const char *shape, const char *url,
		      const char *identity, const struct key_clock *c)
{
	struct key_record r = { .created_usec = stamp(f->created),
				.not_before_usec = stamp(f->not_before),
				.not_after_usec = stamp(f->not_after),
				.installed_usec = stamp(c->now_wall),
				.warned_days = str_equal(i->record.version, f->version) ? i->record.warned_days : -1,
				.incomplete = f->incomplete };

	if (str_set(&r.url, url) < 0 || str_set(&r.shape, shape) < 0 || str_set(&r.version, f->version) < 0 ||
	    str_set(&r.thumbprint, f->thumbprint) < 0 || str_set(&r.previous, f->previous) < 0 ||
	    str_set(&r.identity, identity) < 0) {
		key_record_done(&r);
		return -ENOMEM;
	}
	r.activation = i->record.activation;
	r.opened = i->record.opened;
	r.unreachable = i->record.unreachable;
	r.directory = TAKE_PTR(i->record.directory);
	r.files = i->record.files;
	r.former = i->record.former;
	i->record.activation = (struct key_activation){ 0 };
	i->record.opened = i->record.files = i->record.former = (struct jd_list){ 0 };
	i->record.unreachable = NULL;
	r.salt = TAKE_PTR(i->record.salt);
	key_record_done(&i->record);
	i->record = r;
	went_well(i, c);
	return 0;
}

/* Our own pace where the vault's rules say that the same again is of no use: until it is there something may still be
 * being set up, afterwards the next poll is soon enough. */
static void own_pace(struct key_item *i, const struct key_clock *c)
{
	usec_t wait;

	if (!key_installed(i) &&
	    retry_failed(&retry_work, &i->work, 0, 0, c->random, c->now_boot, &wait) == RETRY_AFTER)
		next(i, usec_min(wait, c->interval), c);
	else
		next_poll(i, c);
}

void key_fetch_failed(struct key_item *i, int status, usec_t retry_after, const struct error *why,
		      const struct key_clock *c)
{
	usec_t wait;

	went_wrong(i, status, why);
	if (retry_failed(&retry_vault, &i->vault, status, retry_after, c->random, c->now_boot, &wait) == RETRY_AFTER)
		next(i, wait, c);
	else
		own_pace(i, c);
}

void key_install_failed(struct key_item *i, const struct error *why, const struct key_clock *c)
{
	usec_t wait;

	went_wrong(i, 0, why);
	if (retry_failed(&retry_work, &i->work, 0, 0, c->random, c->now_boot, &wait) == RETRY_AFTER)
		next(i, usec_min(wait, c->interval), c);
	else
		next_poll(i, c);
}

void key_refused(struct key_item *i, const struct error *why, const struct key_clock *c)
{
	retry_succeeded(&i->vault);
	went_wrong(i, 0, why);
	own_pace(i, c);
}

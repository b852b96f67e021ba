/* Key refresh: the record, what is worth installing, when to ask again, the sentence. */
#include "agent/core/key_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/json_record.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/core/settings_common.h"

#define RECORD_MAX (64UL * 1024)
#define FIRST_JITTER_PERCENT 33 /* around three quarters: half an interval to a whole one */

/* ---- the record ---- */

static const struct jd_type text_type = { .kind = JD_TEXT, .max = LIMIT_URI };
static const struct jd_type time_type = { .kind = JD_INTEGER, .max = INT64_MAX };
static const struct jd_type days_type = { .kind = JD_INTEGER, .max = 3650 };
static const struct jd_type flag_type = { .kind = JD_BOOLEAN };
static const struct jd_type texts_type = { .kind = JD_LIST, .max = KEY_OPENED_MAX, .element = &text_type };
static const struct jd_type activation_type = {
	.kind = JD_OBJECT, .fields = key_activation_fields, .size = sizeof(struct key_activation)
};

/* clang-format off */
static const struct jd_field record_fields[] = {
	{ "url",           &text_type, offsetof(struct key_record, url),             0 },
	{ "shape",         &text_type, offsetof(struct key_record, shape),           0 },
	{ "salt",          &text_type, offsetof(struct key_record, salt),            0 },
	{ "version",       &text_type, offsetof(struct key_record, version),         0 },
	{ "thumbprint",    &text_type, offsetof(struct key_record, thumbprint),      0 },
	{ "previous",      &text_type, offsetof(struct key_record, previous),        0 },
	{ "identity",      &text_type, offsetof(struct key_record, identity),        0 },
	{ "createdUsec",   &time_type, offsetof(struct key_record, created_usec),    0 },
	{ "notBeforeUsec", &time_type, offsetof(struct key_record, not_before_usec), 0 },
	{ "notAfterUsec",  &time_type, offsetof(struct key_record, not_after_usec),  0 },
	{ "installedUsec", &time_type, offsetof(struct key_record, installed_usec),  0 },
	{ "incomplete",    &flag_type, offsetof(struct key_record, incomplete),      0 },
	{ "error",         &text_type, offsetof(struct key_record, error),           0 },
	{ "nextUsec",      &time_type, offsetof(struct key_record, next_usec),       0 },
	{ "warnedDays",    &days_type, offsetof(struct key_record, warned_days),     .default_integer = -1 },
	{ "set",           &text_type, offsetof(struct key_record, set) },
	{ "unreachable",   &text_type, offsetof(struct key_record, unreachable) },
	{ "opened",        &texts_type, offsetof(struct key_record, opened),         JD_OMIT_EMPTY },
	{ "directory",     &text_type, offsetof(struct key_record, directory) },
	{ "files",         &texts_type, offsetof(struct key_record, files),          JD_OMIT_EMPTY },
	{ "activation",    &activation_type, offsetof(struct key_record, activation) },
	{},
};
static const struct jd_type record_type = { .kind = JD_OBJECT, .fields = record_fields, .size = sizeof(struct key_record) };

static const struct jd_field goal_fields[] = {
	{ "key",       &text_type, offsetof(struct key_goal, key),        JD_REQUIRED },
	{ "sinceUsec", &time_type, offsetof(struct key_goal, since_usec), JD_REQUIRED },
	{},
};
static const struct jd_type goal_type = { .kind = JD_OBJECT, .fields = goal_fields, .size = sizeof(struct key_goal) };
/* clang-format on */

int key_record_encode(const struct key_record *r, struct buf *out)
{
	return jd_encode_record(&record_type, KEY_RECORD_FORMAT, r, out);
}

int key_record_decode(const char *text, size_t len, struct key_record *ret, struct error *err)
{
	return jd_decode_record(text, len, "the certificate's record", RECORD_MAX, &record_type, KEY_RECORD_FORMAT, ret, err);
}

void key_record_done(struct key_record *r)
{
	jd_free(&record_type, r);
}

int key_goal_encode(const struct key_goal *g, struct buf *out)
{
	return jd_encode_record(&goal_type, KEY_RECORD_FORMAT, g, out);
}

int key_goal_decode(const char *text, size_t len, struct key_goal *ret, struct error *err)
{
	return jd_decode_record(text, len, "key-refresh.goal", RECORD_MAX, &goal_type, KEY_RECORD_FORMAT, ret, err);
}

void key_goal_done(struct key_goal *g)
{
	jd_free(&goal_type, g);
}

usec_t key_goal_deadline(const struct key_goal *g, usec_t timeout, usec_t now_boot, usec_t now_wall)
{
	usec_t gone = usec_sub(now_wall, (usec_t)g->since_usec);

	return usec_add(now_boot, usec_sub(timeout, gone));
}

void key_item_done(struct key_item *i)
{
	key_record_done(&i->record);
}

static int64_t stamp(usec_t wall)
{
	return wall > (usec_t)INT64_MAX ? INT64_MAX : (int64_t)wall;
}

/* ---- settings ---- */

const char *key_name(const struct key_wish *w)
{
	return w->certificate ? w->certificate->name : w->secret->name;
}

const struct activate_settings *key_activate(const struct key_wish *w)
{
	return w->certificate ? &w->certificate->activate : &w->secret->activate;
}

const char *key_url(const struct key_wish *w)
{
	return w->certificate ? w->certificate->url : w->secret->url;
}

struct digest {
	struct sha256 *sha;
	int failed;
};

/* Each text with its end, so that no two lists run into one another. */
static void digest_text(struct digest *d, const char *text)
{
	if (d->failed == 0)
		d->failed = sha256_update(d->sha, text ? text : "\1", strlen(text ? text : "\1") + 1);
}

static int digest_begin(struct digest *d)
{
	*d = (struct digest){ 0 };
	return sha256_new(&d->sha);
}

static int digest_end(struct digest *d, char ret[static SHA256_HEX_MAX])
{
	if (d->failed == 0)
		d->failed = sha256_final_hex(d->sha, ret);
	sha256_free(d->sha);
	return d->failed;
}

static void digest_certificate(struct digest *d, const struct certificate_settings *c)
{
	const struct certificate_files *f = &c->files;
	const char *const texts[] = { c->directory, f->fullchain, f->certificate, f->chain, f->key,	 f->combined,
				      f->pkcs12,    c->owner,	  c->group,	  c->mode,  c->link_name };
	const struct acl_settings *acls = c->acls.items;

	digest_text(d, c->layout == STORE_OWN ? "certificate" : c->layout == STORE_KV3 ? "store 3" : "store 4");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		digest_text(d, texts[i]);
	for (size_t i = 0; i < c->acls.n; i++) {
		digest_text(d, acls[i].user);
		digest_text(d, acls[i].group);
	}
}

int key_shape(const struct key_wish *w, const char *salt, char ret[static SHA256_HEX_MAX])
{
	struct digest d;
	int r = digest_begin(&d);

	if (r < 0)
		return r;
	if (w->certificate) {
		digest_certificate(&d, w->certificate);
		if (w->password) {
			digest_text(&d, salt);
			digest_text(&d, w->password);
		}
	} else {
		digest_text(&d, "secret");
		digest_text(&d, w->secret->path);
		digest_text(&d, w->secret->owner);
		digest_text(&d, w->secret->group);
		digest_text(&d, w->secret->mode);
	}
	return digest_end(&d, ret);
}

const struct identity *key_identity(const struct key_refresh_settings *k, const struct key_wish *w)
{
	static const struct identity system_assigned;
	const struct identity *own = w->certificate ? w->certificate->identity : w->secret->identity;

	return own ? own : k->identity ? k->identity : &system_assigned;
}

int key_origin(const struct key_refresh_settings *k, const struct key_wish *w, char ret[static SHA256_HEX_MAX])
{
	const struct identity *id = key_identity(k, w);
	char *const *suffixes = k->vault_suffixes.items;
	struct digest d;
	int r = digest_begin(&d);

	if (r < 0)
		return r;
	digest_text(&d, key_url(w));
	digest_text(&d, id->client_id);
	digest_text(&d, id->object_id);
	digest_text(&d, id->resource_id);
	digest_text(&d, k->identity_endpoint);
	for (size_t i = 0; i < k->vault_suffixes.n; i++)
		digest_text(&d, suffixes[i]);
	return digest_end(&d, ret);
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
	i->record.activation = (struct key_activation){ 0 };
	i->record.opened = i->record.files = (struct jd_list){ 0 };
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

/* ---- the sentence ---- */

int64_t key_expiry_days(const struct key_refresh_settings *k, const struct key_record *r, usec_t now_wall)
{
	const int64_t *days = k->expiry_warning_days.items;
	usec_t left = usec_sub((usec_t)r->not_after_usec, now_wall);
	int64_t least = -1;

	if (!r->not_after_usec)
		return -1;
	for (size_t i = 0; i < k->expiry_warning_days.n; i++)
		if (left <= usec_from_seconds((uint64_t)days[i] * 86400) && (least < 0 || days[i] < least))
			least = days[i];
	return least;
}

static int code_of(const struct key_item *i)
{
	switch (i->problem_status) {
	case 401:
	case 403:
		return CODE_IDENTITY_DENIED;
	case 404:
		return CODE_IDENTITY_NOT_FOUND;
	default:
		return i->problem.cls == ERROR_USER	? CODE_BAD_CONFIGURATION
		       : i->problem.cls == ERROR_SYSTEM ? CODE_INTERNAL
							: CODE_IDENTITY_FAILED;
	}
}

static void put_next(const struct key_item *i, usec_t now_boot, struct buf *out)
{
	char wait[TIMEFMT_MAX];

	if (i->next_boot > now_boot)
		(void)buf_printf(out, "; next try in %s", timefmt_span(usec_sub(i->next_boot, now_boot), wait));
	else
		(void)buf_puts(out, "; it is being tried again");
}

static void put_installed(const struct key_record *r, struct buf *out)
{
	char until[TIMEFMT_MAX];

	(void)buf_printf(out, "Version %s", r->version);
	if (!str_empty(r->thumbprint))
		(void)buf_printf(out, ", thumbprint %s", r->thumbprint);
	if (r->not_after_usec)
		(void)buf_printf(out, ", valid until %s", timefmt_utc((usec_t)r->not_after_usec, until));
	if (!str_empty(r->identity))
		(void)buf_printf(out, ", read as %s", r->identity);
}

static void raise_to(struct component *c, enum status_level level)
{
	if (c->level != STATUS_ERROR)
		c->level = level;
}

static void put_expiry(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_wall, struct buf *out,
		       struct component *ret)
{
	usec_t left = usec_sub((usec_t)i->record.not_after_usec, now_wall);
	unsigned long long days = left / USEC_PER_DAY;

	if (left == 0)
		(void)buf_puts(out, "; it has expired: renew it in the vault");
	else if (left < USEC_PER_DAY)
		(void)buf_puts(out, "; it expires within a day: renew it in the vault");
	else if (key_expiry_days(k, &i->record, now_wall) >= 0)
		(void)buf_printf(out, "; it expires in %llu %s: renew it in the vault", days,
				 days == 1 ? "day" : "days");
	else
		return;
	raise_to(ret, left < USEC_PER_DAY ? STATUS_ERROR : STATUS_WARNING);
}

static void describe_installed(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_boot,
			       usec_t now_wall, struct buf *out, struct component *ret)
{
	ret->level = STATUS_SUCCESS;
	ret->duty = DUTY_DONE;
	put_installed(&i->record, out);
	if (i->record.incomplete) {
		(void)buf_puts(
			out,
			"; the chain is incomplete: some clients will not trust it; put the issuers into the vault's "
			"certificate");
		raise_to(ret, STATUS_WARNING);
	}
	if (i->newest_disabled) {
		(void)buf_puts(out, "; the newest version in the vault is disabled: enable it there, or add a new one");
		raise_to(ret, STATUS_WARNING);
	}
	if (i->record.not_after_usec)
		put_expiry(i, k, now_wall, out, ret);
	if (!str_empty(i->record.unreachable)) {
		(void)buf_printf(out, "; %s", i->record.unreachable);
		raise_to(ret, STATUS_WARNING);
	}
	key_activation_describe(&i->record.activation, now_wall, out, ret);
	if (i->problem.msg[0]) {
		(void)buf_printf(out, "; it cannot be refreshed: %s", i->problem.msg);
		put_next(i, now_boot, out);
		raise_to(ret, STATUS_WARNING);
	}
}

static void describe_open(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_boot,
			  usec_t now_wall, struct buf *out, struct component *ret)
{
	bool late = now_boot >= i->deadline_boot;
	char span[TIMEFMT_MAX];

	ret->level = late ? STATUS_ERROR : STATUS_TRANSITIONING;
	ret->duty = late ? DUTY_FAILED : DUTY_OPEN;
	if (late)
		(void)buf_printf(out, "Not installed within %s",
				 timefmt_span(usec_from_seconds((uint64_t)k->initial_sync_timeout_seconds), span));
	else
		(void)buf_puts(out, i->problem.msg[0] ? "Not installed yet" : "Being fetched");
	if (i->problem.msg[0]) {
		(void)buf_printf(out, ": %s", i->problem.msg);
		put_next(i, now_boot, out);
		ret->code = late ? code_of(i) : CODE_NONE;
	}
	if (has_one(i)) {
		(void)buf_puts(out, "; as the former settings wanted it, there is: ");
		put_installed(&i->record, out);
		key_activation_describe(&i->record.activation, now_wall, out, ret);
	}
}

void key_describe(const struct key_item *i, const struct key_refresh_settings *k, usec_t now_boot, usec_t now_wall,
		  struct buf *out, struct component *ret)
{
	*ret = (struct component){ .code = CODE_NONE };
	if (key_installed(i))
		describe_installed(i, k, now_boot, now_wall, out, ret);
	else
		describe_open(i, k, now_boot, now_wall, out, ret);
}

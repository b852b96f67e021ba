/*
 * One certificate or plain secret at work: asked for, judged, installed or removed by a job, and noted below state/.
 */
#include "handlers/key_refresh/item.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/azure/keyvault.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/codec/pkcs12.h"
#include "agent/codec/x509.h"
#include "agent/core/settings_common.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "handlers/common/jobs.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/install.h"
#include "handlers/key_refresh/layout.h"
#include "handlers/key_refresh/older.h"

#define CONTENT_PFX "application/x-pkcs12"

struct key_clock item_clock(const struct handler *h)
{
	return (struct key_clock){ .interval = usec_from_seconds((uint64_t)h->settings->polling_interval_seconds),
				   .random = random_jitter(),
				   .now_boot = loop_now_boot(h->host->loop),
				   .now_wall = loop_now_wall(h->host->loop) };
}

/* ---- the record ---- */

int item_save(struct item *i, unsigned flags, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	struct error e = ERROR_INIT;
	int r = key_record_encode(&i->plan.record, &text);

	if (r < 0)
		(void)error_oom(&e);
	else
		r = fs_write(i->record_path, text.data, text.len, 0600, flags, &e);
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: what is installed cannot be noted: %s", i->name,
			e.msg);
	if (r < 0 && err)
		*err = e;
	return r;
}

static int load_item(struct item *i)
{
	_cleanup_buf_ struct buf text = BUF_INIT(RECORD_MAX);
	struct error e = ERROR_INIT;
	int r = fs_read_nofollow(i->record_path, RECORD_MAX, &text, &e);

	if (r == -ENOENT)
		return 0;
	if (r >= 0)
		r = key_record_decode(buf_str(&text), text.len, &i->plan.record, &e);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: %s; it is installed again", i->name, e.msg);
	return 0;
}

/* ---- jobs ---- */

void item_forget_job(struct item *i)
{
	jobs_handle_free(TAKE_PTR(i->job));
	free(TAKE_PTR(i->job_id));
	free(TAKE_PTR(i->job_url));
}

/* Of a store, each version has names of its own: those of the last few are known. */
static int note_files(struct key_record *r, const struct job *job)
{
	const struct job_file *f = job->files.items;

	if (job->kind != JOB_INSTALL)
		return 0;
	if (str_set(&r->directory, job->directory) < 0)
		return -ENOMEM;
	for (size_t k = 0; k < job->files.n; k++) {
		char **names = r->files.items, **more;
		size_t at = 0;

		while (at < r->files.n && !str_equal(names[at], f[k].name))
			at++;
		if (at < r->files.n)
			continue;
		if (r->files.n == KEY_OPENED_MAX) {
			free(names[0]);
			memmove(names, names + 1, --r->files.n * sizeof(*names));
		}
		more = reallocarray(names, r->files.n + 1, sizeof(*more));
		if (!more)
			return -ENOMEM;
		r->files.items = more;
		more[r->files.n] = strdup(f[k].name);
		if (!more[r->files.n])
			return -ENOMEM;
		r->files.n++;
	}
	return 0;
}

int item_start_files(struct item *i, const struct key_job *j, jobs_done_fn done, struct error *err)
{
	const char *const writable[] = { j->writable, j->opening, NULL };
	const struct jobs_request req = {
		.job = &j->job,
		.secrets = j->secrets.values.n ? &j->secrets : NULL,
		.confined = true,
		.capabilities = (1ULL << CAP_CHOWN) | (1ULL << CAP_FOWNER) | (1ULL << CAP_DAC_OVERRIDE),
		.writable = writable,
	};
	int r = 0;

	if (str_set(&i->job_id, j->job.id) < 0 || str_set(&i->job_url, key_url(&i->plan.wish)) < 0 ||
	    note_files(&i->plan.record, &j->job) < 0)
		r = error_oom(err);
	if (r >= 0)
		r = jobs_start(i->h->host->jobs, &req, done, i, &i->job, err);
	if (r < 0)
		item_forget_job(i);
	return r;
}

static void tell_not_removed(const struct item *i, const char *why)
{
	log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: files cannot be removed: %s", i->name, why);
}

static void on_removed(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	struct error e = ERROR_INIT;
	char phrase[128];

	if (result->end != JOB_SUCCEEDED)
		tell_not_removed(i, str_empty(result->message) ? job_result_phrase(result, phrase) : result->message);
	else if (fs_unlink(i->record_path, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s", e.msg);
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	i->phase = PHASE_IDLE;
	i->h->host->changed(i->h->host);
}

static void remove_files(struct item *i)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct error e = ERROR_INIT;
	int r = key_job_remove(i->h->host->paths, &i->plan, &j, &e);

	i->phase = PHASE_REMOVING;
	if (r >= 0)
		r = item_start_files(i, &j, on_removed, &e);
	if (r < 0) {
		i->phase = PHASE_IDLE;
		tell_not_removed(i, e.msg);
	}
}

void item_retire(struct item *i)
{
	if (i->phase == PHASE_FETCHING) {
		vault_call_free(TAKE_PTR(i->call));
		i->phase = PHASE_IDLE;
	}
	if (i->phase == PHASE_IDLE && i->h->settings->remove_on_uninstall && i->plan.record.version)
		remove_files(i);
}

/* ---- how a try ends ---- */

void item_tell(const struct item *i, const char *words)
{
	_cleanup_free_ char *text = str_format("%s: version %s %s", i->name, i->plan.record.version, words);

	if (text)
		i->h->host->tell(i->h->host, NOTICE_CERTIFICATE, i->name, NULL, text);
}

/* Once for each of expiryWarningInDays and each version, also over restarts. */
static void tell_expiry(struct item *i)
{
	struct key_record *r = &i->plan.record;
	char words[128];
	int64_t days = key_expiry_days(i->h->settings, r, loop_now_wall(i->h->host->loop));

	if (days < 0 || (r->warned_days >= 0 && r->warned_days <= days))
		return;
	r->warned_days = days;
	(void)item_save(i, FS_NO_SYNC, NULL);
	(void)snprintf(words, sizeof(words), "expires within %lld %s; renew it in the vault", (long long)days,
		       days == 1 ? "day" : "days");
	if (days == 0)
		(void)snprintf(words, sizeof(words), "has expired; renew it in the vault");
	log_for(LOG_LEVEL_WARNING, (.handler = HANDLER, .milestone = true), "%s: version %s %s", i->name, r->version,
		words);
	item_tell(i, words);
}

/* What is next is seen from the loop: this may be inside of the search for it. */
void item_ended(struct item *i)
{
	i->phase = PHASE_IDLE;
	/* What cannot ask before it has come to its end has nothing else to answer. */
	i->answered = key_activation_may_poll(item_way(i)) ? i->asking : i->asked;
	/* Asked for while it was at work: what was found then may be from before. */
	if (i->asked > i->answered)
		i->plan.next_boot = 0;
	else
		i->ordered = false;
	tell_expiry(i);
	i->h->host->changed(i->h->host);
	loop_timer_after(i->h->timer, 0);
	if (i->h->retiring)
		item_retire(i);
}

static void failed(struct item *i, bool first)
{
	if (first)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: %s; it is tried again", i->name,
			i->plan.problem.msg);
	(void)item_save(i, FS_NO_SYNC, NULL);
	item_ended(i);
}

static void fetch_failed(struct item *i, int status, usec_t retry_after, const struct error *why)
{
	const struct key_clock clock = item_clock(i->h);
	bool first = !i->plan.problem.msg[0];

	key_fetch_failed(&i->plan, status, retry_after, why, &clock);
	if (status == 429 &&
	    key_pace_refused(&i->h->pace, key_url(&i->plan.wish), retry_after, clock.random, clock.now_boot) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "out of memory");
	failed(i, first);
}

void item_install_failed(struct item *i, const struct error *why)
{
	const struct key_clock clock = item_clock(i->h);
	bool first = !i->plan.problem.msg[0];

	key_install_failed(&i->plan, why, &clock);
	telling_count(i, "failed");
	failed(i, first);
}

static void refused(struct item *i, const struct error *why)
{
	const struct key_clock clock = item_clock(i->h);
	bool first = !i->plan.problem.msg[0];

	key_refused(&i->plan, why, &clock);
	failed(i, first);
}

static void kept(struct item *i)
{
	const struct key_clock clock = item_clock(i->h);
	bool noted = i->plan.record.error || i->plan.record.activation.rejected.version;

	if (i->plan.problem.msg[0])
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER), "%s: it can be refreshed again", i->name);
	key_kept(&i->plan, &clock);
	key_activation_forget_rejected(&i->plan.record.activation);
	if (noted)
		(void)item_save(i, FS_NO_SYNC, NULL);
	item_ended(i);
}

/* ---- installing ---- */

static void note_installed(struct item *i, const struct job_result *result, struct error *err)
{
	const struct key_clock clock = item_clock(i->h);
	const struct key_found *f = &i->found;

	if (key_was_installed(&i->plan, f, i->job_shape, i->job_url, i->identity, &clock) < 0 ||
	    str_set(&i->plan.record.set, i->job_set) < 0) {
		(void)error_oom(err);
		return;
	}
	activate_note_reach(i, result);
	activate_first(i);
	(void)item_save(i, FS_REPLACE, NULL);
	log_for(LOG_LEVEL_INFO, (.handler = HANDLER, .job = i->job_id, .milestone = true),
		"%s: version %s is installed%s%s", i->name, f->version, f->thumbprint[0] ? ", thumbprint " : "",
		f->thumbprint);
	telling_count(i, "installed");
	item_tell(i, "is installed");
	/* Settings that came while it ran want it otherwise. */
	if (!key_installed(&i->plan))
		i->plan.next_boot = clock.now_boot;
}

static void on_pruned(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	char phrase[128];

	if (result->end != JOB_SUCCEEDED)
		tell_not_removed(i, str_empty(result->message) ? job_result_phrase(result, phrase) : result->message);
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	item_ended(i);
}

/* What a store keeps too many of. It is no failure of the certificate when that does not go. */
static void prune(struct item *i)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct error e = ERROR_INIT;
	int r = key_job_prune(i->h->host->paths, &i->plan, &j, &e);

	i->phase = PHASE_REMOVING;
	if (r > 0)
		r = item_start_files(i, &j, on_pruned, &e) < 0 ? -1 : 1;
	if (r < 0)
		tell_not_removed(i, e.msg);
	if (r <= 0)
		item_ended(i);
}

static void on_installed(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	struct error why = ERROR_INIT;
	char phrase[128];

	if (result->end == JOB_SUCCEEDED)
		note_installed(i, result, &why);
	else
		(void)error_set(&why, ERROR_SYSTEM, -EIO, "it cannot be installed: %s",
				str_empty(result->message) ? job_result_phrase(result, phrase) : result->message);
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	if (why.msg[0])
		item_install_failed(i, &why);
	else
		prune(i);
}

static void install(struct item *i, const struct x509_bundle *bundle, const struct vault_secret *secret)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct error e = ERROR_INIT;
	int r;

	if (activate_guards(i)) {
		activate_begin(i, bundle, secret->value, secret->len);
		return;
	}
	r = key_job_install(i->h->host->paths, &i->plan, &i->found, bundle, secret->value, secret->len, &j, &e);
	memcpy(i->job_shape, i->plan.shape, sizeof(i->job_shape));
	i->phase = PHASE_INSTALLING;
	if (r >= 0 && str_set(&i->job_set, j.job.version) < 0)
		r = error_oom(&e);
	if (r >= 0)
		r = item_start_files(i, &j, on_installed, &e);
	if (r < 0)
		item_install_failed(i, &e);
}

/* ---- fetching ---- */

bool item_is_pinned(const struct item *i)
{
	static const char middle[] = "/secrets/";
	const char *name = strstr(key_url(&i->plan.wish), middle);

	name = name ? strchr(name + sizeof(middle) - 1, '/') : NULL;
	return name && name[1];
}

/* By its content type; somebody who put the secret there by hand may have left that out. */
static bool is_pkcs12(const struct vault_secret *s)
{
	if (str_equal_nocase(s->content_type, CONTENT_PFX))
		return true;
	return !s->content_type[0] && str_starts(s->value, "MI") && !strstr(s->value, "-----BEGIN");
}

int item_understand(const struct item *i, const struct vault_secret *s, struct x509_bundle **ret_bundle,
		      struct key_found *ret, struct error *err)
{
	struct x509_facts facts;
	int r;

	*ret = (struct key_found){ .created = s->created };
	(void)snprintf(ret->version, sizeof(ret->version), "%s", s->version);
	(void)snprintf(ret->previous, sizeof(ret->previous), "%s", s->previous);
	if (!i->plan.wish.certificate)
		return 0;
	r = is_pkcs12(s) ? pkcs12_parse_text(s->value, s->len, ret_bundle, err)
			 : x509_bundle_parse(s->value, s->len, ret_bundle, err);
	if (r < 0)
		return error_wrap(err, r, "version %s of the vault", s->version);
	x509_bundle_facts(*ret_bundle, &facts);
	memcpy(ret->thumbprint, facts.thumbprint, sizeof(ret->thumbprint));
	ret->not_before = facts.not_before;
	ret->not_after = facts.not_after;
	ret->incomplete = !facts.complete;
	return 0;
}

static void note_disabled(struct item *i, bool disabled)
{
	if (disabled && !i->plan.newest_disabled)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER),
			"%s: the newest version in the vault is disabled; the newest one that is not is used", i->name);
	i->plan.newest_disabled = disabled;
}

static void judge(struct item *i, const struct vault_secret *secret, const char *who)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *bundle = NULL;
	struct error e = ERROR_INIT;
	int r = str_set(&i->identity, who) < 0 ? error_oom(&e) : item_understand(i, secret, &bundle, &i->found, &e);
	enum key_verdict verdict = KEY_REFUSE;

	note_disabled(i, secret->newest_disabled);
	if (r >= 0)
		verdict =
			key_judge(&i->plan, &i->found, item_is_pinned(i), key_layout_there(i->h->host->paths, &i->plan.wish),
				  loop_now_wall(i->h->host->loop), &e);
	switch (verdict) {
	case KEY_KEEP:
		kept(i);
		return;
	case KEY_REFUSE:
		refused(i, &e);
		return;
	case KEY_INSTALL:
		if (!key_activation_may(&i->plan.record.activation, i->found.version, loop_now_wall(i->h->host->loop)))
			activate_not_again(i);
		else if (older_is_wanted(i, secret))
			older_begin(i, secret);
		else
			install(i, bundle, secret);
	}
}

static void on_secret(const struct vault_secret *secret, const struct vault_failure *failure, const char *who,
		      void *userdata)
{
	struct item *i = userdata;
	/* Freed at the end: what is given here may belong to it. */
	_cleanup_(vault_call_freep) _unused_ struct vault_call *call = TAKE_PTR(i->call);

	if (!failure || (failure->status && failure->status != 429))
		key_pace_answered(&i->h->pace, key_url(&i->plan.wish), loop_now_boot(i->h->host->loop));
	if (!failure)
		i->checked_wall = loop_now_wall(i->h->host->loop);
	if (failure)
		fetch_failed(i, failure->status, failure->retry_after, &failure->err);
	else
		judge(i, secret, who);
}

void item_fetch(struct item *i)
{
	struct handler *h = i->h;
	const struct key_record *r = &i->plan.record;
	bool known = r->version && str_equal(r->url, key_url(&i->plan.wish));
	const char *const versions[] = { known ? r->version : NULL, known ? r->previous : NULL, NULL };
	const struct vault_request req = { .url = key_url(&i->plan.wish),
					   .suffixes = &h->settings->vault_suffixes,
					   .identity_endpoint = h->settings->identity_endpoint,
					   .identity = key_identity(h->settings, &i->plan.wish),
					   .want_pem = i->plan.wish.certificate,
					   .vaults = h->vaults,
					   .known_versions = versions };
	struct error e = ERROR_INIT;

	i->phase = PHASE_FETCHING;
	i->asking = i->asked;
	if (vault_get(h->host->loop, h->host->http, h->host->tokens, &req, on_secret, i, &i->call, &e) < 0)
		fetch_failed(i, 0, 0, &e);
}

/* ---- the item ---- */

void item_free(struct item *i)
{
	if (!i)
		return;
	vault_call_free(i->call);
	activate_forget(i);
	item_forget_job(i);
	key_item_done(&i->plan);
	free(i->identity);
	free(i->job_set);
	free(i->name);
	free(i->record_path);
	free(i);
}

int item_new(struct handler *h, const char *name, struct item **ret)
{
	_cleanup_(item_freep) struct item *i = calloc(1, sizeof(*i));
	_cleanup_free_ char *file = str_format("%s.json", name);
	int r;

	if (!i || !file)
		return -ENOMEM;
	i->h = h;
	i->asked = 1;
	i->plan.record.warned_days = -1;
	i->name = strdup(name);
	i->record_path = path_join(h->directory, file);
	if (!i->name || !i->record_path)
		return -ENOMEM;
	r = load_item(i);
	if (r >= 0)
		r = activate_new(i);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(i);
	return 0;
}

/* Only a password needs one. It is kept with the first install under it. */
static int ensure_salt(struct key_record *r, const struct key_wish *wish)
{
	unsigned char bytes[16];
	char hex[SHA256_HEX_MAX];

	if (r->salt || !wish->password)
		return 0;
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	if (sha256_hex(bytes, sizeof(bytes), hex) < 0)
		return -ENOMEM;
	return str_set(&r->salt, hex);
}

int item_set_wish(struct item *i, const struct key_wish *wish, bool new_goal)
{
	char shape[SHA256_HEX_MAX], origin[SHA256_HEX_MAX];
	bool moved, reshaped;
	int r = ensure_salt(&i->plan.record, wish);

	if (r >= 0)
		r = key_shape(wish, i->plan.record.salt, shape);
	if (r >= 0)
		r = key_origin(i->h->settings, wish, origin);
	if (r < 0)
		return r;
	moved = !str_equal(origin, i->plan.origin);
	reshaped = !str_equal(shape, i->plan.shape);
	i->plan.wish = *wish;
	memcpy(i->plan.shape, shape, sizeof(shape));
	memcpy(i->plan.origin, origin, sizeof(origin));
	if (moved && i->phase == PHASE_FETCHING) {
		vault_call_free(TAKE_PTR(i->call));
		i->phase = PHASE_IDLE;
	}
	activate_reshape(i, shape);
	if (new_goal && i->plan.record.activation.rejected.version) {
		key_activation_forgive(&i->plan.record.activation);
		i->plan.next_boot = 0;
	}
	if (moved || reshaped || (new_goal && i->plan.problem.msg[0])) {
		i->plan.vault = i->plan.work = (struct retry_state){ .attempts = 0 };
		i->plan.next_boot = 0;
	}
	return 0;
}

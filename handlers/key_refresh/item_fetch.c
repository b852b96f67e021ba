/* Asks the vault for an item, and judges what it answers. */
#include <stdio.h>
#include <string.h>

#include "agent/azure/keyvault.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/pkcs12.h"
#include "agent/codec/x509.h"
#include "agent/io/loop.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/item.h"
#include "handlers/key_refresh/layout.h"
#include "handlers/key_refresh/older.h"

#define CONTENT_PFX "application/x-pkcs12"

/* ---- what was found ---- */

bool item_is_pinned(const struct item *i)
{
	static const char middle[] = "/secrets/";
	const char *name = strstr(key_url(&i->plan.wish), middle);

	name = name ? strchr(name + sizeof(middle) - 1, '/') : NULL;
	return name && name[1];
}

/* By what it is: somebody who put the secret there by hand may have left the content type out, or chosen one. PEM has blanks
 * and text before it, DER of that size in base64 begins in one way only. */
static bool is_pkcs12(const struct vault_secret *s)
{
	if (strstr(s->value, "-----BEGIN"))
		return false;
	return str_equal_nocase(s->content_type, CONTENT_PFX) || str_starts(s->value + strspn(s->value, " \t\r\n"), "MI");
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

/* ---- how it ends without a change ---- */

static void fetch_failed(struct item *i, int status, usec_t retry_after, const struct error *why)
{
	const struct key_clock clock = item_clock(i->h);
	bool first = !i->plan.problem.msg[0];

	key_fetch_failed(&i->plan, status, retry_after, why, &clock);
	if (status == 429 &&
	    key_pace_refused(&i->h->pace, key_url(&i->plan.wish), retry_after, clock.random, clock.now_boot) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s: out of memory: its vault is not spared", i->name);
	item_failed(i, first);
}

static void refused(struct item *i, const struct error *why)
{
	const struct key_clock clock = item_clock(i->h);
	bool first = !i->plan.problem.msg[0];

	key_refused(&i->plan, why, &clock);
	item_failed(i, first);
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

/* ---- asking ---- */

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
	bool there = key_layout_there(i->h->host->paths, &i->plan.wish);
	enum key_verdict verdict = KEY_REFUSE;

	note_disabled(i, secret->newest_disabled);
	if (r >= 0)
		verdict = key_judge(&i->plan, &i->found, item_is_pinned(i), there, loop_now_wall(i->h->host->loop), &e);
	switch (verdict) {
	case KEY_KEEP:
		kept(i);
		return;
	case KEY_REFUSE:
		refused(i, &e);
		return;
	case KEY_INSTALL:
		/* A version that has failed is better than no files at all. */
		if (there && !key_activation_may(&i->plan.record.activation, i->found.version, loop_now_wall(i->h->host->loop)))
			activate_not_again(i);
		else if (older_is_wanted(i, secret))
			older_begin(i, secret);
		else
			item_install(i, bundle, secret);
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

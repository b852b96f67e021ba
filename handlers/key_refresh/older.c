/* The version before the newest one, fetched and put into a store without its links. */
#include "handlers/key_refresh/older.h"

#include <stdio.h>
#include <string.h>

#include "agent/azure/keyvault.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/x509.h"
#include "handlers/key_refresh/activate.h"
#include "handlers/key_refresh/install.h"
#include "handlers/key_refresh/item.h"

bool older_is_wanted(const struct item *i, const struct vault_secret *newest)
{
	const struct certificate_settings *c = i->plan.wish.certificate;

	return c && c->layout != STORE_OWN && c->keep_versions > 1 && newest->previous[0] && !item_is_pinned(i) &&
	       !key_installed(&i->plan) && !str_equal(i->older_for, newest->version);
}

/* On with the newest. */
static void go_on(struct item *i)
{
	if (i->h->retiring)
		item_ended(i);
	else
		item_fetch(i);
}

static void do_without(struct item *i, const char *why)
{
	log_for(LOG_LEVEL_INFO, (.handler = HANDLER), "%s: the version before the newest is not put beside it: %s",
		i->name, why);
	go_on(i);
}

static void on_written(const struct job_result *result, void *userdata)
{
	struct item *i = userdata;
	char phrase[128];

	if (result->end == JOB_SUCCEEDED)
		activate_note_reach(i, result);
	jobs_forget(i->h->host->jobs, i->job_id, true);
	item_forget_job(i);
	if (result->end == JOB_SUCCEEDED)
		go_on(i);
	else
		do_without(i, job_result_why(result, phrase));
}

static int write_files(struct item *i, const struct vault_secret *s, struct error *err)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *bundle = NULL;
	_cleanup_(key_job_done) struct key_job j = { 0 };
	struct key_found found;
	int r = item_understand(i, s, &bundle, &found, err);

	found.older = true;
	if (r >= 0)
		r = key_job_install(i->h->host->paths, &i->plan, &found, bundle, s->value, s->len, &j, err);
	i->phase = PHASE_INSTALLING;
	return r < 0 ? r : item_start_files(i, &j, on_written, err);
}

static void on_secret(const struct vault_secret *s, const struct vault_failure *failure, _unused_ const char *who,
		      void *userdata)
{
	struct item *i = userdata;
	/* Freed at the end: what is given here may belong to it. */
	_cleanup_(vault_call_freep) _unused_ struct vault_call *call = TAKE_PTR(i->call);
	struct error e = failure ? failure->err : ERROR_INIT;

	if (failure || write_files(i, s, &e) < 0)
		do_without(i, e.msg);
}

void older_begin(struct item *i, const struct vault_secret *newest)
{
	_cleanup_free_ char *url =
		str_format("%.*s/%s", (int)(strlen(key_url(&i->plan.wish)) - str_ends(key_url(&i->plan.wish), "/")),
			   key_url(&i->plan.wish), newest->previous);
	struct handler *h = i->h;
	const struct vault_request req = { .url = url,
					   .suffixes = &h->settings->vault_suffixes,
					   .identity_endpoint = h->settings->identity_endpoint,
					   .identity = key_identity(h->settings, &i->plan.wish),
					   .want_pem = true,
					   .vaults = h->vaults };
	struct error e = ERROR_INIT;
	int r = url ? 0 : error_oom(&e);

	(void)snprintf(i->older_for, sizeof(i->older_for), "%s", newest->version);
	i->phase = PHASE_FETCHING;
	if (r >= 0)
		r = vault_get(h->host->loop, h->host->http, h->host->tokens, &req, on_secret, i, &i->call, &e);
	if (r < 0)
		do_without(i, e.msg);
}

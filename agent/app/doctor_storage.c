/* Checks of rights: tokens for the identities of the settings, and what vaults and blob storage say to them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/doctor_private.h"
#include "agent/azure/blob_client.h"
#include "agent/azure/identity.h"
#include "agent/azure/keyvault.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/uri.h"

#define STORAGE_RESOURCE "https://storage.azure.com/"
#define ENDPOINT	 "http://169.254.169.254/metadata/identity"
#define FIRST_BYTE_MAX	 (64UL * 1024) /* of a server that knows no ranges */
#define BESIDE		 1000

/* What either kind of item of keyRefresh needs, all borrowed. */
struct item {
	const char *name, *url;
	const struct identity *identity;
	bool certificate;
};

static size_t count_items(const struct key_refresh_settings *k)
{
	return k ? k->certificates.n + k->secrets.n : 0;
}

static struct item item_at(const struct key_refresh_settings *k, size_t i)
{
	const struct certificate_settings *certificates = k->certificates.items;
	const struct key_secret_settings *secrets = k->secrets.items;
	struct item it =
		i < k->certificates.n
			? (struct item){ certificates[i].name, certificates[i].url, certificates[i].identity, true }
			: (struct item){ secrets[i - k->certificates.n].name, secrets[i - k->certificates.n].url,
					 secrets[i - k->certificates.n].identity, false };

	it.identity = it.identity ? it.identity : k->identity;
	return it;
}

static const struct script_settings *script_at(const struct doctor *d, size_t i)
{
	return &((const struct script_settings *)d->settings.custom_script->scripts.items)[i];
}

static const char *uri_at(const struct doctor *d, size_t script, size_t file)
{
	const struct script_file *files = script_at(d, script)->files.items;

	return settings_value(&d->settings, SECTION_CUSTOM_SCRIPT, &files[file].uri);
}

/* ---- identities ---- */

static const char *name_identity(const struct identity *i, char *out, size_t size)
{
	if (i && i->client_id)
		(void)snprintf(out, size, "client id %s", i->client_id);
	else if (i && i->object_id)
		(void)snprintf(out, size, "object id %s", i->object_id);
	else if (i && i->resource_id)
		(void)snprintf(out, size, "%.300s", i->resource_id);
	else
		(void)snprintf(out, size, "system-assigned");
	return out;
}

/* "client id … for https://vault.azure.net": what is asked for once, and what others wait for. NULL on out of memory. */
static char *token_name(const char *resource, const struct identity *identity)
{
	char who[400];

	return str_format("%s for %s", name_identity(identity, who, sizeof(who)), resource);
}

static void begin_vault(struct doctor_probe *p);
static void begin_blob(struct doctor_probe *p);

static void on_token(const char *token, const char *who, const struct error *err, void *userdata)
{
	struct doctor_probe *p = userdata;

	(void)who;
	if (token)
		doctor_tell_probe(p, VERDICT_OK, NULL, "%s: there is a token", p->subject);
	else
		doctor_tell_probe(p, VERDICT_ERROR,
				  err->cls == ERROR_TRANSIENT || err->cls == ERROR_SYSTEM ? "see imds" : NULL, "%s: %s",
				  p->subject, err->msg);
	for (struct doctor_probe *other = p->doctor->probes; other; other = other->next) {
		if (!str_equal(other->needs, p->subject) || other->over)
			continue;
		if (token && other->check == p->doctor->vaults) {
			begin_vault(other);
		} else if (token) {
			begin_blob(other);
		} else {
			doctor_tell_probe(other, VERDICT_NOTE, "see identities",
					  "%s: not asked for, because there is no token", other->subject);
			doctor_probe_over(other);
		}
	}
	doctor_probe_over(p);
}

static void ask_token(struct doctor *d, const char *endpoint, const char *resource, const struct identity *identity)
{
	_cleanup_free_ char *subject = token_name(resource, identity);
	struct doctor_probe *p;
	struct error e = ERROR_INIT;

	if (!subject || doctor_probed(d, subject))
		return;
	p = doctor_probe_new(d, subject);
	if (p && token_get(d->tokens, endpoint, resource, identity, false, usec_add(time_boot(), DOCTOR_REQUEST_USEC),
			   on_token, p, &p->token, &e) < 0) {
		doctor_tell(d, VERDICT_ERROR, NULL, "%s: %s", subject, e.msg);
		doctor_probe_over(p);
	}
}

static struct blob_credentials credentials_of(const struct settings *s, const struct script_settings *script)
{
	return (struct blob_credentials){ .account = script->storage_account_name,
					  .key = settings_value(s, SECTION_CUSTOM_SCRIPT, &script->storage_account_key),
					  .identity = script->identity,
					  .hosts = s->custom_script->blob_hosts.items,
					  .n_hosts = s->custom_script->blob_hosts.n };
}

static bool needs_identity(const struct doctor *d, size_t script)
{
	const struct blob_credentials c = credentials_of(&d->settings, script_at(d, script));

	for (size_t i = 0; i < script_at(d, script)->files.n; i++) {
		const char *uri = uri_at(d, script, i);

		if (uri && blob_right_of(uri, &c) == BLOB_IDENTITY)
			return true;
	}
	return false;
}

void doctor_check_identities(struct doctor *d)
{
	const struct key_refresh_settings *k = d->settings.key_refresh;
	const struct custom_script_settings *c = d->settings.custom_script;
	size_t before = d->waiting;

	for (size_t i = 0; i < count_items(k); i++) {
		char host[256], name[256], version[256], resource[256];
		struct item it = item_at(k, i);

		if (vault_url_parse(it.url, &k->vault_suffixes, host, name, version, resource, NULL) >= 0)
			ask_token(d, k->identity_endpoint, resource, it.identity);
	}
	for (size_t i = 0; c && i < c->scripts.n; i++) {
		if (script_at(d, i)->identity && needs_identity(d, i))
			ask_token(d, ENDPOINT, STORAGE_RESOURCE, script_at(d, i)->identity);
	}
	if (d->waiting == before)
		doctor_tell(d, VERDICT_OK, NULL, "the settings need no identity");
}

/* ---- vaults ---- */

static void on_secret(const struct vault_secret *secret, const struct vault_failure *failure, const char *who,
		      void *userdata)
{
	struct doctor_probe *p = userdata;

	if (secret && secret->newest_disabled)
		doctor_tell_probe(p, VERDICT_WARNING, "enable the newest version, or add a new one",
				  "%s: the newest version is disabled; an older one is read", p->subject);
	else if (secret)
		doctor_tell_probe(p, VERDICT_OK, NULL, "%s: can be read (%s)", p->subject, who);
	else
		doctor_tell_probe(p, VERDICT_ERROR, failure->status == 403 ? NULL : "what the message says", "%s: %s",
				  p->subject, failure->err.msg);
	doctor_probe_over(p);
}

static void begin_vault(struct doctor_probe *p)
{
	const struct key_refresh_settings *k = p->doctor->settings.key_refresh;
	const struct item it = item_at(k, p->index);
	const struct vault_request req = { .url = it.url,
					   .suffixes = &k->vault_suffixes,
					   .identity_endpoint = k->identity_endpoint,
					   .identity = it.identity,
					   .want_pem = it.certificate };
	struct error e = ERROR_INIT;

	if (vault_get(p->doctor->loop, p->doctor->http, p->doctor->tokens, &req, on_secret, p, &p->vault, &e) < 0) {
		doctor_tell_probe(p, VERDICT_ERROR, "what the message says", "%s: %s", p->subject, e.msg);
		doctor_probe_over(p);
	}
}

/* Whether that token is being waited for: its probe is another check's. */
static bool is_awaited(const struct doctor *d, const char *token)
{
	for (const struct doctor_probe *p = d->probes; p; p = p->next)
		if (str_equal(p->subject, token) && !p->over)
			return true;
	return false;
}

static void ask_vault(struct doctor *d, size_t index)
{
	const struct key_refresh_settings *k = d->settings.key_refresh;
	const struct item it = item_at(k, index);
	char host[256], name[256], version[256], resource[256];
	struct doctor_probe *p;

	if (vault_url_parse(it.url, &k->vault_suffixes, host, name, version, resource, NULL) < 0)
		return;
	p = doctor_probe_new(d, it.name);
	if (!p)
		return;
	p->index = index;
	p->needs = token_name(resource, it.identity);
	if (!p->needs || !is_awaited(d, p->needs))
		doctor_probe_over(p);
}

void doctor_check_vaults(struct doctor *d)
{
	const struct key_refresh_settings *k = d->settings.key_refresh;
	size_t n = count_items(k);

	d->vaults = d->check;
	for (size_t i = 0; i < n; i++)
		ask_vault(d, i);
	if (n > DOCTOR_PROBES_MAX)
		doctor_tell(d, VERDICT_NOTE, "evenkeel status shows every one",
			    "of %zu certificates and secrets only %d were read", n, DOCTOR_PROBES_MAX);
	if (!n)
		doctor_tell(d, VERDICT_OK, NULL, "the settings ask for no certificates and secrets");
}

/* ---- blobs ---- */

static void on_blob(const struct blob_answer *answer, void *userdata)
{
	struct doctor_probe *p = userdata;
	const struct http_response *http = answer->http;
	char why[BESIDE];

	/* An empty one has no first byte; one that is not cut to it is there. */
	if (http && (http->status == 200 || http->status == 206 || http->status == 416) &&
	    (http->result == 0 || http->result == -EFBIG)) {
		doctor_tell_probe(p, VERDICT_OK, NULL, "%s: can be read", p->subject);
	} else {
		blob_describe(answer, p->subject, false, why, sizeof(why));
		doctor_tell_probe(p, VERDICT_ERROR, http && http->status == 403 ? NULL : "what the message says",
				  "%s: %s", p->subject, why);
	}
	doctor_probe_over(p);
}

static void begin_blob(struct doctor_probe *p)
{
	static const char *const headers[] = { "Range: bytes=0-0", NULL };
	struct doctor *d = p->doctor;
	const struct blob_client_options o = { .loop = d->loop,
					       .http = d->http,
					       .credentials = credentials_of(&d->settings, script_at(d, p->index)),
					       .permissions = "r" };
	const struct blob_request req = {
		.uri = uri_at(d, p->index, p->part),
		.http = { .headers = headers, .timeout_usec = DOCTOR_REQUEST_USEC, .max_body = FIRST_BYTE_MAX }
	};
	struct error e = ERROR_INIT;
	int r = blob_client_new(&p->client, &o, &e);

	if (r >= 0)
		r = blob_submit(p->client, &req, on_blob, p, &p->blob, &e);
	if (r < 0) {
		doctor_tell_probe(p, VERDICT_ERROR, "what the message says", "%s: %s", p->subject, e.msg);
		doctor_probe_over(p);
	}
}

static void ask_blob(struct doctor *d, size_t script, size_t file, const struct blob_credentials *c)
{
	const char *uri = uri_at(d, script, file);
	struct doctor_probe *p;
	char name[BESIDE];

	doctor_name_uri(uri, name, sizeof(name));
	p = doctor_probe_new(d, name);
	if (!p)
		return;
	p->index = script;
	p->part = file;
	if (blob_right_of(uri, c) != BLOB_IDENTITY) {
		begin_blob(p);
		return;
	}
	p->needs = token_name(STORAGE_RESOURCE, c->identity);
	if (!p->needs || !is_awaited(d, p->needs))
		doctor_probe_over(p);
}

void doctor_name_uri(const char *uri, char *out, size_t size)
{
	struct uri u;

	(void)snprintf(out, size, "[not a URI]");
	if (uri_parse(uri, &u, NULL) < 0)
		return;
	(void)snprintf(out, size, "%s://%s%s", u.https ? "https" : "http", u.host, u.path);
	uri_done(&u);
}

static bool is_storage(const char *uri, const struct blob_credentials *c)
{
	struct uri u;
	bool is;

	if (uri_parse(uri, &u, NULL) < 0)
		return false;
	is = blob_is_host(u.host, c);
	uri_done(&u);
	return is;
}

void doctor_check_blobs(struct doctor *d)
{
	const struct custom_script_settings *c = d->settings.custom_script;
	size_t before = d->waiting;

	for (size_t i = 0; c && i < c->scripts.n; i++) {
		const struct blob_credentials credentials = credentials_of(&d->settings, script_at(d, i));

		for (size_t k = 0; k < script_at(d, i)->files.n; k++) {
			const char *uri = uri_at(d, i, k);

			if (uri && is_storage(uri, &credentials))
				ask_blob(d, i, k, &credentials);
		}
	}
	if (d->waiting == before)
		doctor_tell(d, VERDICT_OK, NULL, "the settings name no files in blob storage");
}

/* One secret of a vault: token, request, the versions of the API tried in turn, and what a refusal means. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/identity.h"
#include "agent/azure/keyvault_internal.h"
#include "agent/azure/service.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/core/settings_common.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

/* The first that converts PFX to PEM, and one that every cloud has. */
#define API_CONVERTS   "2025-07-01"
#define API_EVERYWHERE "7.4"
#define AS_PEM	       "&outContentType=application%2Fx-pem-file"
#define FIRST_PAGE     "api-version=" API_EVERYWHERE "&maxresults=25"
#define OLD_FOR	       USEC_PER_DAY /* clouds are updated, too */

#define TIMEOUT		(30 * USEC_PER_SEC)
#define CONNECT_TIMEOUT (10 * USEC_PER_SEC)
#define TOKEN_TIMEOUT	(60 * USEC_PER_SEC)

struct vault_call {
	struct loop *loop;
	struct http *http;
	struct tokens *tokens;
	char host[256], name[256], version[256], resource[256];
	char *endpoint;
	struct identity identity;
	bool converting;    /* asks for PEM with the newer API */
	bool refused_newer; /* the version of the API, not the secret, was what the vault minded */
	bool refreshed;	    /* the one fresh token has been asked for */
	/* When the newest version is disabled: the list of all, page by page, and the version chosen from it or, where it
	 * may not be read, from those known before. */
	bool newest_disabled, listing;
	char *next; /* query of the next page */
	unsigned pages;
	struct vault_newest newest;
	char **known, **try_known;
	char list_refusal[64]; /* "": it may be read, as far as we know */
	const char *chosen;    /* NULL: as the url says */
	struct vaults *vaults;
	char *who;
	struct token_call *token;
	struct http_call *request;
	vault_fn done;
	void *userdata;
};

/* ---- what is known of vaults ---- */

struct old_vault {
	char host[256]; /* "": free */
	usec_t since_boot;
};

struct vaults {
	struct old_vault old[LIMIT_VAULTS];
};

int vaults_new(struct vaults **ret)
{
	struct vaults *v = calloc(1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	*ret = v;
	return 0;
}

void vaults_free(struct vaults *v)
{
	free(v);
}

static bool is_old(const struct vaults *v, const char *host, usec_t now)
{
	for (size_t i = 0; v && i < LIMIT_VAULTS; i++)
		if (str_equal(v->old[i].host, host))
			return usec_sub(now, v->old[i].since_boot) < OLD_FOR;
	return false;
}

static void note_old(struct vaults *v, const char *host, usec_t now)
{
	struct old_vault *place = v ? v->old : NULL;

	for (size_t i = 0; v && i < LIMIT_VAULTS; i++) {
		if (str_equal(v->old[i].host, host)) {
			place = &v->old[i];
			break;
		}
		if (v->old[i].since_boot < place->since_boot)
			place = &v->old[i];
	}
	if (!place)
		return;
	memcpy(place->host, host, strlen(host) + 1);
	place->since_boot = now;
}

/* ---- how a call ends ---- */

static const char *who_of(const struct vault_call *c)
{
	return c->who ? c->who : "";
}

/* After these two the call may be gone. */
static void fail(struct vault_call *c, const struct vault_failure *f)
{
	c->done(NULL, f, who_of(c), c->userdata);
}

static void succeed(struct vault_call *c, const struct vault_secret *s)
{
	c->done(s, NULL, who_of(c), c->userdata);
}

static void fail_with_error(struct vault_call *c, int status, const struct error *err)
{
	struct vault_failure f = { .status = status, .err = *err };

	(void)error_wrap(&f.err, f.err.code, "%.100s/secrets/%s", c->host, c->name);
	fail(c, &f);
}

/* ---- asking ---- */

static void on_token(const char *token, const char *who, const struct error *err, void *userdata);
static void on_reply(const struct http_response *resp, void *userdata);

static int ask_token(struct vault_call *c, bool fresh, struct error *err)
{
	return token_get(c->tokens, c->endpoint, c->resource, &c->identity, fresh,
			 usec_add(loop_now_boot(c->loop), TOKEN_TIMEOUT), on_token, c, &c->token, err);
}

/* Put together from what was checked, never from what was given or answered; of a link only the query. */
static char *make_url(const struct vault_call *c)
{
	const char *version = c->chosen ? c->chosen : c->version;

	if (c->listing)
		return str_format("https://%s/secrets/%s/versions?%s", c->host, c->name,
				  c->next ? c->next : FIRST_PAGE);
	return str_format("https://%s/secrets/%s%s%s?api-version=%s", c->host, c->name, *version ? "/" : "", version,
			  c->converting ? API_CONVERTS AS_PEM : API_EVERYWHERE);
}

static int send_request(struct vault_call *c, const char *token, struct error *err)
{
	_cleanup_erase_ char *authorization = str_format("Authorization: Bearer %s", token);
	const char *headers[] = { "Accept: application/json", authorization, NULL };
	_cleanup_free_ char *url = NULL;
	struct http_request req = {
		.headers = headers,
		.timeout_usec = TIMEOUT,
		.connect_timeout_usec = CONNECT_TIMEOUT,
		.max_body = c->listing ? LIMIT_VAULT_PAGE : LIMIT_VAULT_SECRET,
		.secret = true,
	};

	url = make_url(c);
	if (!authorization || !url)
		return error_oom(err);
	req.url = url;
	return http_submit(c->http, &req, on_reply, c, &c->request, err);
}

static void on_token(const char *token, const char *who, const struct error *err, void *userdata)
{
	struct vault_call *c = userdata;
	struct error why = ERROR_INIT;

	token_call_free(TAKE_PTR(c->token));
	if (str_set(&c->who, who) < 0)
		(void)error_oom(&why);
	else if (!token)
		why = *err;
	else if (send_request(c, token, &why) == 0)
		return;
	fail_with_error(c, 0, &why);
}

/* ---- the newest version is disabled ---- */

/* The list may be closed to those who may read. What is installed, and what was before it, is known all the same. */
static bool ask_known(struct vault_call *c, struct error *err)
{
	c->listing = false;
	if (!c->try_known || !*c->try_known)
		return false;
	c->chosen = *c->try_known++;
	return ask_token(c, false, err) == 0;
}

static bool ask_others(struct vault_call *c, struct error *err)
{
	if (c->version[0])
		return false; /* it is what was asked for */
	if (c->newest_disabled)
		return c->chosen && c->chosen != c->newest.version && ask_known(c, err);
	c->newest_disabled = c->listing = true;
	return ask_token(c, false, err) == 0;
}

/* The list was not shown, and what was known before is disabled or gone. */
static void fail_without_list(struct vault_call *c)
{
	struct vault_failure f = { .status = 403, .disabled = true };

	(void)error_set(
		&f.err, ERROR_PLATFORM, -EACCES,
		"%.100s/secrets/%s: its newest version is disabled, and which others there are is not shown to %.60s "
		"(403 %s); enable it, add a new one, or let the identity list secrets",
		c->host, c->name, who_of(c), c->list_refusal);
	fail(c, &f);
}

static void fail_with_none(struct vault_call *c)
{
	struct vault_failure f = { .status = 403, .disabled = true };

	(void)error_set(&f.err, ERROR_PLATFORM, -EACCES,
			"%.100s/secrets/%s: all of its versions are disabled; enable one, or add a new one", c->host,
			c->name);
	fail(c, &f);
}

static void take_page(struct vault_call *c, const struct http_response *resp)
{
	struct error err = ERROR_INIT;
	char *next = NULL;
	int r = vault_page_parse(resp->body, resp->len, c->host, c->name, &c->newest, &next, &err);

	if (r >= 0) {
		free(c->next);
		c->next = next;
	}
	if (r >= 0 && next && ++c->pages == LIMIT_VAULT_PAGES)
		r = error_set(&err, ERROR_PLATFORM, -E2BIG, "more than %d pages of versions", LIMIT_VAULT_PAGES);
	if (r >= 0 && !next) {
		c->listing = false;
		c->chosen = c->newest.version;
		if (!*c->chosen) {
			fail_with_none(c);
			return;
		}
	}
	if (r >= 0)
		r = ask_token(c, false, &err);
	if (r < 0)
		fail_with_error(c, 200, &err);
}

/* ---- answers ---- */

/* An older cloud does not know the version of the API, and not every secret can be converted: asked again in the old
 * way. With a token that is cached by now. */
static bool ask_again(struct vault_call *c, const struct http_response *resp, struct error *err)
{
	struct service_words w;

	if (resp->status == 401 && !c->refreshed) {
		c->refreshed = true;
		return ask_token(c, true, err) == 0;
	}
	service_words_parse(resp->body, resp->len, &w);
	if (resp->status == 400 && c->converting && !c->listing) {
		c->converting = false;
		/* Mistaken, it only costs a request or a conversion. */
		c->refused_newer = strstr(w.message, API_CONVERTS);
		return ask_token(c, false, err) == 0;
	}
	if (vault_is_disabled((int)resp->status, &w))
		return ask_others(c, err);
	if (resp->status == 403 && c->listing)
		(void)snprintf(c->list_refusal, sizeof(c->list_refusal), "%s",
			       w.inner[0]  ? w.inner
			       : w.code[0] ? w.code
					   : "Forbidden");
	else if (resp->status != 404 || !c->chosen)
		return false;
	return ask_known(c, err);
}

static void take_secret(struct vault_call *c, const struct http_response *resp)
{
	_cleanup_(vault_bundle_freep) struct vault_bundle *bundle = NULL;
	struct error err = ERROR_INIT;
	struct vault_secret secret;
	int r = vault_reply_parse(resp->body, resp->len, &bundle, &secret, &err);

	if (r >= 0 && !vault_bundle_is(bundle, c->host, c->name, c->chosen ? c->chosen : c->version))
		r = error_set(&err, ERROR_PLATFORM, -EPROTO, "the answer is about another secret, or another version");
	if (r < 0) {
		fail_with_error(c, 200, &err);
		return;
	}
	if (c->refused_newer)
		note_old(c->vaults, c->host, loop_now_boot(c->loop));
	secret.newest_disabled = c->newest_disabled;
	succeed(c, &secret);
}

static void on_reply(const struct http_response *resp, void *userdata)
{
	struct vault_call *c = userdata;
	struct vault_failure f = { .status = 0 };
	struct error err = ERROR_INIT;

	http_call_free(TAKE_PTR(c->request)); /* lasts until we return */
	if (resp->result < 0) {
		vault_explain_no_answer(resp, c->host, c->name, &f);
		fail(c, &f);
	} else if (resp->status == 200) {
		if (c->listing)
			take_page(c, resp);
		else
			take_secret(c, resp);
	} else if (!ask_again(c, resp, &err)) {
		if (err.cls != ERROR_NONE) {
			fail_with_error(c, 0, &err);
		} else if (c->list_refusal[0] && (resp->status == 403 || resp->status == 404)) {
			fail_without_list(c);
		} else {
			vault_explain_status(resp, c->host, c->name, who_of(c), &f);
			fail(c, &f);
		}
	}
}

/* ---- the interface ---- */

static int copy_identity(struct identity *to, const struct identity *from)
{
	if (from && (str_set(&to->client_id, from->client_id) < 0 || str_set(&to->object_id, from->object_id) < 0 ||
		     str_set(&to->resource_id, from->resource_id) < 0))
		return -ENOMEM;
	return 0;
}

/* What is no version is left out: it becomes part of a url. */
static int copy_known(struct vault_call *c, const char *const *versions)
{
	size_t n = 0;

	while (versions && versions[n])
		n++;
	c->known = calloc(n + 1, sizeof(*c->known));
	if (!c->known)
		return -ENOMEM;
	c->try_known = c->known;
	for (size_t i = 0, to = 0; i < n; i++)
		if (vault_is_name(versions[i], strlen(versions[i]), 1, 63) && !(c->known[to++] = strdup(versions[i])))
			return -ENOMEM;
	return 0;
}

int vault_get(struct loop *loop, struct http *http, struct tokens *tokens, const struct vault_request *req,
	      vault_fn done, void *userdata, struct vault_call **ret, struct error *err)
{
	_cleanup_(vault_call_freep) struct vault_call *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_oom(err);
	c->loop = loop;
	c->http = http;
	c->tokens = tokens;
	c->vaults = req->vaults;
	c->done = done;
	c->userdata = userdata;
	r = vault_url_parse(req->url, req->suffixes, c->host, c->name, c->version, c->resource, err);
	if (r < 0)
		return r;
	c->converting = req->want_pem && !is_old(c->vaults, c->host, loop_now_boot(loop));
	if (str_set(&c->endpoint, req->identity_endpoint) < 0 || copy_identity(&c->identity, req->identity) < 0 ||
	    copy_known(c, req->known_versions) < 0)
		return error_oom(err);
	r = ask_token(c, false, err);
	if (r < 0)
		return error_wrap(err, r, "%.100s/secrets/%s", c->host, c->name);
	*ret = TAKE_PTR(c);
	return 0;
}

void vault_call_free(struct vault_call *c)
{
	if (!c)
		return;
	token_call_free(c->token);
	http_call_free(c->request);
	free(c->identity.client_id);
	free(c->identity.object_id);
	free(c->identity.resource_id);
	strv_free(c->known);
	free(c->next);
	free(c->endpoint);
	free(c->who);
	free(c);
}

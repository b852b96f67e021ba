/* One secret of a vault: token, request, the versions of the API tried in turn, and what a refusal means. */
#include "agent/azure/keyvault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/identity.h"
#include "agent/azure/service.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/uri.h"
#include "agent/core/settings_common.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

/* The first that converts PFX to PEM, and one that every cloud has. */
#define API_CONVERTS   "2025-07-01"
#define API_EVERYWHERE "7.4"
#define AS_PEM         "&outContentType=application%2Fx-pem-file"

#define TIMEOUT         (30 * USEC_PER_SEC)
#define CONNECT_TIMEOUT (10 * USEC_PER_SEC)
#define TOKEN_TIMEOUT   (60 * USEC_PER_SEC)

static const char *const known_suffixes[] = { ".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net", NULL };

/* ---- the url ---- */

static int refuse_url(struct error *err, const char *why, const char *what)
{
	return error_set(err, ERROR_USER, -EINVAL, "not a secret of a vault: %s%.200s", why, what);
}

static bool is_name(const char *s, size_t len, size_t min, size_t max)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr("0123456789-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", s[i]))
			return false;
	return len >= min && len <= max;
}

static bool is_listed(const char *const *list, const char *suffix)
{
	for (; list && *list; list++)
		if (str_equal_nocase(*list, suffix))
			return true;
	return false;
}

/* The whole of what follows the vault's own name: "vault.azure.net.evil.example" has another. */
static int check_host(const struct uri *u, const char *const *suffixes, const char **ret_suffix, struct error *err)
{
	const char *suffix = u->ipv6 ? NULL : strchr(u->host, '.');

	if (!suffix || strlen(u->host) > 255)
		return refuse_url(err, "the host is no vault's: ", u->host);
	if (strstr(suffix, ".managedhsm."))
		return refuse_url(err, "a managed HSM holds keys, but no secrets and certificates: ", u->host);
	if (strstr(suffix, ".privatelink."))
		return refuse_url(err,
				  "use the vault's public name, which leads to the private link by itself: ", u->host);
	if (!is_listed(known_suffixes, suffix) && !is_listed(suffixes, suffix))
		return error_set(
			err, ERROR_USER, -EINVAL,
			"not a secret of a vault: tokens do not go to %.200s; a vault of another cloud needs its suffix"
			" in vaultSuffixes",
			u->host);
	if (!is_name(u->host, (size_t)(suffix - u->host), 1, 63))
		return refuse_url(err, "the host is no vault's: ", u->host);
	*ret_suffix = suffix;
	return 0;
}

static int check_path(const char *path, char name[static 256], char version[static 256], struct error *err)
{
	static const char wanted[] = ", expected /secrets/NAME or /secrets/NAME/VERSION";
	const char *first = path + strlen("/secrets/"), *second = "", *more = "";
	size_t first_len, second_len;

	if (!str_starts(path, "/secrets/"))
		return error_set(
			err, ERROR_USER, -EINVAL, "not a secret of a vault: the path is %.150s%s%s", path, wanted,
			str_starts(path, "/certificates/") ? ": only as a secret a certificate has its key" : "");
	first_len = strcspn(first, "/");
	if (first[first_len])
		second = first + first_len + 1;
	second_len = strcspn(second, "/");
	more = second + second_len;
	if (!is_name(first, first_len, 1, 127) ||
	    (second_len && (second_len != 32 || !is_name(second, second_len, 32, 32))) || *more)
		return error_set(err, ERROR_USER, -EINVAL, "not a secret of a vault: the path is %.150s%s", path,
				 wanted);
	memcpy(name, first, first_len);
	name[first_len] = '\0';
	memcpy(version, second, second_len);
	version[second_len] = '\0';
	return 0;
}

int vault_url_parse(const char *url, const char *const *suffixes, char host[static 256], char name[static 256],
		    char version[static 256], char resource[static 256], struct error *err)
{
	_cleanup_(uri_done) struct uri u = { .host = NULL };
	const char *suffix = NULL;
	int r;

	r = uri_parse(url, &u, err);
	if (r < 0)
		return error_wrap(err, r, "not a secret of a vault");
	if (!u.https)
		return refuse_url(err, "expected https, got http://", u.host);
	if (u.port && u.port != 443)
		return refuse_url(err, "vaults are at port 443 only: ", u.host);
	if (u.query)
		return refuse_url(err, "the url has a query: ", u.path);
	r = check_host(&u, suffixes, &suffix, err);
	if (r == 0)
		r = check_path(u.path, name, version, err);
	if (r < 0)
		return r;
	memcpy(host, u.host, strlen(u.host) + 1);
	(void)snprintf(resource, 256, "https://%.240s", suffix + 1);
	return 0;
}

/* ---- the answer ---- */

struct attributes {
	bool enabled;
	int64_t not_before, expires, created;
};

struct vault_bundle {
	char *value, *id, *content_type;
	struct attributes attributes;
};

static const struct jd_type value = { .kind = JD_TEXT, .max = (int64_t)LIMIT_VAULT_SECRET, .sensitive = true };
static const struct jd_type text = { .kind = JD_TEXT, .max = 1024 };
static const struct jd_type boolean = { .kind = JD_BOOLEAN };
static const struct jd_type seconds = { .kind = JD_INTEGER, .min = 0, .max = 253402300799 }; /* the year 9999 */

/* clang-format off */
static const struct jd_field attributes_fields[] = {
	{ "enabled", &boolean, offsetof(struct attributes, enabled), .default_integer = true },
	{ "nbf",     &seconds, offsetof(struct attributes, not_before) },
	{ "exp",     &seconds, offsetof(struct attributes, expires) },
	{ "created", &seconds, offsetof(struct attributes, created) },
	{ NULL },
};
static const struct jd_type attributes = { .kind = JD_OBJECT, .fields = attributes_fields };

static const struct jd_field bundle_fields[] = {
	{ "value",       &value,      offsetof(struct vault_bundle, value), JD_REQUIRED },
	{ "id",          &text,       offsetof(struct vault_bundle, id),    JD_REQUIRED },
	{ "contentType", &text,       offsetof(struct vault_bundle, content_type) },
	{ "attributes",  &attributes, offsetof(struct vault_bundle, attributes) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type bundle_type = { .kind = JD_OBJECT,
					    .fields = bundle_fields,
					    .size = sizeof(struct vault_bundle) };

void vault_bundle_free(struct vault_bundle *v)
{
	if (!v)
		return;
	jd_free(&bundle_type, v);
	free(v);
}

/* https://VAULT/secrets/NAME/VERSION */
static const char *version_of(const char *id)
{
	const char *slash = strrchr(id, '/');
	size_t len = slash ? strlen(slash + 1) : 0;

	return len && len < sizeof(((struct vault_secret *)NULL)->version) && is_name(slash + 1, len, 1, 63) ? slash + 1
													     : NULL;
}

int vault_reply_parse(const char *json, size_t len, struct vault_bundle **ret, struct vault_secret *ret_secret,
		      struct error *err)
{
	_cleanup_(vault_bundle_freep) struct vault_bundle *v = calloc(1, sizeof(*v));
	const char *version;
	int r;

	if (!v)
		return error_oom(err);
	r = jd_decode_document(json, len, "secret", LIMIT_VAULT_SECRET, &bundle_type, v, err);
	if (r < 0)
		return r;
	version = version_of(v->id);
	if (!version)
		return error_set(err, ERROR_PLATFORM, -EPROTO,
				 "secret: id: expected one that ends in a version, got \"%.100s\"", v->id);
	*ret_secret = (struct vault_secret){
		.value = v->value,
		.len = strlen(v->value),
		.enabled = v->attributes.enabled,
		.not_before = usec_from_seconds((uint64_t)v->attributes.not_before),
		.expires = usec_from_seconds((uint64_t)v->attributes.expires),
		.created = usec_from_seconds((uint64_t)v->attributes.created),
	};
	memcpy(ret_secret->version, version, strlen(version) + 1);
	if (v->content_type)
		service_line(v->content_type, strlen(v->content_type), ret_secret->content_type,
			     sizeof(ret_secret->content_type));
	*ret = TAKE_PTR(v);
	return 0;
}

/* ---- one call ---- */

struct vault_call {
	struct loop *loop;
	struct http *http;
	struct tokens *tokens;
	char host[256], name[256], version[256], resource[256];
	char *endpoint;
	struct identity identity;
	bool converting; /* asks for PEM with the newer API */
	bool refreshed;  /* the one fresh token has been asked for */
	char *who;
	struct token_call *token;
	struct http_call *request;
	vault_fn done;
	void *userdata;
};

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

/* ---- what a refusal means (key-vault.md B.4) ---- */

struct refusal {
	int from, to;
	const char *inner, *words; /* NULL: any; the second is looked for in the service's message */
	enum error_class cls;
	const char *advice;
};

static const struct refusal refusals[] = {
	{ 401, 401, NULL, "AKV10022", ERROR_USER,
	  "the vault belongs to another cloud than its suffix says; check the url and vaultSuffixes" },
	{ 401, 401, NULL, "AKV10032", ERROR_USER, "the vault is in another tenant than the VM's identity" },
	{ 401, 401, NULL, NULL, ERROR_PLATFORM, "the vault does not take the identity's token, nor a fresh one" },
	{ 403, 403, "ForbiddenByRbac", NULL, ERROR_PLATFORM,
	  "give the identity the role Key Vault Secrets User on the vault; it counts after some minutes" },
	{ 403, 403, "AccessDenied", NULL, ERROR_PLATFORM,
	  "allow the identity to get secrets in the vault's access policies; it counts after some minutes" },
	{ 403, 403, "ForbiddenByPolicy", NULL, ERROR_PLATFORM,
	  "allow the identity to get secrets in the vault's access policies; it counts after some minutes" },
	{ 403, 403, "ForbiddenByFirewall", NULL, ERROR_PLATFORM,
	  "the vault's firewall keeps this VM out; allow its subnet, or give the vault a private endpoint" },
	{ 403, 403, "SecretDisabled", NULL, ERROR_PLATFORM, "this version is disabled; enable it, or add a new one" },
	{ 403, 403, NULL, NULL, ERROR_PLATFORM, "the vault forbids it to the identity" },
	{ 404, 404, NULL, NULL, ERROR_USER,
	  "there is no such secret or version; check the url, or recover it if it was deleted" },
	{ 400, 400, NULL, NULL, ERROR_USER, "the vault does not understand the request; check the url" },
	{ 408, 408, NULL, NULL, ERROR_TRANSIENT, "the vault gave up waiting" },
	{ 429, 429, NULL, NULL, ERROR_TRANSIENT, "the vault has had too many requests, from whomever" },
	{ 500, 599, NULL, NULL, ERROR_TRANSIENT, "trouble on the vault's side, which passes" },
	{ 0, 999, NULL, NULL, ERROR_PLATFORM, "nothing of the kind is documented" },
};

static const struct refusal *find_refusal(int status, const struct service_words *w)
{
	for (size_t i = 0; i < ARRAY_SIZE(refusals) - 1; i++) {
		const struct refusal *r = &refusals[i];

		if (status < r->from || status > r->to)
			continue;
		if (r->inner && !str_equal(r->inner, w->inner) && !str_equal(r->inner, w->code))
			continue;
		if (r->words && !strstr(w->message, r->words))
			continue;
		return r;
	}
	return &refusals[ARRAY_SIZE(refusals) - 1];
}

static void fail_with_status(struct vault_call *c, const struct http_response *resp)
{
	struct vault_failure f = { .status = (int)resp->status, .retry_after = service_retry_after(resp) };
	const char *id = http_response_header(resp, "x-ms-request-id");
	const struct refusal *refusal;
	struct service_words w;

	service_words_parse(resp->body, resp->len, &w);
	refusal = find_refusal(f.status, &w);
	f.disabled = f.status == 403 && str_equal(w.inner, "SecretDisabled");
	/* The longest part last: it is the one to be cut off. */
	(void)error_set(&f.err, refusal->cls, service_status_errno(f.status),
			"%.100s/secrets/%s: answered %d%s%s to %.60s: %s (request %.40s)%s%s", c->host, c->name,
			f.status, w.code[0] ? " " : "", w.inner[0] ? w.inner : w.code, who_of(c), refusal->advice,
			id ? id : "without id", w.message[0] ? "; it says: " : "", w.message);
	fail(c, &f);
}

static const char *advice_on_result(int result)
{
	switch (result) {
	case -EHOSTUNREACH:
		return "; check the vault's name, and the private DNS zone if it has a private endpoint";
	case -EKEYREJECTED:
		return "; where a proxy looks into TLS, its authority belongs into network.caFile";
	case -ETIMEDOUT:
	case -ECONNREFUSED:
	case -ENETUNREACH:
		return "; check the way out: network security group, firewall, network.proxy";
	default:
		return "";
	}
}

static void fail_without_answer(struct vault_call *c, const struct http_response *resp)
{
	bool large = resp->result == -EFBIG;
	struct error err;

	(void)error_set(&err, large ? ERROR_PLATFORM : ERROR_TRANSIENT, resp->result, "%s%s", resp->detail,
			advice_on_result(resp->result));
	fail_with_error(c, large ? (int)resp->status : 0, &err);
}

/* ---- asking ---- */

static void on_token(const char *token, const char *who, const struct error *err, void *userdata);
static void on_reply(const struct http_response *resp, void *userdata);

static int ask_token(struct vault_call *c, bool fresh, struct error *err)
{
	return token_get(c->tokens, c->endpoint, c->resource, &c->identity, fresh,
			 usec_add(loop_now_boot(c->loop), TOKEN_TIMEOUT), on_token, c, &c->token, err);
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
		.max_body = LIMIT_VAULT_SECRET,
		.secret = true,
	};

	/* Put together from what was checked, never from what was given or answered. */
	url = str_format("https://%s/secrets/%s%s%s?api-version=%s", c->host, c->name, c->version[0] ? "/" : "",
			 c->version, c->converting ? API_CONVERTS AS_PEM : API_EVERYWHERE);
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

/* An older cloud does not know the version, and not every secret can be converted: asked again in the old way. With a
 * token that is cached by now. */
static bool ask_again(struct vault_call *c, long status, struct error *err)
{
	if (status == 401 && !c->refreshed) {
		c->refreshed = true;
		return ask_token(c, true, err) == 0;
	}
	if (status == 400 && c->converting) {
		c->converting = false;
		return ask_token(c, false, err) == 0;
	}
	return false;
}

static void on_reply(const struct http_response *resp, void *userdata)
{
	struct vault_call *c = userdata;
	struct vault_bundle *bundle = NULL;
	struct vault_secret secret;
	struct error err = ERROR_INIT;

	http_call_free(TAKE_PTR(c->request)); /* lasts until we return */
	if (resp->result < 0) {
		fail_without_answer(c, resp);
	} else if (resp->status == 200) {
		if (vault_reply_parse(resp->body, resp->len, &bundle, &secret, &err) < 0)
			fail_with_error(c, 200, &err);
		else
			succeed(c, &secret);
		vault_bundle_free(bundle);
	} else if (!ask_again(c, resp->status, &err)) {
		if (err.cls != ERROR_NONE)
			fail_with_error(c, 0, &err);
		else
			fail_with_status(c, resp);
	}
}

static int copy_identity(struct identity *to, const struct identity *from)
{
	if (from && (str_set(&to->client_id, from->client_id) < 0 || str_set(&to->object_id, from->object_id) < 0 ||
		     str_set(&to->resource_id, from->resource_id) < 0))
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
	c->converting = req->want_pem;
	c->done = done;
	c->userdata = userdata;
	r = vault_url_parse(req->url, req->suffixes, c->host, c->name, c->version, c->resource, err);
	if (r < 0)
		return r;
	if (str_set(&c->endpoint, req->identity_endpoint) < 0 || copy_identity(&c->identity, req->identity) < 0)
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
	free(c->endpoint);
	free(c->who);
	free(c);
}

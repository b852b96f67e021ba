/* What a vault's refusal means and what to do about it (key-vault.md B.4), and the same for no answer at all. */
#include <errno.h>
#include <string.h>

#include "agent/azure/keyvault_internal.h"
#include "agent/azure/service.h"
#include "agent/base/str.h"
#include "agent/io/http.h"

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

bool vault_is_disabled(int status, const struct service_words *w)
{
	return status == 403 && (str_equal(w->inner, "SecretDisabled") || str_equal(w->code, "SecretDisabled"));
}

void vault_explain_status(const struct http_response *resp, const char *host, const char *name, const char *who,
			  struct vault_failure *ret)
{
	struct vault_failure f = { .status = (int)resp->status, .retry_after = service_retry_after(resp) };
	const char *id = http_response_header(resp, "x-ms-request-id");
	const struct refusal *refusal;
	struct service_words w;

	service_words_parse(resp->body, resp->len, &w);
	refusal = find_refusal(f.status, &w);
	f.disabled = vault_is_disabled(f.status, &w);
	/* The longest part last: it is the one to be cut off. */
	(void)error_set(&f.err, refusal->cls, service_status_errno(f.status),
			"%.100s/secrets/%s: answered %d%s%s to %.60s: %s (request %.40s)%s%s", host, name, f.status,
			w.code[0] ? " " : "", w.inner[0] ? w.inner : w.code, who, refusal->advice,
			id ? id : "without id", w.message[0] ? "; it says: " : "", w.message);
	*ret = f;
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

void vault_explain_no_answer(const struct http_response *resp, const char *host, const char *name,
			     struct vault_failure *ret)
{
	bool large = resp->result == -EFBIG;

	*ret = (struct vault_failure){ .status = large ? (int)resp->status : 0 };
	(void)error_set(&ret->err, large ? ERROR_PLATFORM : ERROR_TRANSIENT, resp->result, "%.100s/secrets/%s: %s%s",
			host, name, resp->detail, advice_on_result(resp->result));
}

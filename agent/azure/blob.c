/* Rights to blobs: who gets a token, the service SAS, and the words for refusals. */
#include "agent/azure/blob.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/digest.h"
#include "agent/codec/timefmt.h"
#include "agent/codec/uri.h"

#define VERSION	 "2018-03-28"
#define KEY_MAX	 1024
#define TEXT_MAX (2 * LIMIT_URI)

/* ---- hosts and rights ---- */

static bool is_blob_name(const char *host)
{
	const char *p = strstr(host, ".blob.");

	return p && p > host && strchr(p + strlen(".blob."), '.');
}

static bool is_further(const char *host, const struct blob_credentials *c)
{
	for (size_t i = 0; i < c->n_hosts; i++)
		if (str_equal_nocase(host, c->hosts[i]))
			return true;
	return false;
}

bool blob_is_host(const char *host, const struct blob_credentials *c)
{
	return is_blob_name(host) || is_further(host, c);
}

enum blob_right blob_right_of(const char *uri, const struct blob_credentials *c)
{
	enum blob_right right = str_empty(c->account) ? BLOB_ANONYMOUS : BLOB_KEY;
	struct uri u;

	if ((right == BLOB_KEY && !c->signature_first) || uri_parse(uri, &u, NULL) < 0)
		return right;
	if (u.query && (str_starts(u.query, "sig=") || strstr(u.query, "&sig=")))
		right = BLOB_SIGNATURE;
	else if (right != BLOB_KEY && c->identity && u.https && blob_is_host(u.host, c))
		right = BLOB_IDENTITY;
	uri_done(&u);
	return right;
}

/* ---- signatures ---- */

/* sp st se resource si sip spr sv rscc rscd rsce rscl rsct, a line each, without a last line feed. A blob without a
 * container is in "$root". */
static int string_to_sign(const struct uri *u, const char *account, const char *permissions, const char *until,
			  struct buf *out)
{
	_cleanup_buf_ struct buf path = BUF_INIT(TEXT_MAX);
	int r = uri_decode(u->path, strlen(u->path), &path);

	if (r < 0)
		return r;
	return buf_printf(out, "%s\n\n%s\n/blob/%s%s%s\n\n\n\n" VERSION "\n\n\n\n\n", permissions, until, account,
			  strchr(buf_str(&path) + 1, '/') ? "" : "/$root", buf_str(&path));
}

static int sign(const char *key, const struct buf *text, struct buf *out, struct error *err)
{
	_cleanup_buf_ struct buf raw = BUF_SECRET_INIT(KEY_MAX), encoded = BUF_INIT(128);
	unsigned char mac[SHA256_BYTES];
	int r = base64_decode(key, strlen(key), true, &raw, NULL);

	if (r < 0)
		return error_set(err, ERROR_USER, -EINVAL, "the storage account key is not base64");
	r = hmac_sha256(buf_str(&raw), raw.len, text->data, text->len, mac);
	if (r >= 0)
		r = base64_encode(mac, sizeof(mac), &encoded);
	if (r >= 0)
		r = uri_encode(encoded.data, encoded.len, out);
	return r < 0 ? error_errno(err, r, "cannot sign a URI") : 0;
}

static int put_host(const struct uri *u, const char *account, struct buf *out)
{
	int r = is_blob_name(u->host) ? buf_printf(out, "https://%s%s", account, strchr(u->host, '.'))
				      : buf_printf(out, "https://%s", u->host);

	return r >= 0 && u->port ? buf_printf(out, ":%u", u->port) : r;
}

static int sign_parsed(const struct uri *u, const struct blob_credentials *c, const char *permissions,
		       usec_t until_wall, struct buf *out, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX), signature = BUF_SECRET_INIT(512), end = BUF_INIT(128);
	char until[TIMEFMT_MAX];
	int r;

	if (!blob_is_host(u->host, c) || u->path[1] == '\0')
		return error_set(
			err, ERROR_USER, -EINVAL,
			"a storage account key opens blobs only (https://ACCOUNT.blob.…/CONTAINER/BLOB), not one of host %s",
			u->host);
	timefmt_utc(until_wall, until);
	r = string_to_sign(u, c->account, permissions, until, &text);
	if (r >= 0)
		r = uri_encode(until, strlen(until), &end);
	if (r < 0)
		return error_errno(err, r, "cannot sign a URI of host %s", u->host);
	r = sign(c->key, &text, &signature, err);
	if (r < 0)
		return r;
	r = put_host(u, c->account, out);
	if (r >= 0)
		r = buf_printf(out, "%s?sv=" VERSION "&sr=b&sp=%s&se=%s&sig=%s", u->path, permissions, buf_str(&end),
			       buf_str(&signature));
	return r < 0 ? error_errno(err, r, "cannot sign a URI of host %s", u->host) : 0;
}

int blob_sign(const char *uri, const struct blob_credentials *c, const char *permissions, usec_t until_wall,
	      struct buf *out, struct error *err)
{
	struct uri u;
	int r = uri_parse(uri, &u, err);

	if (r < 0)
		return r;
	r = sign_parsed(&u, c, permissions, until_wall, out, err);
	uri_done(&u);
	return r;
}

/* ---- refusals ---- */

/* "storage account NAME", or the host where the account's name does not stand in it. */
static void name_account(const char *uri, char *out, size_t size)
{
	struct uri u;

	out[0] = '\0';
	if (uri_parse(uri, &u, NULL) < 0)
		return;
	if (is_blob_name(u.host))
		(void)snprintf(out, size, "storage account %.*s", (int)strcspn(u.host, "."), u.host);
	else
		(void)snprintf(out, size, "%.100s", u.host);
	uri_done(&u);
}

static bool is_code(const struct blob_refusal *r, const char *code)
{
	return r->code && str_equal(r->code, code);
}

static bool is_refused(const struct blob_refusal *r)
{
	return r->status == 401 || r->status == 403;
}

static void advise_identity(const struct blob_refusal *r, const char *account, char *out, size_t size)
{
	if (is_code(r, "InvalidAuthenticationInfo"))
		(void)snprintf(out, size,
			       "%s does not take tokens of the identity (%s): it belongs to another tenant, or the VM's"
			       " clock is wrong",
			       account, r->who);
	else if (is_refused(r))
		(void)snprintf(
			out, size,
			"the identity (%s) needs Storage Blob Data %s on %s; a new role assignment takes minutes to count",
			r->who, r->writing ? "Contributor" : "Reader", account);
}

static void advise_signature(const struct blob_refusal *r, const char *account, char *out, size_t size)
{
	if (is_code(r, "AuthorizationPermissionMismatch"))
		(void)snprintf(out, size, "the signature in the URI does not allow %s; make one with sp=%s",
			       r->writing ? "appending" : "reading", r->writing ? "racw" : "r");
	else if (is_code(r, "KeyBasedAuthenticationNotPermitted"))
		(void)snprintf(out, size, "%s allows no signatures made with its key; use an identity", account);
	else if (is_refused(r))
		(void)snprintf(
			out, size,
			"the signature in the URI is not valid, or has expired; make a new one, and check the VM's"
			" clock");
}

static void advise_key(const struct blob_refusal *r, const char *account, char *out, size_t size)
{
	if (is_code(r, "KeyBasedAuthenticationNotPermitted"))
		(void)snprintf(out, size, "%s allows no keys; use an identity", account);
	else if (is_refused(r))
		(void)snprintf(out, size,
			       "the key in storageAccountKey is not the one of %s now, or the VM's clock is wrong",
			       account);
}

void blob_advise(const struct blob_refusal *r, char *out, size_t size)
{
	char account[160];

	out[0] = '\0';
	name_account(r->uri, account, sizeof(account));
	if (is_code(r, "AuthorizationFailure"))
		(void)snprintf(out, size, "the firewall of %s does not let this VM in, or the right does not cover it",
			       account);
	else if (r->status == 404 && r->right == BLOB_ANONYMOUS)
		(void)snprintf(out, size, "it does not exist, or is not public");
	else if (r->status == 404)
		(void)snprintf(out, size, "it does not exist");
	else if (r->status == 407)
		(void)snprintf(out, size, "the proxy wants a name and password: network.proxy in the settings");
	else if (r->right == BLOB_IDENTITY)
		advise_identity(r, account, out, size);
	else if (r->right == BLOB_SIGNATURE)
		advise_signature(r, account, out, size);
	else if (r->right == BLOB_KEY)
		advise_key(r, account, out, size);
	else if (is_refused(r) || is_code(r, "PublicAccessNotPermitted"))
		(void)snprintf(out, size,
			       "it is not public; the URI needs a valid signature, or the script an identity");
}

/* The service SAS of a blob. */
#include "agent/azure/blob.h"

#include <errno.h>
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

/* sp st se resource si sip spr sv rscc rscd rsce rscl rsct, a line each, without a last line feed. A blob without a
 * container is in "$root". */
static int string_to_sign(const struct uri *u, const char *account, const char *until, struct buf *out)
{
	_cleanup_buf_ struct buf path = BUF_INIT(TEXT_MAX);
	int r = uri_decode(u->path, strlen(u->path), &path);

	if (r < 0)
		return r;
	return buf_printf(out, "r\n\n%s\n/blob/%s%s%s\n\n\n\n" VERSION "\n\n\n\n\n", until, account,
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

static int sign_parsed(const struct uri *u, const char *account, const char *key, usec_t until_wall, struct buf *out,
		       struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX), signature = BUF_SECRET_INIT(512), end = BUF_INIT(128);
	const char *rest = strchr(u->host, '.');
	char until[TIMEFMT_MAX];
	int r;

	if (!rest || !str_starts(rest, ".blob.") || u->path[1] == '\0')
		return error_set(err, ERROR_USER, -EINVAL,
				 "a storage account key opens blobs only (https://ACCOUNT.blob.…/CONTAINER/BLOB), not one of host %s",
				 u->host);
	timefmt_utc(until_wall, until);
	r = string_to_sign(u, account, until, &text);
	if (r >= 0)
		r = uri_encode(until, strlen(until), &end);
	if (r < 0)
		return error_errno(err, r, "cannot sign a URI of host %s", u->host);
	r = sign(key, &text, &signature, err);
	if (r < 0)
		return r;
	r = buf_printf(out, "https://%s%s", account, rest);
	if (r >= 0 && u->port)
		r = buf_printf(out, ":%u", u->port);
	if (r >= 0)
		r = buf_printf(out, "%s?sv=" VERSION "&sr=b&sp=r&se=%s&sig=%s", u->path, buf_str(&end), buf_str(&signature));
	return r < 0 ? error_errno(err, r, "cannot sign a URI of host %s", u->host) : 0;
}

int blob_sign(const char *uri, const char *account, const char *key, usec_t until_wall, struct buf *out, struct error *err)
{
	struct uri u;
	int r = uri_parse(uri, &u, err);

	if (r < 0)
		return r;
	r = sign_parsed(&u, account, key, until_wall, out, err);
	uri_done(&u);
	return r;
}

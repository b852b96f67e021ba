/* What "the same settings" means: a digest of both parts as canonical JSON. */
#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/codec/digest.h"
#include "agent/core/settings_tables.h"

static int hash_part(struct sha256 *hash, const char *text, size_t len, struct error *err)
{
	_cleanup_buf_ struct buf b = BUF_SECRET_INIT(2 * LIMIT_SETTINGS);
	int r = 0;

	if (text && len > 0)
		r = jd_canonical(text, len, LIMIT_SETTINGS, &b, err);
	if (r < 0)
		return r;
	/* A NUL is in no canonical text, so nothing can move from one part to the other. */
	r = sha256_update(hash, buf_str(&b), b.len + 1);
	return r < 0 ? error_errno(err, r, "SHA-256 of the settings") : 0;
}

int settings_hash(const char *public_text, size_t public_len, const char *protected_text, size_t protected_len,
		  char ret[static 65], struct error *err)
{
	_cleanup_(sha256_freep) struct sha256 *hash = NULL;
	char hex[SHA256_HEX_MAX];
	int r = sha256_new(&hash);

	if (r < 0)
		return error_errno(err, r, "SHA-256 of the settings");
	r = hash_part(hash, public_text, public_len, err);
	if (r == 0)
		r = hash_part(hash, protected_text, protected_len, err);
	if (r < 0)
		return r;
	r = sha256_final_hex(hash, hex);
	if (r < 0)
		return error_errno(err, r, "SHA-256 of the settings");
	memcpy(ret, hex, sizeof(hex));
	return 0;
}

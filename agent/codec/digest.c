/* SHA-256, and SHA-1 for thumbprints. */
#include "agent/codec/digest.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "agent/base/cleanup.h"

struct sha256 {
	EVP_MD_CTX *ctx;
};

void sha256_free(struct sha256 *s)
{
	if (!s)
		return;
	EVP_MD_CTX_free(s->ctx);
	free(s);
}

/* Nobody above looks at OpenSSL's error queue, so it is left empty. */
static int refused(void)
{
	ERR_clear_error();
	return -EIO;
}

int sha256_new(struct sha256 **ret)
{
	_cleanup_(sha256_freep) struct sha256 *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->ctx = EVP_MD_CTX_new();
	if (!s->ctx)
		return -ENOMEM;
	if (EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) != 1)
		return refused();
	*ret = TAKE_PTR(s);
	return 0;
}

int sha256_update(struct sha256 *s, const void *data, size_t len)
{
	return EVP_DigestUpdate(s->ctx, data, len) == 1 ? 0 : refused();
}

int sha256_final_hex(struct sha256 *s, char ret[static SHA256_HEX_MAX])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (EVP_DigestFinal_ex(s->ctx, digest, &n) != 1 || n != 32)
		return refused();
	for (unsigned i = 0; i < n; i++) {
		ret[2 * i] = hex[digest[i] >> 4];
		ret[2 * i + 1] = hex[digest[i] & 15];
	}
	ret[SHA256_HEX_MAX - 1] = '\0';
	return 0;
}

int sha256_hex(const void *data, size_t len, char ret[static SHA256_HEX_MAX])
{
	_cleanup_(sha256_freep) struct sha256 *s = NULL;
	int r;

	r = sha256_new(&s);
	if (r == 0)
		r = sha256_update(s, data, len);
	return r < 0 ? r : sha256_final_hex(s, ret);
}

int sha1_hex(const void *data, size_t len, char ret[static SHA1_HEX_MAX])
{
	static const char hex[] = "0123456789ABCDEF";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (EVP_Digest(data, len, digest, &n, EVP_sha1(), NULL) != 1 || n != 20)
		return refused();
	for (unsigned i = 0; i < n; i++) {
		ret[2 * i] = hex[digest[i] >> 4];
		ret[2 * i + 1] = hex[digest[i] & 15];
	}
	ret[SHA1_HEX_MAX - 1] = '\0';
	return 0;
}

int hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, unsigned char ret[static SHA256_BYTES])
{
	unsigned n = SHA256_BYTES;

	if (key_len > INT_MAX || !HMAC(EVP_sha256(), key, (int)key_len, data, len, ret, &n))
		return refused();
	return 0;
}

const char *digest_library(void)
{
	return OpenSSL_version(OPENSSL_VERSION_STRING);
}

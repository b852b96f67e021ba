/* SHA-256, in hexadecimal, and HMAC with it; SHA-1 where the platform asks for it. */
#pragma once

#include <stddef.h>

#include "agent/base/macros.h"

#define SHA256_HEX_MAX 65
#define SHA256_BYTES   32

/* Lower-case hex of SHA-256 of the bytes. -ENOMEM or -EIO if the library refuses. */
_nodiscard_ int sha256_hex(const void *data, size_t len, char ret[static SHA256_HEX_MAX]);

/* Upper-case hex of SHA-1, as thumbprints of certificates are written. */
#define SHA1_HEX_MAX 41
_nodiscard_ int sha1_hex(const void *data, size_t len, char ret[static SHA1_HEX_MAX]);

/* HMAC-SHA-256. -EIO if the library refuses. */
_nodiscard_ int hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, unsigned char ret[static SHA256_BYTES]);

const char *digest_library(void); /* OpenSSL's version, as it is loaded */

struct sha256;
_nodiscard_ int sha256_new(struct sha256 **ret);
_nodiscard_ int sha256_update(struct sha256 *s, const void *data, size_t len);
_nodiscard_ int sha256_final_hex(struct sha256 *s, char ret[static SHA256_HEX_MAX]);
void sha256_free(struct sha256 *s);
DEFINE_CLEANUP(struct sha256 *, sha256_free)

/*
 * PKCS#12: the other form in which a vault gives a certificate with its key, and one in which applications want it. Read
 * into the bundle that PEM makes, too (x509.h). No I/O, except that OpenSSL's legacy provider is loaded from disk, into a
 * context of its own and for the call only, when a file was written with what only that still knows (RC2, RC4, DES).
 */
#pragma once

#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/codec/x509.h"

/* `der` holds one private key and its certificates, in any order. `password` NULL or "": none, in either of the two ways
 * that is written. What it costs is known and bounded before anything is derived from the password.
 * -EBADMSG: damaged, or as x509_bundle_parse(); -EKEYREJECTED: no certificate belongs to the key; -EACCES: another
 * password, or changed since it was sealed; -E2BIG: larger or dearer than anybody's; -EOPNOTSUPP: an algorithm unknown
 * here; -ENOPKG: one of the legacy provider, which is not installed. */
_nodiscard_ int pkcs12_parse(const void *der, size_t len, const char *password, struct x509_bundle **ret,
			     struct error *err);
/* As Key Vault gives it: base64, with or without line breaks, no password. */
_nodiscard_ int pkcs12_parse_text(const char *base64, size_t len, struct x509_bundle **ret, struct error *err);

/* Appends DER to a secret buffer: AES-256, SHA-256, chain included, `name` as friendly name. `password` NULL or "": the
 * empty one. */
_nodiscard_ int pkcs12_write(const struct x509_bundle *b, const char *name, const char *password, struct buf *out);

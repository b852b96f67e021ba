/*
 * Certificates with their key: PEM as Key Vault sends it (key first, chain in any order) into a checked
 * bundle, leaf first, ordered by issuer and signature. No I/O, no clock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"

struct x509_bundle;

/* Parses PEM: exactly one private key (PKCS#8, PKCS#1, SEC1; EC PARAMETERS skipped), one or more certificates;
 * CRLF, BOM, text between blocks tolerated. The leaf is the certificate that matches the key (-EKEYREJECTED when
 * none does). Duplicates are dropped; what cannot be chained stays at the end in its order; the leaf's issuer may be
 * cross-signed: then the longest way goes first.
 * -EBADMSG: no certificate, no key, two keys, or not readable. */
_nodiscard_ int x509_bundle_parse(const char *pem, size_t len, struct x509_bundle **ret, struct error *err);
void x509_bundle_free(struct x509_bundle *b); /* erases the key */

struct x509_facts {
	char subject[256];	/* RFC 2253, of the leaf */
	char thumbprint[41];	/* SHA-1, upper case, as Azure shows it */
	usec_t not_before, not_after;
	unsigned n_certificates;
	bool complete;		/* ends in a self-signed certificate, or nothing of the input was left over */
};
void x509_bundle_facts(const struct x509_bundle *b, struct x509_facts *ret);

/* Append PEM. The key goes into a secret buffer. */
_nodiscard_ int x509_write_leaf(const struct x509_bundle *b, struct buf *out);
_nodiscard_ int x509_write_chain(const struct x509_bundle *b, struct buf *out);     /* without the leaf */
_nodiscard_ int x509_write_fullchain(const struct x509_bundle *b, struct buf *out); /* leaf, then chain */
_nodiscard_ int x509_write_key(const struct x509_bundle *b, struct buf *out);       /* PKCS#8 */

DEFINE_CLEANUP(struct x509_bundle *, x509_bundle_free)

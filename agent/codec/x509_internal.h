/*
 * A bundle while it is being put together, for its readers: PEM (x509.c) and PKCS#12 (pkcs12.c). Nothing else
 * needs it.
 */
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "agent/base/limits.h"
#include "agent/codec/x509.h"

struct x509_bundle {
	EVP_PKEY *key;
	X509 *certs[LIMIT_BUNDLE_CERTIFICATES]; /* once finished: leaf first, chain, what is left over */
	unsigned n;
	struct x509_facts facts;
};

/* Both take what they are given, also on failure; NULL is one that could not be read. Duplicates are dropped. */
_nodiscard_ int x509_bundle_add(struct x509_bundle *b, X509 *cert, struct error *err);
_nodiscard_ int x509_bundle_set_key(struct x509_bundle *b, EVP_PKEY *key, struct error *err);
/* Orders the chain and finds the facts. */
_nodiscard_ int x509_bundle_finish(struct x509_bundle *b, struct error *err);
/* -EBADMSG: "certificate bundle: WHY". */
int x509_unreadable(struct error *err, const char *why);

/* PKCS#12: what is accepted, written out and read again is the same bundle. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/codec/pkcs12.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL, *again = NULL;
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(4 << 20);
	struct x509_facts facts, same;
	struct error err = ERROR_INIT;

	if (pkcs12_parse(data, size, NULL, &b, &err) < 0) {
		if (b || err.code >= 0 || !*err.msg)
			abort();
		return 0;
	}
	x509_bundle_facts(b, &facts);
	if (pkcs12_write(b, "name", NULL, &der) < 0)
		abort();
	if (der.len > LIMIT_PKCS12)
		return 0; /* the name made it too large */
	if (pkcs12_parse(der.data, der.len, NULL, &again, &err) < 0)
		abort();
	x509_bundle_facts(again, &same);
	if (facts.n_certificates != same.n_certificates || strcmp(facts.thumbprint, same.thumbprint) != 0)
		abort();
	return 0;
}

/* Certificate bundles: what is accepted, written out and read again is the same bundle. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/codec/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(x509_bundle_freep) struct x509_bundle *b = NULL, *again = NULL;
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(4 << 20);
	struct x509_facts facts, same;
	struct error err;

	if (x509_bundle_parse((const char *)data, size, &b, &err) < 0)
		return 0;
	x509_bundle_facts(b, &facts);
	if (x509_write_key(b, &pem) < 0 || x509_write_fullchain(b, &pem) < 0 ||
	    x509_bundle_parse(pem.data, pem.len, &again, &err) < 0)
		abort();
	x509_bundle_facts(again, &same);
	if (facts.n_certificates != same.n_certificates || strcmp(facts.thumbprint, same.thumbprint) != 0)
		abort();
	return 0;
}

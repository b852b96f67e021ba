/* Any bytes as the load balancer's metadata: ports that can be counted on, or an error. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/imds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct imds_backends b;
	struct error err = ERROR_INIT;

	if (imds_load_balancer_parse((const char *)data, size, &b, &err) < 0) {
		assert(err.code < 0 && *err.msg);
		return 0;
	}
	assert(b.n > 0 && b.n <= sizeof(b.ports) / sizeof(*b.ports));
	for (size_t i = 0; i < b.n; i++) {
		assert(b.ports[i] > 0);
		for (size_t k = 0; k < i; k++)
			assert(b.ports[i] != b.ports[k]);
	}
	return 0;
}

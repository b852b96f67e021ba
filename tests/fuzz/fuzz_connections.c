/* Any bytes as what the kernel says of connections: a count that fits into them, or an error. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/io/connections.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t ports[] = { 80, 443, 8080 };
	struct connections_tally t = { .ports = ports, .n_ports = 3 };
	int r = connections_parse(data, size, &t);

	assert(r <= 1 && r > -4096);
	assert(t.count <= size / 16);
	return 0;
}

/* ovf-env.xml and CustomData of any bytes: bounded, and nothing is kept on failure. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/azure/custom_data.h"
#include "agent/base/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf a = BUF_INIT(LIMIT_USER_DATA_DECODED), b = BUF_INIT(LIMIT_USER_DATA_DECODED);
	struct error e;

	if (custom_data_from_ovf((const char *)data, size, &a, &e) < 0 && a.len)
		abort();
	if (custom_data_decode((const char *)data, size, &b, &e) < 0 && b.len)
		abort();
	return 0;
}

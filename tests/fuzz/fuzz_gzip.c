/* gzip: never more than the buffer takes, nothing appended on failure. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/codec/gzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf out = BUF_INIT(100000);
	struct error err;

	if (gzip_inflate(data, size, &out, &err) < 0 ? out.len != 0 : out.len > out.max)
		abort();
	return 0;
}

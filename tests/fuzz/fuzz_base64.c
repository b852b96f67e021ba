/* base64: what decodes, encodes to the same text again (but for blanks). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/codec/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf loose = BUF_INIT(65536), strict = BUF_INIT(65536), again = BUF_INIT(65536 * 2);
	struct error err;

	int r = base64_decode((const char *)data, size, true, &loose, &err);

	if (base64_decode((const char *)data, size, false, &strict, &err) < 0)
		return 0;
	if (r < 0 || base64_encode(buf_str(&strict), strict.len, &again) < 0 || again.len != size ||
	    (size && memcmp(again.data, data, size) != 0))
		abort();
	return 0;
}

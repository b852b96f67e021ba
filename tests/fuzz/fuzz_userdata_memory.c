/* The memory of what was applied: what can be read can be written, and reads the same. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/base/limits.h"
#include "agent/core/userdata_apply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct userdata_memory m = { 0 }, again = { 0 };
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_USER_DATA_MEMORY);

	if (jd_decode_document((const char *)data, size, "memory", LIMIT_RECORD, &userdata_memory_type, &m, NULL) < 0) {
		if (m.revisions.items)
			abort();
		return 0;
	}
	if (userdata_memory_encode(&m, &text) == 0) {
		if (jd_decode_document(text.data, text.len, "memory", LIMIT_RECORD, &userdata_memory_type, &again,
				       NULL) < 0 ||
		    again.revisions.n != m.revisions.n)
			abort();
		jd_free(&userdata_memory_type, &again);
	}
	jd_free(&userdata_memory_type, &m);
	return 0;
}

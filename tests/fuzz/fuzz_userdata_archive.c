/* An archive of any bytes: entries are whole, or there is none. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/core/userdata_archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct userdata_archive a = { 0 };

	if (userdata_archive_read((const char *)data, size, &a, NULL) < 0) {
		if (a.entries)
			abort();
		return 0;
	}
	if (a.n > LIMIT_USER_DATA_PARTS)
		abort();
	for (size_t i = 0; i < a.n; i++)
		if (a.entries[i].content && strlen(a.entries[i].content) > a.entries[i].len)
			abort();
	userdata_archive_done(&a);
	return 0;
}

/* User data of any bytes: a format is found, and only what was inflated within the limit counts as gzip. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/codec/gzip.h"
#include "agent/core/userdata_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct userdata_form f = userdata_detect(data, size);
	struct userdata_record r = { 0 };

	if (f.format < 0 || f.format >= _USERDATA_FORMAT_MAX || (f.gzip && !gzip_detect(data, size)))
		abort();
	if (userdata_record_decode((const char *)data, size, &r, NULL) >= 0)
		userdata_record_done(&r);
	else if (r.sha256)
		abort();
	return 0;
}

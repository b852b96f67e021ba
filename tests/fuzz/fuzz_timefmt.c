/* Times: what is read can be written and read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/codec/timefmt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	char out[TIMEFMT_MAX];
	usec_t number = 0, wall, again;
	struct error err;

	memcpy(&number, data, size < sizeof(number) ? size : sizeof(number));
	(void)timefmt_span(number, out);
	(void)timefmt_clock(number, out);
	(void)timefmt_utc_usec(number, out);
	if (!text || timefmt_parse(text, &wall, &err) < 0)
		return 0;
	/* An offset may lead from the last day of 9999 into a year with five digits. */
	if (timefmt_parse(timefmt_utc_usec(wall, out), &again, &err) < 0 ? strlen(out) <= 27 : again != wall)
		abort();
	return 0;
}

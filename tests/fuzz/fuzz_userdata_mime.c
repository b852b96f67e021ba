/* MIME: the first byte chooses a transfer encoding for the rest, which is also read as a message; never more than the bounds. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/base/limits.h"
#include "agent/core/userdata_mime.h"

static int on_part(const struct userdata_mime_part *part, void *userdata)
{
	size_t *n = userdata;

	if (!part->type || !*part->type || !part->content || ++*n > LIMIT_USER_DATA_PARTS)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const encodings[] = { "base64", "quoted-printable", "x-uuencode", "7bit" };
	_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_GUNZIP_DEFAULT);
	size_t n = 0;

	if (!size)
		return 0;
	if (userdata_mime_walk((const char *)data, size, on_part, &n, NULL) < 0 && n > LIMIT_USER_DATA_PARTS)
		abort();
	if (userdata_mime_decode(encodings[data[0] % 4], (const char *)data + 1, size - 1, &out) == 0 &&
	    out.len > 64 * size)
		abort();
	return 0;
}

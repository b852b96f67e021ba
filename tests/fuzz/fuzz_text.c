/* The converter of scripts: whatever the bytes, in pieces of any size the same text comes out as from one piece, and never
 * more than its bytes can amount to. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/runner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void convert(const uint8_t *data, size_t size, size_t piece, struct buf *out)
{
	struct text_convert t = { 0 };

	for (size_t at = 0; at < size; at += piece)
		if (text_convert_feed(&t, data + at, size - at < piece ? size - at : piece, out) < 0)
			abort();
	if (text_convert_end(&t, out) < 0)
		abort();
}

static size_t count(const void *data, size_t size, const char *what)
{
	size_t len = strlen(what), n = 0;

	for (size_t i = 0; i + len <= size; i++)
		n += memcmp((const char *)data + i, what, len) == 0;
	return n;
}

static bool is_text(const uint8_t *data, size_t size)
{
	return !memchr(data, 0, size < 4 ? size : 4) && data[0] != 0x7f;
}

static bool has_utf16_mark(const uint8_t *data, size_t size)
{
	return size >= 2 && (memcmp(data, "\xff\xfe", 2) == 0 || memcmp(data, "\xfe\xff", 2) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf whole = BUF_INIT(4 * size + 64), pieces = BUF_INIT(4 * size + 64);
	char *interpreter = NULL, *argument = NULL;

	convert(data, size, size + 1, &whole);
	convert(data, size, size ? 1 + data[size - 1] % 7 : 1, &pieces);
	if (whole.len != pieces.len || (whole.len && memcmp(whole.data, pieces.data, whole.len) != 0))
		abort();
	if (whole.len > 3 * size)
		abort();
	/* One carriage return goes before each line feed, no more. */
	if (size && is_text(data, size) && !has_utf16_mark(data, size) &&
	    count(whole.data, whole.len, "\r\n") != count(data, size, "\r\r\n"))
		abort();
	(void)text_is_script("name", data, size);
	if (text_shebang((const char *)data, size, &interpreter, &argument)) {
		free(interpreter);
		free(argument);
	}
	return 0;
}

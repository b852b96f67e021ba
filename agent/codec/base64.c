/* Base64, strict but for white space. */
#include "agent/codec/base64.h"

#include <errno.h>
#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Checks everything before a byte is decoded, so that nothing is appended on failure. Never quotes the text,
 * which may be a secret. */
static int check(const char *text, size_t len, bool blanks, size_t *ret_size, struct error *err)
{
	size_t symbols = 0, padding = 0;
	int last = 0;

	for (size_t i = 0; i < len; i++) {
		int v = base64_value(text[i]);

		if (blanks && is_blank(text[i]))
			continue;
		if (text[i] == '=')
			padding++;
		else if (v < 0 || padding)
			return error_set(err, ERROR_USER, -EINVAL, "base64: unexpected byte at offset %zu", i);
		else
			last = v;
		if (padding > 2 || (padding && symbols % 4 < 2))
			return error_set(err, ERROR_USER, -EINVAL, "base64: unexpected padding at offset %zu", i);
		symbols++;
	}
	if (symbols % 4)
		return error_set(err, ERROR_USER, -EINVAL, "base64: the text ends within a group, at offset %zu", len);
	if ((padding == 1 && last & 3) || (padding == 2 && last & 15))
		return error_set(err, ERROR_USER, -EINVAL, "base64: left-over bits at the end, offset %zu", len);
	*ret_size = symbols / 4 * 3 - padding;
	return 0;
}

int base64_decode(const char *text, size_t len, bool blanks, struct buf *out, struct error *err)
{
	uint32_t bits = 0;
	unsigned n = 0;
	size_t size = 0;
	int r;

	r = check(text, len, blanks, &size, err);
	if (r < 0)
		return r;
	r = buf_reserve(out, size);
	if (r == -EFBIG)
		return error_set(err, ERROR_USER, r, "base64: %zu bytes are more than allowed", size);
	if (r < 0)
		return error_errno(err, r, "base64");
	for (size_t i = 0; i < len; i++) {
		int v = base64_value(text[i]);

		if (v < 0)
			continue;
		bits = bits << 6 | (uint32_t)v;
		n += 6;
		if (n >= 8) {
			n -= 8;
			out->data[out->len++] = (char)(uint8_t)(bits >> n);
		}
	}
	buf_terminate(out);
	return 0;
}

int base64_encode(const void *data, size_t len, struct buf *out)
{
	const uint8_t *p = data;
	int r;

	r = buf_reserve(out, len / 3 * 4 + (len % 3 ? 4 : 0));
	if (r < 0)
		return r;
	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t bits = (uint32_t)p[i] << 16;
		char *to = out->data + out->len;

		if (n > 1)
			bits |= (uint32_t)p[i + 1] << 8;
		if (n > 2)
			bits |= p[i + 2];
		to[0] = alphabet[bits >> 18];
		to[1] = alphabet[bits >> 12 & 63];
		to[2] = n > 1 ? alphabet[bits >> 6 & 63] : '=';
		to[3] = n > 2 ? alphabet[bits & 63] : '=';
		out->len += 4;
	}
	buf_terminate(out);
	return 0;
}

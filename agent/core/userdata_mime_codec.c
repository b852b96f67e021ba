/* Transfer encodings of MIME: base64, quoted-printable, uuencode. */
#include "agent/core/userdata_mime_codec.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "agent/codec/base64.h"

/* Symbols that are none are passed over; padding ends the text where it completes a group. */
int mime_decode_base64(const char *text, size_t len, struct buf *out)
{
	uint32_t bits = 0;
	unsigned n = 0, pads = 0;
	size_t before = out->len;

	if (buf_reserve(out, len / 4 * 3 + 3) < 0)
		return buf_ok(out);
	for (size_t i = 0; i < len; i++) {
		int v = base64_value(text[i]);

		if (text[i] == '=') {
			if (n >= 2 && n + ++pads >= 4)
				break;
			continue;
		}
		if (v < 0)
			continue;
		pads = 0;
		bits = bits << 6 | (uint32_t)v;
		if (++n == 1)
			continue;
		out->data[out->len++] = (char)(uint8_t)(bits >> (8 - 2 * n));
		n %= 4;
	}
	/* One symbol alone in the last group is a text that cannot be base64 at all: it stays as it is. */
	if (n == 1) {
		out->len = before;
		buf_terminate(out);
		for (size_t i = 0; i < len; i++)
			if (text[i] != '\n' && text[i] != '\r' && buf_putc(out, text[i]) < 0)
				return buf_ok(out);
	}
	buf_terminate(out);
	return 0;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int mime_decode_quoted_printable(const char *text, size_t len, struct buf *out)
{
	for (size_t i = 0; i < len;) {
		char c = text[i++];

		if (c != '=' || i >= len) {
			/* A "=" at the very end says nothing. */
			if (c != '=' && buf_putc(out, c) < 0)
				return buf_ok(out);
		} else if (text[i] == '\n' || text[i] == '\r') {
			/* A soft break. */
			while (i < len && text[i] != '\n')
				i++;
			i += i < len;
		} else if (text[i] == '=') {
			/* Some encoders have doubled it. */
			i++;
			if (buf_putc(out, '=') < 0)
				return buf_ok(out);
		} else if (i + 1 < len && hex(text[i]) >= 0 && hex(text[i + 1]) >= 0) {
			if (buf_putc(out, (char)(hex(text[i]) << 4 | hex(text[i + 1]))) < 0)
				return buf_ok(out);
			i += 2;
		} else if (buf_putc(out, '=') < 0) {
			return buf_ok(out);
		}
	}
	return 0;
}

/* A line without its end. */
struct uu_line {
	const char *text;
	size_t len;
};

static bool uu_next(const char **at, const char *end, struct uu_line *ret)
{
	const char *p = *at;

	if (p >= end)
		return false;
	ret->text = p;
	while (p < end && *p != '\n' && *p != '\r')
		p++;
	ret->len = (size_t)(p - ret->text);
	if (p < end && *p == '\r' && p + 1 < end && p[1] == '\n')
		p++;
	*at = p < end ? p + 1 : end;
	return true;
}

/* "begin 644 name" */
static bool uu_begins(const struct uu_line *l)
{
	size_t at = 6;

	if (l->len < 7 || memcmp(l->text, "begin ", 6) != 0)
		return false;
	while (at < l->len && l->text[at] >= '0' && l->text[at] <= '7')
		at++;
	return at > 6 && (at == l->len || l->text[at] == ' ');
}

static bool uu_ends(const struct uu_line *l)
{
	const char *p = l->text;
	size_t n = l->len;

	for (; n && *p && strchr(" \t\f", *p); n--)
		p++;
	while (n && p[n - 1] && strchr(" \t\f", p[n - 1]))
		n--;
	return n == 3 && memcmp(p, "end", 3) == 0;
}

/* The first character says how many bytes there are; what is missing counts as zeroes (Python's binascii.a2b_uu()). More
 * than that many is passed over, as "broken encoders" leave it; other characters are -EBADMSG. */
static int uu_line(const struct uu_line *l, struct buf *out)
{
	size_t want = ((size_t)(unsigned char)l->text[0] - ' ') & 63;
	uint32_t bits = 0;
	unsigned n = 0;

	for (size_t i = 1; want > 0; i++) {
		char c = i < l->len ? l->text[i] : ' ';

		if (c < ' ' || c > '`')
			return -EBADMSG;
		bits = bits << 6 | ((uint32_t)(c - ' ') & 63);
		n += 6;
		if (n < 8)
			continue;
		n -= 8;
		want--;
		if (buf_putc(out, (char)(uint8_t)(bits >> n)) < 0)
			return buf_ok(out);
	}
	return 0;
}

/* Without its first line, or with a line that is none, it is no uuencoded text, and stays as it is. */
int mime_decode_uu(const char *text, size_t len, struct buf *out)
{
	const char *at = text, *end = text + len;
	size_t before = out->len;
	struct uu_line l;
	bool begun = false;
	int k = 0;

	while (!begun && uu_next(&at, end, &l))
		begun = uu_begins(&l);
	while (begun && k >= 0 && uu_next(&at, end, &l) && !uu_ends(&l))
		k = l.len ? uu_line(&l, out) : -EBADMSG;
	if (begun && k != -EBADMSG)
		return k;
	out->len = before;
	return buf_append(out, text, len);
}

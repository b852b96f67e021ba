/* Scripts as people save them, into what a Unix interpreter takes: in one pass, in pieces, without holding the file. */
#include "agent/app/runner.h"

#include <string.h>

#include "agent/base/str.h"

#define REPLACEMENT 0xfffdu

static int put_utf8(struct buf *out, uint32_t c)
{
	unsigned char b[4];
	size_t n;

	if (c < 0x80) {
		b[0] = (unsigned char)c;
		n = 1;
	} else if (c < 0x800) {
		b[0] = (unsigned char)(0xc0 | c >> 6);
		b[1] = (unsigned char)(0x80 | (c & 0x3f));
		n = 2;
	} else if (c < 0x10000) {
		b[0] = (unsigned char)(0xe0 | c >> 12);
		b[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
		b[2] = (unsigned char)(0x80 | (c & 0x3f));
		n = 3;
	} else {
		b[0] = (unsigned char)(0xf0 | c >> 18);
		b[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
		b[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
		b[3] = (unsigned char)(0x80 | (c & 0x3f));
		n = 4;
	}
	return buf_append(out, b, n);
}

/* A carriage return is held until it is known whether a line feed follows. */
static int put_character(struct text_convert *t, uint32_t c, struct buf *out)
{
	int r = 0;

	if (t->cr && c != '\n')
		r = buf_putc(out, '\r');
	t->cr = c == '\r';
	if (r < 0 || t->cr)
		return r;
	return put_utf8(out, c);
}

static int put_unit(struct text_convert *t, uint32_t u, struct buf *out)
{
	uint32_t high = t->high;
	int r = 0;

	t->high = 0;
	if (high && u >= 0xdc00 && u < 0xe000)
		return put_character(t, 0x10000 + ((high - 0xd800) << 10) + (u - 0xdc00), out);
	if (high)
		r = put_character(t, REPLACEMENT, out);
	if (r < 0)
		return r;
	if (u >= 0xd800 && u < 0xdc00) {
		t->high = u;
		return 0;
	}
	return put_character(t, u >= 0xdc00 && u < 0xe000 ? REPLACEMENT : u, out);
}

static int feed_utf16(struct text_convert *t, const unsigned char *p, size_t len, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < len; i++) {
		t->held[t->n_held++] = p[i];
		if (t->n_held < 2)
			continue;
		t->n_held = 0;
		r = put_unit(t,
			     t->encoding == TEXT_UTF16LE ? (uint32_t)(t->held[1] << 8 | t->held[0]) :
							   (uint32_t)(t->held[0] << 8 | t->held[1]),
			     out);
	}
	return r;
}

static int feed_lf(struct text_convert *t, const unsigned char *p, size_t len, struct buf *out)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < len;) {
		const unsigned char *cr;
		size_t n;

		if (t->cr) {
			t->cr = false;
			if (p[i] != '\n')
				r = buf_putc(out, '\r');
			continue;
		}
		cr = memchr(p + i, '\r', len - i);
		n = cr ? (size_t)(cr - p) - i : len - i;
		r = buf_append(out, p + i, n);
		t->cr = cr;
		i += n + (cr ? 1 : 0);
	}
	return r;
}

static int feed(struct text_convert *t, const unsigned char *p, size_t len, struct buf *out)
{
	if (t->encoding == TEXT_LF)
		return feed_lf(t, p, len, out);
	if (t->encoding == TEXT_BYTES)
		return buf_append(out, p, len);
	return feed_utf16(t, p, len, out);
}

/* What the first four bytes say. A program (ELF) or an archive is no text, whatever its bytes. */
static int decide(struct text_convert *t, struct buf *out)
{
	unsigned char h[4];
	size_t n = t->n_held, skip = 0;

	memcpy(h, t->held, sizeof(h));
	t->n_held = 0;
	if (n >= 2 && h[0] == 0xff && h[1] == 0xfe) {
		t->encoding = TEXT_UTF16LE;
		skip = 2;
	} else if (n >= 2 && h[0] == 0xfe && h[1] == 0xff) {
		t->encoding = TEXT_UTF16BE;
		skip = 2;
	} else if (n >= 3 && memcmp(h, "\xef\xbb\xbf", 3) == 0) {
		t->encoding = TEXT_LF;
		skip = 3;
	} else {
		t->encoding = memchr(h, 0, n) || (n && h[0] == 0x7f) ? TEXT_BYTES : TEXT_LF;
	}
	return feed(t, h + skip, n - skip, out);
}

int text_convert_feed(struct text_convert *t, const void *data, size_t len, struct buf *out)
{
	const unsigned char *p = data;
	int r = 0;

	while (t->encoding == TEXT_UNKNOWN && len) {
		t->held[t->n_held++] = *p++;
		len--;
		if (t->n_held == sizeof(t->held))
			r = decide(t, out);
	}
	return r < 0 || !len ? r : feed(t, p, len, out);
}

int text_convert_end(struct text_convert *t, struct buf *out)
{
	int r = t->encoding == TEXT_UNKNOWN ? decide(t, out) : 0;

	if (r >= 0 && t->high)
		r = put_character(t, REPLACEMENT, out);
	if (r >= 0 && t->n_held)
		r = put_character(t, REPLACEMENT, out);
	if (r >= 0 && t->cr)
		r = buf_putc(out, '\r');
	return r;
}

/* As the kernel reads it: the interpreter up to a blank, the rest of the line as one argument. */
bool text_shebang(const char *text, size_t len, char **ret_interpreter, char **ret_argument)
{
	const char *end = memchr(text, '\n', len), *p = text + 2, *name;
	char *interpreter, *argument = NULL;

	if (len < 3 || text[0] != '#' || text[1] != '!')
		return false;
	end = end ? end : text + len;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
		end--;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	name = p;
	while (p < end && *p != ' ' && *p != '\t')
		p++;
	if (p == name)
		return false;
	interpreter = strndup(name, (size_t)(p - name));
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	if (p < end)
		argument = strndup(p, (size_t)(end - p));
	*ret_interpreter = interpreter;
	*ret_argument = argument;
	return true;
}

bool text_is_script(const char *name, const void *head, size_t len)
{
	static const char *const endings[] = { ".sh", ".txt", ".py", ".pl" };
	const unsigned char *h = head;
	size_t mark = len >= 3 && memcmp(h, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

	for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
		if (str_ends(name, endings[i]))
			return true;
	if (len >= 6 && (memcmp(h, "\xff\xfe#\0!\0", 6) == 0 || memcmp(h, "\xfe\xff\0#\0!", 6) == 0))
		return true;
	return len >= mark + 2 && h[mark] == '#' && h[mark + 1] == '!';
}

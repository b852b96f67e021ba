/* Texts of YAML, read where its rules leave one meaning only. */
#include "agent/core/userdata_yaml.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "agent/base/str.h"

static size_t line_number(const struct yaml *y)
{
	size_t n = 1;

	for (size_t i = 0; i < y->at && i < y->len; i++)
		n += y->text[i] == '\n';
	return n;
}

int yaml_refuse(struct yaml *y, int code, const char *why)
{
	return error_set(y->err, ERROR_USER, code, "line %zu: %s", line_number(y), why);
}

int yaml_not_read(struct yaml *y, const char *what)
{
	return error_set(y->err, ERROR_USER, -EOPNOTSUPP,
			 "line %zu: %s is YAML that is not read here; write it as plain, quoted or | text",
			 line_number(y), what);
}

char yaml_peek(const struct yaml *y)
{
	return y->at < y->len ? y->text[y->at] : '\0';
}

bool yaml_at_break(const struct yaml *y)
{
	return y->at >= y->len || yaml_peek(y) == '\n' || yaml_peek(y) == '\r';
}

size_t yaml_column(const struct yaml *y)
{
	size_t from = y->at;

	while (from > 0 && y->text[from - 1] != '\n')
		from--;
	return y->at - from;
}

/* \n or \r\n; false at the end. */
static bool yaml_skip_break(struct yaml *y)
{
	if (yaml_peek(y) == '\r' && y->at + 1 < y->len && y->text[y->at + 1] == '\n')
		y->at++;
	if (yaml_peek(y) != '\n')
		return false;
	y->at++;
	return true;
}

static void yaml_skip_spaces(struct yaml *y)
{
	while (yaml_peek(y) == ' ')
		y->at++;
}

void yaml_skip_to_break(struct yaml *y)
{
	while (!yaml_at_break(y))
		y->at++;
}

/* Over blank lines and comments, to the first character of the next line that says something. */
void yaml_skip_nothing(struct yaml *y)
{
	for (;;) {
		yaml_skip_spaces(y);
		if (yaml_peek(y) == '#')
			yaml_skip_to_break(y);
		if (!yaml_at_break(y) || y->at >= y->len)
			return;
		if (!yaml_skip_break(y))
			y->at++;
	}
}

/* After a value: blanks, a comment, the line's end. */
int yaml_end_line(struct yaml *y)
{
	size_t before = y->at;

	while (yaml_peek(y) == ' ' || yaml_peek(y) == '\t')
		y->at++;
	if (yaml_peek(y) == '#' && y->at > before)
		yaml_skip_to_break(y);
	return yaml_at_break(y) ? 0 : yaml_refuse(y, -EBADMSG, "something follows the value");
}

static int read_single(struct yaml *y, struct buf *out)
{
	for (y->at++; !yaml_at_break(y); y->at++) {
		if (yaml_peek(y) == '\'') {
			if (y->at + 1 >= y->len || y->text[y->at + 1] != '\'') {
				y->at++;
				return 0;
			}
			y->at++;
		}
		if (buf_putc(out, yaml_peek(y)) < 0)
			return error_oom(y->err);
	}
	return yaml_not_read(y, "a quoted text of several lines");
}

static int put_utf8(struct buf *out, uint32_t c)
{
	char b[4];
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return -EINVAL;
	if (n == 1) {
		b[0] = (char)c;
	} else {
		for (size_t i = n - 1; i > 0; i--, c >>= 6)
			b[i] = (char)(0x80 | (c & 0x3f));
		b[0] = (char)((0xf00u >> n & 0xffu) | c);
	}
	return buf_append(out, b, n);
}

static int read_escape(struct yaml *y, struct buf *out)
{
	static const char from[] = "0abt\tnvfre \"/\\", to[] = "\0\a\b\t\t\n\v\f\r\x1b \"/\\";
	char c = yaml_peek(y);
	size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	const char *found = c ? memchr(from, c, sizeof(from) - 1) : NULL;
	uint32_t value = 0;

	if (found)
		return buf_putc(out, to[found - from]);
	if (!digits)
		return -EINVAL;
	for (; digits > 0; digits--) {
		const char *hex = "0123456789abcdef", *d;

		y->at++;
		d = yaml_peek(y) ? strchr(hex, yaml_peek(y) | 0x20) : NULL;
		if (!d)
			return -EINVAL;
		value = value << 4 | (uint32_t)(d - hex);
	}
	return put_utf8(out, value);
}

static int read_double(struct yaml *y, struct buf *out)
{
	for (y->at++; !yaml_at_break(y); y->at++) {
		int k = 0;

		if (yaml_peek(y) == '"') {
			y->at++;
			return 0;
		}
		if (yaml_peek(y) == '\\') {
			y->at++;
			k = read_escape(y, out);
		} else {
			k = buf_putc(out, yaml_peek(y));
		}
		if (k == -EINVAL)
			return yaml_refuse(y, -EBADMSG, "an escape that is none");
		if (k < 0)
			return error_oom(y->err);
	}
	return yaml_not_read(y, "a quoted text of several lines");
}

/* "|", ">", "|2-": how the text's lines are put together. */
struct block {
	bool folded;
	char chomp; /* '-', '+' or 0 */
	size_t increment;
};

static int read_block_header(struct yaml *y, struct block *b)
{
	*b = (struct block){ .folded = yaml_peek(y) == '>' };
	for (y->at++; !yaml_at_break(y) && yaml_peek(y) != ' '; y->at++) {
		if ((yaml_peek(y) == '-' || yaml_peek(y) == '+') && !b->chomp)
			b->chomp = yaml_peek(y);
		else if (yaml_peek(y) >= '1' && yaml_peek(y) <= '9' && !b->increment)
			b->increment = (size_t)(yaml_peek(y) - '0');
		else
			return yaml_refuse(y, -EBADMSG, "after | or > only a digit, - or + may stand");
	}
	if (yaml_end_line(y) < 0)
		return -EBADMSG;
	(void)yaml_skip_break(y);
	return 0;
}

/* Blank lines, and the blanks before a line as far as the text's own indentation. How many of the former. */
static size_t skip_block_breaks(struct yaml *y, size_t indent)
{
	size_t breaks = 0, at = yaml_column(y);

	for (;;) {
		for (; at < indent && yaml_peek(y) == ' '; at++)
			y->at++;
		if (!yaml_at_break(y) || !yaml_skip_break(y))
			return breaks;
		breaks++;
		at = 0;
	}
}

/* The text's indentation is that of its first line that is not blank. */
static size_t find_indent(const struct yaml *y, size_t least)
{
	struct yaml look = *y;
	size_t most = 0, at = yaml_column(y);

	while (yaml_peek(&look) == ' ' || (yaml_at_break(&look) && look.at < look.len)) {
		if (yaml_peek(&look) == ' ') {
			look.at++;
			at++;
		} else {
			if (!yaml_skip_break(&look))
				look.at++;
			at = 0;
		}
		most = at > most ? at : most;
	}
	return most > least ? most : least;
}

static int put_breaks(struct buf *out, size_t n)
{
	while (n-- > 0)
		if (buf_putc(out, '\n') < 0)
			return buf_ok(out);
	return 0;
}

/* As PyYAML's scan_block_scalar() does it. `parent`: the column of what the text belongs to. */
static int read_block(struct yaml *y, size_t parent, struct buf *out)
{
	struct block b;
	size_t indent, breaks;
	bool broken = false;
	int k = read_block_header(y, &b);

	if (k < 0)
		return k;
	indent = b.increment ? parent + b.increment : find_indent(y, parent + 1);
	breaks = skip_block_breaks(y, indent);
	while (y->at < y->len && yaml_column(y) == indent) {
		bool plain = yaml_peek(y) != ' ' && yaml_peek(y) != '\t', more;
		size_t from = y->at;

		(void)put_breaks(out, breaks);
		yaml_skip_to_break(y);
		(void)buf_append(out, y->text + from, y->at - from);
		broken = yaml_skip_break(y);
		breaks = skip_block_breaks(y, indent);
		more = y->at < y->len && yaml_column(y) == indent;
		if (!more)
			break;
		if (!b.folded || !plain || yaml_peek(y) == ' ' || yaml_peek(y) == '\t')
			(void)buf_putc(out, '\n');
		else if (!breaks)
			(void)buf_putc(out, ' ');
	}
	if (b.chomp != '-' && broken)
		(void)buf_putc(out, '\n');
	if (b.chomp == '+')
		(void)put_breaks(out, breaks);
	return buf_ok(out) < 0 ? error_oom(y->err) : 0;
}

/* What YAML takes for something else than a text. */
static bool is_no_text(const char *s)
{
	static const char *const words[] = { "~", "null", "true", "false", "yes", "no", "on", "off", NULL };

	for (const char *const *w = words; *w; w++)
		if (str_equal_nocase(s, *w))
			return true;
	/* Numbers, times and dates begin like this; some texts, too, which are to be quoted then. */
	return !*s || strchr("0123456789", *s) ||
	       (strchr("+-.", *s) && strspn(s, "0123456789+-.einfaNINFA_:") == strlen(s));
}

static int read_plain(struct yaml *y, size_t parent, struct buf *out)
{
	size_t from = y->at, to;
	struct yaml look;

	for (; !yaml_at_break(y); y->at++) {
		if (yaml_peek(y) == '#' && y->at > from && (y->text[y->at - 1] == ' ' || y->text[y->at - 1] == '\t'))
			break;
		if (yaml_peek(y) == ':' && (y->at + 1 >= y->len || strchr(" \t\r\n", y->text[y->at + 1])))
			return yaml_refuse(y, -EBADMSG, "a map is not expected here");
	}
	to = y->at;
	while (to > from && (y->text[to - 1] == ' ' || y->text[to - 1] == '\t'))
		to--;
	yaml_skip_to_break(y);
	look = *y;
	yaml_skip_nothing(&look);
	if (look.at < look.len && yaml_column(&look) > parent)
		return yaml_not_read(&look, "a text that goes on in the next line");
	return buf_append(out, y->text + from, to - from) < 0 ? error_oom(y->err) : 0;
}

/* A value, to the end of its last line. `text`: it must be a text. */
int yaml_read_value(struct yaml *y, size_t parent, bool text, struct buf *out)
{
	char c = yaml_peek(y);
	int k;

	if (c == '|' || c == '>')
		return read_block(y, parent, out);
	if (c && strchr("[{", c))
		return yaml_not_read(y, "a list or map in brackets");
	if (c && strchr("&*!%@`?]},", c))
		return yaml_not_read(y, "an anchor, alias or tag");
	if (c == '"' || c == '\'') {
		k = c == '"' ? read_double(y, out) : read_single(y, out);
		return k < 0 ? k : yaml_end_line(y);
	}
	if (yaml_at_break(y) || c == '#')
		return yaml_refuse(y, -EBADMSG, "there is no text here");
	k = read_plain(y, parent, out);
	if (k >= 0 && text && is_no_text(buf_str(out)))
		return yaml_refuse(y, -EBADMSG, "the value is no text; quote it");
	return k;
}

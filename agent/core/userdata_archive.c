/* #cloud-config-archive: the part of YAML that such lists are written in, and JSON. */
#include "agent/core/userdata_archive.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"

struct yaml {
	const char *text;
	size_t len, at;
	struct userdata_archive archive;
	struct error *err;
};

void userdata_archive_done(struct userdata_archive *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free(a->entries[i].type);
		free(a->entries[i].filename);
		free(a->entries[i].content);
	}
	free(a->entries);
	*a = (struct userdata_archive){ 0 };
}

static size_t line_number(const struct yaml *y)
{
	size_t n = 1;

	for (size_t i = 0; i < y->at && i < y->len; i++)
		n += y->text[i] == '\n';
	return n;
}

static int refuse(struct yaml *y, int code, const char *why)
{
	return error_set(y->err, ERROR_USER, code, "line %zu: %s", line_number(y), why);
}

static int not_read(struct yaml *y, const char *what)
{
	return error_set(y->err, ERROR_USER, -EOPNOTSUPP, "line %zu: %s is YAML that is not read here; write it as plain, quoted or | text",
			 line_number(y), what);
}

static char peek(const struct yaml *y)
{
	return y->at < y->len ? y->text[y->at] : '\0';
}

static bool at_break(const struct yaml *y)
{
	return y->at >= y->len || peek(y) == '\n' || peek(y) == '\r';
}

static size_t column(const struct yaml *y)
{
	size_t from = y->at;

	while (from > 0 && y->text[from - 1] != '\n')
		from--;
	return y->at - from;
}

/* \n or \r\n; false at the end. */
static bool skip_break(struct yaml *y)
{
	if (peek(y) == '\r' && y->at + 1 < y->len && y->text[y->at + 1] == '\n')
		y->at++;
	if (peek(y) != '\n')
		return false;
	y->at++;
	return true;
}

static void skip_spaces(struct yaml *y)
{
	while (peek(y) == ' ')
		y->at++;
}

static void skip_to_break(struct yaml *y)
{
	while (!at_break(y))
		y->at++;
}

/* Over blank lines and comments, to the first character of the next line that says something. */
static void skip_nothing(struct yaml *y)
{
	for (;;) {
		skip_spaces(y);
		if (peek(y) == '#')
			skip_to_break(y);
		if (!at_break(y) || y->at >= y->len)
			return;
		if (!skip_break(y))
			y->at++;
	}
}

/* After a value: blanks, a comment, the line's end. */
static int end_line(struct yaml *y)
{
	size_t before = y->at;

	while (peek(y) == ' ' || peek(y) == '\t')
		y->at++;
	if (peek(y) == '#' && y->at > before)
		skip_to_break(y);
	return at_break(y) ? 0 : refuse(y, -EBADMSG, "something follows the value");
}

/* ---- texts ---- */

static int read_single(struct yaml *y, struct buf *out)
{
	for (y->at++; !at_break(y); y->at++) {
		if (peek(y) == '\'') {
			if (y->at + 1 >= y->len || y->text[y->at + 1] != '\'') {
				y->at++;
				return 0;
			}
			y->at++;
		}
		if (buf_putc(out, peek(y)) < 0)
			return error_oom(y->err);
	}
	return not_read(y, "a quoted text of several lines");
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
	char c = peek(y);
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
		d = peek(y) ? strchr(hex, peek(y) | 0x20) : NULL;
		if (!d)
			return -EINVAL;
		value = value << 4 | (uint32_t)(d - hex);
	}
	return put_utf8(out, value);
}

static int read_double(struct yaml *y, struct buf *out)
{
	for (y->at++; !at_break(y); y->at++) {
		int k = 0;

		if (peek(y) == '"') {
			y->at++;
			return 0;
		}
		if (peek(y) == '\\') {
			y->at++;
			k = read_escape(y, out);
		} else {
			k = buf_putc(out, peek(y));
		}
		if (k == -EINVAL)
			return refuse(y, -EBADMSG, "an escape that is none");
		if (k < 0)
			return error_oom(y->err);
	}
	return not_read(y, "a quoted text of several lines");
}

/* "|", ">", "|2-": how the text's lines are put together. */
struct block {
	bool folded;
	char chomp; /* '-', '+' or 0 */
	size_t increment;
};

static int read_block_header(struct yaml *y, struct block *b)
{
	*b = (struct block){ .folded = peek(y) == '>' };
	for (y->at++; !at_break(y) && peek(y) != ' '; y->at++) {
		if ((peek(y) == '-' || peek(y) == '+') && !b->chomp)
			b->chomp = peek(y);
		else if (peek(y) >= '1' && peek(y) <= '9' && !b->increment)
			b->increment = (size_t)(peek(y) - '0');
		else
			return refuse(y, -EBADMSG, "after | or > only a digit, - or + may stand");
	}
	if (end_line(y) < 0)
		return -EBADMSG;
	(void)skip_break(y);
	return 0;
}

/* Blank lines, and the blanks before a line as far as the text's own indentation. How many of the former. */
static size_t skip_block_breaks(struct yaml *y, size_t indent)
{
	size_t breaks = 0, at = column(y);

	for (;;) {
		for (; at < indent && peek(y) == ' '; at++)
			y->at++;
		if (!at_break(y) || !skip_break(y))
			return breaks;
		breaks++;
		at = 0;
	}
}

/* The text's indentation is that of its first line that is not blank. */
static size_t find_indent(const struct yaml *y, size_t least)
{
	struct yaml look = *y;
	size_t most = 0, at = column(y);

	while (peek(&look) == ' ' || (at_break(&look) && look.at < look.len)) {
		if (peek(&look) == ' ') {
			look.at++;
			at++;
		} else {
			if (!skip_break(&look))
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
	while (y->at < y->len && column(y) == indent) {
		bool plain = peek(y) != ' ' && peek(y) != '\t', more;
		size_t from = y->at;

		(void)put_breaks(out, breaks);
		skip_to_break(y);
		(void)buf_append(out, y->text + from, y->at - from);
		broken = skip_break(y);
		breaks = skip_block_breaks(y, indent);
		more = y->at < y->len && column(y) == indent;
		if (!more)
			break;
		if (!b.folded || !plain || peek(y) == ' ' || peek(y) == '\t')
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
	return !*s || strchr("0123456789", *s) || (strchr("+-.", *s) && strspn(s, "0123456789+-.einfaNINFA_:") == strlen(s));
}

static int read_plain(struct yaml *y, size_t parent, struct buf *out)
{
	size_t from = y->at, to;
	struct yaml look;

	for (; !at_break(y); y->at++) {
		if (peek(y) == '#' && y->at > from && (y->text[y->at - 1] == ' ' || y->text[y->at - 1] == '\t'))
			break;
		if (peek(y) == ':' && (y->at + 1 >= y->len || strchr(" \t\r\n", y->text[y->at + 1])))
			return refuse(y, -EBADMSG, "a map is not expected here");
	}
	to = y->at;
	while (to > from && (y->text[to - 1] == ' ' || y->text[to - 1] == '\t'))
		to--;
	skip_to_break(y);
	look = *y;
	skip_nothing(&look);
	if (look.at < look.len && column(&look) > parent)
		return not_read(&look, "a text that goes on in the next line");
	return buf_append(out, y->text + from, to - from) < 0 ? error_oom(y->err) : 0;
}

/* A value, to the end of its last line. `text`: it must be a text. */
static int read_value(struct yaml *y, size_t parent, bool text, struct buf *out)
{
	char c = peek(y);
	int k;

	if (c == '|' || c == '>')
		return read_block(y, parent, out);
	if (c && strchr("[{", c))
		return not_read(y, "a list or map in brackets");
	if (c && strchr("&*!%@`?]},", c))
		return not_read(y, "an anchor, alias or tag");
	if (c == '"' || c == '\'') {
		k = c == '"' ? read_double(y, out) : read_single(y, out);
		return k < 0 ? k : end_line(y);
	}
	if (at_break(y) || c == '#')
		return refuse(y, -EBADMSG, "there is no text here");
	k = read_plain(y, parent, out);
	if (k >= 0 && text && is_no_text(buf_str(out)))
		return refuse(y, -EBADMSG, "the value is no text; quote it");
	return k;
}

/* ---- entries ---- */

static int set(struct yaml *y, char **to, const struct buf *value, size_t *ret_len)
{
	if (*to)
		return refuse(y, -EBADMSG, "the member is there twice");
	*to = malloc(value->len + 1);
	if (!*to)
		return error_oom(y->err);
	memcpy(*to, buf_str(value), value->len + 1);
	if (ret_len)
		*ret_len = value->len;
	return 0;
}

/* "key:" and a blank or the line's end. 0: this is no key. */
static size_t key_length(const struct yaml *y)
{
	size_t n = 0;

	while (y->at + n < y->len && !strchr(": \t\r\n#\"'|>[]{}&*!%@`,", y->text[y->at + n]))
		n++;
	return n && y->at + n < y->len && y->text[y->at + n] == ':' &&
			       (y->at + n + 1 >= y->len || strchr(" \t\r\n", y->text[y->at + n + 1])) ?
		       n :
		       0;
}

static int read_member(struct yaml *y, size_t parent, struct userdata_archive_entry *e)
{
	_cleanup_buf_ struct buf value = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);
	size_t n = key_length(y);
	_cleanup_free_ char *key = n ? strndup(y->text + y->at, n) : NULL;
	int k;

	if (!n)
		return refuse(y, -EBADMSG, "expected a member (\"content:\", \"type:\", \"filename:\")");
	if (!key)
		return error_oom(y->err);
	y->at += n + 1;
	while (peek(y) == ' ' || peek(y) == '\t')
		y->at++;
	k = read_value(y, parent, str_equal(key, "content") || str_equal(key, "type"), &value);
	if (k < 0)
		return k;
	if (str_equal(key, "content"))
		return set(y, &e->content, &value, &e->len);
	if (str_equal(key, "type"))
		return set(y, &e->type, &value, NULL);
	return str_equal(key, "filename") ? set(y, &e->filename, &value, NULL) : 0;
}

static int add(struct yaml *y, struct userdata_archive_entry **ret)
{
	struct userdata_archive *a = &y->archive;
	struct userdata_archive_entry *grown;

	if (a->n >= LIMIT_USER_DATA_PARTS)
		return error_set(y->err, ERROR_USER, -E2BIG, "more than %d parts", LIMIT_USER_DATA_PARTS);
	grown = reallocarray(a->entries, a->n + 1, sizeof(*grown));
	if (!grown)
		return error_oom(y->err);
	a->entries = grown;
	grown[a->n] = (struct userdata_archive_entry){ NULL };
	*ret = &grown[a->n++];
	return 0;
}

/* After the "-". */
static int read_entry(struct yaml *y, size_t dash)
{
	struct userdata_archive_entry *e;
	size_t parent;
	int k = add(y, &e);

	if (k < 0)
		return k;
	while (peek(y) == ' ')
		y->at++;
	if (at_break(y) || peek(y) == '#')
		skip_nothing(y);
	parent = column(y);
	if (y->at >= y->len || parent <= dash)
		return refuse(y, -EBADMSG, "there is nothing after the -");
	if (!key_length(y)) {
		_cleanup_buf_ struct buf value = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);

		k = read_value(y, dash, true, &value);
		return k < 0 ? k : set(y, &e->content, &value, &e->len);
	}
	do {
		k = read_member(y, parent, e);
		if (k < 0)
			return k;
		skip_nothing(y);
	} while (y->at < y->len && column(y) == parent);
	return 0;
}

static bool starts(const struct yaml *y, const char *word)
{
	return y->len - y->at >= strlen(word) && memcmp(y->text + y->at, word, strlen(word)) == 0;
}

static int read_list(struct yaml *y)
{
	size_t list = column(y);
	int k = 0;

	while (k >= 0 && y->at < y->len && !(column(y) == 0 && starts(y, "..."))) {
		if (column(y) != list || peek(y) != '-' || !(y->at + 1 >= y->len || strchr(" \r\n", y->text[y->at + 1])))
			return refuse(y, -EBADMSG, "expected a list, each entry after a \"- \" of its own");
		y->at++;
		k = read_entry(y, list);
		if (k >= 0)
			skip_nothing(y);
	}
	return k;
}

/* ---- JSON ---- */

static const struct jd_type text_type = { .kind = JD_TEXT, .max = LIMIT_GUNZIP_DEFAULT };
/* clang-format off */
static const struct jd_field entry_fields[] = {
	{ "type",     &text_type, offsetof(struct userdata_archive_entry, type) },
	{ "filename", &text_type, offsetof(struct userdata_archive_entry, filename) },
	{ "content",  &text_type, offsetof(struct userdata_archive_entry, content) },
	{ NULL },
};
/* clang-format on */
static const struct jd_type entry_type = { .kind = JD_OBJECT, .size = sizeof(struct userdata_archive_entry),
					   .fields = entry_fields, .short_member = "content" };
static const struct jd_type list_type = { .kind = JD_LIST, .max = LIMIT_USER_DATA_PARTS, .element = &entry_type };

static int read_json(struct yaml *y)
{
	struct jd_list list = { 0 };
	int k = jd_decode_document(y->text + y->at, y->len - y->at, "the list", LIMIT_GUNZIP_DEFAULT, &list_type, &list, y->err);

	if (k < 0)
		return k;
	y->archive.entries = list.items;
	y->archive.n = list.n;
	for (size_t i = 0; i < list.n; i++)
		y->archive.entries[i].len = y->archive.entries[i].content ? strlen(y->archive.entries[i].content) : 0;
	return 0;
}

/* What YAML does not allow, and what else it takes for the end of a line. */
static int check_text(struct yaml *y)
{
	static const char *const breaks[] = { "\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9" };

	if (!utf8_valid(y->text, y->len))
		return error_set(y->err, ERROR_USER, -EBADMSG, "line 1: it is no text");
	for (y->at = 0; y->at < y->len; y->at++) {
		unsigned char c = (unsigned char)y->text[y->at];

		if ((c < ' ' && !strchr("\t\n\r", c)) || !c || c == 0x7f)
			return refuse(y, -EBADMSG, "a control character");
		if (c == '\r' && (y->at + 1 >= y->len || y->text[y->at + 1] != '\n'))
			return not_read(y, "a carriage return alone");
		for (size_t i = 0; c >= 0x80 && i < ARRAY_SIZE(breaks); i++)
			if (y->len - y->at >= strlen(breaks[i]) && memcmp(y->text + y->at, breaks[i], strlen(breaks[i])) == 0)
				return not_read(y, "a line's end of another kind");
	}
	y->at = 0;
	return 0;
}

int userdata_archive_read(const char *text, size_t len, struct userdata_archive *ret, struct error *err)
{
	struct yaml y = { .text = text, .len = len, .err = err };
	int k;

	k = check_text(&y);
	if (k < 0)
		return k;
	skip_nothing(&y);
	if (column(&y) == 0 && starts(&y, "---")) {
		y.at += 3;
		k = end_line(&y);
		if (k < 0)
			return k;
		skip_nothing(&y);
	}
	k = peek(&y) == '[' ? read_json(&y) : read_list(&y);
	if (k < 0) {
		userdata_archive_done(&y.archive);
		return k;
	}
	*ret = y.archive;
	return 0;
}

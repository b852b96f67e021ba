/*
 * The strict reader: RFC 8259 and nothing else, with limits counted before memory is spent.
 *
 * json-c's own tokener is not used: it takes what is not JSON, keeps the last of two equal keys, does not
 * check every allocation, and leaves copies of secrets in its buffers. json-c holds the values only.
 */
#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json_internal.h"

/* json-c gives every object a hash table at once: as much memory as three plain values. */
#define OBJECT_COST 3

struct scan {
	const char *start, *p, *end;
	unsigned max_depth;
	unsigned max_values, values_left;
	struct buf text; /* the string read last, without its escapes */
	struct error *err;
};

static void drop_tree(struct json_object **v)
{
	jd_tree_erase(*v);
	*v = NULL;
}
#define _cleanup_tree_ _cleanup_(drop_tree)

static int scan_value(struct scan *s, unsigned level, struct json_object **ret);

static int fail_at(struct scan *s, const char *at, int code, const char *fmt, ...) _printf_(4, 5);
static int fail_at(struct scan *s, const char *at, int code, const char *fmt, ...)
{
	unsigned line = 1, column = 1;
	char why[256];
	va_list ap;

	for (const char *p = s->start; p < at; p++) {
		if (*p == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)*p & 0xC0) != 0x80) {
			column++;
		}
	}
	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	return error_set(s->err, ERROR_USER, code, "line %u, column %u: %s", line, column, why);
}

/* What stands there instead is not told: it may be part of a secret. */
static int expected(struct scan *s, const char *what)
{
	return fail_at(s, s->p, -EBADMSG, s->p == s->end ? "the text ends where %s is expected" : "expected %s", what);
}

static void skip_blanks(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool take(struct scan *s, char c)
{
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

static bool take_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return false;
	s->p += n;
	return true;
}

static bool take_digits(struct scan *s)
{
	const char *start = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > start;
}

static int charge(struct scan *s, unsigned cost)
{
	if (cost > s->values_left)
		return fail_at(s, s->p, -E2BIG, "too many values, the limit is %u", s->max_values);
	s->values_left -= cost;
	return 0;
}

static bool take_hex4(struct scan *s, unsigned *ret)
{
	unsigned v = 0;

	if (s->end - s->p < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)s->p[i];

		if (!isxdigit(c))
			return false;
		v = v * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	s->p += 4;
	*ret = v;
	return true;
}

static int append_utf8(struct buf *b, unsigned c)
{
	char u[4];
	size_t n = 0;

	if (c < 0x80) {
		u[n++] = (char)c;
	} else if (c < 0x800) {
		u[n++] = (char)(0xC0 | c >> 6);
		u[n++] = (char)(0x80 | (c & 0x3F));
	} else if (c < 0x10000) {
		u[n++] = (char)(0xE0 | c >> 12);
		u[n++] = (char)(0x80 | (c >> 6 & 0x3F));
		u[n++] = (char)(0x80 | (c & 0x3F));
	} else {
		u[n++] = (char)(0xF0 | c >> 18);
		u[n++] = (char)(0x80 | (c >> 12 & 0x3F));
		u[n++] = (char)(0x80 | (c >> 6 & 0x3F));
		u[n++] = (char)(0x80 | (c & 0x3F));
	}
	return buf_append(b, u, n);
}

/* Behind "\u". A lone surrogate is refused: there is no UTF-8 for it, and U+FFFD would change a value silently. */
static int scan_code_point(struct scan *s)
{
	const char *at = s->p - 2;
	unsigned c, low;

	if (!take_hex4(s, &c))
		return fail_at(s, at, -EBADMSG, "expected four hexadecimal digits after \\u");
	if (c == 0)
		return fail_at(s, at, -EBADMSG, "a text must not contain a NUL character");
	if (c >= 0xDC00 && c <= 0xDFFF)
		return fail_at(s, at, -EBADMSG, "half of a surrogate pair");
	if (c >= 0xD800 && c <= 0xDBFF) {
		if (!take(s, '\\') || !take(s, 'u') || !take_hex4(s, &low) || low < 0xDC00 || low > 0xDFFF)
			return fail_at(s, at, -EBADMSG, "half of a surrogate pair");
		c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
	}
	return append_utf8(&s->text, c);
}

static int scan_escape(struct scan *s)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *known;

	s->p++;
	if (s->p == s->end)
		return expected(s, "an escaped character");
	if (take(s, 'u'))
		return scan_code_point(s);
	known = memchr(from, *s->p, sizeof(from) - 1);
	if (!known)
		return fail_at(s, s->p - 1, -EBADMSG, "unknown escape in a text");
	s->p++;
	return buf_putc(&s->text, to[known - from]);
}

/* At the opening quote; the result is in s->text. */
static int scan_string(struct scan *s)
{
	const char *at = s->p++;
	int r;

	/* Not buf_reset(): erasing the whole capacity before every string would take quadratic time. */
	s->text.len = 0;
	for (;;) {
		const char *run = s->p;

		while (s->p < s->end && *s->p != '"' && *s->p != '\\' && (unsigned char)*s->p >= 0x20)
			s->p++;
		if (!utf8_valid(run, (size_t)(s->p - run)))
			return fail_at(s, at, -EBADMSG, "a text that is not valid UTF-8");
		r = buf_append(&s->text, run, (size_t)(s->p - run));
		if (r < 0)
			return r;
		if (s->p == s->end)
			return fail_at(s, at, -EBADMSG, "a text that is not closed");
		if (take(s, '"'))
			return 0;
		if (*s->p != '\\')
			return fail_at(s, s->p, -EBADMSG, "a control character in a text; write it as an escape");
		r = scan_escape(s);
		if (r < 0)
			return r;
	}
}

static int scan_text(struct scan *s, struct json_object **ret)
{
	int r = scan_string(s);

	if (r < 0)
		return r;
	/* Every text is far below INT_MAX: the document has a limit. */
	*ret = json_object_new_string_len(buf_str(&s->text), (int)s->text.len);
	return *ret ? 0 : -ENOMEM;
}

static int scan_number(struct scan *s, struct json_object **ret)
{
	const char *at = s->p;
	bool whole = true;
	char text[24];
	int64_t v;
	size_t n;

	(void)take(s, '-');
	if (!take(s, '0') && !take_digits(s))
		return expected(s, "a digit");
	if (take(s, '.')) {
		whole = false;
		if (!take_digits(s))
			return expected(s, "a digit");
	}
	if (take(s, 'e') || take(s, 'E')) {
		whole = false;
		if (!take(s, '+'))
			(void)take(s, '-');
		if (!take_digits(s))
			return expected(s, "a digit");
	}

	n = (size_t)(s->p - at);
	if (!whole) {
		_cleanup_free_ char *copy = strndup(at, n);

		/* The text is kept beside the value: messages and hashes show what was written. */
		*ret = copy ? json_object_new_double_s(strtod(copy, NULL), copy) : NULL;
		return *ret ? 0 : -ENOMEM;
	}
	if (n >= sizeof(text))
		return fail_at(s, at, -EBADMSG, "an integer of more than 64 bits");
	memcpy(text, at, n);
	text[n] = '\0';
	errno = 0;
	v = strtoll(text, NULL, 10);
	if (errno)
		return fail_at(s, at, -EBADMSG, "an integer of more than 64 bits");
	*ret = json_object_new_int64(v);
	return *ret ? 0 : -ENOMEM;
}

static int enter(struct scan *s, unsigned level)
{
	if (level > s->max_depth)
		return fail_at(s, s->p, -E2BIG, "nested too deeply, the limit is %u levels", s->max_depth);
	s->p++;
	return 0;
}

static int scan_list(struct scan *s, unsigned level, struct json_object **ret)
{
	_cleanup_tree_ struct json_object *list = NULL;
	int r = enter(s, level);

	if (r < 0)
		return r;
	list = json_object_new_array();
	if (!list)
		return -ENOMEM;
	skip_blanks(s);
	if (!take(s, ']')) {
		do {
			_cleanup_tree_ struct json_object *v = NULL;

			skip_blanks(s);
			r = scan_value(s, level + 1, &v);
			if (r < 0)
				return r;
			if (json_object_array_add(list, v) < 0)
				return -ENOMEM;
			TAKE_PTR(v);
			skip_blanks(s);
		} while (take(s, ','));
		if (!take(s, ']'))
			return expected(s, "\",\" or \"]\"");
	}
	*ret = TAKE_PTR(list);
	return 0;
}

static int scan_member(struct scan *s, unsigned level, struct json_object *object)
{
	_cleanup_tree_ struct json_object *v = NULL;
	_cleanup_free_ char *key = NULL;
	char shown[JD_SHOWN_SIZE];
	const char *at;
	int r;

	skip_blanks(s);
	at = s->p;
	if (s->p == s->end || *s->p != '"')
		return expected(s, "the name of a member in double quotes");
	r = scan_string(s);
	if (r < 0)
		return r;
	key = strndup(buf_str(&s->text), s->text.len);
	if (!key)
		return -ENOMEM;
	if (json_object_object_get_ex(object, key, NULL))
		return fail_at(s, at, -EBADMSG, "member %s stands twice in one object",
			       jd_shown(key, strlen(key), shown));
	skip_blanks(s);
	if (!take(s, ':'))
		return expected(s, "\":\"");
	skip_blanks(s);
	r = scan_value(s, level + 1, &v);
	if (r < 0)
		return r;
	if (json_object_object_add_ex(object, key, v, JSON_C_OBJECT_ADD_KEY_IS_NEW) < 0)
		return -ENOMEM;
	TAKE_PTR(v);
	return 0;
}

static int scan_object(struct scan *s, unsigned level, struct json_object **ret)
{
	_cleanup_tree_ struct json_object *object = NULL;
	int r = charge(s, OBJECT_COST - 1);

	if (r < 0)
		return r;
	r = enter(s, level);
	if (r < 0)
		return r;
	object = json_object_new_object();
	if (!object)
		return -ENOMEM;
	skip_blanks(s);
	if (!take(s, '}')) {
		do {
			r = scan_member(s, level, object);
			if (r < 0)
				return r;
			skip_blanks(s);
		} while (take(s, ','));
		if (!take(s, '}'))
			return expected(s, "\",\" or \"}\"");
	}
	*ret = TAKE_PTR(object);
	return 0;
}

static int scan_value(struct scan *s, unsigned level, struct json_object **ret)
{
	int r = charge(s, 1);

	if (r < 0)
		return r;
	switch (s->p < s->end ? *s->p : '\0') {
	case '{':
		return scan_object(s, level, ret);
	case '[':
		return scan_list(s, level, ret);
	case '"':
		return scan_text(s, ret);
	case '-':
	case '0' ... '9':
		return scan_number(s, ret);
	default:
		break;
	}
	*ret = NULL;
	if (take_word(s, "null"))
		return 0;
	if (take_word(s, "true"))
		*ret = json_object_new_boolean(true);
	else if (take_word(s, "false"))
		*ret = json_object_new_boolean(false);
	else
		return expected(s, "a value");
	return *ret ? 0 : -ENOMEM;
}

int jd_scan(const char *text, size_t len, size_t max_bytes, unsigned max_depth, unsigned max_values,
	    struct json_object **ret, struct error *err)
{
	_cleanup_tree_ struct json_object *root = NULL;
	struct scan s = {
		.max_depth = max_depth,
		.max_values = max_values,
		.values_left = max_values,
		.text = BUF_SECRET_INIT(max_bytes),
		.err = err,
	};
	int r;

	if (len > max_bytes)
		return error_set(err, ERROR_USER, -E2BIG, "%zu bytes, the limit is %zu", len, max_bytes);
	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
		text += 3;
		len -= 3;
	}
	s.start = s.p = text;
	s.end = text + len;

	skip_blanks(&s);
	r = scan_value(&s, 0, &root);
	buf_done(&s.text);
	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0)
		return r;
	skip_blanks(&s);
	if (s.p != s.end)
		return expected(&s, "the end of the text");
	*ret = TAKE_PTR(root);
	return 0;
}

void jd_tree_erase(struct json_object *root)
{
	switch (json_object_get_type(root)) {
	case json_type_string:
		/* json-c hands out its own bytes, as const. */
		explicit_bzero((char *)(uintptr_t)json_object_get_string(root),
			       (size_t)json_object_get_string_len(root));
		break;
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(root); i++)
			jd_tree_erase(json_object_get(json_object_array_get_idx(root, i)));
		break;
	case json_type_object: {
		json_object_object_foreach(root, key, v)
		{
			(void)key;
			jd_tree_erase(json_object_get(v));
		}
		break;
	}
	default:
		break;
	}
	json_object_put(root);
}

/* MIME messages, read as Python's email.feedparser and email.message read them. */
#include "agent/core/userdata_mime.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/userdata_mime_codec.h"

/* One line with its end, which is \n, \r\n or \r. */
struct line {
	const char *text;
	size_t len, end; /* end: bytes of the line's end */
};

/* A boundary that ends what is being read: those of all multiparts around it. */
struct boundary {
	const char *text;
	const struct boundary *outer;
};

struct reader {
	const char *at, *end;
	size_t parts;
	userdata_mime_fn fn;
	void *userdata;
	struct error *err;
};

struct headers {
	char *type, *encoding, *disposition; /* unfolded values, or NULL */
};

static void headers_done(struct headers *h)
{
	free(h->type);
	free(h->encoding);
	free(h->disposition);
}

static bool peek(const struct reader *r, struct line *ret)
{
	const char *p = r->at;

	if (p >= r->end)
		return false;
	while (p < r->end && *p != '\n' && *p != '\r')
		p++;
	ret->text = r->at;
	ret->len = (size_t)(p - r->at);
	ret->end = p >= r->end ? 0 : *p == '\r' && p + 1 < r->end && p[1] == '\n' ? 2 : 1;
	return true;
}

static void skip(struct reader *r, const struct line *l)
{
	r->at = l->text + l->len + l->end;
}

enum { NO_BOUNDARY, SEPARATOR, CLOSING };

static int match(const struct line *l, const char *boundary)
{
	size_t n = strlen(boundary), at = 2 + n;
	int found = SEPARATOR;

	if (l->len < at || memcmp(l->text, "--", 2) != 0 || memcmp(l->text + 2, boundary, n) != 0)
		return NO_BOUNDARY;
	if (l->len >= at + 2 && memcmp(l->text + at, "--", 2) == 0) {
		found = CLOSING;
		at += 2;
	}
	while (at < l->len && (l->text[at] == ' ' || l->text[at] == '\t'))
		at++;
	return at == l->len ? found : NO_BOUNDARY;
}

/* The next line, if it does not belong to a multipart around this one. */
static bool next(const struct reader *r, const struct boundary *around, struct line *ret)
{
	if (!peek(r, ret))
		return false;
	for (; around; around = around->outer)
		if (match(ret, around->text) != NO_BOUNDARY)
			return false;
	return true;
}

/* ---- headers ---- */

/* "Name:", with a name of visible characters. 0: it is none. */
static size_t header_name(const struct line *l)
{
	size_t n = 0;

	while (n < l->len && l->text[n] > ' ' && l->text[n] != 0x7f && l->text[n] != ':')
		n++;
	return n < l->len && l->text[n] == ':' ? n : 0;
}

/* The first of a name counts. */
static char **slot(struct headers *h, const char *name, size_t n)
{
	static const char *const names[] = { "content-type", "content-transfer-encoding", "content-disposition" };
	char **const slots[] = { &h->type, &h->encoding, &h->disposition };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i]) == n && strncasecmp(name, names[i], n) == 0)
			return *slots[i] ? NULL : slots[i];
	return NULL;
}

/* Takes the header's value, with the lines that continue it. */
static int take_header(struct reader *r, const struct boundary *around, struct headers *h, const struct line *first,
		       size_t name)
{
	_cleanup_buf_ struct buf value = BUF_INIT(LIMIT_USER_DATA_MIME_HEADER);
	char **to = slot(h, first->text, name);
	struct line l = *first;
	size_t from = name + 1;
	int k = 0;

	do {
		/* A value may begin on a line that continues the name's: so Python reads it since 3.12.8. */
		while (!value.len && from < l.len + l.end && strchr(" \t\r\n", l.text[from]) && l.text[from])
			from++;
		/* The line's end belongs to it, if the header goes on. */
		if (to && k >= 0)
			k = buf_append(&value, l.text + from, l.len + l.end - from);
		skip(r, &l);
		from = 0;
	} while (next(r, around, &l) && l.len && (*l.text == ' ' || *l.text == '\t'));
	if (!to)
		return 0;
	while (k >= 0 && value.len && (value.data[value.len - 1] == '\n' || value.data[value.len - 1] == '\r'))
		value.data[--value.len] = '\0';
	/* One that is too long, or no text, is not what it begins with. */
	for (size_t i = 0; k >= 0 && i < value.len; i++)
		if (!value.data[i])
			value.data[i] = '\x01';
	if (k == -ENOMEM)
		return k;
	*to = strdup(k < 0 ? "invalid/invalid" : buf_str(&value));
	return *to ? 0 : -ENOMEM;
}

/* Whether another header follows this line. */
static bool goes_on(const struct reader *r, const struct boundary *around, const struct line *l)
{
	struct reader look = *r;
	struct line after;

	skip(&look, l);
	return next(&look, around, &after) &&
	       (header_name(&after) ||
		(after.len && (*after.text == ' ' || *after.text == '\t' || *after.text == ':')) ||
		(after.len >= 5 && memcmp(after.text, "From ", 5) == 0));
}

static int read_headers(struct reader *r, const struct boundary *around, struct headers *h)
{
	bool first = true;
	struct line l;

	while (next(r, around, &l)) {
		size_t name = header_name(&l);
		int k = 0;

		if (name) {
			k = take_header(r, around, h, &l, name);
		} else if (l.len && (*l.text == ' ' || *l.text == '\t' || *l.text == ':')) {
			/* A continuation of nothing, or a header without a name: a defect that is passed over. */
			skip(r, &l);
		} else if (l.len >= 5 && memcmp(l.text, "From ", 5) == 0 && (first || goes_on(r, around, &l))) {
			skip(r, &l);
		} else {
			/* An empty line ends the headers; any other is the body's first. */
			if (!l.len)
				skip(r, &l);
			return 0;
		}
		if (k < 0)
			return k;
		first = false;
	}
	return 0;
}

/* "text/x-shellscript" of a Content-Type, lower case; what is none counts as text/plain. */
static char *type_of(const char *value, const char *otherwise)
{
	size_t n = value ? strcspn(value, ";") : 0, slashes = 0;
	char *type;

	while (n && isspace((unsigned char)*value)) {
		value++;
		n--;
	}
	while (n && isspace((unsigned char)value[n - 1]))
		n--;
	for (size_t i = 0; i < n; i++)
		slashes += value[i] == '/';
	if (!value)
		return strdup(otherwise);
	if (slashes != 1)
		return strdup("text/plain");
	type = strndup(value, n);
	for (char *p = type; p && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return type;
}

/* The value of a parameter ("; boundary=x"), quotes taken off; NULL: not there. -ENOMEM through *ret_failed. */
static char *parameter(const char *value, const char *name, bool *ret_failed)
{
	const char *p = value;

	for (bool first = true; p && (first || *p); first = false) {
		const char *start = first ? p : ++p, *from;
		bool quoted = false;
		size_t n;
		char *out, *to;

		/* An odd number of quotes holds the next ";" in, wherever they stand. */
		for (; *p && (quoted || *p != ';'); p++)
			if (*p == '"' && (p == start || p[-1] != '\\'))
				quoted = !quoted;
		while (start < p && isspace((unsigned char)*start))
			start++;
		n = strcspn(start, "=;");
		from = start + n;
		while (n && isspace((unsigned char)start[n - 1]))
			n--;
		if (from >= p || *from != '=' || n != strlen(name) || strncasecmp(start, name, n) != 0)
			continue;
		from++;
		while (from < p && isspace((unsigned char)*from))
			from++;
		n = (size_t)(p - from);
		while (n && isspace((unsigned char)from[n - 1]))
			n--;
		quoted = n > 1 && *from == '"' && from[n - 1] == '"';
		if (quoted || (n > 1 && *from == '<' && from[n - 1] == '>')) {
			from++;
			n -= 2;
		}
		out = to = malloc(n + 1);
		if (!out) {
			*ret_failed = true;
			return NULL;
		}
		for (size_t i = 0; i < n; i++) {
			if (quoted && from[i] == '\\' && i + 1 < n && (from[i + 1] == '\\' || from[i + 1] == '"'))
				i++;
			*to++ = from[i];
		}
		*to = '\0';
		return out;
	}
	return NULL;
}

/* ---- bodies ---- */

static const struct {
	const char *name;
	int (*decode)(const char *text, size_t len, struct buf *out);
} codecs[] = {
	{ "base64", mime_decode_base64 }, { "quoted-printable", mime_decode_quoted_printable },
	{ "x-uuencode", mime_decode_uu }, { "uuencode", mime_decode_uu },
	{ "uue", mime_decode_uu },	  { "x-uue", mime_decode_uu },
};

static bool is_encoded(const char *encoding)
{
	for (size_t i = 0; encoding && i < ARRAY_SIZE(codecs); i++)
		if (str_equal_nocase(encoding, codecs[i].name))
			return true;
	return false;
}

static int read_entity(struct reader *r, const struct boundary *around, unsigned depth, const char *default_type);

static int tell(struct reader *r, const struct headers *h, const char *type, const char *text, size_t len)
{
	_cleanup_buf_ struct buf content = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);
	_cleanup_free_ char *filename = NULL;
	struct userdata_mime_part part;
	bool failed = false;
	int k;

	if (++r->parts > LIMIT_USER_DATA_PARTS)
		return error_set(r->err, ERROR_USER, -E2BIG, "the MIME message has more than %d parts",
				 LIMIT_USER_DATA_PARTS);
	k = userdata_mime_decode(h->encoding, text, len, &content);
	filename = parameter(h->disposition, "filename", &failed);
	if (!filename && !failed)
		filename = parameter(h->type, "name", &failed);
	part = (struct userdata_mime_part){ type, filename, buf_str(&content), content.len, is_encoded(h->encoding) };
	if (k < 0 || failed)
		return k == -EFBIG ? error_set(r->err, ERROR_USER, -E2BIG, "a part is too large") : error_oom(r->err);
	return r->fn(&part, r->userdata);
}

/* Everything up to a boundary of what is around it. A part of a multipart does not own its last line's end. */
static int read_leaf(struct reader *r, const struct boundary *around, const struct headers *h, const char *type)
{
	const char *from = r->at;
	struct line l = { .end = 0 };
	size_t last = 0;

	while (next(r, around, &l)) {
		skip(r, &l);
		last = l.end;
	}
	return tell(r, h, type, from, (size_t)(r->at - from) - (around && r->at > from ? last : 0));
}

static void skip_rest(struct reader *r, const struct boundary *around)
{
	struct line l;

	while (next(r, around, &l))
		skip(r, &l);
}

static int read_multipart(struct reader *r, const struct boundary *around, const char *boundary, unsigned depth,
			  const char *default_type)
{
	const struct boundary mine = { boundary, around };
	struct line l;
	int k = 0;

	while (k >= 0 && next(r, around, &l)) {
		int what = match(&l, boundary);

		skip(r, &l);
		if (what == CLOSING)
			break;
		if (what != SEPARATOR)
			continue; /* the preamble */
		/* Several in a row are one. */
		while (next(r, around, &l) && match(&l, boundary) != NO_BOUNDARY)
			skip(r, &l);
		k = read_entity(r, &mine, depth + 1, default_type);
	}
	if (k >= 0)
		skip_rest(r, around);
	return k;
}

static int read_entity(struct reader *r, const struct boundary *around, unsigned depth, const char *default_type)
{
	_cleanup_(headers_done) struct headers h = { NULL };
	_cleanup_free_ char *type = NULL, *boundary = NULL;
	bool failed = false;
	int k;

	if (depth > LIMIT_USER_DATA_MIME_DEPTH)
		return error_set(r->err, ERROR_USER, -E2BIG, "the MIME message is nested more than %d levels deep",
				 LIMIT_USER_DATA_MIME_DEPTH);
	k = read_headers(r, around, &h);
	type = type_of(h.type, default_type);
	if (k < 0 || !type)
		return error_oom(r->err);
	if (!str_starts(type, "multipart/") && !str_starts(type, "message/"))
		return read_leaf(r, around, &h, type);
	if (str_starts(type, "message/")) {
		/* A message in a message is a part of its own, without content, and then what is in it. */
		k = tell(r, &h, type, "", 0);
		return k < 0 ? k : read_entity(r, around, depth + 1, "text/plain");
	}
	boundary = parameter(h.type, "boundary", &failed);
	if (failed)
		return error_oom(r->err);
	if (boundary) {
		/* Blanks at its end are no part of a boundary. */
		for (size_t n = strlen(boundary); n && isspace((unsigned char)boundary[n - 1]); n--)
			boundary[n - 1] = '\0';
		return read_multipart(r, around, boundary, depth,
				      str_equal(type, "multipart/digest") ? "message/rfc822" : "text/plain");
	}
	skip_rest(r, around);
	return 0;
}

int userdata_mime_walk(const char *text, size_t len, userdata_mime_fn fn, void *userdata, struct error *err)
{
	struct reader r = { .at = text, .end = text + len, .fn = fn, .userdata = userdata, .err = err };

	return read_entity(&r, NULL, 0, "text/plain");
}

int userdata_mime_decode(const char *encoding, const char *text, size_t len, struct buf *out)
{
	for (size_t i = 0; encoding && i < ARRAY_SIZE(codecs); i++)
		if (str_equal_nocase(encoding, codecs[i].name))
			return codecs[i].decode(text, len, out);
	return buf_append(out, text, len);
}

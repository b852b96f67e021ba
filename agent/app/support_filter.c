/* Learning what is secret from the documents' texts, and replacing it. */
#include "agent/app/support_filter.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/documents.h"
#include "agent/base/secret.h"

#define LEFT_OUT    "[left out]"
#define PUBLIC_MIN  8  /* of what public settings hold: a command "true" is none */
#define LINE_MIN    16 /* of a secret of many lines, one may be shown alone */
#define SECRETS_MAX 20000
#define TOKEN_MIN   24

struct filter {
	struct secret *list;
	size_t n, room;
	/* Secrets by their first two bytes, the longest first: 1 + index, 0 ends. */
	uint32_t heads[UINT16_MAX + 1], *next;
};

int filter_new(struct filter **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : -ENOMEM;
}

void filter_free(struct filter *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++)
		secret_done(&f->list[i]);
	free(f->list);
	free(f->next);
	free(f);
}

/* ---- learning ---- */

static int learn_one(struct filter *f, const char *text, size_t len, size_t least)
{
	if (len < least || f->n == SECRETS_MAX)
		return 0;
	for (size_t i = 0; i < f->n; i++)
		if (f->list[i].len == len && memcmp(f->list[i].data, text, len) == 0)
			return 0;
	if (f->n == f->room) {
		size_t room = f->room ? 2 * f->room : 64;
		struct secret *list = reallocarray(f->list, room, sizeof(*list));

		if (!list)
			return -ENOMEM;
		f->list = list;
		f->room = room;
	}
	f->list[f->n] = (struct secret){ 0 };
	if (secret_set(&f->list[f->n], text, len) < 0)
		return -ENOMEM;
	f->n++;
	return 0;
}

/* And its lines. */
static int learn(struct filter *f, const char *text, size_t len, size_t least)
{
	int r = learn_one(f, text, len, least);

	if (!memchr(text, '\n', len))
		return r;
	for (size_t at = 0; r >= 0 && at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end ? (size_t)(end - text) - at : len - at;

		r = learn_one(f, text + at, n, LINE_MIN);
		at += n + 1;
	}
	return r;
}

/* One JSON string literal as a value, the quotes left out. */
static int learn_value(struct filter *f, const char *raw, size_t len, size_t least)
{
	_cleanup_buf_ struct buf plain = BUF_SECRET_INIT(len + 1);
	static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	int r = learn(f, raw, len, least);

	for (size_t i = 0; i < len; i++) {
		const char *e = raw[i] == '\\' && i + 1 < len ? strchr(escapes, raw[i + 1]) : NULL;

		if (e && *e)
			i++;
		if (buf_putc(&plain, e && *e ? meant[e - escapes] : raw[i]) < 0)
			return -ENOMEM;
	}
	if (r >= 0 && plain.len && (plain.len != len || memcmp(plain.data, raw, len) != 0))
		r = learn(f, plain.data, plain.len, least);
	return r;
}

/* Behind the closing quote. */
static size_t end_of_string(const char *text, size_t len, size_t at)
{
	while (at < len && text[at] != '"')
		at += text[at] == '\\' ? 2 : 1;
	return at < len ? at + 1 : len;
}

static bool is_key(const char *text, size_t len, size_t behind)
{
	while (behind < len && strchr(" \t\r\n", text[behind]))
		behind++;
	return behind < len && text[behind] == ':';
}

/* Members of public settings whose values people use for secrets, and maps of such. */
static bool is_telling(const char *key, size_t len)
{
	static const char *const keys[] = {
		"commandToExecute", "script",	 "environment", "headers", "body",    "proxy",
		"hmacKey",	    "arguments", "command",	"undo",	   "commands"
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (len == strlen(keys[i]) && memcmp(key, keys[i], len) == 0)
			return true;
	return false;
}

static int learn_query(struct filter *f, const char *raw, size_t len)
{
	const char *query = memchr(raw, '?', len);

	return query ? learn_value(f, query + 1, len - (size_t)(query + 1 - raw), PUBLIC_MIN) : 0;
}

/* Every string that is a value; of public documents, those that are telling. Not a reader of JSON: what is broken is
 * learnt as well. `telling` is the depth below which everything counts. */
static int learn_document(struct filter *f, const char *text, size_t len, bool secret)
{
	size_t depth = 0, telling = 0;
	bool after_telling = false;
	int r = 0;

	for (size_t at = 0; r >= 0 && at < len; at++) {
		if (text[at] == '{' || text[at] == '[') {
			depth++;
			if (after_telling && !telling)
				telling = depth;
			after_telling = false;
		} else if (text[at] == '}' || text[at] == ']') {
			if (telling == depth)
				telling = 0;
			depth -= depth > 0;
		} else if (text[at] == '"') {
			size_t behind = end_of_string(text, len, at + 1), n = behind > at + 2 ? behind - at - 2 : 0;

			if (is_key(text, len, behind)) {
				after_telling = is_telling(text + at + 1, n);
			} else {
				if (secret || after_telling || telling)
					r = learn_value(f, text + at + 1, n, secret ? FILTER_SECRET_MIN : PUBLIC_MIN);
				else
					r = learn_query(f, text + at + 1, n);
				after_telling = false;
			}
			at = behind - 1;
		}
	}
	return r;
}

/* Longer ones first: a short one may be a part of them. */
static int by_length(const void *a, const void *b)
{
	const struct secret *x = a, *y = b;

	return x->len < y->len ? 1 : x->len > y->len ? -1 : 0;
}

static size_t bucket_of(const char *text)
{
	return (size_t)(unsigned char)text[0] << 8 | (unsigned char)text[1];
}

static int make_buckets(struct filter *f)
{
	uint32_t *next = reallocarray(f->next, f->n + 1, sizeof(*next));

	if (!next)
		return -ENOMEM;
	f->next = next;
	memset(f->heads, 0, sizeof(f->heads));
	if (f->n)
		qsort(f->list, f->n, sizeof(*f->list), by_length);
	for (size_t i = f->n; i-- > 0;) {
		size_t bucket = bucket_of(f->list[i].data);

		next[i] = f->heads[bucket];
		f->heads[bucket] = (uint32_t)i + 1;
	}
	return 0;
}

int filter_learn(struct filter *f, const struct documents *docs)
{
	struct settings_source sources[DOCUMENTS_SOURCES];
	size_t n = documents_sources(docs, &docs->user, sources);
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		if (sources[i].public_text)
			r = learn_document(f, sources[i].public_text, sources[i].public_len, false);
		if (r >= 0 && sources[i].protected_text)
			r = learn_document(f, sources[i].protected_text, sources[i].protected_len, true);
	}
	return r < 0 ? r : make_buckets(f);
}

/* ---- replacing ---- */

static size_t match_learnt(const struct filter *f, const char *text, size_t len)
{
	for (size_t i = len < FILTER_SECRET_MIN ? 0 : f->heads[bucket_of(text)]; i; i = f->next[i - 1]) {
		const struct secret *s = &f->list[i - 1];

		if (s->len <= len && memcmp(text, s->data, s->len) == 0)
			return s->len;
	}
	return 0;
}

static size_t span_of(const char *text, size_t len, const char *more)
{
	size_t n = 0;

	while (n < len && ((text[n] >= 'a' && text[n] <= 'z') || (text[n] >= 'A' && text[n] <= 'Z') ||
			   (text[n] >= '0' && text[n] <= '9') || (text[n] && strchr(more, text[n]))))
		n++;
	return n;
}

static bool begins(const char *text, size_t len, const char *with)
{
	return len >= strlen(with) && memcmp(text, with, strlen(with)) == 0;
}

/* What looks like a secret: how many bytes are kept, and how many after them go. */
static size_t match_shape(const char *text, size_t len, size_t *ret_keep)
{
	static const char *const marks[] = { "sig=", "AccountKey=", "Bearer ", "SharedAccessKey=" };

	*ret_keep = 0;
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (begins(text, len, marks[i])) {
			*ret_keep = strlen(marks[i]);
			return span_of(text + *ret_keep, len - *ret_keep, "%+/=._~-");
		}
	if (begins(text, len, "eyJ")) { /* the beginning of every token: {" */
		size_t n = span_of(text, len, "._-=");

		return n >= TOKEN_MIN ? n : 0;
	}
	if (begins(text, len, "-----BEGIN ")) {
		const char *end = memmem(text, len, "PRIVATE KEY-----", 16), *line = memchr(text, '\n', len);
		const char *last =
			end ? memmem(end + 16, len - (size_t)(end + 16 - text), "PRIVATE KEY-----", 16) : NULL;

		/* "BEGIN … PRIVATE KEY" is one line; a certificate's is another. */
		if (end && (!line || end < line) && end - text < 40)
			return last ? (size_t)(last + 16 - text) : len;
	}
	return 0;
}

int filter_apply(const struct filter *f, const char *text, size_t len, struct buf *out)
{
	size_t from = 0;

	for (size_t at = 0; at < len;) {
		size_t keep = 0, n = match_learnt(f, text + at, len - at);

		if (!n)
			n = match_shape(text + at, len - at, &keep);
		if (!n) {
			at++;
			continue;
		}
		if (buf_append(out, text + from, at + keep - from) < 0 || buf_puts(out, LEFT_OUT) < 0)
			return out->failed;
		at += keep + n;
		from = at;
	}
	return len > from && buf_append(out, text + from, len - from) < 0 ? out->failed : 0;
}

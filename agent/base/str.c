/* Text helpers: comparison, numbers, nearest word, UTF-8, lists of strings. */
#include "agent/base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"

#define NEAREST_MAX 64 /* longer words are no typing errors of ours */

/* Locale-free, unlike tolower(). */
static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool str_equal(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool str_equal_nocase(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	while (*a && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return lower(*a) == lower(*b);
}

int str_set(char **dst, const char *src)
{
	char *copy = NULL;

	if (src) {
		copy = strdup(src);
		if (!copy)
			return -ENOMEM;
	}
	free(*dst);
	*dst = copy;
	return 0;
}

char *str_format(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

bool str_to_u64(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (str_empty(s))
		return false;
	for (; *s; s++) {
		uint64_t digit;

		if (*s < '0' || *s > '9')
			return false;
		digit = (uint64_t)(*s - '0');
		if (digit > max || v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*ret = v;
	return true;
}

/* Edit distance by rows, two neighbours swapped ("drian") being one edit; both at most NEAREST_MAX long. */
static size_t distance(const char *a, const char *b)
{
	size_t rows[3][NEAREST_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];
	size_t nb = strlen(b);

	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t *oldest = before;

		before = above;
		above = row;
		row = oldest;
		row[0] = i + 1;
		for (size_t j = 1; j <= nb; j++) {
			size_t best = above[j - 1] + (lower(a[i]) != lower(b[j - 1]));

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 0 && j > 1 && lower(a[i]) == lower(b[j - 2]) && lower(a[i - 1]) == lower(b[j - 1]) &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

int str_nearest(const char *word, const char *const *words)
{
	size_t n = strlen(word);
	size_t best = n / 3 > 1 ? n / 3 : 1;
	int found = -1;

	if (n > NEAREST_MAX)
		return -1;
	for (int i = 0; words[i]; i++) {
		size_t d;

		if (strlen(words[i]) > NEAREST_MAX)
			continue;
		d = distance(word, words[i]);
		if (d < best || (d == best && found < 0)) {
			best = d;
			found = i;
		}
	}
	return found;
}

static bool continues(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Length of the valid UTF-8 sequence at s, 0 when there is none (RFC 3629: shortest form, no surrogates). */
static size_t sequence(const char *s, size_t len)
{
	const unsigned char *u = (const unsigned char *)s;
	size_t n;

	if (!len)
		return 0;
	if (u[0] < 0x80)
		return 1;
	n = u[0] >= 0xc2 && u[0] <= 0xdf ? 2 : (u[0] & 0xf0) == 0xe0 ? 3 : u[0] >= 0xf0 && u[0] <= 0xf4 ? 4 : 0;
	if (!n || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if (!continues(s[i]))
			return 0;
	if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) || (u[0] == 0xf0 && u[1] < 0x90) ||
	    (u[0] == 0xf4 && u[1] > 0x8f))
		return 0;
	return n;
}

/* A character has at most three continuation bytes; more of them are no UTF-8, and then any border is as good. */
size_t utf8_cut(const char *s, size_t len, size_t max)
{
	if (len <= max)
		return len;
	for (size_t back = 0; back <= 3 && back <= max; back++)
		if (!continues(s[max - back]))
			return max - back;
	return max;
}

size_t utf8_tail(const char *s, size_t len, size_t max)
{
	size_t start = len > max ? len - max : 0;

	if (!start)
		return 0;
	for (size_t skip = 0; skip <= 3; skip++)
		if (start + skip == len || !continues(s[start + skip]))
			return start + skip;
	return start;
}

bool utf8_valid(const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = sequence(s + i, len - i);
		if (!n)
			return false;
	}
	return true;
}

size_t utf8_next(const char *s, size_t len, enum utf8_kind *ret)
{
	size_t n = sequence(s, len);
	unsigned char c = len ? (unsigned char)s[0] : 0;

	if (!n)
		*ret = UTF8_BROKEN;
	else if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0))
		*ret = UTF8_CONTROL;
	else
		*ret = UTF8_PRINTABLE;
	return n ? n : len ? 1 : 0;
}

char *utf8_clean(const char *s, size_t len)
{
	static const char replacement[] = UTF8_REPLACEMENT;
	char *out, *p;

	if (len > (SIZE_MAX - 1) / 3)
		return NULL;
	out = malloc(3 * len + 1);
	if (!out)
		return NULL;
	p = out;
	for (size_t i = 0, n; i < len; i += n) {
		enum utf8_kind kind;

		n = utf8_next(s + i, len - i, &kind);
		if (kind == UTF8_PRINTABLE || s[i] == '\n' || s[i] == '\t') {
			memcpy(p, s + i, n);
			p += n;
		} else {
			memcpy(p, replacement, 3);
			p += 3;
		}
	}
	*p = '\0';
	return out;
}

void strv_free(char **v)
{
	if (!v)
		return;
	for (char **p = v; *p; p++)
		free(*p);
	free(v);
}

bool strv_contains(char *const *v, const char *s)
{
	for (; v && *v; v++)
		if (str_equal(*v, s))
			return true;
	return false;
}

size_t strv_length(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

char **strv_copy(const char *const *v)
{
	_cleanup_strv_ char **copy = NULL;
	size_t n = 0;

	while (v && v[n])
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	if (!copy)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		copy[i] = strdup(v[i]);
		if (!copy[i])
			return NULL;
	}
	return TAKE_PTR(copy);
}

/* Text helpers: comparison, bounded copies, UTF-8 at character borders, nearest word, numbers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/macros.h"

static inline bool str_empty(const char *s)
{
	return !s || !*s;
}

bool str_equal(const char *a, const char *b); /* NULL equals NULL only */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
bool str_equal_nocase(const char *a, const char *b); /* ASCII */

/* Replaces *dst with a copy of src (NULL clears). -ENOMEM leaves *dst. */
_nodiscard_ int str_set(char **dst, const char *src);
/* A formatted heap string, or NULL. */
char *str_format(const char *fmt, ...) _printf_(1, 2);

/* Whole text as a decimal number in [min, max]; false otherwise. No sign, blanks or leading "+". */
bool str_to_u64(const char *s, uint64_t max, uint64_t *ret);

/* Index of the word nearest to `word` by edit distance (at most a third of its length, at least 1,
 * ASCII case ignored), or -1. `words` ends with NULL. */
int str_nearest(const char *word, const char *const *words);

/* Length of the longest prefix of at most `max` bytes that ends at a character border. */
size_t utf8_cut(const char *s, size_t len, size_t max);
/* Start offset of the longest suffix of at most `max` bytes that begins at a character border. */
size_t utf8_tail(const char *s, size_t len, size_t max);
bool utf8_valid(const char *s, size_t len);
/* Length and kind of what is at s: a character, or one byte that belongs to none; 0 at the end. */
enum utf8_kind { UTF8_BROKEN, UTF8_CONTROL, UTF8_PRINTABLE };
size_t utf8_next(const char *s, size_t len, enum utf8_kind *ret);
#define UTF8_REPLACEMENT "\xef\xbf\xbd"
/* A heap copy in which every byte that is not part of valid UTF-8, and every control character except
 * \n and \t, is replaced by U+FFFD. NULL on out of memory. */
char *utf8_clean(const char *s, size_t len);

/* NULL-terminated lists of strings on the heap. */
void strv_free(char **v);
size_t strv_length(char *const *v);
bool strv_contains(char *const *v, const char *s);
char **strv_copy(const char *const *v);
DEFINE_CLEANUP(char **, strv_free)
#define _cleanup_strv_ _cleanup_(strv_freep)

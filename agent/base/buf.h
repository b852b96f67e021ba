/*
 * A growing byte buffer that cannot be created without its maximum. Always NUL-terminated after the
 * first append, so `data` is also a C string if no NUL was appended. An append that would pass the
 * maximum changes nothing and returns -EFBIG; errors stick (`failed`), so a chain of appends may be
 * checked once at the end with buf_ok().
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/base/macros.h"

struct buf {
	char *data; /* NULL until the first append */
	size_t len;
	size_t cap;
	size_t max;
	int failed; /* 0, or the first error */
	bool secret; /* erased whenever memory is given back */
};

#define BUF_INIT(maximum)	 ((struct buf){ .max = (maximum) })
#define BUF_SECRET_INIT(maximum) ((struct buf){ .max = (maximum), .secret = true })

void buf_done(struct buf *b);
void buf_reset(struct buf *b); /* empties, keeps the memory, forgets `failed` */
int buf_append(struct buf *b, const void *data, size_t len);
int buf_puts(struct buf *b, const char *s);
int buf_putc(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) _printf_(2, 0);

/* Appends the template with `value` wherever `placeholder` stands in it. */
int buf_fill(struct buf *b, const char *template, const char *placeholder, const char *value);

/* Room for `len` more bytes, at b->data + b->len; commit with b->len += n and buf_terminate(). */
int buf_reserve(struct buf *b, size_t len);
void buf_terminate(struct buf *b);

static inline int buf_ok(const struct buf *b)
{
	return b->failed;
}

/* The text so far, "" when empty. */
static inline const char *buf_str(const struct buf *b)
{
	return b->data ? b->data : "";
}

/* Moves the memory out (free() it; erase first if secret); the buffer is empty afterwards. NULL if empty. */
char *buf_take(struct buf *b);

#define _cleanup_buf_ _cleanup_(buf_done)

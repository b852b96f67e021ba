/* The bounded buffer. */
#include "agent/base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(struct buf *b, int r)
{
	if (!b->failed)
		b->failed = r;
	return r;
}

static void give_back(struct buf *b)
{
	if (b->secret && b->data)
		explicit_bzero(b->data, b->cap);
	free(b->data);
}

void buf_done(struct buf *b)
{
	give_back(b);
	*b = (struct buf){ .max = b->max, .secret = b->secret };
}

void buf_reset(struct buf *b)
{
	if (b->secret && b->data)
		explicit_bzero(b->data, b->cap);
	b->len = 0;
	b->failed = 0;
	buf_terminate(b);
}

void buf_terminate(struct buf *b)
{
	if (b->data)
		b->data[b->len] = '\0';
}

/* realloc() would leave copies of a secret behind, so this copies and erases. */
int buf_reserve(struct buf *b, size_t len)
{
	size_t need, cap;
	char *p;

	if (b->failed)
		return b->failed;
	if (len > b->max || b->len > b->max - len)
		return fail(b, -EFBIG);
	need = b->len + len + 1;
	if (need <= b->cap)
		return 0;
	cap = need + need / 2;
	if (cap > b->max + 1)
		cap = b->max + 1;
	if (cap < 64 && b->max >= 64)
		cap = 64;
	p = malloc(cap);
	if (!p)
		return fail(b, -ENOMEM);
	if (b->len)
		memcpy(p, b->data, b->len);
	p[b->len] = '\0';
	give_back(b);
	b->data = p;
	b->cap = cap;
	return 0;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
	int r = buf_reserve(b, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	buf_terminate(b);
	return 0;
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

int buf_putc(struct buf *b, char c)
{
	return buf_append(b, &c, 1);
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n, r;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		return fail(b, -EINVAL);
	r = buf_reserve(b, (size_t)n);
	if (r < 0)
		return r;
	(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

int buf_fill(struct buf *b, const char *template, const char *placeholder, const char *value)
{
	const char *from = template, *at;

	while ((at = strstr(from, placeholder))) {
		(void)buf_append(b, from, (size_t)(at - from));
		(void)buf_puts(b, value);
		from = at + strlen(placeholder);
	}
	return buf_puts(b, from);
}

char *buf_take(struct buf *b)
{
	char *p = b->data;

	*b = (struct buf){ .max = b->max, .secret = b->secret };
	return p;
}

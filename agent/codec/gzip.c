/* Bounded gzip. */
#include "agent/codec/gzip.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ZLIB_CONST /* input is const */
#include <zlib.h>

#define CHUNK (32 * 1024)

/* zlib keeps the last 32 KiB of what it inflates, which may be a secret script: its memory carries its size and is
 * erased on release. */
union block {
	size_t size;
	max_align_t align;
};

static void *block_new(void *opaque, uInt n, uInt size)
{
	size_t bytes = sizeof(union block) + (size_t)n * size;
	union block *b = calloc(1, bytes);

	(void)opaque;
	if (!b)
		return NULL;
	b->size = bytes;
	return b + 1;
}

static void block_free(void *opaque, void *p)
{
	union block *b = (union block *)p - 1;

	(void)opaque;
	explicit_bzero(b, b->size);
	free(b);
}

static void inflate_done(z_stream *z)
{
	(void)inflateEnd(z);
}

bool gzip_detect(const void *data, size_t len)
{
	return len >= 3 && memcmp(data, "\x1f\x8b\x08", 3) == 0;
}

/* One call of inflate(). Where the buffer is full a single byte of room tells whether there is more. */
static int step(z_stream *z, struct buf *out, int *ret_state)
{
	size_t room = out->max - out->len;
	size_t n = room < CHUNK ? room : CHUNK;
	Bytef probe;
	int r;

	if (n) {
		r = buf_reserve(out, n);
		if (r < 0)
			return r;
	}
	z->next_out = n ? (Bytef *)out->data + out->len : &probe;
	z->avail_out = n ? (uInt)n : 1;
	*ret_state = inflate(z, Z_NO_FLUSH);
	if (n) {
		out->len += n - z->avail_out;
		buf_terminate(out);
		return 0;
	}
	return z->avail_out ? 0 : -EFBIG;
}

static int inflate_all(z_stream *z, struct buf *out)
{
	for (;;) {
		int state;
		int r = step(z, out, &state);

		if (r < 0)
			return r;
		if (state == Z_STREAM_END) {
			/* Zeroes may fill up the file. */
			while (z->avail_in && !*z->next_in) {
				z->next_in++;
				z->avail_in--;
			}
			if (!z->avail_in)
				return 0;
			/* Another member; anything else is garbage. */
			if (!gzip_detect(z->next_in, z->avail_in) || inflateReset(z) != Z_OK)
				return -EBADMSG;
		} else if (state == Z_MEM_ERROR) {
			return -ENOMEM;
		} else if (state != Z_OK) {
			return -EBADMSG;
		}
	}
}

int gzip_inflate(const void *data, size_t len, struct buf *out, struct error *err)
{
	_cleanup_(inflate_done) z_stream z = {.zalloc = block_new, .zfree = block_free};
	size_t before = out->len;
	int r;

	if (!gzip_detect(data, len))
		return error_set(err, ERROR_USER, -EBADMSG, "gzip: the data does not begin like gzip");
	if (len > UINT_MAX)
		return error_set(err, ERROR_USER, -EFBIG, "gzip: %zu bytes are more than allowed", len);
	if (inflateInit2(&z, 15 + 16) != Z_OK) /* + 16: gzip only */
		return error_oom(err);
	z.next_in = data;
	z.avail_in = (uInt)len;
	r = inflate_all(&z, out);
	if (r == 0)
		return 0;
	out->len = before;
	buf_terminate(out);
	if (r == -EFBIG)
		return error_set(err, ERROR_USER, r, "gzip: inflates to more than %zu bytes", out->max - before);
	if (r == -EBADMSG)
		return error_set(err, ERROR_USER, r, "gzip: truncated or corrupt");
	return error_errno(err, r, "gzip");
}

static void deflate_done(z_stream *z)
{
	(void)deflateEnd(z);
}

int gzip_deflate(const void *data, size_t len, struct buf *out, struct error *err)
{
	_cleanup_(deflate_done) z_stream z = {.zalloc = block_new, .zfree = block_free};
	int state, r;

	if (len > UINT_MAX)
		return error_set(err, ERROR_SYSTEM, -EFBIG, "gzip: %zu bytes are more than allowed", len);
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return error_oom(err);
	z.next_in = data;
	z.avail_in = (uInt)len;
	do {
		r = buf_reserve(out, CHUNK);
		if (r < 0)
			return error_errno(err, r, "gzip");
		z.next_out = (Bytef *)out->data + out->len;
		z.avail_out = CHUNK;
		state = deflate(&z, Z_FINISH);
		out->len += CHUNK - z.avail_out;
		buf_terminate(out);
	} while (state == Z_OK);
	return state == Z_STREAM_END ? 0 : error_set(err, ERROR_SYSTEM, -EIO, "gzip: cannot compress (%d)", state);
}

const char *gzip_library(void)
{
	return zlibVersion();
}

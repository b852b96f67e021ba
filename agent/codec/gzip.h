/* gzip (RFC 1952), bounded in output and in ratio of time: all members, trailing zeroes, other garbage
 * refused. */
#pragma once

const char *gzip_library(void); /* zlib's version, as it is loaded */

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

bool gzip_detect(const void *data, size_t len); /* the two magic bytes and method 8 */
/* Appends the inflated bytes; the buffer's maximum bounds them (-EFBIG). -EBADMSG: truncated or corrupt.
 * On failure nothing is appended. */
_nodiscard_ int gzip_inflate(const void *data, size_t len, struct buf *out, struct error *err);

/* Appends the bytes as one gzip member. */
_nodiscard_ int gzip_deflate(const void *data, size_t len, struct buf *out, struct error *err);

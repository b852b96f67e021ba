/*
 * Transfer encodings of MIME parts, as lenient as Python's email package: what is damaged is read as far as it goes, or
 * stays as it is. Each appends to a buffer: 0, -ENOMEM, -EFBIG.
 */
#pragma once

#include <stddef.h>

#include "agent/base/buf.h"

_nodiscard_ int mime_decode_base64(const char *text, size_t len, struct buf *out);
_nodiscard_ int mime_decode_quoted_printable(const char *text, size_t len, struct buf *out);
_nodiscard_ int mime_decode_uu(const char *text, size_t len, struct buf *out);

/* Base64 (RFC 4648 section 4). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

/* Appends the decoded bytes. White space (space, \t, \r, \n) is skipped when `blanks` is true; padding is
 * required; anything else is -EINVAL with its offset. On failure nothing is appended. */
_nodiscard_ int base64_decode(const char *text, size_t len, bool blanks, struct buf *out, struct error *err);
/* What a symbol stands for, 0..63; -1: it is none. */
int base64_value(char c);
/* Appends; no line breaks. */
_nodiscard_ int base64_encode(const void *data, size_t len, struct buf *out);

/*
 * Records: our own documents that outlive this version of the program. Each begins with "format", a number that grows only when
 * an older program would read what is meant wrongly; members that are merely added keep it, since unknown ones are ignored.
 *
 * An older program that meets a newer record leaves it as it is, does without what it is about, and says so (-EPROTO). One
 * without a number is of format 1, as the first versions wrote it.
 */
#pragma once

#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct jd_type;

/* Appends the object `value` of `type`, with "format" first; the table has no such member. Fails as the buffer does. */
_nodiscard_ int jd_encode_record(const struct jd_type *type, unsigned format, const void *value, struct buf *out);

/* jd_decode_document() of a record whose format is not above `format`; else -EPROTO. `path` is for the message. */
_nodiscard_ int jd_decode_record(const char *text, size_t len, const char *path, size_t max_bytes,
				 const struct jd_type *type, unsigned format, void *target, struct error *err);

/* 0, or -EPROTO when the record is of a later format than this: for who reads the rest in his own way, or only looks before he
 * overwrites. Text that is no JSON is nobody's record: 0. */
_nodiscard_ int jd_check_format(const char *text, size_t len, const char *path, size_t max_bytes, unsigned format,
				struct error *err);

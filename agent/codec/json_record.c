/* The number in front of every record, and its judgement. */
#include "agent/codec/json_record.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "agent/codec/json.h"

struct envelope {
	int64_t format;
};

static const struct jd_type number_type = { .kind = JD_INTEGER };
static const struct jd_field envelope_fields[] = {
	{ "format", &number_type, offsetof(struct envelope, format), .default_integer = 1 },
	{},
};
static const struct jd_type envelope_type = { .kind = JD_OBJECT,
					      .fields = envelope_fields,
					      .size = sizeof(struct envelope) };

int jd_encode_record(const struct jd_type *type, unsigned format, const void *value, struct buf *out)
{
	size_t from = out->len;
	char number[32];
	size_t n;
	int r = jd_encode(type, value, false, out);

	if (r < 0)
		return r;
	/* "{}" or "{\"…": the number goes in behind the brace. */
	n = (size_t)snprintf(number, sizeof(number), "\"format\":%u%s", format, out->len - from > 2 ? "," : "");
	r = buf_append(out, number, n);
	if (r < 0)
		return r;
	memmove(out->data + from + 1 + n, out->data + from + 1, out->len - from - 1 - n);
	memcpy(out->data + from + 1, number, n);
	return 0;
}

int jd_check_format(const char *text, size_t len, const char *path, size_t max_bytes, unsigned format,
		    struct error *err)
{
	struct envelope e = { 0 };
	struct error ignored;
	int r = jd_decode_document(text, len, path, max_bytes, &envelope_type, &e, &ignored);

	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0 || e.format <= (int64_t)format)
		return 0;
	return error_set(
		err, ERROR_SYSTEM, -EPROTO,
		"%s was written by a newer version of this program (format %lld, this one knows %u): install that version "
		"again, or remove the file to begin anew",
		path, (long long)e.format, format);
}

int jd_decode_record(const char *text, size_t len, const char *path, size_t max_bytes, const struct jd_type *type,
		     unsigned format, void *target, struct error *err)
{
	int r = jd_check_format(text, len, path, max_bytes, format, err);

	return r < 0 ? r : jd_decode_document(text, len, path, max_bytes, type, target, err);
}

/* A tree as canonical text: compact, with sorted keys. What a hash of a document is made from, and what JD_RAW keeps. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/codec/json_internal.h"

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int write_tree_object(struct json_object *v, struct buf *out)
{
	size_t n = (size_t)json_object_object_length(v), i = 0;
	_cleanup_free_ const char **keys = NULL;

	if (n > 0) {
		keys = calloc(n, sizeof(*keys));
		if (!keys)
			return -ENOMEM;
		json_object_object_foreach(v, key, unused)
		{
			(void)unused;
			keys[i++] = key;
		}
		qsort(keys, n, sizeof(*keys), by_name);
	}
	buf_putc(out, '{');
	for (i = 0; i < n; i++) {
		struct json_object *value = NULL;
		int r;

		if (i)
			buf_putc(out, ',');
		jd_quote(out, keys[i], strlen(keys[i]));
		buf_putc(out, ':');
		(void)json_object_object_get_ex(v, keys[i], &value);
		r = jd_tree_write(value, out);
		if (r < 0)
			return r;
	}
	return buf_putc(out, '}');
}

int jd_tree_write(struct json_object *v, struct buf *out)
{
	const char *text;

	switch (json_object_get_type(v)) {
	case json_type_null:
		return buf_puts(out, "null");
	case json_type_boolean:
		return buf_puts(out, json_object_get_boolean(v) ? "true" : "false");
	case json_type_int:
		return buf_printf(out, "%" PRId64, json_object_get_int64(v));
	case json_type_string:
		return jd_quote(out, json_object_get_string(v), (size_t)json_object_get_string_len(v));
	case json_type_array:
		buf_putc(out, '[');
		for (size_t i = 0; i < json_object_array_length(v); i++) {
			int r;

			if (i)
				buf_putc(out, ',');
			r = jd_tree_write(json_object_array_get_idx(v, i), out);
			if (r < 0)
				return r;
		}
		return buf_putc(out, ']');
	case json_type_object:
		return write_tree_object(v, out);
	case json_type_double:
		break;
	}
	text = json_object_get_string(v);
	return text ? buf_puts(out, text) : -ENOMEM;
}

int jd_canonical(const char *text, size_t len, size_t max_bytes, struct buf *out, struct error *err)
{
	struct json_object *root = NULL;
	int r;

	r = jd_scan(text, len, max_bytes, LIMIT_JSON_DEPTH, LIMIT_JSON_VALUES, &root, err);
	if (r < 0)
		return r;
	r = jd_tree_write(root, out);
	jd_tree_erase(root);
	return r < 0 ? error_errno(err, r, "canonical JSON") : 0;
}

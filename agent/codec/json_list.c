/* Decoding of lists and maps: how many items, each decoded in its place, and what must be unique among them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/json_decode_internal.h"

/* True if so many are allowed. */
static bool count_fits(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, size_t n)
{
	if (t->max > 0 && n > (size_t)t->max) {
		jd_complain(d, at, "at most %" PRId64 " item%s, got %zu", t->max, t->max == 1 ? "" : "s", n);
		return false;
	}
	if (t->min > 0 && n < (size_t)t->min) {
		jd_complain(d, at, "at least %" PRId64 " item%s, got %zu", t->min, t->min == 1 ? "" : "s", n);
		return false;
	}
	return true;
}

static void complain_unique(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, const char *text,
			    size_t first, size_t second)
{
	struct jd_place item = {.up = at, .index = second}, member = {.up = &item, .key = t->unique};
	char shown[JD_SHOWN_SIZE];

	jd_complain(d, &member, "%s is already the %s of %s[%zu]", jd_shown(text, strlen(text), shown), t->unique,
		 at && at->key ? at->key : "", first);
}

static void check_unique(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, const struct jd_list *list)
{
	const struct jd_field *f = jd_field_find(t->element->fields, t->unique);
	size_t size = jd_type_size(t->element);

	for (size_t i = 1; f && i < list->n; i++) {
		const char *b = *(char *const *)(const void *)((const char *)list->items + i * size + f->offset);

		for (size_t k = 0; b && k < i; k++) {
			const char *a =
				*(char *const *)(const void *)((const char *)list->items + k * size + f->offset);

			if (a && str_equal(a, b)) {
				complain_unique(d, at, t, b, k, i);
				break;
			}
		}
	}
}

int jd_decode_list(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		       struct jd_list *target)
{
	size_t n, size = jd_type_size(t->element);
	int r;

	if (!json_object_is_type(v, json_type_array)) {
		jd_complain_kind(d, at, t, "a list", v);
		return 0;
	}
	n = json_object_array_length(v);
	if (!count_fits(d, at, t, n))
		return 0;
	target->items = calloc(n ? n : 1, size);
	if (!target->items)
		return jd_out_of_memory(d);
	for (size_t i = 0; i < n; i++) {
		struct jd_place item = {.up = at, .index = i};

		target->n = i + 1;
		r = jd_decode_value(d, &item, t->element, json_object_array_get_idx(v, i),
				 (char *)target->items + i * size);
		if (r < 0)
			return r;
	}
	if (t->unique)
		check_unique(d, at, t, target);
	return 0;
}

/* The key of one item of a map; true if it may be taken. */
static bool key_fits(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, const char *key)
{
	struct error why = ERROR_INIT;
	int r;

	if (strlen(key) > JD_NAME_MAX) {
		jd_complain(d, at, "a name of at most %d bytes, got %zu", JD_NAME_MAX, strlen(key));
		return false;
	}
	r = t->check ? t->check(key, &why) : 0;
	if (r == 0)
		return true;
	if (r == -ENOMEM) {
		(void)jd_out_of_memory(d);
		return false;
	}
	jd_complain(d, at, "%s", *why.msg ? why.msg : "not accepted as a name");
	return false;
}

int jd_decode_map(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		      struct jd_list *target)
{
	size_t n;
	int r;

	if (!json_object_is_type(v, json_type_object)) {
		jd_complain_kind(d, at, t, "an object", v);
		return 0;
	}
	n = (size_t)json_object_object_length(v);
	if (!count_fits(d, at, t, n))
		return 0;
	target->items = calloc(n ? n : 1, t->size);
	if (!target->items)
		return jd_out_of_memory(d);
	json_object_object_foreach(v, key, value)
	{
		struct jd_place item = {.up = at, .key = key};
		char *slot = (char *)target->items + target->n * t->size;

		if (!value || !key_fits(d, &item, t, key))
			continue;
		r = jd_copy_text(d, key, (char **)(void *)slot);
		if (r < 0)
			return r;
		target->n++;
		r = jd_decode_value(d, &item, t->element, value, slot + t->value_offset);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Decoding by tables, over the tree that json_scan.c has read. Goes on after an error, so that all are told at once. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json_decode_internal.h"
#include "agent/codec/json_report.h"

static int decode_fields(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t,
			 const struct jd_field *fields, const struct jd_field *more, struct json_object *v,
			 void *target);

/* Which member a value stands for that is not written as an object, or NULL. */
static const struct jd_field *short_for(const struct jd_type *t, struct json_object *v)
{
	const char *name = t->short_member;

	if (json_object_is_type(v, json_type_array) && t->short_list)
		name = t->short_list;
	else if (json_object_is_type(v, json_type_object) &&
		 (!jd_is_secret_form(v, NULL) || jd_field_find(t->fields, "secretRef")))
		return NULL;
	return name ? jd_field_find(t->fields, name) : NULL;
}

static int decode_object(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			 void *target)
{
	const struct jd_field *f = v ? short_for(t, v) : NULL;
	int r;

	if (f) {
		r = decode_fields(d, at, t, t->fields, NULL, NULL, target);
		if (r < 0)
			return r;
		/* Its default gives way to the value. */
		jd_free(f->type, (char *)target + f->offset);
		return jd_decode_value(d, at, f->type, v, (char *)target + f->offset);
	}
	if (!json_object_is_type(v, json_type_object) || t->short_only) {
		jd_complain_kind(d, at, t, "an object", v);
		return 0;
	}
	return decode_fields(d, at, t, t->fields, NULL, v, target);
}

static int decode_pointer(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			  void **target)
{
	*target = calloc(1, t->size);
	if (!*target)
		return jd_out_of_memory(d);
	return decode_object(d, at, t, v, *target);
}

static int decode_variant(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			  void *target)
{
	struct jd_place tag = {.up = at, .key = t->tag};
	struct json_object *name = NULL;
	int i;

	if (!json_object_is_type(v, json_type_object)) {
		jd_complain_kind(d, at, t, "an object", v);
		return 0;
	}
	(void)json_object_object_get_ex(v, t->tag, &name);
	if (!name) {
		jd_complain(d, at, "\"%s\" is required", t->tag);
		return 0;
	}
	i = jd_find_name(t->names, name);
	if (i < 0) {
		struct jd_type choice = {.kind = JD_CHOICE, .names = t->names};

		jd_complain_choice(d, &tag, &choice, name);
		return 0;
	}
	*(int *)(void *)((char *)target + t->tag_offset) = i;
	return decode_fields(d, at, t, t->variants[i], t->fields, v, target);
}

int jd_decode_value(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			void *target)
{
	bool inside = t->lenient && jd_has_members(t);
	int r = 0;

	d->lenient += inside;
	switch (t->kind) {
	case JD_BOOLEAN:
	case JD_INTEGER:
	case JD_TEXT:
	case JD_SECRETABLE:
	case JD_CHOICE:
	case JD_RAW:
		r = jd_decode_leaf(d, at, t, v, target);
		break;
	case JD_OBJECT:
		r = decode_object(d, at, t, v, target);
		break;
	case JD_POINTER:
		r = decode_pointer(d, at, t, v, target);
		break;
	case JD_VARIANT:
		r = decode_variant(d, at, t, v, target);
		break;
	case JD_LIST:
		r = jd_decode_list(d, at, t, v, target);
		break;
	case JD_MAP:
		r = jd_decode_map(d, at, t, v, target);
		break;
	}
	d->lenient -= inside;
	return r;
}

/* Decodes a default that the table writes as JSON. */
static int default_json(struct jd_decoder *d, const struct jd_place *at, const struct jd_field *f, void *target)
{
	struct json_object *v = NULL;
	int r;

	r = jd_scan(f->default_text, strlen(f->default_text), LIMIT_SETTINGS, LIMIT_JSON_DEPTH, LIMIT_SETTINGS_VALUES,
		    &v, d->err);
	if (r == -ENOMEM)
		return jd_out_of_memory(d);
	if (r < 0) {
		jd_complain(d, at, "its default in our own table is not JSON");
		return 0;
	}
	r = jd_decode_value(d, at, f->type, v, target);
	jd_tree_erase(v);
	return r;
}

static int apply_default(struct jd_decoder *d, const struct jd_place *at, const struct jd_field *f, void *target)
{
	switch (f->type->kind) {
	case JD_BOOLEAN:
		*(bool *)target = f->default_integer != 0;
		return 0;
	case JD_INTEGER:
		*(int64_t *)target = f->default_integer;
		return 0;
	case JD_CHOICE:
		*(int *)target = (int)f->default_integer;
		return 0;
	case JD_TEXT:
	case JD_SECRETABLE: /* its text comes first */
		if (!f->default_text)
			return 0;
		return jd_copy_text(d, f->default_text, target);
	case JD_OBJECT:
		if (!f->default_text && (f->flags & JD_ZERO_ABSENT))
			return 0;
		if (!f->default_text)
			return decode_fields(d, at, f->type, f->type->fields, NULL, NULL, target);
		break;
	case JD_VARIANT:
		*(int *)(void *)((char *)target + f->type->tag_offset) = -1;
		break;
	default:
		break;
	}
	return f->default_text ? default_json(d, at, f, target) : 0;
}

/* An ignored member is checked all the same, in memory of its own. */
static int check_ignored(struct jd_decoder *d, const struct jd_place *at, const struct jd_field *f, struct json_object *v)
{
	_cleanup_free_ void *scratch = NULL;
	int r;

	if (!(f->flags & JD_SILENTLY_IGNORED))
		jd_warn(d, at, "has no effect here, ignored");
	if (!f->type)
		return 0;
	scratch = calloc(1, jd_type_size(f->type));
	if (!scratch)
		return jd_out_of_memory(d);
	r = jd_decode_value(d, at, f->type, v, scratch);
	jd_free(f->type, scratch);
	return r;
}

/* v NULL: nothing but the defaults, as for an object that is absent, where nothing is required either. */
static int decode_table(struct jd_decoder *d, const struct jd_place *at, const struct jd_field *fields, struct json_object *v,
			void *target)
{
	for (const struct jd_field *f = fields; f && f->name; f++) {
		bool ignored = f->flags & (JD_IGNORED | JD_SILENTLY_IGNORED);
		struct jd_place member = {.up = at, .key = f->name};
		struct json_object *value = NULL;
		int r = 0;

		if (v)
			(void)json_object_object_get_ex(v, f->name, &value);
		if (ignored)
			r = value ? check_ignored(d, &member, f, value) : 0;
		else if (value)
			r = jd_decode_value(d, &member, f->type, value, (char *)target + f->offset);
		else if (v && (f->flags & JD_REQUIRED))
			jd_complain(d, at, "\"%s\" is required", f->name);
		else
			r = apply_default(d, &member, f, (char *)target + f->offset);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_fields(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t,
			 const struct jd_field *fields, const struct jd_field *more, struct json_object *v,
			 void *target)
{
	struct json_object *variant = NULL;
	int r;

	if (v) {
		if (t->kind == JD_VARIANT)
			(void)json_object_object_get_ex(v, t->tag, &variant);
		json_object_object_foreach(v, key, value)
		{
			struct jd_place member = {.up = at, .key = key};

			if (value && !jd_field_find(fields, key) && !jd_field_find(more, key) &&
			    !(t->kind == JD_VARIANT && str_equal(key, t->tag)))
				jd_complain_unknown(d, &member, t, fields, more, json_object_get_string(variant));
		}
	}
	r = decode_table(d, at, fields, v, target);
	return r < 0 ? r : decode_table(d, at, more, v, target);
}

static int decode(const char *text, size_t len, const struct jd_type *type, const struct jd_options *wanted,
		  enum error_class cls, void *target, struct error *err)
{
	struct jd_options o = *wanted;
	struct jd_decoder d = {.o = &o, .cls = cls, .err = err};
	struct json_object *root = NULL;
	struct error why = ERROR_INIT;
	int r;

	o.subject = o.subject ? o.subject : "document";
	o.max_bytes = o.max_bytes ? o.max_bytes : LIMIT_SETTINGS;
	o.max_depth = o.max_depth ? o.max_depth : LIMIT_SETTINGS_DEPTH;
	o.max_values = o.max_values ? o.max_values : LIMIT_SETTINGS_VALUES;
	r = jd_scan(text, len, o.max_bytes, o.max_depth, o.max_values, &root, &why);
	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0) {
		if (o.report)
			jd_report_error(o.report, o.subject, "", "%s", why.msg);
		return error_set(err, cls, r, "%s: %s", o.subject, why.msg);
	}
	/* Settings that are null are absent. A document that is null is none: it must not pass for an empty one. */
	if (!root && type->kind == JD_OBJECT && cls == ERROR_USER)
		(void)decode_fields(&d, NULL, type, type->fields, NULL, NULL, target);
	else
		(void)jd_decode_value(&d, NULL, type, root, target);
	jd_tree_erase(root);
	if (d.r < 0)
		jd_free(type, target);
	return d.r;
}

int jd_decode(const char *text, size_t len, const struct jd_type *type, const struct jd_options *o, void *target,
	      struct error *err)
{
	return decode(text, len, type, o, ERROR_USER, target, err);
}

int jd_decode_document(const char *text, size_t len, const char *subject, size_t max_bytes, const struct jd_type *type,
		       void *target, struct error *err)
{
	/* Real documents have far more than eight bytes for each value; see OBJECT_COST for what this bounds. */
	size_t values = max_bytes / 8 + 64;
	struct jd_options o = {
		.subject = subject,
		.unknown = JD_UNKNOWN_IGNORE,
		.max_bytes = max_bytes,
		.max_depth = LIMIT_JSON_DEPTH,
		.max_values = values < LIMIT_JSON_VALUES ? (unsigned)values : LIMIT_JSON_VALUES,
	};

	return decode(text, len, type, &o, ERROR_PLATFORM, target, err);
}

const char *jd_library(void)
{
	return json_c_version();
}

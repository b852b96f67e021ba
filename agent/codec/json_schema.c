/*
 * The tables as a JSON Schema, draft 2020-12, for editors and for templates. Types that stand in several
 * places are written once, below $defs. A schema cannot say all that the decoder checks: lengths are in
 * characters there, `check` is known by its pattern only, and nothing says that names are unique. So
 * what the decoder takes the schema takes, except null, which it does not offer.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/json_schema_internal.h"

#define SECRET_REF "#/$defs/secretRef"

struct schema {
	struct jd_writer w;
	struct jd_met_list types;
};

static int put_type(struct schema *s, const struct jd_type *t, bool lenient, bool *empty);

/* "name": "text" */
static void put_text(struct schema *s, bool *empty, const char *name, const char *text)
{
	jd_write_member(&s->w, empty, name);
	jd_quote(s->w.out, text, strlen(text));
}

static void put_number(struct schema *s, bool *empty, const char *name, int64_t n)
{
	jd_write_member(&s->w, empty, name);
	buf_printf(s->w.out, "%" PRId64, n);
}

static void put_flag(struct schema *s, bool *empty, const char *name, bool flag)
{
	jd_write_member(&s->w, empty, name);
	buf_puts(s->w.out, flag ? "true" : "false");
}

/* "name": [ texts ] */
static void put_texts(struct schema *s, bool *empty, const char *name, const char *const *texts)
{
	bool none = true;

	jd_write_member(&s->w, empty, name);
	jd_write_open(&s->w, '[');
	for (; *texts; texts++) {
		jd_write_item(&s->w, &none);
		jd_quote(s->w.out, *texts, strlen(*texts));
	}
	jd_write_close(&s->w, ']', none);
}

/* { schema of the type } */
static int put_whole(struct schema *s, const struct jd_type *t, bool lenient)
{
	bool empty = true;
	int r;

	jd_write_open(&s->w, '{');
	r = put_type(s, t, lenient, &empty);
	jd_write_close(&s->w, '}', empty);
	return r;
}

static void put_secret_ref(struct schema *s)
{
	bool empty = true;

	jd_write_open(&s->w, '{');
	put_text(s, &empty, "$ref", SECRET_REF);
	jd_write_close(&s->w, '}', empty);
}

static void put_integer(struct schema *s, const struct jd_type *t, bool lenient, bool *empty)
{
	static const char *const either[] = {"integer", "string", NULL};

	if (lenient || t->lenient) {
		put_texts(s, empty, "type", either);
		put_text(s, empty, "pattern", "^-?[0-9]+(\\.0+)?$");
	} else {
		put_text(s, empty, "type", "integer");
	}
	if (t->min == 0 && t->max == 0)
		return;
	if (t->min != INT64_MIN)
		put_number(s, empty, "minimum", t->min);
	if (t->max != INT64_MAX)
		put_number(s, empty, "maximum", t->max);
}

static void put_boolean(struct schema *s, const struct jd_type *t, bool lenient, bool *empty)
{
	static const char *const either[] = {"boolean", "string", NULL};

	if (t->names) {
		put_text(s, empty, "const", t->names[0]);
	} else if (lenient || t->lenient) {
		put_texts(s, empty, "type", either);
		put_text(s, empty, "pattern", "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$");
	} else {
		put_text(s, empty, "type", "boolean");
	}
}

/* Limits are in bytes here and in characters of one to four bytes there. */
static void put_string(struct schema *s, const struct jd_type *t, bool *empty)
{
	put_text(s, empty, "type", "string");
	if (t->min > 0)
		put_number(s, empty, "minLength", (t->min + 3) / 4);
	if (t->max > 0)
		put_number(s, empty, "maxLength", t->max);
	if (t->pattern)
		put_text(s, empty, "pattern", t->pattern);
}

static void put_secretable(struct schema *s, const struct jd_type *t, bool *empty)
{
	bool none = true, no_member = true;

	if (t->must_be_secret) {
		put_text(s, empty, "$ref", SECRET_REF);
		return;
	}
	jd_write_member(&s->w, empty, "anyOf");
	jd_write_open(&s->w, '[');
	jd_write_item(&s->w, &none);
	jd_write_open(&s->w, '{');
	put_string(s, t, &no_member);
	jd_write_close(&s->w, '}', no_member);
	jd_write_item(&s->w, &none);
	put_secret_ref(s);
	jd_write_close(&s->w, ']', none);
}

static void put_default(struct schema *s, const struct jd_field *f, bool *empty)
{
	const struct jd_type *t = f->type;
	int64_t n = f->default_integer;

	switch (t->kind) {
	case JD_BOOLEAN:
		if (!t->names)
			put_flag(s, empty, "default", n != 0);
		break;
	case JD_INTEGER:
		if ((t->min == 0 && t->max == 0) || (n >= t->min && n <= t->max))
			put_number(s, empty, "default", n);
		break;
	case JD_CHOICE:
		if (n >= 0)
			put_text(s, empty, "default", t->names[n]);
		break;
	case JD_TEXT:
	case JD_SECRETABLE:
		if (f->default_text)
			put_text(s, empty, "default", f->default_text);
		break;
	default:
		if (f->default_text) {
			jd_write_member(&s->w, empty, "default");
			buf_puts(s->w.out, f->default_text);
		}
		break;
	}
}

static int put_field(struct schema *s, const struct jd_field *f, bool lenient, bool *empty)
{
	bool ignored = f->flags & (JD_IGNORED | JD_SILENTLY_IGNORED);
	bool none = true;
	int r = 0;

	jd_write_member(&s->w, empty, f->name);
	jd_write_open(&s->w, '{');
	if (f->doc)
		put_text(s, &none, "description", f->doc);
	if (f->flags & JD_IGNORED)
		put_flag(s, &none, "deprecated", true);
	if (f->type)
		r = put_type(s, f->type, lenient, &none);
	if (f->type && !ignored && !(f->flags & JD_REQUIRED))
		put_default(s, f, &none);
	jd_write_close(&s->w, '}', none);
	return r;
}

/* properties, required, additionalProperties of one table, or of a variant's two with its tag. */
static int put_object(struct schema *s, const struct jd_field *const tables[2], const char *tag, const char *tag_value,
		      bool lenient, bool *empty)
{
	bool none = true, no_member = true;
	int r = 0;

	put_text(s, empty, "type", "object");
	jd_write_member(&s->w, empty, "properties");
	jd_write_open(&s->w, '{');
	if (tag) {
		jd_write_member(&s->w, &none, tag);
		jd_write_open(&s->w, '{');
		put_text(s, &no_member, "const", tag_value);
		jd_write_close(&s->w, '}', no_member);
	}
	for (size_t i = 0; i < 2; i++)
		for (const struct jd_field *f = tables[i]; r == 0 && f && f->name; f++)
			r = put_field(s, f, lenient, &none);
	jd_write_close(&s->w, '}', none);

	jd_write_member(&s->w, empty, "required");
	jd_write_open(&s->w, '[');
	none = true;
	if (tag) {
		jd_write_item(&s->w, &none);
		jd_quote(s->w.out, tag, strlen(tag));
	}
	for (size_t i = 0; i < 2; i++) {
		for (const struct jd_field *f = tables[i]; f && f->name; f++) {
			if (!(f->flags & JD_REQUIRED))
				continue;
			jd_write_item(&s->w, &none);
			jd_quote(s->w.out, f->name, strlen(f->name));
		}
	}
	jd_write_close(&s->w, ']', none);
	put_flag(s, empty, "additionalProperties", lenient);
	return r;
}

/* What an object may be written as: its short forms, and itself. */
static int put_forms(struct schema *s, const struct jd_type *t, bool lenient, bool *empty)
{
	const struct jd_field *const tables[2] = {t->fields, NULL};
	const char *const shorts[] = {t->short_member, t->short_list};
	bool none = true, no_member = true;
	int r = 0;

	if (!t->short_member && !t->short_list)
		return put_object(s, tables, NULL, NULL, lenient, empty);
	jd_write_member(&s->w, empty, "anyOf");
	jd_write_open(&s->w, '[');
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(shorts); i++) {
		const struct jd_field *f = shorts[i] ? jd_field_find(t->fields, shorts[i]) : NULL;

		if (!f)
			continue;
		jd_write_item(&s->w, &none);
		r = put_whole(s, f->type, lenient);
	}
	if (r == 0 && !t->short_only) {
		jd_write_item(&s->w, &none);
		jd_write_open(&s->w, '{');
		r = put_object(s, tables, NULL, NULL, lenient, &no_member);
		jd_write_close(&s->w, '}', no_member);
	}
	jd_write_close(&s->w, ']', none);
	return r;
}

static int put_variants(struct schema *s, const struct jd_type *t, bool lenient, bool *empty)
{
	bool none = true;
	int r = 0;

	jd_write_member(&s->w, empty, "oneOf");
	jd_write_open(&s->w, '[');
	for (size_t i = 0; r == 0 && t->names[i]; i++) {
		const struct jd_field *const tables[2] = {t->variants[i], t->fields};
		bool no_member = true;

		jd_write_item(&s->w, &none);
		jd_write_open(&s->w, '{');
		r = put_object(s, tables, t->tag, t->names[i], lenient, &no_member);
		jd_write_close(&s->w, '}', no_member);
	}
	jd_write_close(&s->w, ']', none);
	return r;
}

static int put_list(struct schema *s, const struct jd_type *t, bool lenient, bool *empty)
{
	bool list = t->kind == JD_LIST, none = true;

	put_text(s, empty, "type", list ? "array" : "object");
	if (t->min > 0)
		put_number(s, empty, list ? "minItems" : "minProperties", t->min);
	if (t->max > 0)
		put_number(s, empty, list ? "maxItems" : "maxProperties", t->max);
	if (!list && t->pattern) {
		jd_write_member(&s->w, empty, "propertyNames");
		jd_write_open(&s->w, '{');
		put_text(s, &none, "pattern", t->pattern);
		jd_write_close(&s->w, '}', none);
	}
	jd_write_member(&s->w, empty, list ? "items" : "additionalProperties");
	return put_whole(s, t->element, lenient);
}

static int put_body(struct schema *s, const struct jd_type *t, bool lenient, bool *empty)
{
	bool inside = lenient || t->lenient;

	switch (t->kind) {
	case JD_BOOLEAN:
		put_boolean(s, t, lenient, empty);
		break;
	case JD_INTEGER:
		put_integer(s, t, lenient, empty);
		break;
	case JD_TEXT:
		put_string(s, t, empty);
		break;
	case JD_SECRETABLE:
		put_secretable(s, t, empty);
		break;
	case JD_CHOICE:
		if (t->lenient)
			put_text(s, empty, "type", "string");
		put_texts(s, empty, t->lenient ? "examples" : "enum", t->names);
		break;
	case JD_OBJECT:
	case JD_POINTER:
		return put_forms(s, t, inside, empty);
	case JD_VARIANT:
		return put_variants(s, t, inside, empty);
	case JD_LIST:
	case JD_MAP:
		return put_list(s, t, lenient, empty);
	case JD_RAW:
		break;
	}
	return buf_ok(s->w.out);
}

static int put_type(struct schema *s, const struct jd_type *t, bool lenient, bool *empty)
{
	const struct jd_met *m = jd_met_find(&s->types, t, lenient);
	char ref[JD_MET_NAME + 16];

	if (!m || !jd_met_is_shared(m))
		return put_body(s, t, lenient, empty);
	(void)snprintf(ref, sizeof(ref), "#/$defs/%s", m->name);
	put_text(s, empty, "$ref", ref);
	return buf_ok(s->w.out);
}

static int put_defs(struct schema *s, bool *empty)
{
	static const struct jd_type name = {.kind = JD_TEXT, .min = 1, .max = JD_NAME_MAX};
	static const struct jd_field fields[] = {
		{"secretRef", &name, .flags = JD_REQUIRED, .doc = "The name of a value among the secrets."},
		{0},
	};
	static const struct jd_type secret_ref = {.kind = JD_OBJECT, .fields = fields};
	bool none = true;
	int r = 0;

	jd_write_member(&s->w, empty, "$defs");
	jd_write_open(&s->w, '{');
	if (s->types.secret_ref) {
		jd_write_member(&s->w, &none, "secretRef");
		r = put_whole(s, &secret_ref, false);
	}
	for (size_t i = 0; r == 0 && i < s->types.n; i++) {
		bool no_member = true;

		if (!jd_met_is_shared(&s->types.met[i]))
			continue;
		jd_write_member(&s->w, &none, s->types.met[i].name);
		jd_write_open(&s->w, '{');
		r = put_body(s, s->types.met[i].type, s->types.met[i].lenient, &no_member);
		jd_write_close(&s->w, '}', no_member);
	}
	jd_write_close(&s->w, '}', none);
	return r;
}

int jd_schema(const struct jd_type *type, const char *title, const char *id, struct buf *out)
{
	_cleanup_free_ struct jd_met *met = calloc(JD_MET_MAX, sizeof(*met));
	struct schema s = {.w = {.out = out, .pretty = true}, .types = {.met = met}};
	bool empty = true;
	int r;

	if (!met)
		return -ENOMEM;
	r = jd_meet(&s.types, type);
	if (r < 0)
		return r;
	jd_write_open(&s.w, '{');
	put_text(&s, &empty, "$schema", "https://json-schema.org/draft/2020-12/schema");
	if (id)
		put_text(&s, &empty, "$id", id);
	if (title)
		put_text(&s, &empty, "title", title);
	r = put_body(&s, type, false, &empty);
	if (r == 0)
		r = put_defs(&s, &empty);
	jd_write_close(&s.w, '}', empty);
	buf_putc(out, '\n');
	return r < 0 ? r : buf_ok(out);
}

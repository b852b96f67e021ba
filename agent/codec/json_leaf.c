/* Decoding of what holds no other values: booleans, numbers, texts, secrets, choices, and raw JSON kept as text. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/json_decode_internal.h"

#define TEXT_MAX (64 * 1024) /* of a JD_TEXT without a limit of its own */

int jd_copy_text(struct jd_decoder *d, const char *text, char **to)
{
	char *copy = strdup(text);

	if (!copy)
		return jd_out_of_memory(d);
	*to = copy;
	return 0;
}

bool jd_is_secret_form(struct json_object *v, struct json_object **ret)
{
	return json_object_is_type(v, json_type_object) && json_object_object_length(v) == 1 &&
	       json_object_object_get_ex(v, "secretRef", ret);
}

static bool any_range(const struct jd_type *t)
{
	return t->min == 0 && t->max == 0;
}

static bool in_range(const struct jd_type *t, int64_t n)
{
	return any_range(t) || (n >= t->min && n <= t->max);
}

/* A number that stands in a text, or a whole one written as 60.0. */
static bool lenient_integer(const char *s, int64_t *ret)
{
	size_t digits = strspn(s + (*s == '-'), "0123456789") + (*s == '-');
	const char *rest = s + digits;
	char *end;
	int64_t v;

	if (*rest == '.' && rest[1])
		rest += 1 + strspn(rest + 1, "0");
	if (digits == (*s == '-') || *rest)
		return false;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (errno || end != s + digits)
		return false;
	*ret = v;
	return true;
}

static int decode_integer(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			  int64_t *target)
{
	bool lenient = t->lenient || d->lenient;
	const char *what = t->what ? t->what : "an integer";
	char shown[JD_SHOWN_SIZE];
	bool number = false;
	int64_t n = 0;

	if (json_object_is_type(v, json_type_int)) {
		n = json_object_get_int64(v);
		number = true;
	} else if (lenient && (json_object_is_type(v, json_type_string) || json_object_is_type(v, json_type_double))) {
		const char *s = json_object_get_string(v);

		if (!s)
			return jd_out_of_memory(d);
		number = lenient_integer(s, &n);
	}
	if (number && in_range(t, n)) {
		*target = n;
		return 0;
	}
	if (any_range(t))
		jd_complain(d, at, "expected %s, got %s", what, jd_got(v, false, shown));
	else if (t->max == INT64_MAX)
		jd_complain(d, at, "expected %s of at least %" PRId64 ", got %s", what, t->min, jd_got(v, false, shown));
	else
		jd_complain(d, at, "expected %s from %" PRId64 " to %" PRId64 ", got %s", what, t->min, t->max,
			 jd_got(v, false, shown));
	return 0;
}

int jd_find_name(const char *const *names, struct json_object *v)
{
	if (!json_object_is_type(v, json_type_string))
		return -1;
	for (int i = 0; names[i]; i++)
		if (str_equal(names[i], json_object_get_string(v)))
			return i;
	return -1;
}

static int decode_boolean(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			  bool *target)
{
	if (t->names) {
		if (jd_find_name(t->names, v) == 0)
			*target = true;
		else
			jd_complain_choice(d, at, t, v);
		return 0;
	}
	if (json_object_is_type(v, json_type_boolean)) {
		*target = json_object_get_boolean(v);
		return 0;
	}
	if ((t->lenient || d->lenient) && json_object_is_type(v, json_type_string)) {
		const char *s = json_object_get_string(v);

		if (str_equal_nocase(s, "true") || str_equal_nocase(s, "false")) {
			*target = str_equal_nocase(s, "true");
			return 0;
		}
	}
	jd_complain_kind(d, at, t, "true or false", v);
	return 0;
}

/* Length and check of a text; true if it may be taken. */
static bool text_fits(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, const char *s, size_t len)
{
	size_t max = t->max > 0 ? (size_t)t->max : TEXT_MAX;
	struct error why = ERROR_INIT;
	char *cut;
	int r;

	if (len == 0 && t->min > 0) {
		jd_complain(d, at, "must not be empty");
		return false;
	}
	if (t->min > 0 && len < (size_t)t->min) {
		jd_complain(d, at, "at least %" PRId64 " bytes, got %zu", t->min, len);
		return false;
	}
	if (len > max) {
		jd_complain(d, at, "at most %zu bytes, got %zu", max, len);
		return false;
	}
	r = t->check ? t->check(s, &why) : 0;
	if (r == 0)
		return true;
	if (r == -ENOMEM) {
		(void)jd_out_of_memory(d);
		return false;
	}
	cut = jd_is_hidden(t) ? strstr(why.msg, ", got") : NULL;
	if (cut)
		*cut = '\0';
	jd_complain(d, at, "%s", *why.msg ? why.msg : "not accepted");
	return false;
}

static int decode_text(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		       char **target)
{
	const char *s;

	if (!json_object_is_type(v, json_type_string)) {
		if (jd_is_secret_form(v, NULL))
			jd_complain(d, at, "%s", t->no_secret ? t->no_secret : "a secretRef is not allowed here");
		else
			jd_complain_kind(d, at, t, "a text", v);
		return 0;
	}
	s = json_object_get_string(v);
	if (!text_fits(d, at, t, s, (size_t)json_object_get_string_len(v)))
		return 0;
	return jd_copy_text(d, s, target);
}

static int decode_secretable(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			     struct jd_secretable *target)
{
	struct json_object *name = NULL;
	char **to = &target->text;

	if (jd_is_secret_form(v, &name)) {
		size_t len = json_object_is_type(name, json_type_string) ? (size_t)json_object_get_string_len(name) : 0;

		if (len == 0 || len > JD_NAME_MAX) {
			jd_complain(d, at, "secretRef: expected the name of a secret, got %s",
				 len ? "a longer text" : "something else");
			return 0;
		}
		v = name;
		to = &target->ref;
	} else if (t->must_be_secret) {
		jd_complain(d, at,
			 "must be {\"secretRef\": \"NAME\"}; the value belongs in the protected settings under "
			 "\"secrets\"");
		return 0;
	} else if (!json_object_is_type(v, json_type_string)) {
		jd_complain_kind(d, at, t, "a text or {\"secretRef\": \"NAME\"}", v);
		return 0;
	} else if (!text_fits(d, at, t, json_object_get_string(v), (size_t)json_object_get_string_len(v))) {
		return 0;
	}
	return jd_copy_text(d, json_object_get_string(v), to);
}

static int decode_choice(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
			 int *target)
{
	int i = jd_find_name(t->names, v);

	if (i < 0 && !(t->lenient && json_object_is_type(v, json_type_string))) {
		jd_complain_choice(d, at, t, v);
		return 0;
	}
	*target = i;
	return 0;
}

static int decode_raw(struct jd_decoder *d, struct json_object *v, char **target)
{
	struct buf b = BUF_SECRET_INIT(d->o->max_bytes);
	int r = jd_tree_write(v, &b);

	if (r == 0)
		*target = buf_take(&b);
	buf_done(&b);
	return r < 0 ? jd_out_of_memory(d) : 0;
}

int jd_decode_leaf(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v,
		   void *target)
{
	switch (t->kind) {
	case JD_BOOLEAN:
		return decode_boolean(d, at, t, v, target);
	case JD_INTEGER:
		return decode_integer(d, at, t, v, target);
	case JD_TEXT:
		return decode_text(d, at, t, v, target);
	case JD_SECRETABLE:
		return decode_secretable(d, at, t, v, target);
	case JD_CHOICE:
		return decode_choice(d, at, t, v, target);
	default:
		return decode_raw(d, v, target);
	}
}

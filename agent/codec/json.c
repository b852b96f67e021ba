/* Decoding by tables, over the tree that json_scan.c has read. Goes on after an error, so that all are told at once. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/json_internal.h"
#include "agent/codec/json_report.h"

/* gcc's analyzer cannot follow ownership into a target that only a table describes. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define TEXT_MAX      (64 * 1024) /* of a JD_TEXT without a limit of its own */
#define NEAREST_WORDS 64

/* Where the decoder stands; lives on the stack, is spelled out only for a message. */
struct place {
	const struct place *up;
	const char *key; /* NULL: index */
	size_t index;
};

struct decoder {
	const struct jd_options *o;
	enum error_class cls;
	struct error *err;
	int r;            /* the first failure */
	unsigned lenient; /* inside that many lenient objects */
};

/* 0 also if something was reported (d->r says so); negative only when decoding cannot go on. */
static int decode_value(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
			void *target);
static int decode_fields(struct decoder *d, const struct place *at, const struct jd_type *t,
			 const struct jd_field *fields, const struct jd_field *more, struct json_object *v,
			 void *target);

/* Messages. */

const char *jd_shown(const char *text, size_t len, char out[static JD_SHOWN_SIZE])
{
	struct buf b = BUF_INIT(JD_SHOWN_SIZE - 5);
	size_t n = utf8_cut(text, len, JD_SHOWN);

	if (jd_quote(&b, text, n) < 0)
		(void)snprintf(out, JD_SHOWN_SIZE, "a text");
	else if (n < len)
		(void)snprintf(out, JD_SHOWN_SIZE, "%.*s…\"", (int)b.len - 1, b.data);
	else
		(void)snprintf(out, JD_SHOWN_SIZE, "%s", b.data);
	buf_done(&b);
	return out;
}

static bool plain_key(const char *key)
{
	return *key && strlen(key) <= JD_SHOWN &&
	       key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-$")] == '\0';
}

size_t jd_path_step(char path[static JD_PATH_SIZE], size_t len, const char *key, size_t index)
{
	char shown[JD_SHOWN_SIZE];
	size_t room = JD_PATH_SIZE - len;
	int k;

	if (!key)
		k = snprintf(path + len, room, "[%zu]", index);
	else if (plain_key(key))
		k = snprintf(path + len, room, "%s%s", len ? "." : "", key);
	else
		k = snprintf(path + len, room, "[%s]", jd_shown(key, strlen(key), shown));
	if (k >= 0 && (size_t)k < room)
		return len + (size_t)k;
	len = utf8_cut(path, JD_PATH_SIZE - 1, JD_PATH_SIZE - 2);
	path[len] = '\0';
	return len;
}

static size_t spell(const struct place *at, char path[static JD_PATH_SIZE])
{
	if (at)
		return jd_path_step(path, spell(at->up, path), at->key, at->index);
	*path = '\0';
	return 0;
}

/* Nobody would be told of another error; finding the words for thousands of them would only take time. */
static bool told_enough(const struct decoder *d)
{
	return d->r < 0 && (!d->o->report || d->o->report->n_errors == ARRAY_SIZE(d->o->report->errors));
}

static void complain(struct decoder *d, const struct place *at, const char *fmt, ...) _printf_(3, 4);
static void complain(struct decoder *d, const struct place *at, const char *fmt, ...)
{
	char path[JD_PATH_SIZE], text[JD_REPORT_SENTENCE], first[sizeof(d->err->msg)];
	va_list ap;
	int k;

	if (told_enough(d)) {
		if (d->o->report)
			d->o->report->n_errors_found++;
		return;
	}
	(void)spell(at, path);
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (d->o->report)
		jd_report_error(d->o->report, d->o->subject, path, "%s", text);
	if (d->r)
		return;
	k = snprintf(first, sizeof(first), "%s: %s%s%s", d->o->subject, path, *path ? ": " : "", text);
	if (k < 0 || (size_t)k >= sizeof(first))
		first[utf8_cut(first, sizeof(first) - 1, sizeof(first) - 2)] = '\0';
	d->r = error_set(d->err, d->cls, -EINVAL, "%s", first);
}

static bool room_for_warning(const struct decoder *d)
{
	return d->o->report && d->o->report->n_warnings < ARRAY_SIZE(d->o->report->warnings);
}

static void warn(struct decoder *d, const struct place *at, const char *fmt, ...) _printf_(3, 4);
static void warn(struct decoder *d, const struct place *at, const char *fmt, ...)
{
	char path[JD_PATH_SIZE], text[JD_REPORT_SENTENCE];
	va_list ap;

	if (!room_for_warning(d))
		return;
	(void)spell(at, path);
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jd_report_warning(d->o->report, d->o->subject, path, "%s", text);
}

static int out_of_memory(struct decoder *d)
{
	d->r = error_oom(d->err);
	return d->r;
}

static int copy_text(struct decoder *d, const char *text, char **to)
{
	char *copy = strdup(text);

	if (!copy)
		return out_of_memory(d);
	*to = copy;
	return 0;
}

/* What a message says that it found. */
static const char *got(struct json_object *v, bool hidden, char out[static JD_SHOWN_SIZE])
{
	const char *s;

	switch (json_object_get_type(v)) {
	case json_type_null:
		return "null";
	case json_type_object:
		return "an object";
	case json_type_array:
		return "a list";
	case json_type_string:
		if (hidden)
			return "a text";
		return jd_shown(json_object_get_string(v), (size_t)json_object_get_string_len(v), out);
	case json_type_boolean:
		return hidden ? "a boolean" : json_object_get_boolean(v) ? "true" : "false";
	default:
		s = hidden ? NULL : json_object_get_string(v);
		if (!s)
			return "a number";
		(void)snprintf(out, JD_SHOWN_SIZE, "%.*s%s", JD_SHOWN, s, strlen(s) > JD_SHOWN ? "…" : "");
		return out;
	}
}

static bool hidden(const struct jd_type *t)
{
	return t->sensitive || t->kind == JD_SECRETABLE;
}

/* What a shell makes of an object that it was told to turn into JSON once too often. */
static bool is_escaped_object(const struct jd_type *t, struct json_object *v)
{
	const char *s;

	if ((t->kind != JD_OBJECT && t->kind != JD_POINTER) || !json_object_is_type(v, json_type_string))
		return false;
	s = json_object_get_string(v);
	return s[strspn(s, " \t\r\n")] == '{';
}

/* `expected WHAT, got …` for a value of the wrong kind. */
static void complain_kind(struct decoder *d, const struct place *at, const struct jd_type *t, const char *what,
			  struct json_object *v)
{
	char shown[JD_SHOWN_SIZE];

	if (is_escaped_object(t, v))
		complain(d, at,
			 "expected an object, got a text that holds JSON; give the object itself, not its "
			 "escaped text (in PowerShell a hashtable, without ConvertTo-Json)");
	else
		complain(d, at, "expected %s, got %s", t->what ? t->what : what, got(v, hidden(t), shown));
}

/* `pollInterval` is meant to find `pollingIntervalInSeconds`: the unit is what people leave out. */
static size_t without_unit(const char *name)
{
	for (const char *p = strstr(name, "In"); p; p = strstr(p + 1, "In"))
		if (p > name && p[2] >= 'A' && p[2] <= 'Z' &&
		    (str_equal(p + 2, "Seconds") || str_equal(p + 2, "Bytes") || str_equal(p + 2, "Days") ||
		     str_equal(p + 2, "Minutes") || str_equal(p + 2, "Hours") || str_equal(p + 2, "Percent")))
			return (size_t)(p - name);
	return strlen(name);
}

static const char *nearest(const char *word, const char *const *words)
{
	char stems[NEAREST_WORDS][32];
	const char *list[NEAREST_WORDS + 1] = {NULL};
	const char *found = NULL;
	char stem[JD_SHOWN + 1];
	size_t len = strlen(word);
	int i = -1;

	if (len == 0 || len > JD_SHOWN)
		return NULL;
	i = str_nearest(word, words);
	if (i >= 0)
		return words[i];

	(void)snprintf(stem, sizeof(stem), "%.*s", (int)without_unit(word), word);
	for (size_t n = 0; words[n] && n < NEAREST_WORDS; n++) {
		(void)snprintf(stems[n], sizeof(stems[n]), "%.*s", (int)without_unit(words[n]), words[n]);
		list[n] = stems[n];
	}
	i = str_nearest(stem, list);
	if (i >= 0)
		return words[i];

	/* The beginning of one word only: "command" for "commandToExecute". */
	for (size_t n = 0; len >= 4 && words[n]; n++) {
		if (strncasecmp(word, words[n], len) != 0)
			continue;
		if (found)
			return NULL;
		found = words[n];
	}
	return found;
}

static void add_names(const struct jd_field *fields, const char *words[static NEAREST_WORDS + 1], size_t *n)
{
	for (; fields && fields->name; fields++)
		if (*n < NEAREST_WORDS && !(fields->flags & (JD_IGNORED | JD_SILENTLY_IGNORED)))
			words[(*n)++] = fields->name;
}

/* The name of a variant's member that another variant has. */
static bool of_another(const struct jd_type *t, const char *name)
{
	for (size_t i = 0; t->kind == JD_VARIANT && t->names[i]; i++)
		if (jd_field_find(t->variants[i], name))
			return true;
	return false;
}

static void unknown_member(struct decoder *d, const struct place *at, const struct jd_type *t,
			   const struct jd_field *fields, const struct jd_field *more, const char *variant)
{
	const char *words[NEAREST_WORDS + 1] = {NULL}, *meant;
	size_t n = 0;

	if (!d->lenient && d->o->unknown == JD_UNKNOWN_IGNORE)
		return;
	if (!d->lenient && told_enough(d)) {
		complain(d, at, "unknown");
		return;
	}
	if (variant && !d->lenient && of_another(t, at->key)) {
		complain(d, at, "unknown member of %s \"%s\"", t->tag, variant);
		return;
	}
	if (t->kind == JD_VARIANT)
		words[n++] = t->tag;
	add_names(fields, words, &n);
	add_names(more, words, &n);
	meant = d->lenient && !room_for_warning(d) ? NULL : nearest(at->key, words);
	if (d->lenient)
		warn(d, at, "unknown member, ignored%s%s%s", meant ? "; did you mean \"" : "", meant ? meant : "",
		     meant ? "\"?" : "");
	else
		complain(d, at, "unknown %s%s%s%s", at->up ? "member" : "section", meant ? "; did you mean \"" : "",
			 meant ? meant : "", meant ? "\"?" : "");
}

/* {"secretRef": …} and nothing else. */
static bool secret_form(struct json_object *v, struct json_object **ret)
{
	return json_object_is_type(v, json_type_object) && json_object_object_length(v) == 1 &&
	       json_object_object_get_ex(v, "secretRef", ret);
}

/* Values. */

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

static int decode_integer(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
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
			return out_of_memory(d);
		number = lenient_integer(s, &n);
	}
	if (number && in_range(t, n)) {
		*target = n;
		return 0;
	}
	if (any_range(t))
		complain(d, at, "expected %s, got %s", what, got(v, false, shown));
	else if (t->max == INT64_MAX)
		complain(d, at, "expected %s of at least %" PRId64 ", got %s", what, t->min, got(v, false, shown));
	else
		complain(d, at, "expected %s from %" PRId64 " to %" PRId64 ", got %s", what, t->min, t->max,
			 got(v, false, shown));
	return 0;
}

static int find_name(const char *const *names, struct json_object *v)
{
	if (!json_object_is_type(v, json_type_string))
		return -1;
	for (int i = 0; names[i]; i++)
		if (str_equal(names[i], json_object_get_string(v)))
			return i;
	return -1;
}

/* `expected "a", "b" or "c", got "d"; did you mean …` */
static void complain_choice(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v)
{
	const char *meant = NULL;
	char list[400], shown[JD_SHOWN_SIZE];
	size_t n = 0;

	list[0] = '\0';
	for (size_t i = 0; t->names[i] && n < sizeof(list); i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s\"%s\"",
				      i == 0            ? ""
				      : t->names[i + 1] ? ", "
							: " or ",
				      t->names[i]);
	if (json_object_is_type(v, json_type_string))
		meant = nearest(json_object_get_string(v), t->names);
	complain(d, at, "expected %s, got %s%s%s%s", t->what ? t->what : list, got(v, t->sensitive, shown),
		 meant ? "; did you mean \"" : "", meant ? meant : "", meant ? "\"?" : "");
}

static int decode_boolean(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
			  bool *target)
{
	if (t->names) {
		if (find_name(t->names, v) == 0)
			*target = true;
		else
			complain_choice(d, at, t, v);
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
	complain_kind(d, at, t, "true or false", v);
	return 0;
}

/* Length and check of a text; true if it may be taken. */
static bool text_fits(struct decoder *d, const struct place *at, const struct jd_type *t, const char *s, size_t len)
{
	size_t max = t->max > 0 ? (size_t)t->max : TEXT_MAX;
	struct error why = ERROR_INIT;
	char *cut;
	int r;

	if (len == 0 && t->min > 0) {
		complain(d, at, "must not be empty");
		return false;
	}
	if (t->min > 0 && len < (size_t)t->min) {
		complain(d, at, "at least %" PRId64 " bytes, got %zu", t->min, len);
		return false;
	}
	if (len > max) {
		complain(d, at, "at most %zu bytes, got %zu", max, len);
		return false;
	}
	r = t->check ? t->check(s, &why) : 0;
	if (r == 0)
		return true;
	if (r == -ENOMEM) {
		(void)out_of_memory(d);
		return false;
	}
	cut = hidden(t) ? strstr(why.msg, ", got") : NULL;
	if (cut)
		*cut = '\0';
	complain(d, at, "%s", *why.msg ? why.msg : "not accepted");
	return false;
}

static int decode_text(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
		       char **target)
{
	const char *s;

	if (!json_object_is_type(v, json_type_string)) {
		if (secret_form(v, NULL))
			complain(d, at, "%s", t->no_secret ? t->no_secret : "a secretRef is not allowed here");
		else
			complain_kind(d, at, t, "a text", v);
		return 0;
	}
	s = json_object_get_string(v);
	if (!text_fits(d, at, t, s, (size_t)json_object_get_string_len(v)))
		return 0;
	return copy_text(d, s, target);
}

static int decode_secretable(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
			     struct jd_secretable *target)
{
	struct json_object *name = NULL;
	char **to = &target->text;

	if (secret_form(v, &name)) {
		size_t len = json_object_is_type(name, json_type_string) ? (size_t)json_object_get_string_len(name) : 0;

		if (len == 0 || len > JD_NAME_MAX) {
			complain(d, at, "secretRef: expected the name of a secret, got %s",
				 len ? "a longer text" : "something else");
			return 0;
		}
		v = name;
		to = &target->ref;
	} else if (t->must_be_secret) {
		complain(d, at,
			 "must be {\"secretRef\": \"NAME\"}; the value belongs in the protected settings under "
			 "\"secrets\"");
		return 0;
	} else if (!json_object_is_type(v, json_type_string)) {
		complain_kind(d, at, t, "a text or {\"secretRef\": \"NAME\"}", v);
		return 0;
	} else if (!text_fits(d, at, t, json_object_get_string(v), (size_t)json_object_get_string_len(v))) {
		return 0;
	}
	return copy_text(d, json_object_get_string(v), to);
}

static int decode_choice(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
			 int *target)
{
	int i = find_name(t->names, v);

	if (i < 0 && !(t->lenient && json_object_is_type(v, json_type_string))) {
		complain_choice(d, at, t, v);
		return 0;
	}
	*target = i;
	return 0;
}

/* Which member a value stands for that is not written as an object, or NULL. */
static const struct jd_field *short_for(const struct jd_type *t, struct json_object *v)
{
	const char *name = t->short_member;

	if (json_object_is_type(v, json_type_array) && t->short_list)
		name = t->short_list;
	else if (json_object_is_type(v, json_type_object) &&
		 (!secret_form(v, NULL) || jd_field_find(t->fields, "secretRef")))
		return NULL;
	return name ? jd_field_find(t->fields, name) : NULL;
}

static int decode_object(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
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
		return decode_value(d, at, f->type, v, (char *)target + f->offset);
	}
	if (!json_object_is_type(v, json_type_object) || t->short_only) {
		complain_kind(d, at, t, "an object", v);
		return 0;
	}
	return decode_fields(d, at, t, t->fields, NULL, v, target);
}

static int decode_pointer(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
			  void **target)
{
	*target = calloc(1, t->size);
	if (!*target)
		return out_of_memory(d);
	return decode_object(d, at, t, v, *target);
}

static int decode_variant(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
			  void *target)
{
	struct place tag = {.up = at, .key = t->tag};
	struct json_object *name = NULL;
	int i;

	if (!json_object_is_type(v, json_type_object)) {
		complain_kind(d, at, t, "an object", v);
		return 0;
	}
	(void)json_object_object_get_ex(v, t->tag, &name);
	if (!name) {
		complain(d, at, "\"%s\" is required", t->tag);
		return 0;
	}
	i = find_name(t->names, name);
	if (i < 0) {
		struct jd_type choice = {.kind = JD_CHOICE, .names = t->names};

		complain_choice(d, &tag, &choice, name);
		return 0;
	}
	*(int *)(void *)((char *)target + t->tag_offset) = i;
	return decode_fields(d, at, t, t->variants[i], t->fields, v, target);
}

/* True if so many are allowed. */
static bool count_fits(struct decoder *d, const struct place *at, const struct jd_type *t, size_t n)
{
	if (t->max > 0 && n > (size_t)t->max) {
		complain(d, at, "at most %" PRId64 " item%s, got %zu", t->max, t->max == 1 ? "" : "s", n);
		return false;
	}
	if (t->min > 0 && n < (size_t)t->min) {
		complain(d, at, "at least %" PRId64 " item%s, got %zu", t->min, t->min == 1 ? "" : "s", n);
		return false;
	}
	return true;
}

static void complain_unique(struct decoder *d, const struct place *at, const struct jd_type *t, const char *text,
			    size_t first, size_t second)
{
	struct place item = {.up = at, .index = second}, member = {.up = &item, .key = t->unique};
	char shown[JD_SHOWN_SIZE];

	complain(d, &member, "%s is already the %s of %s[%zu]", jd_shown(text, strlen(text), shown), t->unique,
		 at && at->key ? at->key : "", first);
}

static void check_unique(struct decoder *d, const struct place *at, const struct jd_type *t, const struct jd_list *list)
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

static int decode_list(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
		       struct jd_list *target)
{
	size_t n, size = jd_type_size(t->element);
	int r;

	if (!json_object_is_type(v, json_type_array)) {
		complain_kind(d, at, t, "a list", v);
		return 0;
	}
	n = json_object_array_length(v);
	if (!count_fits(d, at, t, n))
		return 0;
	target->items = calloc(n ? n : 1, size);
	if (!target->items)
		return out_of_memory(d);
	for (size_t i = 0; i < n; i++) {
		struct place item = {.up = at, .index = i};

		target->n = i + 1;
		r = decode_value(d, &item, t->element, json_object_array_get_idx(v, i),
				 (char *)target->items + i * size);
		if (r < 0)
			return r;
	}
	if (t->unique)
		check_unique(d, at, t, target);
	return 0;
}

/* The key of one item of a map; true if it may be taken. */
static bool key_fits(struct decoder *d, const struct place *at, const struct jd_type *t, const char *key)
{
	struct error why = ERROR_INIT;
	int r;

	if (strlen(key) > JD_NAME_MAX) {
		complain(d, at, "a name of at most %d bytes, got %zu", JD_NAME_MAX, strlen(key));
		return false;
	}
	r = t->check ? t->check(key, &why) : 0;
	if (r == 0)
		return true;
	if (r == -ENOMEM) {
		(void)out_of_memory(d);
		return false;
	}
	complain(d, at, "%s", *why.msg ? why.msg : "not accepted as a name");
	return false;
}

static int decode_map(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
		      struct jd_list *target)
{
	size_t n;
	int r;

	if (!json_object_is_type(v, json_type_object)) {
		complain_kind(d, at, t, "an object", v);
		return 0;
	}
	n = (size_t)json_object_object_length(v);
	if (!count_fits(d, at, t, n))
		return 0;
	target->items = calloc(n ? n : 1, t->size);
	if (!target->items)
		return out_of_memory(d);
	json_object_object_foreach(v, key, value)
	{
		struct place item = {.up = at, .key = key};
		char *slot = (char *)target->items + target->n * t->size;

		if (!value || !key_fits(d, &item, t, key))
			continue;
		r = copy_text(d, key, (char **)(void *)slot);
		if (r < 0)
			return r;
		target->n++;
		r = decode_value(d, &item, t->element, value, slot + t->value_offset);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_raw(struct decoder *d, struct json_object *v, char **target)
{
	struct buf b = BUF_SECRET_INIT(d->o->max_bytes);
	int r = jd_tree_write(v, &b);

	if (r == 0)
		*target = buf_take(&b);
	buf_done(&b);
	return r < 0 ? out_of_memory(d) : 0;
}

static int decode_value(struct decoder *d, const struct place *at, const struct jd_type *t, struct json_object *v,
			void *target)
{
	bool inside = t->lenient && (t->kind == JD_OBJECT || t->kind == JD_POINTER || t->kind == JD_VARIANT);
	int r = 0;

	d->lenient += inside;
	switch (t->kind) {
	case JD_BOOLEAN:
		r = decode_boolean(d, at, t, v, target);
		break;
	case JD_INTEGER:
		r = decode_integer(d, at, t, v, target);
		break;
	case JD_TEXT:
		r = decode_text(d, at, t, v, target);
		break;
	case JD_SECRETABLE:
		r = decode_secretable(d, at, t, v, target);
		break;
	case JD_CHOICE:
		r = decode_choice(d, at, t, v, target);
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
		r = decode_list(d, at, t, v, target);
		break;
	case JD_MAP:
		r = decode_map(d, at, t, v, target);
		break;
	case JD_RAW:
		r = decode_raw(d, v, target);
		break;
	}
	d->lenient -= inside;
	return r;
}

/* Objects. */

/* Decodes a default that the table writes as JSON. */
static int default_json(struct decoder *d, const struct place *at, const struct jd_field *f, void *target)
{
	struct json_object *v = NULL;
	int r;

	r = jd_scan(f->default_text, strlen(f->default_text), LIMIT_SETTINGS, LIMIT_JSON_DEPTH, LIMIT_SETTINGS_VALUES,
		    &v, d->err);
	if (r == -ENOMEM)
		return out_of_memory(d);
	if (r < 0) {
		complain(d, at, "its default in our own table is not JSON");
		return 0;
	}
	r = decode_value(d, at, f->type, v, target);
	jd_tree_erase(v);
	return r;
}

static int apply_default(struct decoder *d, const struct place *at, const struct jd_field *f, void *target)
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
		return copy_text(d, f->default_text, target);
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
static int check_ignored(struct decoder *d, const struct place *at, const struct jd_field *f, struct json_object *v)
{
	_cleanup_free_ void *scratch = NULL;
	int r;

	if (!(f->flags & JD_SILENTLY_IGNORED))
		warn(d, at, "has no effect here, ignored");
	if (!f->type)
		return 0;
	scratch = calloc(1, jd_type_size(f->type));
	if (!scratch)
		return out_of_memory(d);
	r = decode_value(d, at, f->type, v, scratch);
	jd_free(f->type, scratch);
	return r;
}

/* v NULL: nothing but the defaults, as for an object that is absent, where nothing is required either. */
static int decode_table(struct decoder *d, const struct place *at, const struct jd_field *fields, struct json_object *v,
			void *target)
{
	for (const struct jd_field *f = fields; f && f->name; f++) {
		bool ignored = f->flags & (JD_IGNORED | JD_SILENTLY_IGNORED);
		struct place member = {.up = at, .key = f->name};
		struct json_object *value = NULL;
		int r = 0;

		if (v)
			(void)json_object_object_get_ex(v, f->name, &value);
		if (ignored)
			r = value ? check_ignored(d, &member, f, value) : 0;
		else if (value)
			r = decode_value(d, &member, f->type, value, (char *)target + f->offset);
		else if (v && (f->flags & JD_REQUIRED))
			complain(d, at, "\"%s\" is required", f->name);
		else
			r = apply_default(d, &member, f, (char *)target + f->offset);
		if (r < 0)
			return r;
	}
	return 0;
}

static int decode_fields(struct decoder *d, const struct place *at, const struct jd_type *t,
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
			struct place member = {.up = at, .key = key};

			if (value && !jd_field_find(fields, key) && !jd_field_find(more, key) &&
			    !(t->kind == JD_VARIANT && str_equal(key, t->tag)))
				unknown_member(d, &member, t, fields, more, json_object_get_string(variant));
		}
	}
	r = decode_table(d, at, fields, v, target);
	return r < 0 ? r : decode_table(d, at, more, v, target);
}

static int decode(const char *text, size_t len, const struct jd_type *type, const struct jd_options *wanted,
		  enum error_class cls, void *target, struct error *err)
{
	struct jd_options o = *wanted;
	struct decoder d = {.o = &o, .cls = cls, .err = err};
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
		(void)decode_value(&d, NULL, type, root, target);
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

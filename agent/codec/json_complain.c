/* What decoding says: where it stands, what was expected, what it found, and what was probably meant. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/base/str.h"
#include "agent/codec/json_decode_internal.h"
#include "agent/codec/json_report.h"

#define NEAREST_WORDS 64

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

static size_t spell(const struct jd_place *at, char path[static JD_PATH_SIZE])
{
	if (at)
		return jd_path_step(path, spell(at->up, path), at->key, at->index);
	*path = '\0';
	return 0;
}

/* Nobody would be told of another error; finding the words for thousands of them would only take time. */
static bool told_enough(const struct jd_decoder *d)
{
	return d->r < 0 && (!d->o->report || d->o->report->n_errors == ARRAY_SIZE(d->o->report->errors));
}

void jd_complain(struct jd_decoder *d, const struct jd_place *at, const char *fmt, ...)
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

static bool room_for_warning(const struct jd_decoder *d)
{
	return d->o->report && d->o->report->n_warnings < ARRAY_SIZE(d->o->report->warnings);
}

void jd_warn(struct jd_decoder *d, const struct jd_place *at, const char *fmt, ...)
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

int jd_out_of_memory(struct jd_decoder *d)
{
	d->r = error_oom(d->err);
	return d->r;
}

const char *jd_got(struct json_object *v, bool hidden, char out[static JD_SHOWN_SIZE])
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

bool jd_is_hidden(const struct jd_type *t)
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

void jd_complain_kind(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, const char *what,
			  struct json_object *v)
{
	char shown[JD_SHOWN_SIZE];

	if (is_escaped_object(t, v))
		jd_complain(d, at,
			 "expected an object, got a text that holds JSON; give the object itself, not its "
			 "escaped text (in PowerShell a hashtable, without ConvertTo-Json)");
	else
		jd_complain(d, at, "expected %s, got %s", t->what ? t->what : what, jd_got(v, jd_is_hidden(t), shown));
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

void jd_complain_unknown(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t,
			   const struct jd_field *fields, const struct jd_field *more, const char *variant)
{
	const char *words[NEAREST_WORDS + 1] = {NULL}, *meant;
	size_t n = 0;

	if (!d->lenient && d->o->unknown == JD_UNKNOWN_IGNORE)
		return;
	if (!d->lenient && told_enough(d)) {
		jd_complain(d, at, "unknown");
		return;
	}
	if (variant && !d->lenient && of_another(t, at->key)) {
		jd_complain(d, at, "unknown member of %s \"%s\"", t->tag, variant);
		return;
	}
	if (t->kind == JD_VARIANT)
		words[n++] = t->tag;
	add_names(fields, words, &n);
	add_names(more, words, &n);
	meant = d->lenient && !room_for_warning(d) ? NULL : nearest(at->key, words);
	if (d->lenient)
		jd_warn(d, at, "unknown member, ignored%s%s%s", meant ? "; did you mean \"" : "", meant ? meant : "",
		     meant ? "\"?" : "");
	else
		jd_complain(d, at, "unknown %s%s%s%s", at->up ? "member" : "section", meant ? "; did you mean \"" : "",
			 meant ? meant : "", meant ? "\"?" : "");
}

void jd_complain_choice(struct jd_decoder *d, const struct jd_place *at, const struct jd_type *t, struct json_object *v)
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
	jd_complain(d, at, "expected %s, got %s%s%s%s", t->what ? t->what : list, jd_got(v, t->sensitive, shown),
		 meant ? "; did you mean \"" : "", meant ? meant : "", meant ? "\"?" : "");
}

/* From values to JSON text, by tables. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/json_internal.h"

static int write_value(struct jd_writer *w, const struct jd_type *t, const void *value);

/* Texts. */

static int quote_byte(struct buf *out, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *known = memchr(from, c, sizeof(from) - 1);

	if (known)
		return buf_printf(out, "\\%c", to[known - from]);
	if (c < 0x20)
		return buf_printf(out, "\\u%04x", c);
	return buf_puts(out, "\xEF\xBF\xBD");
}

int jd_quote(struct buf *out, const char *text, size_t len)
{
	size_t run = 0;

	buf_putc(out, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		size_t n = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;

		if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\')
			continue;
		if (c >= 0x80 && n <= len - i && utf8_valid(text + i, n)) {
			i += n - 1;
			continue;
		}
		if (i > run)
			buf_append(out, text + run, i - run);
		quote_byte(out, c);
		run = i + 1;
	}
	if (len > run)
		buf_append(out, text + run, len - run);
	return buf_putc(out, '"');
}

/* Layout. */

static void new_line(struct jd_writer *w)
{
	if (!w->pretty)
		return;
	buf_putc(w->out, '\n');
	for (unsigned i = 0; i < w->depth; i++)
		buf_puts(w->out, "  ");
}

void jd_write_open(struct jd_writer *w, char c)
{
	buf_putc(w->out, c);
	w->depth++;
}

void jd_write_close(struct jd_writer *w, char c, bool empty)
{
	w->depth--;
	if (!empty)
		new_line(w);
	buf_putc(w->out, c);
}

void jd_write_item(struct jd_writer *w, bool *empty)
{
	if (!*empty)
		buf_putc(w->out, ',');
	*empty = false;
	new_line(w);
}

void jd_write_member(struct jd_writer *w, bool *empty, const char *name)
{
	jd_write_item(w, empty);
	jd_quote(w->out, name, strlen(name));
	buf_puts(w->out, w->pretty ? ": " : ":");
}

/* Encoding. */

static bool in_range(const struct jd_type *t, int64_t n)
{
	return (t->min == 0 && t->max == 0) || (n >= t->min && n <= t->max);
}

static const void *at_offset(const void *p, size_t offset)
{
	return (const char *)p + offset;
}

static const char *text_at(const void *p)
{
	return *(char *const *)p;
}

static bool absent(const struct jd_field *f, const void *value);
static bool empty_by_default(const struct jd_field *f, const void *value);

/* An object in place that the document did not have: it lacks what it would need, or all of it is zero. */
static bool absent_object(const struct jd_field *f, const void *value)
{
	bool zero = f->flags & JD_ZERO_ABSENT;

	for (const struct jd_field *m = f->type->fields; m->name; m++) {
		const void *p = at_offset(value, m->offset);
		struct jd_field plain = {.name = m->name, .type = m->type};

		if (m->flags & (JD_IGNORED | JD_SILENTLY_IGNORED))
			continue;
		if ((m->flags & JD_REQUIRED) && absent(m, p))
			return true;
		zero = zero && (absent(m, p) || empty_by_default(&plain, p));
	}
	return zero;
}

/* Nothing there that could be written. */
static bool absent(const struct jd_field *f, const void *value)
{
	const struct jd_type *t = f->type;
	const struct jd_secretable *s = value;

	switch (t->kind) {
	case JD_TEXT:
	case JD_RAW:
	case JD_POINTER:
		return !text_at(value);
	case JD_SECRETABLE:
		return !s->text && !s->ref;
	case JD_INTEGER:
		return *(const int64_t *)value == f->default_integer && !in_range(t, f->default_integer);
	case JD_CHOICE:
		return *(const int *)value < 0;
	case JD_VARIANT:
		return *(const int *)at_offset(value, t->tag_offset) < 0;
	case JD_BOOLEAN:
		return t->names && !*(const bool *)value;
	case JD_OBJECT:
		return absent_object(f, value);
	default:
		return false;
	}
}

/* Empty, and decoding nothing would give the same. */
static bool empty_by_default(const struct jd_field *f, const void *value)
{
	switch (f->type->kind) {
	case JD_BOOLEAN:
		return !*(const bool *)value && !f->default_integer;
	case JD_INTEGER:
		return *(const int64_t *)value == 0 && !f->default_integer;
	case JD_TEXT:
		return !*text_at(value) && str_empty(f->default_text);
	case JD_LIST:
	case JD_MAP:
		return !((const struct jd_list *)value)->items && !f->default_text;
	default:
		return false;
	}
}

static void write_members(struct jd_writer *w, const struct jd_field *f, const void *value, bool *empty)
{
	for (; f && f->name; f++) {
		const void *p = at_offset(value, f->offset);

		if ((f->flags & (JD_IGNORED | JD_SILENTLY_IGNORED)) || absent(f, p) ||
		    ((f->flags & JD_OMIT_EMPTY) && empty_by_default(f, p)))
			continue;
		jd_write_member(w, empty, f->name);
		(void)write_value(w, f->type, p);
	}
}

/* The list if there is something in it, else the plain value. */
static int write_short(struct jd_writer *w, const struct jd_type *t, const void *value)
{
	const struct jd_field *list = t->short_list ? jd_field_find(t->fields, t->short_list) : NULL;
	const struct jd_field *plain = t->short_member ? jd_field_find(t->fields, t->short_member) : NULL;

	if (list && (!plain || ((const struct jd_list *)at_offset(value, list->offset))->n > 0))
		return write_value(w, list->type, at_offset(value, list->offset));
	if (plain && !absent(plain, at_offset(value, plain->offset)))
		return write_value(w, plain->type, at_offset(value, plain->offset));
	return buf_puts(w->out, "null");
}

static int write_object(struct jd_writer *w, const struct jd_type *t, const void *value)
{
	bool empty = true;

	if (t->short_only)
		return write_short(w, t, value);
	jd_write_open(w, '{');
	if (t->kind == JD_VARIANT) {
		int i = *(const int *)at_offset(value, t->tag_offset);

		jd_write_member(w, &empty, t->tag);
		jd_quote(w->out, t->names[i], strlen(t->names[i]));
		write_members(w, t->variants[i], value, &empty);
	}
	write_members(w, t->fields, value, &empty);
	jd_write_close(w, '}', empty);
	return buf_ok(w->out);
}

static int write_list(struct jd_writer *w, const struct jd_type *t, const struct jd_list *list)
{
	size_t size = t->kind == JD_MAP ? t->size : jd_type_size(t->element);
	bool empty = true;

	jd_write_open(w, t->kind == JD_MAP ? '{' : '[');
	for (size_t i = 0; i < list->n; i++) {
		const void *p = at_offset(list->items, i * size);

		if (t->kind == JD_MAP)
			jd_write_member(w, &empty, text_at(p));
		else
			jd_write_item(w, &empty);
		(void)write_value(w, t->element, at_offset(p, t->kind == JD_MAP ? t->value_offset : 0));
	}
	jd_write_close(w, t->kind == JD_MAP ? '}' : ']', empty);
	return buf_ok(w->out);
}

static int write_secretable(struct jd_writer *w, const struct jd_secretable *s)
{
	const char *text = s->ref ? s->ref : s->text;
	bool empty = true;

	if (!text)
		return buf_puts(w->out, "null");
	if (!s->ref)
		return jd_quote(w->out, text, strlen(text));
	jd_write_open(w, '{');
	jd_write_member(w, &empty, "secretRef");
	jd_quote(w->out, text, strlen(text));
	jd_write_close(w, '}', empty);
	return buf_ok(w->out);
}

/* What is absent is not written by write_members(); here, in a list, it becomes null. */
static int write_value(struct jd_writer *w, const struct jd_type *t, const void *value)
{
	const char *text = NULL;
	int i;

	switch (t->kind) {
	case JD_BOOLEAN:
		if (!t->names)
			return buf_puts(w->out, *(const bool *)value ? "true" : "false");
		text = *(const bool *)value ? t->names[0] : NULL;
		break;
	case JD_INTEGER:
		return buf_printf(w->out, "%" PRId64, *(const int64_t *)value);
	case JD_CHOICE:
		i = *(const int *)value;
		text = i >= 0 ? t->names[i] : NULL;
		break;
	case JD_TEXT:
		text = text_at(value);
		break;
	case JD_SECRETABLE:
		return write_secretable(w, value);
	case JD_RAW:
		return buf_puts(w->out, text_at(value) ? text_at(value) : "null");
	case JD_OBJECT:
		return write_object(w, t, value);
	case JD_VARIANT:
		if (*(const int *)at_offset(value, t->tag_offset) >= 0)
			return write_object(w, t, value);
		break;
	case JD_POINTER:
		if (text_at(value))
			return write_object(w, t, text_at(value));
		break;
	case JD_LIST:
	case JD_MAP:
		return write_list(w, t, value);
	}
	return text ? jd_quote(w->out, text, strlen(text)) : buf_puts(w->out, "null");
}

int jd_encode(const struct jd_type *type, const void *value, bool pretty, struct buf *out)
{
	struct jd_writer w = {.out = out, .pretty = pretty};

	return write_value(&w, type, value);
}

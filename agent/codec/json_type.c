/* The types themselves: how much memory a value takes, which member has a name, and giving back what a value owns. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/json_internal.h"

size_t jd_type_size(const struct jd_type *t)
{
	switch (t->kind) {
	case JD_BOOLEAN:
		return sizeof(bool);
	case JD_INTEGER:
		return sizeof(int64_t);
	case JD_CHOICE:
		return sizeof(int);
	case JD_SECRETABLE:
		return sizeof(struct jd_secretable);
	case JD_LIST:
	case JD_MAP:
		return sizeof(struct jd_list);
	case JD_OBJECT:
	case JD_VARIANT:
		return t->size;
	case JD_TEXT:
	case JD_RAW:
	case JD_POINTER:
		return sizeof(void *);
	}
	return 0;
}

bool jd_has_members(const struct jd_type *t)
{
	return t->kind == JD_OBJECT || t->kind == JD_POINTER || t->kind == JD_VARIANT;
}

const struct jd_field *jd_field_find(const struct jd_field *fields, const char *name)
{
	for (; fields && fields->name; fields++)
		if (str_equal(fields->name, name))
			return fields;
	return NULL;
}

static void free_members(const struct jd_field *f, void *value)
{
	for (; f && f->name; f++)
		if (!(f->flags & (JD_IGNORED | JD_SILENTLY_IGNORED)))
			jd_free(f->type, (char *)value + f->offset);
}

static void free_list(const struct jd_type *t, struct jd_list *list)
{
	size_t size = t->kind == JD_MAP ? t->size : jd_type_size(t->element);

	for (size_t i = 0; i < list->n; i++) {
		char *p = (char *)list->items + i * size;

		if (t->kind == JD_MAP)
			free(*(char **)(void *)p);
		jd_free(t->element, p + (t->kind == JD_MAP ? t->value_offset : 0));
	}
	free(list->items);
}

void jd_free(const struct jd_type *t, void *value)
{
	struct jd_secretable *s = value;
	char **text = value;
	int i;

	switch (t->kind) {
	case JD_TEXT:
	case JD_RAW:
		erase_and_free(*text);
		break;
	case JD_SECRETABLE:
		erase_and_free(s->text);
		erase_and_free(s->ref);
		break;
	case JD_VARIANT:
		i = *(int *)(void *)((char *)value + t->tag_offset);
		if (i >= 0)
			free_members(t->variants[i], value);
		free_members(t->fields, value);
		break;
	case JD_OBJECT:
		free_members(t->fields, value);
		return;
	case JD_POINTER:
		if (*text)
			free_members(t->fields, *text);
		free(*text);
		break;
	case JD_LIST:
	case JD_MAP:
		free_list(t, value);
		break;
	case JD_BOOLEAN:
	case JD_INTEGER:
	case JD_CHOICE:
		break;
	}
	memset(value, 0, jd_type_size(t));
}

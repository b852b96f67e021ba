/* Visiting every value of a decoded struct, with its path: what rules across members are made from. */
#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/json_internal.h"

struct walker {
	jd_visit_fn visit;
	void *userdata;
	char path[JD_PATH_SIZE];
	size_t len;
};

static void walk(struct walker *w, const struct jd_type *t, const struct jd_field *f, void *value);

/* Steps into a member or an element; gives back the length to return to. */
static size_t enter(struct walker *w, const char *name, size_t index)
{
	size_t before = w->len;

	w->len = jd_path_step(w->path, before, name, index);
	return before;
}

static void leave(struct walker *w, size_t before)
{
	w->len = before;
	w->path[before] = '\0';
}

static void walk_fields(struct walker *w, const struct jd_field *fields, void *target)
{
	for (const struct jd_field *f = fields; f && f->name; f++) {
		size_t before;

		if (f->flags & (JD_IGNORED | JD_SILENTLY_IGNORED))
			continue;
		before = enter(w, f->name, 0);
		walk(w, f->type, f, (char *)target + f->offset);
		leave(w, before);
	}
}

static void walk_items(struct walker *w, const struct jd_type *t, const struct jd_list *list)
{
	size_t size = t->kind == JD_MAP ? t->size : jd_type_size(t->element);

	for (size_t i = 0; i < list->n; i++) {
		char *item = (char *)list->items + i * size;
		size_t before = enter(w, t->kind == JD_MAP ? *(char **)(void *)item : NULL, i);

		walk(w, t->element, NULL, t->kind == JD_MAP ? item + t->value_offset : item);
		leave(w, before);
	}
}

static bool is_there(const struct jd_type *t, const void *value)
{
	const struct jd_secretable *s = value;

	switch (t->kind) {
	case JD_TEXT:
	case JD_RAW:
	case JD_POINTER:
		return *(void *const *)value != NULL;
	case JD_SECRETABLE:
		return s->text || s->ref;
	case JD_LIST:
	case JD_MAP:
		return ((const struct jd_list *)value)->items != NULL;
	case JD_CHOICE:
		return *(const int *)value >= 0;
	case JD_VARIANT:
		return *(const int *)(const void *)((const char *)value + t->tag_offset) >= 0;
	default:
		return true;
	}
}

static void walk(struct walker *w, const struct jd_type *t, const struct jd_field *f, void *value)
{
	int index;

	if (!is_there(t, value))
		return;
	w->visit(t, f, value, w->path, w->userdata);
	/* The visitor may have made it absent. */
	if (!is_there(t, value))
		return;
	switch (t->kind) {
	case JD_OBJECT:
		walk_fields(w, t->fields, value);
		break;
	case JD_POINTER:
		walk_fields(w, t->fields, *(void **)value);
		break;
	case JD_VARIANT:
		index = *(int *)(void *)((char *)value + t->tag_offset);
		walk_fields(w, t->fields, value);
		walk_fields(w, t->variants[index], value);
		break;
	case JD_LIST:
	case JD_MAP:
		walk_items(w, t, value);
		break;
	default:
		break;
	}
}

void jd_walk(const struct jd_type *type, void *value, const char *path, jd_visit_fn visit, void *userdata)
{
	struct walker w = {.visit = visit, .userdata = userdata};

	w.len = utf8_cut(path, strlen(path), JD_PATH_SIZE - 1);
	memcpy(w.path, path, w.len);
	walk(&w, type, NULL, value);
}

/* Which types a schema meets, in how many places each stands, and the name that one gets which stands in several. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/json_schema_internal.h"

static struct jd_met *find(const struct jd_met_list *l, const struct jd_type *t, bool lenient)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->met[i].type == t && l->met[i].lenient == lenient)
			return &l->met[i];
	return NULL;
}

static bool name_taken(const struct jd_met_list *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (str_equal(l->met[i].name, name))
			return true;
	return str_equal(name, "secretRef");
}

static void name_met(const struct jd_met_list *l, struct jd_met *m, const char *name, const char *suffix)
{
	char free_name[JD_MET_NAME];
	unsigned k = 2;

	(void)snprintf(free_name, sizeof(free_name), "%.40s%s", name, suffix);
	while (name_taken(l, free_name))
		(void)snprintf(free_name, sizeof(free_name), "%.40s%s%u", name, suffix, k++);
	memcpy(m->name, free_name, sizeof(m->name));
}

static int meet(struct jd_met_list *l, const struct jd_type *t, bool lenient, const char *name, const char *suffix);

static int meet_fields(struct jd_met_list *l, const struct jd_field *f, bool lenient)
{
	for (; f && f->name; f++) {
		int r = f->type ? meet(l, f->type, lenient, f->name, "") : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* Counts in how many places each type stands; the member where it was met first gives it its name. */
static int meet(struct jd_met_list *l, const struct jd_type *t, bool lenient, const char *name, const char *suffix)
{
	struct jd_met *m = find(l, t, lenient);
	bool inside = lenient || (jd_has_members(t) && t->lenient);
	int r = 0;

	if (t->kind == JD_SECRETABLE)
		l->secret_ref = true;
	if (m) {
		m->uses++;
		return 0;
	}
	if (l->n == JD_MET_MAX)
		return -E2BIG;
	m = &l->met[l->n];
	*m = (struct jd_met){.type = t, .lenient = lenient, .uses = 1};
	name_met(l, m, name, suffix);
	l->n++;

	if (jd_has_members(t))
		r = meet_fields(l, t->fields, inside);
	for (size_t i = 0; r == 0 && t->kind == JD_VARIANT && t->names[i]; i++)
		r = meet_fields(l, t->variants[i], inside);
	if (r == 0 && (t->kind == JD_LIST || t->kind == JD_MAP))
		r = meet(l, t->element, lenient, name, t->kind == JD_LIST ? "Item" : "Value");
	return r;
}

/* Small ones are shorter than a reference to them. */
bool jd_met_is_shared(const struct jd_met *m)
{
	switch (m->type->kind) {
	case JD_BOOLEAN:
	case JD_INTEGER:
	case JD_RAW:
		return false;
	case JD_TEXT:
		return m->uses > 1 && m->type->pattern;
	case JD_SECRETABLE:
		return m->uses > 1 && !m->type->must_be_secret;
	default:
		return m->uses > 1;
	}
}

int jd_meet(struct jd_met_list *l, const struct jd_type *document)
{
	return meet(l, document, false, "document", "");
}

const struct jd_met *jd_met_find(const struct jd_met_list *l, const struct jd_type *t, bool lenient)
{
	return find(l, t, lenient);
}

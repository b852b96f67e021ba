/* The view's tables, and what a record means to people. */
#include "agent/core/key_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"

static const struct jd_type text_type = { .kind = JD_TEXT };
static const struct jd_type integer = { .kind = JD_INTEGER };
static const struct jd_type days_left = { .kind = JD_INTEGER, .min = 0, .max = INT64_MAX };
static const struct jd_type boolean = { .kind = JD_BOOLEAN };

/* clang-format off */
static const struct jd_field acl_fields[] = {
	{ "user",  &text_type, offsetof(struct acl_settings, user) },
	{ "group", &text_type, offsetof(struct acl_settings, group) },
	{},
};
static const struct jd_field file_fields[] = {
	{ "path",    &text_type, offsetof(struct view_key_file, path) },
	{ "part",    &text_type, offsetof(struct view_key_file, part) },
	{ "hasKey",  &boolean, offsetof(struct view_key_file, has_key) },
	{ "private", &boolean, offsetof(struct view_key_file, is_private) },
	{},
};
/* clang-format on */
static const struct jd_type acl_type = { .kind = JD_OBJECT, .fields = acl_fields, .size = sizeof(struct acl_settings) };
static const struct jd_type file_type = { .kind = JD_OBJECT,
					  .fields = file_fields,
					  .size = sizeof(struct view_key_file) };
static const struct jd_type acls = { .kind = JD_LIST, .element = &acl_type };
static const struct jd_type files = { .kind = JD_LIST, .element = &file_type };

/* clang-format off */
#define KEY(member) offsetof(struct view_key, member)
static const struct jd_field key_fields[] = {
	{ "name",        &text_type, KEY(name) },
	{ "kind",        &text_type, KEY(kind) },
	{ "state",       &text_type, KEY(state) },
	{ "level",       &text_type, KEY(level) },
	{ "version",     &text_type, KEY(version) },
	{ "thumbprint",  &text_type, KEY(thumbprint) },
	{ "notAfter",    &text_type, KEY(not_after) },
	{ "daysLeft",    &days_left, KEY(days_left), .default_integer = KEY_VIEW_UNKNOWN },
	{ "installedAt", &text_type, KEY(installed_at) },
	{ "identity",    &text_type, KEY(identity) },
	{ "error",       &text_type, KEY(error) },
	{ "activation",  &text_type, KEY(activation) },
	{ "problem",     &text_type, KEY(problem) },
	{ "nextTry",     &text_type, KEY(next_try) },
	{ "url",         &text_type, KEY(url) },
	{ "where",       &text_type, KEY(where) },
	{ "owner",       &text_type, KEY(owner) },
	{ "group",       &text_type, KEY(group) },
	{ "mode",        &text_type, KEY(mode) },
	{ "acls",        &acls,    KEY(acls), JD_OMIT_EMPTY },
	{ "files",       &files,   KEY(files) },
	{ "asked",       &integer, KEY(asked), JD_OMIT_EMPTY },
	{ "answered",    &integer, KEY(answered), JD_OMIT_EMPTY },
	{},
};
/* clang-format on */
static const struct jd_type key_type = { .kind = JD_OBJECT, .fields = key_fields, .size = sizeof(struct view_key) };
static const struct jd_type keys = { .kind = JD_LIST, .element = &key_type };

/* clang-format off */
static const struct jd_field view_fields[] = {
	{ "configured",   &boolean, offsetof(struct key_view, configured) },
	{ "live",         &boolean, offsetof(struct key_view, live), JD_OMIT_EMPTY },
	{ "certificates", &keys,    offsetof(struct key_view, items) },
	{},
};
/* clang-format on */
const struct jd_type key_view_type = { .kind = JD_OBJECT, .fields = view_fields, .size = sizeof(struct key_view) };

int key_view_decode(const char *text, size_t len, struct key_view *ret, struct error *err)
{
	const struct jd_options o = { .subject = "certificates",
				      .unknown = JD_UNKNOWN_IGNORE,
				      .max_bytes = LIMIT_API_REPLY,
				      .max_depth = LIMIT_JSON_DEPTH,
				      .max_values = 2 * LIMIT_JSON_VALUES };

	return jd_decode(text, len, &key_view_type, &o, ret, err);
}

/* ---- filling ---- */

static int set_wall(char **dst, int64_t wall)
{
	char time[TIMEFMT_MAX];

	return wall > 0 ? str_set(dst, timefmt_utc((usec_t)wall, time)) : 0;
}

static const char *state_of(const struct key_record *r, bool installed, bool late, int64_t days, usec_t now_wall,
			    enum status_level *ret)
{
	usec_t left = usec_sub((usec_t)r->not_after_usec, now_wall);

	*ret = late ? STATUS_ERROR : STATUS_TRANSITIONING;
	if (!installed)
		return late ? "missing" : "pending";
	*ret = r->not_after_usec && left < USEC_PER_DAY ? STATUS_ERROR : STATUS_WARNING;
	if (r->not_after_usec && left == 0)
		return "expired";
	if (r->error)
		return "failing";
	if (r->activation.rejected.version)
		return "rejected";
	if (r->activation.step != ACTIVATION_NONE) {
		*ret = STATUS_SUCCESS;
		return "activating";
	}
	if (days >= 0)
		return "expiring";
	*ret = r->incomplete ? STATUS_WARNING : STATUS_SUCCESS;
	return "installed";
}

/* As the item's sentence has it, without the beginning of that. */
static int set_problem(struct view_key *v, const struct key_record *r, usec_t now_wall, enum status_level *level)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);
	struct component c = { .level = *level };
	const char *step = key_activation_names[r->activation.step];

	key_activation_describe(&r->activation, now_wall, &text, &c);
	if (!str_empty(r->unreachable)) {
		(void)buf_printf(&text, "; %s", r->unreachable);
		c.level = c.level == STATUS_ERROR ? STATUS_ERROR : STATUS_WARNING;
	}
	*level = c.level;
	if (str_set(&v->activation, r->activation.step != ACTIVATION_NONE ? step : NULL) < 0)
		return -ENOMEM;
	return text.len > 2 ? str_set(&v->problem, buf_str(&text) + 2) : 0;
}

int key_view_set_record(struct view_key *v, const struct key_record *r, bool installed, bool late, int64_t days,
			usec_t now_wall)
{
	enum status_level level;
	const char *state = state_of(r, installed, late, days, now_wall, &level);

	if (installed && set_problem(v, r, now_wall, &level) < 0)
		return -ENOMEM;
	v->days_left = KEY_VIEW_UNKNOWN;
	if (r->not_after_usec)
		v->days_left = (int64_t)(usec_sub((usec_t)r->not_after_usec, now_wall) / USEC_PER_DAY);
	if (str_set(&v->state, state) < 0 || str_set(&v->level, status_level_name(level)) < 0 ||
	    str_set(&v->version, r->version) < 0 || str_set(&v->thumbprint, r->thumbprint) < 0 ||
	    str_set(&v->identity, r->identity) < 0 || str_set(&v->error, r->error) < 0 ||
	    set_wall(&v->not_after, r->not_after_usec) < 0 || set_wall(&v->installed_at, r->installed_usec) < 0 ||
	    set_wall(&v->next_try, r->next_usec) < 0)
		return -ENOMEM;
	return 0;
}

/* ---- order ---- */

static int rank(const struct view_key *v)
{
	return str_empty(v->version) ? 0 : v->not_after ? 1 : 2;
}

static int by_need(const void *a, const void *b)
{
	const struct view_key *x = a, *y = b;
	int r = rank(x) - rank(y);

	/* ISO 8601 in one zone sorts as text. */
	if (r == 0 && rank(x) == 1)
		r = strcmp(x->not_after, y->not_after);
	return r ? r : strcmp(x->name ? x->name : "", y->name ? y->name : "");
}

void key_view_sort(struct key_view *v)
{
	if (v->items.n)
		qsort(v->items.items, v->items.n, sizeof(struct view_key), by_need);
}

const struct view_key *key_view_find(const struct key_view *v, const char *name)
{
	const struct view_key *all = v->items.items;

	for (size_t i = 0; i < v->items.n; i++)
		if (str_equal(all[i].name, name))
			return &all[i];
	return NULL;
}

/* The sections and secrets that settings are made of: their names, types and places; releasing them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

static const struct {
	const char *name;
	const struct jd_type *type;
	size_t offset;
} sections[_SECTION_MAX] = {
	[SECTION_CUSTOM_SCRIPT] = {"customScript", &st_custom_script, offsetof(struct settings, custom_script)},
	[SECTION_KEY_REFRESH] = {"keyRefresh", &st_key_refresh, offsetof(struct settings, key_refresh)},
	[SECTION_DRAIN] = {"drain", &st_drain, offsetof(struct settings, drain)},
	[SECTION_USER_DATA] = {"userData", &st_user_data, offsetof(struct settings, user_data)},
	[SECTION_HEALTH] = {"health", &st_health, offsetof(struct settings, health)},
	[SECTION_NOTIFY] = {"notify", &st_notify, offsetof(struct settings, notify)},
	[SECTION_NETWORK] = {"network", &st_network, offsetof(struct settings, network)},
	[SECTION_LOG] = {"log", &st_log, offsetof(struct settings, log)},
};

const char *settings_section_name(enum settings_section s)
{
	return sections[s].name;
}

const struct jd_type *settings_section_type(enum settings_section section)
{
	return sections[section].type;
}

void **settings_section_pointer(struct settings *s, enum settings_section section)
{
	return (void **)(void *)((char *)s + sections[section].offset);
}

void settings_free_section(enum settings_section section, void *section_pointer)
{
	const struct key_refresh_settings *k = *(void **)section_pointer;

	/* No document of ours has link names; they come with the peer's. */
	for (size_t i = 0; section == SECTION_KEY_REFRESH && k && i < k->certificates.n; i++)
		free(TAKE_PTR(((struct certificate_settings *)k->certificates.items)[i].link_name));
	jd_free(sections[section].type, section_pointer);
}

void settings_done(struct settings *s)
{
	for (int i = 0; i < _SECTION_MAX; i++)
		settings_free_section((enum settings_section)i, settings_section_pointer(s, (enum settings_section)i));
	for (int door = 0; door < _DOOR_MAX; door++)
		jd_free(&st_secrets, &s->secrets[door]);
	*s = (struct settings){0};
}

const char *settings_find_secret(const struct settings *s, enum settings_door door, const char *name)
{
	const struct settings_secret *list = s->secrets[door].items;

	for (size_t i = 0; i < s->secrets[door].n; i++)
		if (str_equal(list[i].name, name))
			return list[i].value;
	return NULL;
}

const char *settings_value(const struct settings *s, enum settings_section section, const struct jd_secretable *v)
{
	if (!v->ref)
		return v->text;
	return s->door_of[section] < 0 ? NULL : settings_find_secret(s, (enum settings_door)s->door_of[section], v->ref);
}

int settings_add_secret(struct settings *s, enum settings_door door, const char *name, const char *value)
{
	struct jd_list *list = &s->secrets[door];
	struct settings_secret *items = calloc(list->n + 1, sizeof(*items)), *last;

	if (!items)
		return -ENOMEM;
	if (list->n > 0)
		memcpy(items, list->items, list->n * sizeof(*items));
	free(list->items);
	list->items = items;
	last = &items[list->n++];
	return str_set(&last->name, name) < 0 || str_set(&last->value, value) < 0 ? -ENOMEM : 0;
}

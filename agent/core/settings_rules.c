/* Rules that hold wherever their subject stands: identities, commands, secrets; then those of each section. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

/* While one section is walked through. */
struct visit {
	struct settings_loader *l;
	enum settings_section section;
	bool *used; /* of the secrets of the section's door */
	int result;
};

static void judge_identity(struct visit *v, const struct identity *id, const char *path)
{
	int n = !!id->client_id + !!id->object_id + !!id->resource_id;

	if (n > 1)
		settings_error(v->l, v->section, path,
			       "one of \"clientId\", \"objectId\" and \"resourceId\" may be given, got %s",
			       n == 2 ? "two" : "all three");
}

static void judge_command(struct visit *v, const struct jd_list *argv, const char *path)
{
	const char *program = argv->n > 0 ? *(char **)argv->items : NULL;

	if (argv->n > 0 && (str_empty(program) || (*program != '/' && strchr(program, '/'))))
		settings_error(v->l, v->section, path,
			       "expected an absolute path or a plain name as the first element, got \"%.*s\"",
			       CUT(program ? program : "", 48));
}

static void names_of_secrets(const struct jd_list *list, const char **words)
{
	const struct settings_secret *s = list->items;
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++)
		if (!str_starts(s[i].name, SETTINGS_OWN_SECRET))
			words[n++] = s[i].name;
	words[n] = NULL;
}

static void no_such_secret(struct visit *v, enum settings_door door, const char *ref)
{
	const struct jd_list *list = &v->l->settings->secrets[door];
	const char *place = door == DOOR_EXTENSION ? "protected settings have"
			    : door == DOOR_FILES   ? "secrets.json has"
						   : "user data has";
	const char **words = calloc(list->n + 1, sizeof(*words));
	int near = -1;

	if (!words) {
		v->result = -ENOMEM;
		return;
	}
	names_of_secrets(list, words);
	near = str_nearest(ref, words);
	if (near >= 0)
		settings_error(v->l, v->section, "", "secretRef \"%.*s\": no such secret; %s \"%s\"", CUT(ref, 64),
			       place, words[near]);
	else if (words[0])
		settings_error(v->l, v->section, "", "secretRef \"%.*s\": no such secret; add it under \"secrets\"",
			       CUT(ref, 64));
	else
		settings_error(v->l, v->section, "", "secretRef \"%.*s\": no such secret; %s none", CUT(ref, 64),
			       place);
	free(words);
}

/* The value that a secret brings is held against the same form as a literal; the sentence never quotes it. */
static void judge_reference(struct visit *v, const struct jd_type *type, const struct jd_secretable *s,
			    const char *path)
{
	enum settings_door door = (enum settings_door)v->l->settings->door_of[v->section];
	const struct jd_list *list = &v->l->settings->secrets[door];
	const struct settings_secret *secret = list->items;
	bool ours = str_starts(s->ref, SETTINGS_OWN_SECRET);
	size_t i, len;
	int r;

	for (i = 0; i < list->n; i++)
		if (str_equal(secret[i].name, s->ref))
			break;
	if (i == list->n) {
		no_such_secret(v, door, s->ref);
		return;
	}
	v->used[i] = true;
	if (ours)
		return;
	len = strlen(secret[i].value);
	r = type->check ? type->check(secret[i].value, NULL) : 0;
	if (r == -ENOMEM)
		v->result = r;
	else if (r < 0 || len < (size_t)type->min || (type->max > 0 && len > (size_t)type->max))
		settings_error(v->l, v->section, path, "expected %s, but the secret \"%s\" is something else",
			       type->what ? type->what : "another text", s->ref);
}

/* Literals that belong in a secret. */

static bool contains_nocase(const char *text, const char *word)
{
	return strcasestr(text, word) != NULL;
}

static bool has_signature(const char *text)
{
	for (const char *p = strstr(text, "sig="); p; p = strstr(p + 1, "sig="))
		if (p > text && (p[-1] == '?' || p[-1] == '&'))
			return true;
	return false;
}

/* `//user:password@host` */
static bool has_url_password(const char *text)
{
	for (const char *p = strstr(text, "://"); p; p = strstr(p + 1, "://")) {
		const char *rest = p + 3;
		size_t authority = strcspn(rest, "/ \"'?#");
		const char *at = memchr(rest, '@', authority);

		if (at && memchr(rest, ':', (size_t)(at - rest)))
			return true;
	}
	return false;
}

static bool is_password_name(const char *name)
{
	static const char *const words[] = {"password",   "passwd",     "passphrase",  "secret",
					    "token",      "apikey",     "api_key",     "accesskey",
					    "access_key", "accountkey", "account_key", "authorization"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (contains_nocase(name, words[i]))
			return true;
	return false;
}

static bool has_password(const char *text)
{
	static const char *const words[] = {"password=", "passwd=", "pwd=", "AccountKey=", "--password "};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const char *found = strcasestr(text, words[i]);

		/* `password=$PASSWORD` names one, it is none. */
		if (found && !strchr("$ \"'", found[strlen(words[i])]))
			return true;
	}
	return has_url_password(text);
}

static void judge_literal(struct visit *v, const char *text, bool element_of_map, const char *path)
{
	const char *what = NULL, *name = strrchr(path, '.');

	if (has_signature(text))
		what = "a SAS signature";
	else if (has_password(text) || (element_of_map && *text && name && is_password_name(name + 1)))
		what = "a password";
	if (what)
		settings_warning(v->l, v->section, path,
				 "looks like %s that everyone may read who may read the settings; put it under "
				 "\"secrets\" and say {\"secretRef\": \"NAME\"}",
				 what);
}

static void visit(const struct jd_type *type, const struct jd_field *field, void *value, const char *path,
		  void *userdata)
{
	struct visit *v = userdata;

	if (type == &st_identity)
		judge_identity(v, *(struct identity **)value, path);
	else if (type == &st_command || type == &st_command_or_none)
		judge_command(v, value, path);
	else if (type->kind == JD_SECRETABLE && ((struct jd_secretable *)value)->ref)
		judge_reference(v, type, value, path);
	else if (type->kind == JD_SECRETABLE)
		judge_literal(v, ((struct jd_secretable *)value)->text, !field, path);
	else if (type->kind == JD_TEXT)
		judge_literal(v, *(char **)value, false, path);
}

static int judge_everywhere(struct settings_loader *l, bool *const used[static _DOOR_MAX])
{
	for (int i = 0; i < _SECTION_MAX; i++) {
		enum settings_section section = (enum settings_section)i;
		struct visit v = {.l = l, .section = section};

		if (l->settings->door_of[i] < 0)
			continue;
		v.used = used[l->settings->door_of[i]];
		jd_walk(settings_section_type(section), settings_section_pointer(l->settings, section),
			settings_section_name(section), visit, &v);
		if (v.result < 0)
			return v.result;
	}
	return 0;
}

static void warn_unused(struct settings_loader *l, bool *const used[static _DOOR_MAX])
{
	for (int door = 0; door < _DOOR_MAX; door++) {
		const struct settings_secret *s = l->settings->secrets[door].items;

		for (size_t i = 0; i < l->settings->secrets[door].n; i++)
			if (!used[door][i] && !str_starts(s[i].name, SETTINGS_OWN_SECRET))
				jd_report_warning(l->report, "settings", "",
						  "secret \"%s\" is not used by any secretRef", s[i].name);
	}
}

/* Small sections. */

static void judge_health(struct settings_loader *l)
{
	const struct health_application *a = l->settings->health->application;
	int n = a ? !!a->http + !!a->tcp + !!a->unit : 1;

	if (n != 1)
		settings_error(l, SECTION_HEALTH, "health.application",
			       "one of \"http\", \"tcp\" and \"unit\" is required, got %s",
			       n == 0   ? "none"
			       : n == 2 ? "two"
					: "three");
}

static void judge_user_data(struct settings_loader *l)
{
	const struct userdata_settings *u = l->settings->user_data;
	const int *parts = u->parts.items;

	for (size_t i = 0; i < u->parts.n; i++)
		if (parts[i] == USERDATA_SETTINGS)
			return;
	if (u->settings_sections.n > 0)
		settings_error(l, SECTION_USER_DATA, "userData.settingsSections",
			       "needs \"settings\" in userData.parts");
}

int settings_judge(struct settings_loader *l)
{
	bool *used[_DOOR_MAX] = {NULL};
	int r = 0;

	for (int door = 0; door < _DOOR_MAX; door++) {
		used[door] = calloc(l->settings->secrets[door].n + 1, sizeof(bool));
		if (!used[door])
			r = -ENOMEM;
	}
	if (l->settings->custom_script)
		settings_judge_script(l);
	if (r == 0 && l->settings->key_refresh)
		r = settings_judge_keys(l);
	if (l->settings->drain)
		settings_judge_drain(l);
	if (l->settings->user_data)
		judge_user_data(l);
	if (l->settings->health)
		judge_health(l);
	if (r == 0)
		r = judge_everywhere(l, used);
	if (r == 0)
		warn_unused(l, used);
	for (int door = 0; door < _DOOR_MAX; door++)
		free(used[door]);
	return r;
}

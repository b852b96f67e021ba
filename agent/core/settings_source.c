/* One document of one door: decoded, held against what the door may have, peers' settings made into sections. */
#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/settings_load_internal.h"

#define SECRETS_FILE "/etc/evenkeel/secrets.json"

int settings_decode(const char *text, size_t len, const char *subject, const struct jd_type *type, void *target,
		    struct jd_report *report, struct error *err)
{
	const struct jd_options o = {
		.subject = subject,
		.unknown = JD_UNKNOWN_ERROR,
		.max_bytes = LIMIT_SETTINGS,
		.max_depth = LIMIT_SETTINGS_DEPTH,
		.max_values = LIMIT_SETTINGS_VALUES,
		.report = report,
	};

	return jd_decode(text, len, type, &o, target, err);
}

/* One source on its way. Sections move on to the candidates, the rest is released with it. */
struct loaded {
	const struct settings_source *source;
	const char *subject; /* of the public part */
	const char *protected_subject;
	struct jd_list public_members; /* of struct settings_raw_member */
	struct jd_list protected_members;
	struct settings_document document;
	struct settings_protected protected_part;
};

static void loaded_done(struct loaded *d)
{
	jd_free(&st_raw_members, &d->public_members);
	jd_free(&st_raw_members, &d->protected_members);
	for (int i = 0; i < _SECTION_MAX; i++)
		settings_free_section((enum settings_section)i, &d->document.sections[i]);
	jd_free(&st_document, &d->document);
	jd_free(&st_protected, &d->protected_part);
}

static bool empty_text(const char *text, size_t len)
{
	return !text || len == 0;
}

/* `1.0` is an integer, too: the Custom Script extension takes it. */
static bool is_integer(const char *json)
{
	size_t digits = strspn(json + (*json == '-'), "0123456789");
	const char *rest = json + (*json == '-') + digits;

	if (digits > 0 && *rest == '.')
		rest += 1 + strspn(rest + 1, "0");
	return digits > 0 && *rest == '\0';
}

static void check_timestamp(struct settings_loader *l, const char *subject, const char *json)
{
	if (json && !is_integer(json))
		jd_report_error(l->report, subject, "timestamp", "expected an integer, got %s",
				*json == '"' ? "a text" : "something else");
}

static const char *secrets_place(enum settings_door door)
{
	return door == DOOR_FILES ? SECRETS_FILE " (root, 0600)" : "the protected settings";
}

/* What the tables let pass but this door or this part may not have. */
static void check_places(struct settings_loader *l, const struct loaded *d)
{
	bool files = d->source->door == DOOR_FILES;

	check_timestamp(l, d->subject, d->document.timestamp);
	check_timestamp(l, d->protected_subject, d->protected_part.timestamp);
	if (d->document.secrets && d->source->door != DOOR_USER_DATA)
		jd_report_error(l->report, d->subject, "secrets", "cannot stand in %s; it belongs in %s",
				files ? "this file" : "public settings", secrets_place(d->source->door));
	for (int i = 0; i < _SECTION_MAX; i++)
		if (d->protected_part.sections[i])
			jd_report_error(l->report, d->protected_subject, settings_section_name((enum settings_section)i),
					"belongs in %s; only \"secrets\" stands here",
					files ? "evenkeel.json" : "the public settings");
}

static int decode_parts(struct settings_loader *l, struct loaded *d)
{
	const struct settings_source *s = d->source;
	int r = 0, r2 = 0;

	if (!empty_text(s->public_text, s->public_len))
		r = settings_decode(s->public_text, s->public_len, d->subject, &st_document, &d->document, l->report,
				    NULL);
	if (!empty_text(s->protected_text, s->protected_len))
		r2 = settings_decode(s->protected_text, s->protected_len, d->protected_subject, &st_protected,
				     &d->protected_part, l->report, NULL);
	return r < 0 ? r : r2;
}

/* Only what the members' names are; what is no JSON object is told by decode_parts(). */
static int read_members(const char *text, size_t len, struct jd_list *ret)
{
	int r = empty_text(text, len) ? 0 : settings_decode(text, len, "settings", &st_raw_members, ret, NULL, NULL);

	return r == -ENOMEM ? r : 0;
}

/* A peer's settings as a section; not together with the section itself. */
static int add_dropin(struct settings_loader *l, const struct loaded *d, enum settings_section section,
		      const char *member, void *made, void **slot)
{
	if (!*slot) {
		*slot = made;
		return 0;
	}
	jd_report_error(l->report, d->subject, settings_section_name(section), "cannot stand together with %s; choose one",
			member);
	settings_free_section(section, &made);
	return -EINVAL;
}

static int add_dropins(struct settings_loader *l, struct loaded *d, struct settings_candidates *c)
{
	struct settings_document *doc = &d->document;
	enum settings_door door = d->source->door;
	int r;

	if (settings_has_script_dropin(&d->public_members, &d->protected_members)) {
		struct custom_script_settings *made = NULL;

		r = settings_script_dropin(l, door, doc, &d->protected_part, &made);
		if (r == 0)
			r = add_dropin(l, d, SECTION_CUSTOM_SCRIPT, "commandToExecute or script", made,
				       &doc->sections[SECTION_CUSTOM_SCRIPT]);
		if (r < 0)
			return r;
		c->drop_in_script[door] = true;
	}
	if (settings_has_vault_dropin(doc)) {
		struct key_refresh_settings *made = NULL;

		r = settings_vault_dropin(l, d->subject, &d->public_members, doc, &made);
		if (r == 0)
			r = add_dropin(l, d, SECTION_KEY_REFRESH, "secretsManagementSettings", made,
				       &doc->sections[SECTION_KEY_REFRESH]);
		if (r < 0)
			return r;
		c->drop_in_vault[door] = true;
	}
	return 0;
}

static int add_secrets(struct settings_loader *l, struct loaded *d)
{
	const struct settings_secret *list = d->protected_part.secrets.items;

	for (size_t i = 0; i < d->protected_part.secrets.n; i++) {
		if (settings_find_secret(l->settings, d->source->door, list[i].name)) {
			jd_report_error(l->report, d->protected_subject, "secrets", "\"%s\" is there twice",
					list[i].name);
			continue;
		}
		if (settings_add_secret(l->settings, d->source->door, list[i].name,
					list[i].value ? list[i].value : "") < 0)
			return -ENOMEM;
	}
	return 0;
}

static void take_sections(struct settings_loader *l, struct loaded *d, struct settings_candidates *c)
{
	enum settings_door door = d->source->door;

	for (int i = 0; i < _SECTION_MAX; i++) {
		if (!d->document.sections[i])
			continue;
		if (c->section[door][i]) {
			jd_report_error(l->report, d->subject, settings_section_name((enum settings_section)i),
					"is already set by %s; a section comes whole from one document",
					c->subject[door][i]);
			continue;
		}
		c->section[door][i] = TAKE_PTR(d->document.sections[i]);
		c->subject[door][i] = d->subject;
	}
}

/* Nothing that is wrong in a user-data part may be more than its refusal; its drop-ins and secrets are refused whole.
 */
static void refuse_user_data(struct settings_loader *l, const struct loaded *d)
{
	static const char *const never[] = {"secrets",
					    "commandToExecute",
					    "script",
					    "fileUris",
					    "skipDos2Unix",
					    "storageAccountName",
					    "storageAccountKey",
					    "managedIdentity",
					    "secretsManagementSettings",
					    "authenticationSettings",
					    "loggingSettings"};
	const struct settings_raw_member *m = d->public_members.items;

	for (size_t i = 0; i < d->public_members.n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(never); k++)
			if (str_equal(m[i].key, never[k]))
				jd_report_error(l->report, d->subject, "", "\"%s\" is not allowed there", never[k]);
	if (!empty_text(d->source->protected_text, d->source->protected_len))
		jd_report_error(l->report, d->subject, "", "\"secrets\" is not allowed there");
}

static int load_source(struct settings_loader *l, struct loaded *d, struct settings_candidates *c)
{
	const struct settings_source *s = d->source;
	unsigned before = l->report->n_errors_found;
	int r;

	r = read_members(s->public_text, s->public_len, &d->public_members);
	if (r == 0)
		r = read_members(s->protected_text, s->protected_len, &d->protected_members);
	if (r < 0)
		return r;
	if (s->door == DOOR_USER_DATA)
		refuse_user_data(l, d);
	else if (settings_has_script_dropin(&d->public_members, &d->protected_members))
		r = settings_check_script_dropin(l, &d->public_members, &d->protected_members);
	if (r < 0)
		return r;
	if (l->report->n_errors_found > before)
		return -EINVAL;
	r = decode_parts(l, d);
	if (r < 0)
		return r;
	check_places(l, d);
	if (l->report->n_errors_found > before)
		return -EINVAL;
	r = add_secrets(l, d);
	if (r == 0 && s->door != DOOR_USER_DATA)
		r = add_dropins(l, d, c);
	if (r == 0)
		take_sections(l, d, c);
	return r;
}

int settings_load_source(struct settings_loader *l, const struct settings_source *source, struct settings_candidates *c)
{
	struct loaded d = {
		.source = source,
		.subject = source->name ? source->name : "settings",
		.protected_subject = source->door == DOOR_FILES ? SECRETS_FILE : "protected settings",
	};
	int r = load_source(l, &d, c);

	loaded_done(&d);
	return r;
}

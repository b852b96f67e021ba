/* From the documents of all doors to one struct: each decoded, whole sections chosen, secrets gathered, all judged. */
#include <errno.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/settings_load_internal.h"

#define DEFAULT_ERROR_CODE -21 /* bad configuration, as the Custom Script extension numbers it */

static void candidates_done(struct settings_candidates *c)
{
	for (int door = 0; door < _DOOR_MAX; door++)
		for (int i = 0; i < _SECTION_MAX; i++)
			settings_free_section((enum settings_section)i, &c->section[door][i]);
}

/* User data: only what a stronger door has named. */

static bool is_consented(const struct userdata_settings *u, const char *section)
{
	const int *parts = u ? u->parts.items : NULL;
	bool settings_part = false;

	if (!u || u->action != USERDATA_APPLY)
		return false;
	for (size_t i = 0; i < u->parts.n; i++)
		settings_part = settings_part || parts[i] == USERDATA_SETTINGS;
	for (size_t i = 0; settings_part && i < u->settings_sections.n; i++)
		if (str_equal(((char **)u->settings_sections.items)[i], section))
			return true;
	return false;
}

static void check_consent(struct settings_loader *l, const struct settings_candidates *c)
{
	const struct userdata_settings *u = c->section[DOOR_EXTENSION][SECTION_USER_DATA];
	struct buf allowed = BUF_INIT(512);

	if (!u)
		u = c->section[DOOR_FILES][SECTION_USER_DATA];
	for (int i = 0; i < _SECTION_MAX; i++) {
		const char *name = settings_section_name((enum settings_section)i);

		if (is_consented(u, name))
			buf_printf(&allowed, "%s%s", allowed.len ? ", " : "", name);
	}
	for (int i = 0; i < _SECTION_MAX; i++) {
		const char *name = settings_section_name((enum settings_section)i);

		if (c->section[DOOR_USER_DATA][i] && (i == SECTION_USER_DATA || !is_consented(u, name)))
			jd_report_error(l->report, c->subject[DOOR_USER_DATA][i], "",
					"section \"%s\" is not allowed there; userData.settingsSections allows %s", name,
					allowed.len ? buf_str(&allowed) : "none");
	}
	buf_done(&allowed);
}

static void choose_doors(struct settings_loader *l, struct settings_candidates *c)
{
	for (int i = 0; i < _SECTION_MAX; i++)
		for (int door = 0; door < _DOOR_MAX && l->settings->door_of[i] < 0; door++)
			if (c->section[door][i]) {
				l->settings->door_of[i] = door;
				l->subject[i] = c->subject[door][i];
				*settings_section_pointer(l->settings, (enum settings_section)i) =
					TAKE_PTR(c->section[door][i]);
			}
	if (l->settings->custom_script)
		l->settings->drop_in_script = c->drop_in_script[l->settings->door_of[SECTION_CUSTOM_SCRIPT]];
	if (l->settings->key_refresh)
		l->settings->drop_in_vault = c->drop_in_vault[l->settings->door_of[SECTION_KEY_REFRESH]];
}

static bool has_errors(const struct settings_loader *l)
{
	return l->report->n_errors_found > l->errors_before;
}

static int load(struct settings_loader *l, const struct settings_source *sources, size_t n)
{
	struct settings_candidates c = {0};
	int first = 0, r = 0;

	for (size_t i = 0; i < n && r != -ENOMEM; i++) {
		r = settings_load_source(l, &sources[i], &c);
		first = first ? first : r;
	}
	if (r != -ENOMEM && first == 0) {
		check_consent(l, &c);
		if (!has_errors(l)) {
			choose_doors(l, &c);
			first = settings_complete(l);
			if (first == 0)
				first = settings_judge(l);
		}
	}
	candidates_done(&c);
	return r == -ENOMEM ? r : first;
}

int settings_load(const struct settings_source *sources, size_t n_sources, struct settings *ret,
		  struct jd_report *report, struct error *err)
{
	struct settings s = {0};
	struct jd_report own = {0};
	struct jd_report *to = report ? report : &own;
	struct settings_loader l = {.settings = &s, .report = to, .errors_before = to->n_errors_found};
	unsigned told = to->n_errors;
	int r;

	for (int i = 0; i < _SECTION_MAX; i++) {
		s.door_of[i] = -1;
		l.subject[i] = "settings";
	}
	r = load(&l, sources, n_sources);
	if (r == 0 && has_errors(&l))
		r = -EINVAL;
	if (r == -ENOMEM)
		error_oom(err);
	else if (r < 0)
		error_set(err, ERROR_USER, r, "%s",
			  to->n_errors > told ? to->errors[told] : "settings: not acceptable");
	jd_report_done(&own);
	if (r < 0) {
		settings_done(&s);
		ret->error_code = l.error_code ? l.error_code : DEFAULT_ERROR_CODE;
		return r;
	}
	*ret = s;
	return 0;
}

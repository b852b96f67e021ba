/* From the documents of all doors to one struct: each decoded, whole sections chosen, secrets gathered, all judged. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/digest.h"
#include "agent/core/settings_tables.h"

#define SECRETS_FILE       "/etc/evenkeel/secrets.json"
#define PATH_MAX_SHOWN     512
#define DEFAULT_ERROR_CODE -21 /* bad configuration, as the Custom Script extension numbers it */
#define SCHEMA_ID          "urn:evenkeel:settings"

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

/* Secrets. */

static const char *find_secret(const struct settings *s, enum settings_door door, const char *name)
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
	return s->door_of[section] < 0 ? NULL : find_secret(s, (enum settings_door)s->door_of[section], v->ref);
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

/* Messages. */

/* A peer's settings have other names for the same: a sentence speaks of what the operator has written. */
static const char *path_of_peer(const struct settings *s, enum settings_section section, const char *path,
				char out[static PATH_MAX_SHOWN])
{
	static const char script[] = "customScript.scripts[0].", file[] = "files[";
	static const char vault[] = "keyRefresh.", certificate[] = "certificates[";

	if (section == SECTION_CUSTOM_SCRIPT && s->drop_in_script && str_starts(path, script)) {
		path += strlen(script);
		if (!str_starts(path, file))
			return path;
		(void)snprintf(out, PATH_MAX_SHOWN, "fileUris%.*s", (int)strcspn(path + strlen(file) - 1, "."),
			       path + strlen(file) - 1);
		return out;
	}
	if (section == SECTION_KEY_REFRESH && s->drop_in_vault && str_starts(path, vault)) {
		path += strlen(vault);
		(void)snprintf(out, PATH_MAX_SHOWN, "secretsManagementSettings.%s%s",
			       str_starts(path, certificate) ? "observedCertificates[" : "",
			       str_starts(path, certificate) ? path + strlen(certificate) : path);
		return out;
	}
	return path;
}

void settings_error(struct settings_loader *l, enum settings_section section, const char *path, const char *fmt, ...)
{
	char text[JD_REPORT_SENTENCE], other[PATH_MAX_SHOWN];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jd_report_error(l->report, l->subject[section], path_of_peer(l->settings, section, path, other), "%s", text);
}

void settings_warning(struct settings_loader *l, enum settings_section section, const char *path, const char *fmt, ...)
{
	char text[JD_REPORT_SENTENCE], other[PATH_MAX_SHOWN];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	jd_report_warning(l->report, l->subject[section], path_of_peer(l->settings, section, path, other), "%s", text);
}

/* Decoding. */

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

/* What each door has, before one is chosen. */
struct candidates {
	void *section[_DOOR_MAX][_SECTION_MAX];
	const char *subject[_DOOR_MAX][_SECTION_MAX];
	bool drop_in_script[_DOOR_MAX];
	bool drop_in_vault[_DOOR_MAX];
};

static void candidates_done(struct candidates *c)
{
	for (int door = 0; door < _DOOR_MAX; door++)
		for (int i = 0; i < _SECTION_MAX; i++)
			settings_free_section((enum settings_section)i, &c->section[door][i]);
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
			jd_report_error(l->report, d->protected_subject, sections[i].name,
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
	jd_report_error(l->report, d->subject, sections[section].name, "cannot stand together with %s; choose one",
			member);
	settings_free_section(section, &made);
	return -EINVAL;
}

static int add_dropins(struct settings_loader *l, struct loaded *d, struct candidates *c)
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
		if (find_secret(l->settings, d->source->door, list[i].name)) {
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

static void take_sections(struct settings_loader *l, struct loaded *d, struct candidates *c)
{
	enum settings_door door = d->source->door;

	for (int i = 0; i < _SECTION_MAX; i++) {
		if (!d->document.sections[i])
			continue;
		if (c->section[door][i]) {
			jd_report_error(l->report, d->subject, sections[i].name,
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

static int load_source(struct settings_loader *l, struct loaded *d, struct candidates *c)
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

static void check_consent(struct settings_loader *l, const struct candidates *c)
{
	const struct userdata_settings *u = c->section[DOOR_EXTENSION][SECTION_USER_DATA];
	struct buf allowed = BUF_INIT(512);

	if (!u)
		u = c->section[DOOR_FILES][SECTION_USER_DATA];
	for (int i = 0; i < _SECTION_MAX; i++)
		if (is_consented(u, sections[i].name))
			buf_printf(&allowed, "%s%s", allowed.len ? ", " : "", sections[i].name);
	for (int i = 0; i < _SECTION_MAX; i++)
		if (c->section[DOOR_USER_DATA][i] && (i == SECTION_USER_DATA || !is_consented(u, sections[i].name)))
			jd_report_error(l->report, c->subject[DOOR_USER_DATA][i], "",
					"section \"%s\" is not allowed there; userData.settingsSections allows %s",
					sections[i].name, allowed.len ? buf_str(&allowed) : "none");
	buf_done(&allowed);
}

static void choose_doors(struct settings_loader *l, struct candidates *c)
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
	struct candidates c = {0};
	int first = 0, r = 0;

	for (size_t i = 0; i < n && r != -ENOMEM; i++) {
		struct loaded d = {.source = &sources[i]};

		d.subject = sources[i].name ? sources[i].name : "settings";
		d.protected_subject = sources[i].door == DOOR_FILES ? SECRETS_FILE : "protected settings";
		r = load_source(l, &d, &c);
		first = first ? first : r;
		loaded_done(&d);
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

/* What "the same settings" means. */

static int hash_part(struct sha256 *hash, const char *text, size_t len, struct error *err)
{
	_cleanup_buf_ struct buf b = BUF_SECRET_INIT(2 * LIMIT_SETTINGS);
	int r = 0;

	if (!empty_text(text, len))
		r = jd_canonical(text, len, LIMIT_SETTINGS, &b, err);
	if (r < 0)
		return r;
	/* A NUL is in no canonical text, so nothing can move from one part to the other. */
	r = sha256_update(hash, buf_str(&b), b.len + 1);
	return r < 0 ? error_errno(err, r, "SHA-256 of the settings") : 0;
}

int settings_hash(const char *public_text, size_t public_len, const char *protected_text, size_t protected_len,
		  char ret[static 65], struct error *err)
{
	_cleanup_(sha256_freep) struct sha256 *hash = NULL;
	char hex[SHA256_HEX_MAX];
	int r = sha256_new(&hash);

	if (r < 0)
		return error_errno(err, r, "SHA-256 of the settings");
	r = hash_part(hash, public_text, public_len, err);
	if (r == 0)
		r = hash_part(hash, protected_text, protected_len, err);
	if (r < 0)
		return r;
	r = sha256_final_hex(hash, hex);
	if (r < 0)
		return error_errno(err, r, "SHA-256 of the settings");
	memcpy(ret, hex, sizeof(hex));
	return 0;
}

int settings_schema(struct buf *out)
{
	return jd_schema(&st_published, "Settings of EvenKeel", SCHEMA_ID, out);
}

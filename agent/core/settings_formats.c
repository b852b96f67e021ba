/* Leaves of the tables: names of things, words; and how to say what is wrong with any leaf. */
#include "agent/core/settings_formats_internal.h"

#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/core/settings_tables.h"

#define SHOWN_MAX (FORMAT_SHOWN_SIZE - 4)

bool format_only(const char *text, const char *also)
{
	for (; *text; text++)
		if (!ascii_is_alnum(*text) && !strchr(also, *text))
			return false;
	return true;
}

bool format_has_control(const char *text)
{
	for (; *text; text++)
		if (ascii_is_control(*text))
			return true;
	return false;
}

const char *format_shown(const char *text, char out[static FORMAT_SHOWN_SIZE])
{
	size_t len = strlen(text);
	size_t cut = utf8_cut(text, len, SHOWN_MAX);

	memcpy(out, text, cut);
	strcpy(out + cut, cut < len ? "…" : "");
	for (char *p = out; *p; p++)
		if (ascii_is_control(*p))
			*p = '?';
	return out;
}

int format_wrong(struct error *err, const char *what, const char *text)
{
	char value[FORMAT_SHOWN_SIZE];

	return error_set(err, ERROR_USER, -EINVAL, "expected %s, got \"%s\"", what, format_shown(text, value));
}

#define NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
#define NAME_WHAT    "a name of 1 to 63 letters, digits, \".\", \"_\" and \"-\" that begins with a letter or digit"

static int check_name(const char *text, struct error *err)
{
	if (!*text)
		return 0;
	if (!ascii_is_alnum(*text) || strlen(text) > 63 || !format_only(text, "._-"))
		return format_wrong(err, NAME_WHAT, text);
	return 0;
}

/* Of a map: an empty key is no name either. */
static int check_secret_name(const char *text, struct error *err)
{
	return *text ? check_name(text, err) : format_wrong(err, NAME_WHAT, text);
}

static int check_unit(const char *text, struct error *err)
{
	static const char *const suffixes[] = { ".service",   ".socket", ".target", ".timer", ".path",	 ".mount",
						".automount", ".swap",	 ".slice",  ".scope", ".device", NULL };
	bool suffixed = false;

	if (!*text)
		return 0;
	for (size_t i = 0; suffixes[i]; i++)
		suffixed = suffixed || (str_ends(text, suffixes[i]) && strlen(text) > strlen(suffixes[i]));
	if (!suffixed || strlen(text) > 255 || !format_only(text, ":-_.\\@") || *text == '.' || *text == '@')
		return format_wrong(err, "a systemd unit name with its suffix, e.g. \"nginx.service\"", text);
	if (strstr(text, "@."))
		return format_wrong(err, "a unit, not a template: give the instance, e.g. \"worker@1.service\"", text);
	return 0;
}

bool settings_is_resource_id(const char *text)
{
	/* /subscriptions/S/resourceGroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME */
	static const char *const words[] = {
		"subscriptions",	  NULL, "resourceGroups", NULL, "providers", "Microsoft.ManagedIdentity",
		"userAssignedIdentities", NULL
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		char part[128];
		size_t len;

		if (*text++ != '/')
			return false;
		len = strcspn(text, "/");
		if (len == 0 || len >= sizeof(part))
			return false;
		memcpy(part, text, len);
		part[len] = '\0';
		if (format_has_control(part) || (words[i] && !str_equal_nocase(part, words[i])))
			return false;
		text += len;
	}
	return *text == '\0';
}

int check_guid(const char *text, struct error *err)
{
	if (!*text)
		return 0;
	if (str_starts(text, "/subscriptions/") || str_starts(text, "/Subscriptions/"))
		return error_set(err, ERROR_USER, -EINVAL, "expected a GUID, got an ARM id; use resourceId");
	for (size_t i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !ascii_is_hex(text[i]))
			return format_wrong(err, "a GUID", text);
	}
	return text[36] ? format_wrong(err, "a GUID", text) : 0;
}

static int check_resource_id(const char *text, struct error *err)
{
	if (!*text || settings_is_resource_id(text))
		return 0;
	return format_wrong(err,
			    "the ARM id of a user-assigned identity "
			    "(/subscriptions/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME)",
			    text);
}

static int check_word(const char *const *words, const char *text, struct error *err)
{
	_cleanup_buf_ struct buf list = BUF_INIT(256);
	char value[FORMAT_SHOWN_SIZE];
	int near;

	for (size_t i = 0; words[i]; i++) {
		if (str_equal(words[i], text))
			return 0;
		buf_printf(&list, "%s\"%s\"", i ? ", " : "", words[i]);
	}
	near = str_nearest(text, words);
	if (near >= 0)
		return error_set(err, ERROR_USER, -EINVAL, "expected one of %s, got \"%s\"; did you mean \"%s\"?",
				 buf_str(&list), format_shown(text, value), words[near]);
	return error_set(err, ERROR_USER, -EINVAL, "expected one of %s, got \"%s\"", buf_str(&list),
			 format_shown(text, value));
}

static int check_event_type(const char *text, struct error *err)
{
	static const char *const words[] = { "Freeze", "Reboot", "Redeploy", "Preempt", "Terminate", NULL };

	return check_word(words, text, err);
}

static int check_event_source(const char *text, struct error *err)
{
	static const char *const words[] = { "Platform", "User", NULL };

	return check_word(words, text, err);
}

/* What a settings part of user data may ever set: never what decides about user data itself. */
static int check_settable_section(const char *text, struct error *err)
{
	const char *words[_SECTION_MAX] = { NULL };
	size_t n = 0;

	for (int s = 0; s < _SECTION_MAX; s++)
		if (s != SECTION_USER_DATA)
			words[n++] = settings_section_name((enum settings_section)s);
	words[n] = NULL;
	return check_word(words, text, err);
}

const struct jd_type st_boolean = { .kind = JD_BOOLEAN };
const struct jd_type st_name = { .kind = JD_TEXT, .min = 1, .check = check_name, .pattern = NAME_PATTERN };
const struct jd_type st_name_or_none = { .kind = JD_TEXT, .check = check_name };
const struct jd_type st_unit = { .kind = JD_TEXT, .min = 1, .check = check_unit, .pattern = "^[A-Za-z0-9:_.\\\\@-]+$" };
const struct jd_type st_unit_or_none = { .kind = JD_TEXT, .check = check_unit };
const struct jd_type st_guid = { .kind = JD_TEXT, .check = check_guid };
const struct jd_type st_resource_id = { .kind = JD_TEXT, .max = 1024, .check = check_resource_id };
const struct jd_type st_units = { .kind = JD_LIST, .max = 16, .element = &st_unit };
const struct jd_type st_event_type = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_event_type,
	.pattern = "^(Freeze|Reboot|Redeploy|Preempt|Terminate)$",
};
const struct jd_type st_event_source = {
	.kind = JD_TEXT, .min = 1, .check = check_event_source, .pattern = "^(Platform|User)$"
};
const struct jd_type st_settable_section = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_settable_section,
	.pattern = "^(customScript|keyRefresh|drain|health|notify|network|log)$",
};
const struct jd_type st_secrets = {
	.kind = JD_MAP,
	.max = LIMIT_SECRETS,
	.size = sizeof(struct settings_secret),
	.value_offset = offsetof(struct settings_secret, value),
	.element = &(const struct jd_type){ .kind = JD_TEXT, .max = LIMIT_SECRET, .sensitive = true },
	.check = check_secret_name,
	.pattern = NAME_PATTERN,
};

/*
 * The settings document: one struct for all doors, decoded by tables (settings_tables.c), judged by rules
 * across members (settings_rules.c). Pure: texts in, a struct and sentences out. The schema and `evenkeel
 * validate` come from the same tables.
 *
 * A section that is present is on: its pointer is not NULL. Secrets stay references; settings_secret()
 * looks one up at the last moment.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/codec/json.h"
#include "agent/codec/json_report.h"
#include "agent/core/settings_common.h"
#include "agent/core/settings_drain.h"
#include "agent/core/settings_keys.h"
#include "agent/core/settings_script.h"

enum settings_section {
	SECTION_CUSTOM_SCRIPT,
	SECTION_KEY_REFRESH,
	SECTION_DRAIN,
	SECTION_USER_DATA,
	SECTION_HEALTH,
	SECTION_NOTIFY,
	SECTION_NETWORK,
	SECTION_LOG,
	_SECTION_MAX
};
const char *settings_section_name(enum settings_section s); /* "customScript" … */

enum settings_door { DOOR_EXTENSION, DOOR_USER_DATA, DOOR_FILES, _DOOR_MAX };

struct settings_secret {
	char *name;
	char *value; /* erased when released */
};

struct settings {
	struct custom_script_settings *custom_script;
	struct key_refresh_settings *key_refresh;
	struct drain_settings *drain;
	struct userdata_settings *user_data;
	struct health_settings *health;
	struct notify_settings *notify;
	struct network_settings *network;
	struct log_settings *log;
	struct jd_list secrets[_DOOR_MAX]; /* of struct settings_secret */
	int door_of[_SECTION_MAX];         /* enum settings_door of each section that is present */
	bool drop_in_script;               /* came as Custom Script v2 settings: its messages and codes */
	bool drop_in_vault;                /* came as Key Vault extension settings */
	int error_code;                    /* of a failed document: the peer's number (20..30), else -21 */
};

/* One document as it came through one door. Texts may be NULL or empty (nothing there). */
struct settings_source {
	enum settings_door door;
	const char *name;        /* for messages: "settings", "user data, part 3", a file name */
	const char *public_text; /* JSON object */
	size_t public_len;
	/* Door 1: decrypted protectedSettings. Files: secrets.json, given with one of the sources only. */
	const char *protected_text;
	size_t protected_len;
};

/* Sentences have the form of settings.md 1.4; those about Custom Script's own settings are its whole status text
 * ("Enable failed: failed to get configuration: …"). On success every default is resolved, an empty optional text is
 * absent (NULL), a list that is absent has no items.
 *
 * Decodes and judges all doors together: a section comes whole from the first door that has it; what user
 * data may hold is checked against userData.settingsSections of the stronger doors. Drop-in forms become
 * ordinary sections. On failure (-EINVAL, -EBADMSG, -E2BIG, -ENOMEM) *ret is untouched except error_code;
 * every sentence is in the report, the first also in err. Warnings may come with success. */
_nodiscard_ int settings_load(const struct settings_source *sources, size_t n_sources, struct settings *ret,
			      struct jd_report *report, struct error *err);
void settings_done(struct settings *s);

/* The value a secretable stands for: its text, or the secret of the section's own door; NULL when absent. */
const char *settings_value(const struct settings *s, enum settings_section section, const struct jd_secretable *v);

/* SHA-256 (hex) of the settings as received: both texts canonical, in one digest. What "same settings" means. */
_nodiscard_ int settings_hash(const char *public_text, size_t public_len, const char *protected_text,
			      size_t protected_len, char ret[static 65], struct error *err);

/* Appends the settings as JSON for others to read: of a value that may be a secret only the host of its URI remains, and so
 * of commands, arguments and bodies. The settings are of no other use afterwards. */
_nodiscard_ int settings_redact(struct settings *s, struct buf *out);

/* The published JSON Schema of the public document. */
_nodiscard_ int settings_schema(struct buf *out);

/* Defaults for when no door has the section. */
extern const struct log_settings settings_log_defaults;

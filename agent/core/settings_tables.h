/*
 * What the settings_*.c files share: the types of the tables, the struct one document decodes into, the
 * steps of loading. Nothing outside settings_*.c includes this.
 */
#pragma once

#include <string.h>

#include "agent/base/str.h"
#include "agent/core/settings.h"

/* A member of a struct, as a table row; further initializers follow. */
#define MEMBER(key, type_, strukt, member, ...)                                                                        \
	{                                                                                                              \
		.name = (key), .type = (type_), .offset = offsetof(struct strukt, member), __VA_ARGS__                 \
	}

/* Two arguments for "%.*s": no more than so many bytes, no half character. */
#define CUT(text, max) (int)utf8_cut((text), strlen(text), (max)), (text)

/* Types that need no name of their own. At file scope a compound literal lives as long as the program. */
#define INTEGER(lo, hi)  (&(const struct jd_type){.kind = JD_INTEGER, .min = (lo), .max = (hi)})
#define TEXT(lo, hi)     (&(const struct jd_type){.kind = JD_TEXT, .min = (lo), .max = (hi)})
#define LIST(lo, hi, of) (&(const struct jd_type){.kind = JD_LIST, .min = (lo), .max = (hi), .element = (of)})
#define UNIQUE_LIST(lo, hi, of, by)                                                                                    \
	(&(const struct jd_type){.kind = JD_LIST, .min = (lo), .max = (hi), .element = (of), .unique = (by)})
#define CHOICE(...) (&(const struct jd_type){.kind = JD_CHOICE, .names = (const char *const[]){__VA_ARGS__, NULL}})
#define OBJECT(strukt, fields_)                                                                                        \
	(&(const struct jd_type){.kind = JD_OBJECT, .size = sizeof(struct strukt), .fields = (fields_)})
#define POINTER(strukt, fields_)                                                                                       \
	(&(const struct jd_type){.kind = JD_POINTER, .size = sizeof(struct strukt), .fields = (fields_)})

/* Leaves (settings_formats*.c). …_or_none: an empty text counts as absent. */
extern const struct jd_type st_boolean;
extern const struct jd_type st_name, st_name_or_none;
extern const struct jd_type st_unit, st_unit_or_none;
extern const struct jd_type st_path, st_path_or_none;
extern const struct jd_type st_http_or_none, st_http_secretable, st_http_secretable_or_none;
extern const struct jd_type st_peer_url, st_identity_endpoint, st_vault_url, st_vault_suffix;
extern const struct jd_type st_proxy;
extern const struct jd_type st_endpoint, st_endpoint_or_none;
extern const struct jd_type st_guid, st_resource_id;
extern const struct jd_type st_mode, st_user, st_group, st_user_and_group;
extern const struct jd_type st_sha256;
extern const struct jd_type st_shell_text, st_script_text, st_argument;
extern const struct jd_type st_storage_account_name, st_storage_account_key;
extern const struct jd_type st_file_name, st_relative_file_name;
extern const struct jd_type st_host_name;
extern const struct jd_type st_secret_only;                              /* secretRef only */
extern const struct jd_type st_command, st_command_or_none, st_commands; /* argv lists */
extern const struct jd_type st_units;                                    /* [0..16] */
extern const struct jd_type st_port;
extern const struct jd_type st_api_version, st_method;
extern const struct jd_type st_event_type, st_event_source;
extern const struct jd_type st_settable_section;
extern const struct jd_type st_exit_codes;
extern const struct jd_type st_environment, st_headers; /* maps NAME: text (S) */

/* Shared structs (settings_tables_common.c). */
extern const struct jd_type st_identity; /* struct identity *, NULL when absent */
extern const struct jd_type st_retry;    /* struct retry_settings */

/* Sections, each a pointer that is NULL when the section is absent. */
extern const struct jd_type st_custom_script, st_key_refresh, st_drain, st_user_data, st_health, st_notify, st_network,
	st_log;
extern const struct jd_type st_step; /* of `drain.steps` */

/* secretsManagementSettings and its neighbours (settings_tables_vault.c). */
struct vault_override {
	char *msi_client_id;
};

struct vault_certificate {
	char *url;
	char *store;
	char *link_name;
	struct jd_list acls; /* of struct acl_settings */
	struct vault_override *authentication_override;
};

struct vault_settings {
	int64_t polling_interval_seconds;
	char *store;
	char *require_initial_sync;     /* JSON text; only that it is there counts */
	char *acl_enabled;              /* the same */
	char *misplaced_authentication; /* a frequent mistake: told clearly */
	char *misplaced_logging;
	struct jd_list certificates; /* of struct vault_certificate */
};

struct vault_authentication {
	char *msi_endpoint;
	char *msi_client_id;
	char *msi_object_id;
};

struct vault_logging {
	char *logger, *endpoint, *format, *service_name;
};

/* One public document. Sections stand first, in the order of enum settings_section. */
struct settings_document {
	void *sections[_SECTION_MAX];
	char *timestamp; /* JSON text */
	char *command_to_execute, *script;
	struct jd_list file_uris; /* of char * */
	bool skip_dos2unix;
	struct vault_settings *vault;
	struct vault_authentication *vault_authentication;
	struct vault_logging *vault_logging;
	char *secrets; /* JSON text, only to say where it belongs */
};
extern const struct jd_type st_document;  /* in place */
extern const struct jd_type st_published; /* what the schema shows: without what is only told to belong elsewhere */

struct settings_protected {
	struct jd_list secrets; /* of struct settings_secret */
	char *timestamp;        /* JSON text */
	char *command_to_execute, *script;
	struct jd_list file_uris; /* of char * */
	char *storage_account_name, *storage_account_key;
	struct identity *managed_identity;
	char *sections[_SECTION_MAX]; /* JSON text, only to say where it belongs */
};
extern const struct jd_type st_protected; /* in place */
extern const struct jd_type st_secrets;   /* the map alone, for releasing */

/* The members of any JSON object as JSON texts. */
struct settings_raw_member {
	char *key;
	char *json;
};
extern const struct jd_type st_raw_members; /* JD_MAP of these */
extern const struct jd_type st_raw_items;   /* JD_LIST of char *, JSON texts */

/* While documents are read. */
struct settings_loader {
	struct settings *settings;
	struct jd_report *report;
	unsigned errors_before;            /* in the report when loading began */
	const char *subject[_SECTION_MAX]; /* of messages: the document a section came from */
	int error_code;                    /* a peer's number, 0: none */
};

const struct jd_type *settings_section_type(enum settings_section section);
void **settings_section_pointer(struct settings *s, enum settings_section section);

/* Releases a section and what no table knows of it; *section_pointer becomes NULL. */
void settings_free_section(enum settings_section section, void *section_pointer);

/* Decodes with the limits of settings; unknown members are errors. */
_nodiscard_ int settings_decode(const char *text, size_t len, const char *subject, const struct jd_type *type,
				void *target, struct jd_report *report, struct error *err);

/* The value, or NULL. */
const char *settings_find_secret(const struct settings *s, enum settings_door door, const char *name);
/* Adds a copy to the secrets of the door. 0 or -ENOMEM. */
_nodiscard_ int settings_add_secret(struct settings *s, enum settings_door door, const char *name, const char *value);
/* Names of secrets made from a peer's protected settings begin so, which no document's can. */
#define SETTINGS_OWN_SECRET "protected:"

/* Custom Script's settings. First the peer's schema over the raw members of both parts; then its rules over what the
 * tables have decoded, and the section. 0, -EINVAL (told), -ENOMEM. */
bool settings_has_script_dropin(const struct jd_list *public_members, const struct jd_list *protected_members);
_nodiscard_ int settings_check_script_dropin(struct settings_loader *l, const struct jd_list *public_members,
					     const struct jd_list *protected_members);
_nodiscard_ int settings_script_dropin(struct settings_loader *l, enum settings_door door,
				       const struct settings_document *d, const struct settings_protected *p,
				       struct custom_script_settings **ret);
/* The Key Vault extension's settings as a section. `public_text` is read once more for what a decoded value does not
 * show: whether a certificate was given as a mere text. 0, -EINVAL (told), -ENOMEM. */
bool settings_has_vault_dropin(const struct settings_document *d);
_nodiscard_ int settings_vault_dropin(struct settings_loader *l, const char *subject,
				      const struct jd_list *public_members, const struct settings_document *d,
				      struct key_refresh_settings **ret);

/* Values that follow from others: empty texts are absent, default names, timeouts by type, default steps. */
_nodiscard_ int settings_complete(struct settings_loader *l);

/* Rules across members; errors and warnings go into the report. 0 or -ENOMEM. */
_nodiscard_ int settings_judge(struct settings_loader *l);
void settings_judge_script(struct settings_loader *l);
_nodiscard_ int settings_judge_keys(struct settings_loader *l);
void settings_judge_drain(struct settings_loader *l);

/* "section: path: sentence" of a rule. */
void settings_error(struct settings_loader *l, enum settings_section section, const char *path, const char *fmt, ...)
	_printf_(4, 5);
void settings_warning(struct settings_loader *l, enum settings_section section, const char *path, const char *fmt, ...)
	_printf_(4, 5);

/* 0 when the text is of that form; else -EINVAL and what is wrong, without path. Empty texts pass: a type's
 * minimum length speaks of them. */
int check_guid(const char *text, struct error *err);
int check_identity_endpoint(const char *text, struct error *err);
int check_relative_file_name(const char *text, struct error *err);
int check_script(const char *text, struct error *err);
bool settings_is_resource_id(const char *text);

/* Splits https://VAULT.SUFFIX[:443]/secrets/NAME[/VERSION]; heap copies. `ret_suffix` begins with ".". The text
 * has passed the check of a vault's URL. 0 or -ENOMEM. */
_nodiscard_ int settings_split_vault_url(const char *url, char **ret_vault, char **ret_suffix, char **ret_secret);

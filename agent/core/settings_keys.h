/* Settings of key refresh (settings.md 1.2 "keyRefresh"). */
#pragma once

#include "agent/codec/json.h"

struct identity; /* settings_common.h */

struct activate_settings {
	struct jd_list check; /* of char *, an argv */
	struct jd_list reload_units;
	struct jd_list restart_units;
	struct jd_list commands; /* of struct jd_list of char * */
	int64_t timeout_seconds;
	struct {
		char *endpoint; /* NULL: not verified */
		char *server_name;
		int64_t timeout_seconds;
	} verify;
};

struct acl_settings {
	char *user;
	char *group;
};

struct certificate_files {
	char *fullchain, *certificate, *chain, *key, *combined, *pkcs12; /* plain names; NULL: not written */
};

/* How files are laid out: our own set of names, or the Key Vault extension's (drop-in). */
enum store_layout { STORE_OWN, STORE_KV3, STORE_KV4 };

struct certificate_settings {
	char *name; /* never NULL after decoding: default <vault>.<secret> */
	char *url;
	struct identity *identity;
	char *directory; /* NULL: below /var/lib/evenkeel/certificates */
	struct certificate_files files;
	struct jd_secretable pkcs12_password;
	char *owner, *group, *mode;
	int64_t keep_versions;
	struct jd_list acls; /* of struct acl_settings */
	struct activate_settings activate;
	int layout;      /* enum store_layout; not a member of the document */
	char *link_name; /* STORE_KV3: customSymbolicLinkName; not a member of keyRefresh */
};

struct key_secret_settings {
	char *name;
	char *url;
	struct identity *identity;
	char *path;
	char *owner, *group, *mode;
	struct activate_settings activate;
};

struct key_refresh_settings {
	int64_t polling_interval_seconds;
	int64_t initial_sync_timeout_seconds;
	struct identity *identity;
	char *identity_endpoint;
	struct jd_list vault_suffixes;      /* of char * */
	struct jd_list expiry_warning_days; /* of int64_t */
	bool remove_on_uninstall;
	struct jd_list certificates; /* of struct certificate_settings */
	struct jd_list secrets;      /* of struct key_secret_settings */
};

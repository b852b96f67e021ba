/* Tables of whole documents: the sections, the peers' settings beside them, the protected part. */
#include "agent/core/settings_tables.h"

#include "agent/base/limits.h"

/* Any value, kept as JSON text: its own checks come later, in its own words. */
static const struct jd_type raw = {.kind = JD_RAW};
static const struct jd_type text = {.kind = JD_TEXT, .max = 4096};

/* Custom Script's members; the peer's own checks come first (settings_dropin_script.c). */
static const struct jd_type peer_text = {.kind = JD_TEXT, .max = LIMIT_SETTINGS};
static const struct jd_type peer_secret = {.kind = JD_TEXT, .max = LIMIT_SETTINGS, .sensitive = true};
static const struct jd_type peer_script = {.kind = JD_TEXT, .max = LIMIT_SCRIPT_ENCODED, .check = check_script};
static const struct jd_type peer_secret_script = {
	.kind = JD_TEXT, .max = LIMIT_SCRIPT_ENCODED, .check = check_script, .sensitive = true};
static const struct jd_field managed_identity_fields[] = {
	MEMBER("clientId", TEXT(0, 64), identity, client_id), MEMBER("objectId", TEXT(0, 64), identity, object_id), {}};
static const struct jd_type managed_identity = {
	.kind = JD_POINTER, .size = sizeof(struct identity), .fields = managed_identity_fields, .lenient = true};

const struct jd_type st_raw_members = {
	.kind = JD_MAP,
	.size = sizeof(struct settings_raw_member),
	.value_offset = offsetof(struct settings_raw_member, json),
	.element = &raw,
};
const struct jd_type st_raw_items = {.kind = JD_LIST, .element = &raw};

/* secretsManagementSettings: what the Key Vault extension's versions 1 to 4 take; unknown members are warnings. */

static const struct jd_field vault_acl_fields[] = {
	MEMBER("user", &st_user, acl_settings, user, .doc = "User who may read the key."),
	MEMBER("group", &st_group, acl_settings, group, .doc = "Group that may read the key."),
	{}};

static const struct jd_field override_fields[] = {
	MEMBER("msiClientId", TEXT(0, 1024), vault_override, msi_client_id, .doc = "Client id of the identity."), {}};

static const struct jd_field vault_certificate_fields[] = {
	MEMBER("url", &st_vault_url, vault_certificate, url, .flags = JD_REQUIRED,
	       .doc = "https://VAULT/secrets/NAME."),
	MEMBER("certificateStoreLocation", &st_path_or_none, vault_certificate, store,
	       .doc = "Directory of its files."),
	MEMBER("customSymbolicLinkName", TEXT(0, 255), vault_certificate, link_name,
	       .doc = "Name of the link (version 3)."),
	MEMBER("acls", LIST(0, 16, OBJECT(acl_settings, vault_acl_fields)), vault_certificate, acls,
	       .doc = "Further readers of the key."),
	MEMBER("authenticationOverride", POINTER(vault_override, override_fields), vault_certificate,
	       authentication_override, .doc = "Identity for this certificate."),
	{.name = "certificateStoreName", .flags = JD_IGNORED, .doc = "Windows only."},
	{.name = "keyExportable", .flags = JD_IGNORED, .doc = "Windows only."},
	{.name = "accounts", .flags = JD_IGNORED, .doc = "Windows only."},
	{}};
static const struct jd_type vault_certificate = {
	.kind = JD_OBJECT,
	.size = sizeof(struct vault_certificate),
	.fields = vault_certificate_fields,
	.short_member = "url",
	.what = "a URL, or an object with a url",
};

static const struct jd_field vault_fields[] = {
	MEMBER("pollingIntervalInS", (&(const struct jd_type){.kind = JD_INTEGER, .min = 0, .max = INT32_MAX}),
	       vault_settings, polling_interval_seconds, .default_integer = 3600, .doc = "How often to look."),
	MEMBER("certificateStoreLocation", &st_path_or_none, vault_settings, store,
	       .default_text = "/var/lib/waagent/Microsoft.Azure.KeyVault.Store", .doc = "Directory of the files."),
	MEMBER("requireInitialSync", &raw, vault_settings, require_initial_sync,
	       .doc = "Success always means that every certificate is there."),
	MEMBER("aclEnabled", &raw, vault_settings, acl_enabled, .doc = "Access lists are always on."),
	MEMBER("observedCertificates", LIST(0, 500, &vault_certificate), vault_settings, certificates,
	       .doc = "The certificates."),
	{.name = "linkOnRenewal", .flags = JD_IGNORED, .doc = "Windows only."},
	{.name = "certificateStoreName", .flags = JD_IGNORED, .doc = "Windows only."},
	MEMBER("authenticationSettings", &raw, vault_settings, misplaced_authentication,
	       .doc = "Belongs beside secretsManagementSettings."),
	MEMBER("loggingSettings", &raw, vault_settings, misplaced_logging,
	       .doc = "Belongs beside secretsManagementSettings."),
	{}};
static const struct jd_type vault = {
	.kind = JD_POINTER, .size = sizeof(struct vault_settings), .fields = vault_fields, .lenient = true};

static const struct jd_field authentication_fields[] = {
	MEMBER("msiEndpoint", &text, vault_authentication, msi_endpoint,
	       .doc = "Where tokens come from, with or without /oauth2/token."),
	MEMBER("msiClientId", &text, vault_authentication, msi_client_id, .doc = "Client id of the identity."),
	MEMBER("msiObjectId", &text, vault_authentication, msi_object_id, .doc = "Object id of the identity."),
	{}};
static const struct jd_type authentication = {
	.kind = JD_POINTER,
	.size = sizeof(struct vault_authentication),
	.fields = authentication_fields,
	.lenient = true,
};

static const struct jd_field logging_fields[] = {
	MEMBER("logger", &text, vault_logging, logger, .doc = "\"fluentd\"."),
	MEMBER("endpoint", &text, vault_logging, endpoint, .doc = "Where it listens."),
	MEMBER("format", &text, vault_logging, format, .doc = "\"forward\"."),
	MEMBER("servicename", &text, vault_logging, service_name, .doc = "Tag of the messages."),
	{}};
static const struct jd_type logging = {
	.kind = JD_POINTER, .size = sizeof(struct vault_logging), .fields = logging_fields, .lenient = true};

#define SECTION(key, type_, index, doc_)                                                                               \
	{                                                                                                              \
		.name = (key), .type = (type_), .offset = offsetof(struct settings_document, sections[index]),         \
		.doc = (doc_)                                                                                          \
	}

#define DOCUMENT_MEMBERS                                                                                               \
	SECTION("customScript", &st_custom_script, SECTION_CUSTOM_SCRIPT, "Scripts to download and run."),             \
		SECTION("keyRefresh", &st_key_refresh, SECTION_KEY_REFRESH, "Certificates and secrets of Key Vault."), \
		SECTION("drain", &st_drain, SECTION_DRAIN, "Stepping aside before the platform touches the VM."),      \
		SECTION("userData", &st_user_data, SECTION_USER_DATA, "What to do with user data that changes."),      \
		SECTION("health", &st_health, SECTION_HEALTH, "Readiness, application health, metrics."),              \
		SECTION("notify", &st_notify, SECTION_NOTIFY, "Webhooks."),                                            \
		SECTION("network", &st_network, SECTION_NETWORK, "Proxy and trusted certificates."),                   \
		SECTION("log", &st_log, SECTION_LOG, "The log file."),                                                 \
		MEMBER("timestamp", &raw, settings_document, timestamp,                                                \
		       .doc = "An integer that only makes the document another one."),                                 \
		{.name = "$schema", .type = &text, .flags = JD_SILENTLY_IGNORED, .doc = "For editors."},               \
		MEMBER("commandToExecute", &peer_text, settings_document, command_to_execute,                          \
		       .doc = "As the Custom Script extension has it; not together with customScript."),               \
		MEMBER("script", &peer_script, settings_document, script,                                              \
		       .doc = "As the Custom Script extension has it."),                                               \
		MEMBER("fileUris", LIST(0, 0, &peer_text), settings_document, file_uris,                               \
		       .doc = "As the Custom Script extension has it."),                                               \
		MEMBER("skipDos2Unix", &st_boolean, settings_document, skip_dos2unix,                                  \
		       .doc = "As the Custom Script extension has it."),                                               \
		MEMBER("secretsManagementSettings", &vault, settings_document, vault,                                  \
		       .doc = "As the Key Vault extension has it; not together with keyRefresh."),                     \
		MEMBER("authenticationSettings", &authentication, settings_document, vault_authentication,             \
		       .doc = "As the Key Vault extension has it."),                                                   \
		MEMBER("loggingSettings", &logging, settings_document, vault_logging,                                  \
		       .doc = "As the Key Vault extension has it; without effect.")

static const struct jd_field published_fields[] = {DOCUMENT_MEMBERS, {}};
const struct jd_type st_published = {
	.kind = JD_OBJECT, .size = sizeof(struct settings_document), .fields = published_fields};

static const struct jd_field document_fields[] = {
	DOCUMENT_MEMBERS, MEMBER("secrets", &raw, settings_document, secrets), {}};
const struct jd_type st_document = {
	.kind = JD_OBJECT, .size = sizeof(struct settings_document), .fields = document_fields};

#define MISPLACED(key, index) MEMBER(key, &raw, settings_protected, sections[index])

static const struct jd_field protected_fields[] = {
	MEMBER("secrets", &st_secrets, settings_protected, secrets, .doc = "Values that a secretRef names."),
	MEMBER("timestamp", &raw, settings_protected, timestamp),
	{.name = "$schema", .type = &text, .flags = JD_SILENTLY_IGNORED},
	MEMBER("commandToExecute", &peer_secret, settings_protected, command_to_execute),
	MEMBER("script", &peer_secret_script, settings_protected, script),
	MEMBER("fileUris", LIST(0, 0, &peer_secret), settings_protected, file_uris),
	MEMBER("storageAccountName", &peer_secret, settings_protected, storage_account_name),
	MEMBER("storageAccountKey", &peer_secret, settings_protected, storage_account_key),
	MEMBER("managedIdentity", &managed_identity, settings_protected, managed_identity),
	MISPLACED("customScript", SECTION_CUSTOM_SCRIPT),
	MISPLACED("keyRefresh", SECTION_KEY_REFRESH),
	MISPLACED("drain", SECTION_DRAIN),
	MISPLACED("userData", SECTION_USER_DATA),
	MISPLACED("health", SECTION_HEALTH),
	MISPLACED("notify", SECTION_NOTIFY),
	MISPLACED("network", SECTION_NETWORK),
	MISPLACED("log", SECTION_LOG),
	{}};
const struct jd_type st_protected = {
	.kind = JD_OBJECT, .size = sizeof(struct settings_protected), .fields = protected_fields};

int settings_schema(struct buf *out)
{
	return jd_schema(&st_published, "Settings of EvenKeel", "urn:evenkeel:settings", out);
}

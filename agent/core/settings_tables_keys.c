/* Tables of the section keyRefresh. */
#include "agent/core/settings_tables.h"

static const struct jd_field verify_fields[] = {
	MEMBER("endpoint", &st_endpoint, activate_settings, verify.endpoint, .flags = JD_REQUIRED,
	       .doc = "Where the new certificate must be served, else the former one is put back."),
	MEMBER("serverName", &st_host_name, activate_settings, verify.server_name, .doc = "Name asked for (SNI)."),
	MEMBER("timeoutInSeconds", INTEGER(1, 900), activate_settings, verify.timeout_seconds, .default_integer = 30,
	       .doc = "How long it may take until it is served."),
	{}};

static const struct jd_field activate_fields[] = {
	MEMBER("check", &st_command_or_none, activate_settings, check,
	       .doc = "Command that sees the new files at their final paths before the switch; if it fails, nothing is switched."),
	MEMBER("reloadUnits", &st_units, activate_settings, reload_units, .doc = "Units to reload if they are active; if one fails, the former files are put back."),
	MEMBER("restartUnits", &st_units, activate_settings, restart_units,
	       .doc = "Units to restart if they are active; the same holds."),
	MEMBER("commands", &st_commands, activate_settings, commands,
	       .doc = "Commands, told of the change as evenkeel-hooks(7) describes; the same holds."),
	MEMBER("timeoutInSeconds", INTEGER(1, 900), activate_settings, timeout_seconds, .default_integer = 60,
	       .doc = "For each of them."),
	{.name = "verify",
	 .type = &(const struct jd_type){.kind = JD_OBJECT, .fields = verify_fields},
	 .doc = "Ask an endpoint for the certificate it serves (certificates only); absent: not verified."},
	{}};
static const struct jd_type activate = {
	.kind = JD_OBJECT, .size = sizeof(struct activate_settings), .fields = activate_fields};

static const struct jd_field acl_fields[] = {
	MEMBER("user", &st_user, acl_settings, user, .doc = "User who may read the key."),
	MEMBER("group", &st_group, acl_settings, group, .doc = "Group that may read the key."),
	{}};

static const struct jd_field files_fields[] = {
	MEMBER("fullchain", &st_file_name, certificate_files, fullchain, .doc = "Certificate and chain."),
	MEMBER("certificate", &st_file_name, certificate_files, certificate, .doc = "The certificate alone."),
	MEMBER("chain", &st_file_name, certificate_files, chain, .doc = "The chain without the certificate."),
	MEMBER("key", &st_file_name, certificate_files, key, .doc = "The private key."),
	MEMBER("combined", &st_file_name, certificate_files, combined,
	       .doc = "Certificate, chain and key in one file."),
	MEMBER("pkcs12", &st_file_name, certificate_files, pkcs12, .doc = "All of it as PKCS#12."),
	{}};

static const struct jd_field certificate_fields[] = {
	MEMBER("name", &st_name_or_none, certificate_settings, name, .doc = "Default: VAULT.SECRET."),
	MEMBER("url", &st_vault_url, certificate_settings, url, .flags = JD_REQUIRED,
	       .doc = "https://VAULT/secrets/NAME; with /VERSION it is pinned."),
	MEMBER("identity", &st_identity, certificate_settings, identity, .doc = "Default: that of the section."),
	MEMBER("directory", &st_path_or_none, certificate_settings, directory,
	       .doc = "Default: /var/lib/evenkeel/certificates/NAME."),
	MEMBER("files", OBJECT(certificate_files, files_fields), certificate_settings, files,
	       .default_text = "{\"fullchain\":\"fullchain.pem\",\"key\":\"privkey.pem\"}",
	       .doc = "Which files are written, and their names."),
	MEMBER("pkcs12Password", &st_secret_only, certificate_settings, pkcs12_password,
	       .doc = "Password of the PKCS#12 file; absent: empty."),
	MEMBER("owner", &st_user, certificate_settings, owner, .default_text = "root", .doc = "Owner of the files."),
	MEMBER("group", &st_group, certificate_settings, group, .default_text = "root", .doc = "Group of the files."),
	MEMBER("mode", &st_mode, certificate_settings, mode, .default_text = "0600",
	       .doc = "Mode of files that hold the key; the others are 0644."),
	MEMBER("keepVersions", INTEGER(1, 10), certificate_settings, keep_versions, .default_integer = 2,
	       .doc = "Versions that stay on disk."),
	MEMBER("acls", LIST(0, 16, OBJECT(acl_settings, acl_fields)), certificate_settings, acls,
	       .doc = "Further readers of the key."),
	MEMBER("activate", &activate, certificate_settings, activate, .doc = "What happens when it has changed; at the first install nothing is checked, verified or put back."),
	{}};

static const struct jd_field secret_fields[] = {
	MEMBER("name", &st_name_or_none, key_secret_settings, name, .doc = "Default: VAULT.SECRET."),
	MEMBER("url", &st_vault_url, key_secret_settings, url, .flags = JD_REQUIRED,
	       .doc = "https://VAULT/secrets/NAME; with /VERSION it is pinned."),
	MEMBER("identity", &st_identity, key_secret_settings, identity, .doc = "Default: that of the section."),
	MEMBER("path", &st_path, key_secret_settings, path, .flags = JD_REQUIRED,
	       .doc = "The file that holds the value."),
	MEMBER("owner", &st_user, key_secret_settings, owner, .default_text = "root", .doc = "Owner of the file."),
	MEMBER("group", &st_group, key_secret_settings, group, .default_text = "root", .doc = "Group of the file."),
	MEMBER("mode", &st_mode, key_secret_settings, mode, .default_text = "0600", .doc = "Mode of the file."),
	MEMBER("activate", &activate, key_secret_settings, activate, .doc = "What happens when it has changed; at the first install nothing is checked, verified or put back."),
	{}};

static const struct jd_field key_refresh_fields[] = {
	MEMBER("pollingIntervalInSeconds", INTEGER(60, 86400), key_refresh_settings, polling_interval_seconds,
	       .default_integer = 3600, .doc = "How often to look for new versions; spread by 10 %, the first time over the second half of it."),
	MEMBER("initialSyncTimeoutInSeconds", INTEGER(60, 5100), key_refresh_settings, initial_sync_timeout_seconds,
	       .default_integer = 1800, .doc = "When that has passed and something was never installed: an error."),
	MEMBER("identity", &st_identity, key_refresh_settings, identity, .doc = "For items without their own."),
	MEMBER("identityEndpoint", &st_identity_endpoint, key_refresh_settings, identity_endpoint,
	       .default_text = "http://169.254.169.254/metadata/identity", .doc = "Where tokens come from."),
	MEMBER("vaultSuffixes", LIST(0, 8, &st_vault_suffix), key_refresh_settings, vault_suffixes,
	       .doc = "Further DNS suffixes of vaults; tokens go nowhere else."),
	MEMBER("expiryWarningInDays", LIST(0, 16, INTEGER(0, 3650)), key_refresh_settings, expiry_warning_days,
	       .default_text = "[30,14,7,1]", .doc = "Days before expiry at which to warn."),
	MEMBER("removeOnUninstall", &st_boolean, key_refresh_settings, remove_on_uninstall,
	       .doc = "Remove the files when the agent is uninstalled."),
	MEMBER("certificates", UNIQUE_LIST(0, 500, OBJECT(certificate_settings, certificate_fields), "name"),
	       key_refresh_settings, certificates, .doc = "Certificates with their keys."),
	MEMBER("secrets", UNIQUE_LIST(0, 100, OBJECT(key_secret_settings, secret_fields), "name"), key_refresh_settings,
	       secrets, .doc = "Plain secrets, one file each."),
	{}};
const struct jd_type st_key_refresh = {
	.kind = JD_POINTER, .size = sizeof(struct key_refresh_settings), .fields = key_refresh_fields};

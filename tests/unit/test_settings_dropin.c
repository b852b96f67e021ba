/* The settings of Custom Script v2 and of the Key Vault extension, in every shape that their users pass. */
#include "tests/support/settings.h"

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"

#define FAILED  "Enable failed: failed to get configuration: "
#define INVALID FAILED "invalid configuration: "
#define SCHEMA  FAILED "json validation error: invalid "
#define GUID    "11112222-bbbb-3333-cccc-4444dddd5555"
#define GUID_2  "00001111-aaaa-2222-bbbb-3333cccc4444"
#define ARM_ID  "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n"

static void refused_with(const char *public_text, const char *protected_text, int code, const char *sentence)
{
	_cleanup_loading_ struct loading l;

	load(&l, public_text, protected_text);
	assert_int_equal(l.r, -EINVAL);
	assert_true(said(l.report.errors, l.report.n_errors, sentence));
	assert_int_equal(l.report.n_errors_found, 1);
	assert_int_equal(l.settings.error_code, code);
}

/* Custom Script: the peer's logical checks, in its order. */

static void test_script_codes(void **state)
{
	(void)state;
	refused_with("{\"fileUris\":[\"https://h/a\"]}", NULL, 23, INVALID "'commandToExecute' is not specified");
	refused_with("{\"skipDos2Unix\":true,\"timestamp\":1}", NULL, 23,
		     INVALID "'commandToExecute' is not specified");
	refused_with("{\"commandToExecute\":\"\"}", "{\"script\":\"\"}", 23,
		     INVALID "'commandToExecute' is not specified");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"commandToExecute\":\"b\"}", 20,
		     INVALID
		     "'commandToExecute' was specified both in public and protected settings; it must be specified "
		     "only once");
	refused_with("{\"script\":\"eA==\"}", "{\"script\":\"eA==\"}", 28,
		     INVALID
		     "'script' was specified both in public and protected settings; it must be specified only once");
	refused_with(
		"{\"commandToExecute\":\"a\",\"fileUris\":[\"https://h/a\"]}", "{\"fileUris\":[\"https://h/b\"]}", 22,
		INVALID "'fileUris' were specified both in public and protected settings; it must be specified only "
			"once");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"script\":\"eA==\"}", 29,
		     INVALID "'commandToExecute' and 'script' were both specified, but only one is validate at a time");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"storageAccountName\":\"abc\"}", 30,
		     INVALID "both 'storageAccountName' and 'storageAccountKey' must be specified");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"storageAccountKey\":\"a2V5\"}", 30,
		     INVALID "both 'storageAccountName' and 'storageAccountKey' must be specified");
	refused_with("{\"commandToExecute\":\"a\"}",
		     "{\"storageAccountName\":\"abc\",\"storageAccountKey\":\"a2V5\",\"managedIdentity\":{}}", 26,
		     INVALID "'storageAccountName' or 'storageAccountKey' must not be specified with "
			     "'managedServiceIdentity'");
	refused_with("{\"commandToExecute\":\"a\"}",
		     "{\"managedIdentity\":{\"clientId\":\"" GUID "\",\"objectId\":\"" GUID "\"}}", 27,
		     INVALID "only one of 'clientId' or 'objectId' must be specified with 'managedServiceIdentity'");
	/* Several at once: the first of the peer's list. */
	refused_with("{\"commandToExecute\":\"a\",\"script\":\"eA==\"}",
		     "{\"commandToExecute\":\"b\",\"storageAccountName\":\"abc\"}", 20,
		     INVALID
		     "'commandToExecute' was specified both in public and protected settings; it must be specified "
		     "only once");
}

static void test_script_schema(void **state)
{
	(void)state;
	refused_with("{\"commandToExecute\":7}", NULL, -21,
		     SCHEMA "public settings JSON: commandToExecute: Invalid type. Expected: string, given: integer");
	refused_with("{\"commandToExecute\":{\"a\":1}}", NULL, -21,
		     SCHEMA "public settings JSON: commandToExecute: Invalid type. Expected: string, given: object");
	refused_with("{}", "{\"script\":[]}", -21,
		     SCHEMA "protected settings JSON: script: Invalid type. Expected: string, given: array");
	refused_with("{\"commandToExecute\":\"a\",\"fileUris\":\"https://h/a\"}", NULL, -21,
		     SCHEMA "public settings JSON: fileUris: Invalid type. Expected: array, given: string");
	refused_with("{\"commandToExecute\":\"a\",\"fileUris\":[\"a.sh\"]}", NULL, -21,
		     SCHEMA "public settings JSON: fileUris.0: Does not match format 'uri'");
	refused_with("{\"commandToExecute\":\"a\",\"fileUris\":[\"https://h/a\",1.5]}", NULL, -21,
		     SCHEMA "public settings JSON: fileUris.1: Invalid type. Expected: string, given: number");
	refused_with("{\"commandToExecute\":\"a\",\"skipDos2Unix\":\"true\"}", NULL, -21,
		     SCHEMA "public settings JSON: skipDos2Unix: Invalid type. Expected: boolean, given: string");
	refused_with("{\"commandToExecute\":\"a\",\"timestamp\":\"1\"}", NULL, -21,
		     SCHEMA "public settings JSON: timestamp: Invalid type. Expected: integer, given: string");
	refused_with("{\"commandToExecute\":\"a\",\"timestamp\":1e400}", NULL, -21,
		     "settings: timestamp: expected an integer, got something else");
	refused_with("{\"commandToExecute\":\"a\",\"foo\":1}", NULL, -21,
		     SCHEMA "public settings JSON: (root): Additional property foo is not allowed");
	refused_with("{\"commandToExecute\":\"a\",\"CommandToExecute\":\"a\"}", NULL, -21,
		     SCHEMA "public settings JSON: (root): Additional property CommandToExecute is not allowed");
	refused_with("{\"commandToExecute\":\"a\",\"storageAccountName\":\"abc\"}", NULL, -21,
		     SCHEMA "public settings JSON: (root): Additional property storageAccountName is not allowed");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"skipDos2Unix\":true}", -21,
		     SCHEMA "protected settings JSON: (root): Additional property skipDos2Unix is not allowed");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"storageAccountName\":\"ABC\"}", -21,
		     SCHEMA "protected settings JSON: storageAccountName: Does not match pattern '^[a-z0-9]{3,24}$'");
	refused_with("{\"commandToExecute\":\"a\"}",
		     "{\"storageAccountName\":\"abc\",\"storageAccountKey\":\"hunter2\"}", -21,
		     SCHEMA "protected settings JSON: storageAccountKey: Does not match pattern "
			    "'^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$'");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"managedIdentity\":{\"clientId\":\"x\"}}", -21,
		     SCHEMA "protected settings JSON: managedIdentity.clientId: Does not match pattern "
			    "'^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'");
	refused_with("{\"commandToExecute\":\"a\"}", "{\"managedIdentity\":true}", -21,
		     SCHEMA "protected settings JSON: managedIdentity: Invalid type. Expected: object, given: boolean");
	/* No member of the peer's is there: our own words. */
	refused_with("{\"CommandToExecute\":\"a\"}", NULL, -21,
		     "settings: CommandToExecute: unknown section; did you mean \"commandToExecute\"?");
	refused_with("{\"script\":\"e\"}", NULL, -21,
		     "settings: script: expected base64: the text ends within a group, at offset 1");
	refused_with(
		"{\"commandToExecute\":\"a\",\"customScript\":{\"scripts\":[{\"name\":\"a\",\"script\":\"eA==\"}]}}",
		NULL, -21, "settings: customScript: cannot stand together with commandToExecute or script; choose one");
}

static const struct script_settings *only_script(const struct loading *l)
{
	assert_int_equal(l->r, 0);
	assert_true(l->settings.drop_in_script);
	assert_int_equal(l->settings.door_of[SECTION_CUSTOM_SCRIPT], DOOR_EXTENSION);
	assert_int_equal(l->settings.custom_script->scripts.n, 1);
	return l->settings.custom_script->scripts.items;
}

static void test_script_public(void **state)
{
	_cleanup_loading_ struct loading l;
	const struct script_settings *s;
	const struct script_file *f;

	(void)state;
	load(&l,
	     "{\"commandToExecute\":\"sh a.sh\",\"fileUris\":[\"https://h/x/a.sh\",\"https://h/a%2Fb%20c.sh?q=1\","
	     "\"ftp://h/d\",\"https://h/x/a.sh\",\"https://h/%2E%2E\"],\"skipDos2Unix\":true,\"timestamp\":1.0}",
	     NULL);
	s = only_script(&l);
	assert_string_equal(s->name, "script");
	assert_string_equal(s->command_to_execute.text, "sh a.sh");
	assert_null(s->script.text);
	assert_false(s->convert_line_endings);
	assert_null(s->identity);
	assert_int_equal(l.settings.custom_script->deadline_seconds, 5100);
	assert_int_equal(s->run_policy, RUN_ONCE_PER_SEQUENCE);
	assert_string_equal(s->run_as, "root");
	f = s->files.items;
	assert_int_equal(s->files.n, 5);
	assert_string_equal(f[0].name, "a.sh");
	assert_string_equal(f[0].mode, "0500");
	assert_string_equal(f[1].name, "b c.sh");
	assert_string_equal(f[2].uri.text, "ftp://h/d"); /* what it cannot download, it says while downloading */
	assert_string_equal(f[3].name, "a.sh");          /* and a name that is there twice is no mistake */
	assert_null(f[4].name);
	assert_int_equal(l.report.n_warnings, 0);
}

static void test_script_protected(void **state)
{
	_cleanup_loading_ struct loading l;
	const struct script_settings *s;
	const struct script_file *f;

	(void)state;
	load(&l, "{\"timestamp\":5}",
	     "{\"script\":\"ZWNobyBoaQo=\",\"fileUris\":[\"https://h/"
	     "a.sh?sig=hunter2\"],\"storageAccountName\":\"shop\","
	     "\"storageAccountKey\":\"a2V5\"}");
	s = only_script(&l);
	assert_null(s->script.text);
	assert_string_equal(settings_value(&l.settings, SECTION_CUSTOM_SCRIPT, &s->script), "ZWNobyBoaQo=");
	assert_null(settings_value(&l.settings, SECTION_CUSTOM_SCRIPT, &s->command_to_execute));
	assert_true(s->convert_line_endings);
	f = s->files.items;
	assert_null(f->uri.text);
	assert_string_equal(settings_value(&l.settings, SECTION_CUSTOM_SCRIPT, &f->uri), "https://h/a.sh?sig=hunter2");
	assert_string_equal(f->name, "a.sh");
	assert_string_equal(s->storage_account_name, "shop");
	assert_string_equal(settings_value(&l.settings, SECTION_CUSTOM_SCRIPT, &s->storage_account_key), "a2V5");
	assert_int_equal(l.report.n_warnings, 0);
}

static void test_script_identities(void **state)
{
	_cleanup_loading_ struct loading system, client, object;

	(void)state;
	load(&system, "{\"commandToExecute\":\"a\"}", "{\"managedIdentity\":{\"other\":1}}");
	assert_non_null(only_script(&system)->identity);
	assert_null(only_script(&system)->identity->client_id);
	load(&client, "{\"commandToExecute\":\"a\"}", "{\"managedIdentity\":{\"clientId\":\"" GUID "\"}}");
	assert_string_equal(only_script(&client)->identity->client_id, GUID);
	load(&object, "{\"commandToExecute\":\"a\"}", "{\"managedIdentity\":{\"objectId\":\"" GUID "\"}}");
	assert_string_equal(only_script(&object)->identity->object_id, GUID);
	assert_null(only_script(&object)->identity->client_id);
}

/* Beside our own sections, with secrets of their own. */
static void test_script_beside_sections(void **state)
{
	_cleanup_loading_ struct loading l;

	(void)state;
	load(&l,
	     "{\"commandToExecute\":\"a\",\"drain\":{},\"$schema\":\"x\",\"notify\":{\"webhooks\":[{\"name\":\"n\","
	     "\"url\":"
	     "{\"secretRef\":\"u\"}}]}}",
	     "{\"secrets\":{\"u\":\"https://h/\"}}");
	(void)only_script(&l);
	assert_non_null(l.settings.drain);
	assert_int_equal(l.report.n_warnings, 0);
}

static void test_script_limits(void **state)
{
	size_t n = LIMIT_SCRIPT_ENCODED;
	_cleanup_free_ char *text = calloc(1, n + 100);
	char *end;

	(void)state;
	assert_non_null(text);
	end = text + sprintf(text, "{\"script\":\"");
	memset(end, 'A', n);
	strcpy(end + n, "\"}");
	accepted(text, NULL);
	strcpy(end + n, "AAAA\"}");
	memset(end + n, 'A', 4);
	refused_with(text, NULL, -21, "settings: script: at most 262144 bytes, got 262148");
}

/* Key Vault. */

static const struct certificate_settings *certificates(const struct loading *l, size_t n)
{
	if (l->r < 0)
		fail_msg("%s", l->err.msg);
	assert_true(l->settings.drop_in_vault);
	assert_int_equal(l->settings.key_refresh->certificates.n, n);
	return l->settings.key_refresh->certificates.items;
}

static void test_vault_v4(void **state)
{
	_cleanup_free_ char *text = document("vault-v4.json");
	_cleanup_loading_ struct loading l;
	const struct certificate_settings *c;
	const struct acl_settings *a;

	(void)state;
	load(&l, text, NULL);
	c = certificates(&l, 2);
	assert_int_equal(l.settings.key_refresh->polling_interval_seconds, 3600);
	assert_string_equal(l.settings.key_refresh->identity_endpoint, "http://169.254.169.254/metadata/identity");
	assert_string_equal(l.settings.key_refresh->identity->client_id, GUID_2);
	assert_int_equal(c[0].layout, STORE_KV4);
	assert_string_equal(c[0].name, "myvault.mycertificate1");
	assert_string_equal(c[0].directory, "/var/lib/waagent/Microsoft.Azure.KeyVault/app1");
	assert_null(c[0].link_name);
	assert_null(c[0].files.fullchain);
	assert_null(c[0].identity);
	assert_string_equal(c[0].mode, "0600");
	assert_int_equal(c[0].keep_versions, 2);
	a = c[0].acls.items;
	assert_int_equal(c[0].acls.n, 2);
	assert_string_equal(a[0].user, "app1");
	assert_string_equal(a[0].group, "appGroup1");
	assert_null(a[1].group);
	assert_string_equal(c[1].directory, "/var/lib/waagent/Microsoft.Azure.KeyVault.Store");
	assert_string_equal(c[1].identity->client_id, GUID);
	assert_true(said(
		l.report.warnings, l.report.n_warnings,
		"settings: loggingSettings: nothing is sent to fluentd; the log goes to its file and the journal"));
	assert_int_equal(l.report.n_warnings, 1);
}

static void test_vault_v3(void **state)
{
	_cleanup_free_ char *text = document("vault-v3.json");
	_cleanup_loading_ struct loading l;
	const struct certificate_settings *c;

	(void)state;
	load(&l, text, NULL);
	c = certificates(&l, 2);
	assert_int_equal(l.settings.key_refresh->polling_interval_seconds, 360);
	assert_null(l.settings.key_refresh->identity);
	assert_int_equal(c[0].layout, STORE_KV3);
	assert_string_equal(c[0].link_name, "symbolinka");
	assert_string_equal(c[0].directory, "/var/lib/waagent/a");
	assert_string_equal(c[1].directory, "/var/lib/waagent/b");
	assert_true(said(l.report.warnings, l.report.n_warnings,
			 "settings: secretsManagementSettings.autoUpgradeMinorVersion: unknown member, ignored"));
	assert_true(said(l.report.warnings, l.report.n_warnings,
			 "settings: secretsManagementSettings.linkOnRenewal: has no effect here, ignored"));
}

static void test_vault_v1(void **state)
{
	_cleanup_free_ char *text = document("vault-v1.json");
	_cleanup_loading_ struct loading l;
	const struct certificate_settings *c;

	(void)state;
	load(&l, text, NULL);
	c = certificates(&l, 2);
	assert_int_equal(l.settings.key_refresh->polling_interval_seconds, 43200);
	assert_int_equal(c[0].layout, STORE_KV3);
	assert_int_equal(c[1].layout, STORE_KV3);
	assert_string_equal(c[0].url, "https://KV.vault.azure.net:443/secrets/CERT");
	assert_string_equal(c[0].name, "kv.CERT");
	assert_string_equal(c[1].name, "kv.old");
	assert_string_equal(c[0].directory, "/var/lib/waagent/Microsoft.Azure.KeyVault");
}

#define VAULT(members)        "{\"secretsManagementSettings\":{" members "}}"
#define WITH(members)         "{\"secretsManagementSettings\":{\"observedCertificates\":[]}," members "}"
#define OBSERVED(certificate) VAULT("\"observedCertificates\":[" certificate "]")
#define CERT_URL              "https://v.vault.azure.net/secrets/c"
#define CERT(members)         "{\"url\":\"" CERT_URL "\"" members "}"

static int layout_of(const char *text)
{
	_cleanup_loading_ struct loading l;

	load(&l, text, NULL);
	return certificates(&l, 1)->layout;
}

static void test_vault_layouts(void **state)
{
	(void)state;
	assert_int_equal(layout_of(OBSERVED(CERT(""))), STORE_KV4);
	assert_int_equal(layout_of(OBSERVED("\"" CERT_URL "\"")), STORE_KV3);
	assert_int_equal(layout_of(OBSERVED(CERT(",\"customSymbolicLinkName\":\"x\""))), STORE_KV3);
	assert_int_equal(layout_of(OBSERVED(CERT(",\"customSymbolicLinkName\":\"\""))), STORE_KV4);
	assert_int_equal(layout_of(VAULT("\"aclEnabled\":false,\"observedCertificates\":[" CERT("") "]")), STORE_KV3);
	assert_int_equal(layout_of(VAULT("\"requireInitialSync\":\"true\",\"observedCertificates\":[" CERT("") "]")),
			 STORE_KV3);
}

static int64_t interval_of(const char *text, const char *warning)
{
	_cleanup_loading_ struct loading l;

	load(&l, text, NULL);
	assert_int_equal(l.r, 0);
	assert_int_equal(l.report.n_warnings, warning ? 1 : 0);
	if (warning)
		assert_string_equal(l.report.warnings[0], warning);
	return l.settings.key_refresh->polling_interval_seconds;
}

static void test_vault_interval(void **state)
{
#define TAKEN "settings: secretsManagementSettings.pollingIntervalInS: "
	(void)state;
	assert_int_equal(interval_of(OBSERVED(""), NULL), 3600);
	assert_int_equal(interval_of(VAULT("\"pollingIntervalInS\":\"360\""), NULL), 360);
	assert_int_equal(interval_of(VAULT("\"pollingIntervalInS\":360"), NULL), 360);
	/* Version 4 has bounds of its own, the others have ours. */
	assert_int_equal(interval_of(VAULT("\"pollingIntervalInS\":\"60\""), TAKEN "60 is taken as 300"), 300);
	assert_int_equal(interval_of(VAULT("\"pollingIntervalInS\":\"43200\""), TAKEN "43200 is taken as 3600"), 3600);
	assert_int_equal(interval_of(VAULT("\"aclEnabled\":true,\"pollingIntervalInS\":\"60\""), NULL), 60);
	assert_int_equal(interval_of(VAULT("\"aclEnabled\":true,\"pollingIntervalInS\":5"), TAKEN "5 is taken as 60"),
			 60);
	refused_with(
		VAULT("\"pollingIntervalInS\":\"often\""), NULL, -21,
		"settings: secretsManagementSettings.pollingIntervalInS: expected an integer from 0 to 2147483647, got "
		"\"often\"");
}

static void endpoint(const char *given, const char *expected)
{
	_cleanup_free_ char *text = str_format(WITH("\"authenticationSettings\":{\"msiEndpoint\":\"%s\"}"), given);
	_cleanup_loading_ struct loading l;

	load(&l, text, NULL);
	if (expected) {
		assert_int_equal(l.r, 0);
		assert_string_equal(l.settings.key_refresh->identity_endpoint, expected);
	} else {
		assert_int_equal(l.r, -EINVAL);
		assert_true(str_starts(l.err.msg, "settings: authenticationSettings.msiEndpoint: expected "));
	}
}

static void test_vault_authentication(void **state)
{
	static const char imds[] = "http://169.254.169.254/metadata/identity";
	_cleanup_loading_ struct loading arm, object;

	(void)state;
	endpoint("http://169.254.169.254/metadata/identity", imds);
	endpoint("http://169.254.169.254/metadata/identity/", imds);
	endpoint("http://169.254.169.254/metadata/identity/oauth2/token", imds);
	endpoint("http://localhost:40342/metadata/identity", "http://localhost:40342/metadata/identity");
	endpoint("", imds);
	endpoint("https://evil.example/metadata/identity", NULL);
	endpoint("metadata", NULL);
	load(&arm, WITH("\"authenticationSettings\":{\"msiClientId\":\"" ARM_ID "\"}"), NULL);
	assert_int_equal(arm.r, 0);
	assert_string_equal(arm.settings.key_refresh->identity->resource_id, ARM_ID);
	assert_null(arm.settings.key_refresh->identity->client_id);
	assert_string_equal(arm.report.warnings[0],
			    "settings: authenticationSettings: msiClientId: got an ARM id where a GUID "
			    "is expected; taken as the identity's resource id");
	load(&object, WITH("\"authenticationSettings\":{\"msiClientId\":\"\",\"msiObjectId\":\"" GUID "\"}"), NULL);
	assert_string_equal(object.settings.key_refresh->identity->object_id, GUID);
	refused_with(WITH("\"authenticationSettings\":{\"msiClientId\":\"me\"}"), NULL, -21,
		     "settings: authenticationSettings: msiClientId: expected a GUID, got \"me\"");
	refused_with(
		WITH("\"authenticationSettings\":{\"msiClientId\":\"" GUID "\",\"msiObjectId\":\"" GUID "\"}"), NULL,
		-21,
		"settings: authenticationSettings: one of \"msiClientId\" and \"msiObjectId\" may be given, got both");
	refused_with(OBSERVED(CERT(",\"authenticationOverride\":{\"msiClientId\":\"me\"}")), NULL, -21,
		     "settings: secretsManagementSettings.observedCertificates[0].authenticationOverride: msiClientId: "
		     "expected "
		     "a GUID, got \"me\"");
}

static void test_vault_mistakes(void **state)
{
	(void)state;
	refused_with(VAULT("\"loggingSettings\":{}"), NULL, -21,
		     "settings: secretsManagementSettings.loggingSettings: belongs beside secretsManagementSettings, "
		     "not inside "
		     "it");
	refused_with("{\"authenticationSettings\":{}}", NULL, -21,
		     "settings: authenticationSettings: stands beside secretsManagementSettings, which is missing");
	refused_with(WITH("\"keyRefresh\":{}"), NULL, -21,
		     "settings: keyRefresh: cannot stand together with secretsManagementSettings; choose one");
	refused_with(OBSERVED("\"vault/secrets/a\""), NULL, -21,
		     "settings: secretsManagementSettings.observedCertificates[0]: expected an http or https URL: not "
		     "a usable "
		     "URI: it does not begin with \"https://\" or \"http://\"");
	refused_with(OBSERVED("{\"certificateStoreLocation\":\"/etc\"}"), NULL, -21,
		     "settings: secretsManagementSettings.observedCertificates[0]: \"url\" is required");
	refused_with(
		OBSERVED("\"https://v.evil.example/secrets/a\""), NULL, -21,
		"settings: secretsManagementSettings.observedCertificates[0].url: \"v.evil.example\" is no known vault "
		"host; if it is one, add \".evil.example\" to keyRefresh.vaultSuffixes");
	refused_with(OBSERVED(CERT(",\"customSymbolicLinkName\":\"../x\"")), NULL, -21,
		     "settings: secretsManagementSettings.observedCertificates[0]: customSymbolicLinkName: expected a "
		     "plain file "
		     "name");
	refused_with(
		OBSERVED(CERT(",\"certificateStoreLocation\":\"/var/lib/waagent/a-b\"")), NULL, -21,
		"settings: secretsManagementSettings.observedCertificates[0].certificateStoreLocation: the Azure agent "
		"deletes \"/var/lib/waagent/a-b\"; choose a directory outside /var/lib/waagent");
}

static void test_vault_links(void **state)
{
	(void)state;
	refused_with(
		OBSERVED(CERT(",\"customSymbolicLinkName\":\"x\"") ",{\"url\":\"" CERT_URL
								   "2\",\"customSymbolicLinkName\":\"x\"}"),
		NULL, -21,
		"settings: secretsManagementSettings.observedCertificates[1].customSymbolicLinkName: \"x\" is already "
		"the link of observedCertificates[0]");
	accepted(OBSERVED(CERT(",\"customSymbolicLinkName\":\"x\"") "," CERT(",\"customSymbolicLinkName\":\"x\"")),
		 NULL);
}

/* Unknown members are tolerated whatever their names. */
static void test_long_names(void **state)
{
	char name[400], *text;

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	text = str_format(VAULT("\"%s\":1,\"observedCertificates\":[\"" CERT_URL "\"]"), name);
	assert_int_equal(layout_of(text), STORE_KV3);
	free(text);
	text = str_format("{\"managedIdentity\":{\"%s\":1,\"clientId\":\"me\"}}", name);
	refused_with("{\"commandToExecute\":\"a\"}", text, -21,
		     SCHEMA "protected settings JSON: managedIdentity.clientId: Does not match pattern "
			    "'^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$'");
	free(text);
}

static void test_vault_tolerance(void **state)
{
	_cleanup_loading_ struct loading l;
	const struct certificate_settings *c;

	(void)state;
	/* Windows-only members, and the same secret in two stores. */
	load(&l,
	     OBSERVED(CERT(",\"keyExportable\":true,\"accounts\":[\"a\"],\"certificateStoreName\":\"MY\"") "," CERT(
		     ",\"certificateStoreLocation\":\"/etc/b\"")),
	     NULL);
	c = certificates(&l, 2);
	assert_int_equal(l.report.n_warnings, 3);
	assert_string_equal(c[0].name, "v.c");
	assert_string_equal(c[1].name, "v.c-2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_script_codes),
		cmocka_unit_test(test_script_schema),
		cmocka_unit_test(test_script_public),
		cmocka_unit_test(test_script_protected),
		cmocka_unit_test(test_script_identities),
		cmocka_unit_test(test_script_beside_sections),
		cmocka_unit_test(test_script_limits),
		cmocka_unit_test(test_vault_v4),
		cmocka_unit_test(test_vault_v3),
		cmocka_unit_test(test_vault_v1),
		cmocka_unit_test(test_vault_layouts),
		cmocka_unit_test(test_vault_interval),
		cmocka_unit_test(test_vault_authentication),
		cmocka_unit_test(test_vault_mistakes),
		cmocka_unit_test(test_vault_links),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_vault_tolerance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Settings as a whole: doors, secrets, the sentences of mistakes, whole examples, hash, schema. */
#include "tests/support/settings.h"

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"

#define VAULT           "https://v.vault.azure.net/secrets/"
#define SCRIPT(members) "{\"customScript\":{\"scripts\":[{\"name\":\"deploy\"," members "}]}}"

/* The sentences of settings.md 1.4, letter by letter. */

static void test_sentences(void **state)
{
	(void)state;
	refused("{\"drian\":{}}", NULL, "settings: drian: unknown section; did you mean \"drain\"?");
	refused("{\"drain\":{\"steps\":[{\"type\":\"hooks\"},{\"type\":\"hooks\"},"
		"{\"type\":\"run\",\"command\":[\"x\"],\"timeoutInSeconds\":\"60s\"}]}}",
		NULL, "settings: drain.steps[2].timeoutInSeconds: expected an integer from 1 to 3600, got \"60s\"");
	refused("{\"secretsManagementSettings\":{\"authenticationSettings\":{},\"observedCertificates\":[]}}", NULL,
		"settings: secretsManagementSettings.authenticationSettings: belongs beside secretsManagementSettings, "
		"not inside it");
	refused(SCRIPT("\"commandToExecute\":\"true\",\"script\":\"eA==\""), NULL,
		"settings: customScript.scripts[0]: one of \"commandToExecute\" and \"script\" is required, got both");
	refused("{\"customScript\":{\"scripts\":[{\"name\":\"deploy\",\"commandToExecute\":\"a\"},"
		"{\"name\":\"deploy\",\"commandToExecute\":\"b\"}]}}",
		NULL, "settings: customScript.scripts[1].name: \"deploy\" is already the name of scripts[0]");
	refused("{\"customScript\":{\"deadlineInSeconds\":7200,\"scripts\":[{\"name\":\"a\",\"commandToExecute\":\"a\"}"
		"]}}",
		NULL,
		"settings: customScript.deadlineInSeconds: 7200 is more than 5100 (the platform gives up at 5400); "
		"make the long script asynchronous");
	refused(SCRIPT("\"script\":\"eA==\",\"arguments\":[\"a\",{\"secretRef\":\"b\"}]"),
		"{\"secrets\":{\"b\":\"x\"}}",
		"settings: customScript.scripts[0].arguments[1]: a secretRef cannot be an argument (every user can "
		"read "
		"argv); use environment");
	refused("{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT
		"a\",\"identity\":{\"clientId\":\"/subscriptions/s/"
		"resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n\"}}]}}",
		NULL,
		"settings: keyRefresh.certificates[0].identity.clientId: expected a GUID, got an ARM id; use "
		"resourceId");
	refused("{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT
		"a\",\"directory\":\"/var/lib/waagent/app-1.0\"}]}}",
		NULL,
		"settings: keyRefresh.certificates[0].directory: the Azure agent deletes \"/var/lib/waagent/app-1.0\"; "
		"choose a directory outside /var/lib/waagent");
	refused("{\"keyRefresh\":{\"certificates\":[{\"url\":\"" VAULT "a\",\"directory\":\"/etc/tls/web\"},"
		"{\"url\":\"" VAULT "b\",\"directory\":\"/etc//tls/./web/\"}]}}",
		NULL,
		"settings: keyRefresh.certificates[1].directory: \"/etc/tls/web\" is already written by "
		"certificates[0]");
	refused("{\"drain\":{\"steps\":[{\"type\":\"probeDown\"}]}}", NULL,
		"settings: drain.steps[0]: probeDown needs health.listen, which no door sets");
	refused("{\"notify\":{\"webhooks\":[{\"name\":\"a\",\"url\":\"https://h/\",\"hmacKey\":\"open\"}]}}", NULL,
		"settings: notify.webhooks[0].hmacKey: must be {\"secretRef\": \"NAME\"}; the value belongs in the "
		"protected "
		"settings under \"secrets\"");
	refused(SCRIPT("\"commandToExecute\":{\"secretRef\":\"databaseUrl\"}"), "{\"secrets\":{\"databaseURL\":\"x\"}}",
		"settings: secretRef \"databaseUrl\": no such secret; protected settings have \"databaseURL\"");
}

static void test_first_eight(void **state)
{
	_cleanup_loading_ struct loading l;

	(void)state;
	load(&l, "{\"a1\":1,\"a2\":1,\"a3\":1,\"a4\":1,\"a5\":1,\"a6\":1,\"a7\":1,\"a8\":1,\"a9\":1,\"a10\":1}", NULL);
	assert_int_equal(l.r, -EINVAL);
	assert_int_equal(l.report.n_errors, 8);
	assert_int_equal(l.report.n_errors_found, 10);
}

static void test_nothing(void **state)
{
	_cleanup_loading_ struct loading none, empty, null;

	(void)state;
	load_sources(&none, NULL, 0);
	load(&empty, "{}", "{}");
	load(&null, "{\"drain\":null,\"timestamp\":7,\"$schema\":\"https://x/\"}", "");
	for (int i = 0; i < _SECTION_MAX; i++) {
		assert_int_equal(none.settings.door_of[i], -1);
		assert_int_equal(null.settings.door_of[i], -1);
	}
	assert_null(empty.settings.drain);
	assert_null(null.settings.drain);
	assert_int_equal(null.report.n_warnings, 0);
	assert_int_equal(settings_log_defaults.level, 2);
	assert_int_equal(settings_log_defaults.max_size_bytes, 10485760);
	assert_int_equal(settings_log_defaults.max_files, 5);
	assert_true(settings_log_defaults.console);
}

static void test_shape_of_documents(void **state)
{
	_cleanup_loading_ struct loading l, large;
	_cleanup_free_ char *text = calloc(1, LIMIT_SETTINGS + 100);

	(void)state;
	refused("\"{\\\"drain\\\":{}}\"", NULL,
		"settings: expected an object, got a text that holds JSON; give the object itself, not its escaped "
		"text "
		"(in PowerShell a hashtable, without ConvertTo-Json)");
	refused("{\"drain\":\"{}\"}", NULL,
		"settings: drain: expected an object, got a text that holds JSON; give the object itself, not its "
		"escaped "
		"text (in PowerShell a hashtable, without ConvertTo-Json)");
	refused("{\"secretsManagementSettings\":\" {\\\"observedCertificates\\\":[]}\"}", NULL,
		"settings: secretsManagementSettings: expected an object, got a text that holds JSON; give the object "
		"itself, not its escaped text (in PowerShell a hashtable, without ConvertTo-Json)");
	refused("[]", NULL, "settings: expected an object, got a list");
	refused("{\"drain\":\"x\"}", NULL, "settings: drain: expected an object, got \"x\"");
	refused("{\"timestamp\":\"now\"}", NULL, "settings: timestamp: expected an integer, got a text");
	refused("{\"timestamp\":1.5}", NULL, "settings: timestamp: expected an integer, got something else");
	accepted("{\"timestamp\":1.0}", NULL);
	load(&l, "{\"drain\":", NULL);
	assert_int_equal(l.r, -EBADMSG);
	assert_int_equal(l.settings.error_code, -21);
	assert_non_null(text);
	memset(text, ' ', LIMIT_SETTINGS + 1);
	memcpy(text, "{}", 2);
	load(&large, text, NULL);
	assert_int_equal(large.r, -E2BIG);
}

static void test_places(void **state)
{
	struct settings_source file =
		source_of(DOOR_FILES, "/etc/evenkeel/evenkeel.json", "{\"secrets\":{\"a\":\"b\"}}", NULL);
	_cleanup_loading_ struct loading l;

	(void)state;
	refused("{\"secrets\":{\"a\":\"b\"}}", NULL,
		"settings: secrets: cannot stand in public settings; it belongs in the protected settings");
	refused("{}", "{\"drain\":{}}",
		"protected settings: drain: belongs in the public settings; only \"secrets\" stands here");
	refused("{}", "{\"secret\":{}}", "protected settings: secret: unknown section; did you mean \"secrets\"?");
	refused("{}", "{\"secrets\":{\"a b\":\"x\"}}",
		"protected settings: secrets[\"a b\"]: expected a name of 1 to 63 letters, digits, \".\", \"_\" and "
		"\"-\" that "
		"begins with a letter or digit, got \"a b\"");
	refused("{}", "{\"secrets\":{\"a\":7}}", "protected settings: secrets.a: expected a text, got a number");
	load_sources(&l, &file, 1);
	assert_string_equal(l.err.msg, "/etc/evenkeel/evenkeel.json: secrets: cannot stand in this file; it belongs in "
				       "/etc/evenkeel/secrets.json (root, 0600)");
}

/* Doors. */

static void test_whole_from_first_door(void **state)
{
	_cleanup_loading_ struct loading l;
	const struct settings_source sources[] = {
		source_of(DOOR_FILES, "a.json",
			  "{\"drain\":{\"leadInSeconds\":1,\"marginInSeconds\":9},\"log\":{\"maxFiles\":2},"
			  "\"userData\":{\"action\":\"apply\",\"parts\":[\"settings\"],\"settingsSections\":[\"drain\","
			  "\"network\"]}}",
			  NULL),
		source_of(DOOR_FILES, "b.json", "{\"health\":{\"listen\":\"[::1]:80\"}}", NULL),
		source_of(DOOR_USER_DATA, "user data, part 1",
			  "{\"drain\":{\"leadInSeconds\":2},\"network\":{\"caFile\":\"/etc/ca.pem\"}}", NULL),
		source_of(DOOR_EXTENSION, "settings", "{\"drain\":{\"leadInSeconds\":3}}", NULL),
	};

	(void)state;
	load_sources(&l, sources, ARRAY_SIZE(sources));
	assert_int_equal(l.r, 0);
	assert_int_equal(l.settings.drain->lead_seconds, 3);
	assert_int_equal(l.settings.drain->margin_seconds, 3); /* nothing is merged member by member */
	assert_int_equal(l.settings.door_of[SECTION_DRAIN], DOOR_EXTENSION);
	assert_int_equal(l.settings.door_of[SECTION_NETWORK], DOOR_USER_DATA);
	assert_int_equal(l.settings.door_of[SECTION_LOG], DOOR_FILES);
	assert_int_equal(l.settings.door_of[SECTION_HEALTH], DOOR_FILES);
	assert_string_equal(l.settings.network->ca_file, "/etc/ca.pem");
	/* health.listen may come from another door than drain. */
	assert_int_equal(((struct step_settings *)l.settings.drain->steps.items)[0].type, STEP_PROBE_DOWN);
}

static void test_section_in_two_files(void **state)
{
	_cleanup_loading_ struct loading l;
	const struct settings_source sources[] = {
		source_of(DOOR_FILES, "/etc/evenkeel/evenkeel.json", "{\"drain\":{}}", NULL),
		source_of(DOOR_FILES, "/etc/evenkeel/evenkeel.d/10-drain.json", "{\"drain\":{}}", NULL),
	};

	(void)state;
	load_sources(&l, sources, ARRAY_SIZE(sources));
	assert_int_equal(l.r, -EINVAL);
	assert_string_equal(l.err.msg, "/etc/evenkeel/evenkeel.d/10-drain.json: drain: is already set by "
				       "/etc/evenkeel/evenkeel.json; a section comes whole from one document");
}

static void user_data(const char *strong, const char *part, const char *sentence)
{
	_cleanup_loading_ struct loading l;
	const struct settings_source sources[] = {
		source_of(DOOR_USER_DATA, "user data, part 3", part, NULL),
		source_of(DOOR_EXTENSION, "settings", strong, NULL),
	};

	load_sources(&l, sources, ARRAY_SIZE(sources));
	if (!sentence) {
		assert_int_equal(l.r, 0);
		return;
	}
	assert_int_equal(l.r, -EINVAL);
	assert_int_equal(l.report.n_errors_found, 1);
	assert_string_equal(l.err.msg, sentence);
}

#define CONSENT(members) "{\"userData\":{" members "}}"
#define APPLY            "\"action\":\"apply\",\"parts\":[\"settings\"],"
#define NOT_THERE        " is not allowed there; userData.settingsSections allows "

static void test_user_data(void **state)
{
	static const char both[] = CONSENT(APPLY "\"settingsSections\":[\"drain\",\"notify\"]");
	_cleanup_loading_ struct loading l;
	const struct settings_source alone = source_of(DOOR_USER_DATA, "user data", "{\"log\":{}}", NULL);

	(void)state;
	user_data(both, "{\"drain\":{}}", NULL);
	user_data(both, SCRIPT("\"commandToExecute\":\"id\""),
		  "user data, part 3: section \"customScript\"" NOT_THERE "drain, notify");
	user_data(both, "{\"userData\":{}}", "user data, part 3: section \"userData\"" NOT_THERE "drain, notify");
	user_data(both, "{\"secrets\":{\"a\":\"b\"}}", "user data, part 3: \"secrets\" is not allowed there");
	user_data(both, "{\"commandToExecute\":\"id\"}",
		  "user data, part 3: \"commandToExecute\" is not allowed there");
	user_data(both, "{\"secretsManagementSettings\":{}}",
		  "user data, part 3: \"secretsManagementSettings\" is not allowed there");
	user_data("{}", "{\"drain\":{}}", "user data, part 3: section \"drain\"" NOT_THERE "none");
	/* Named, but user data is only reported, or settings are no part that is applied. */
	user_data(CONSENT("\"parts\":[\"settings\"],\"settingsSections\":[\"drain\"]"), "{\"drain\":{}}",
		  "user data, part 3: section \"drain\"" NOT_THERE "none");
	user_data(both, "{\"drain\":{\"leadInSecond\":1}}",
		  "user data, part 3: drain.leadInSecond: unknown member; did you mean \"leadInSeconds\"?");
	/* The whole of user data's own consent counts for nothing. */
	user_data("{}", CONSENT(APPLY "\"settingsSections\":[\"log\"]"),
		  "user data, part 3: section \"userData\"" NOT_THERE "none");
	load_sources(&l, &alone, 1);
	assert_string_equal(l.err.msg, "user data: section \"log\"" NOT_THERE "none");
	refused(CONSENT("\"action\":\"apply\",\"settingsSections\":[\"drain\"]"), NULL,
		"settings: userData.settingsSections: needs \"settings\" in userData.parts");
	refused(CONSENT(APPLY "\"settingsSections\":[\"userData\"]"), NULL,
		"settings: userData.settingsSections[0]: expected one of \"customScript\", \"keyRefresh\", \"drain\", "
		"\"health\", \"notify\", \"network\", \"log\", got \"userData\"");
}

/* Secrets. */

static void test_secret_of_own_door(void **state)
{
	static const char ask[] = "{\"notify\":{\"webhooks\":[{\"name\":\"a\",\"url\":{\"secretRef\":\"u\"}}]}}";
	const struct settings_source good[] = {
		source_of(DOOR_FILES, "a.json", ask, "{\"secrets\":{\"u\":\"https://files/\"}}"),
		source_of(DOOR_EXTENSION, "settings", "{}", "{\"secrets\":{\"u\":\"https://extension/\"}}"),
	};
	const struct settings_source bad[] = {
		source_of(DOOR_FILES, "a.json", "{}", "{\"secrets\":{\"u\":\"https://files/\"}}"),
		source_of(DOOR_EXTENSION, "settings", ask, NULL),
	};
	const struct settings_source twice[] = {
		source_of(DOOR_FILES, "a.json", "{}", "{\"secrets\":{\"u\":\"1\"}}"),
		source_of(DOOR_FILES, "b.json", "{}", "{\"secrets\":{\"u\":\"2\"}}"),
	};
	_cleanup_loading_ struct loading l, wrong_door, two;
	const struct webhook_settings *w;

	(void)state;
	load_sources(&l, good, 2);
	assert_int_equal(l.r, 0);
	w = l.settings.notify->webhooks.items;
	assert_string_equal(settings_value(&l.settings, SECTION_NOTIFY, &w->url), "https://files/");
	assert_null(settings_value(&l.settings, SECTION_NOTIFY, &w->hmac_key));
	assert_string_equal(l.report.warnings[0], "settings: secret \"u\" is not used by any secretRef");
	load_sources(&wrong_door, bad, 2);
	assert_string_equal(wrong_door.err.msg,
			    "settings: secretRef \"u\": no such secret; protected settings have none");
	load_sources(&two, twice, 2);
	assert_string_equal(two.err.msg, "/etc/evenkeel/secrets.json: secrets: \"u\" is there twice");
}

/* What a secret holds is checked like a literal, and told without a word of it. */
static void test_secret_is_never_shown(void **state)
{
	(void)state;
	refused("{\"notify\":{\"webhooks\":[{\"name\":\"a\",\"url\":{\"secretRef\":\"u\"}}]}}",
		"{\"secrets\":{\"u\":\"hunter2\"}}",
		"settings: notify.webhooks[0].url: expected an http or https URL, but the secret \"u\" is something "
		"else");
	refused(SCRIPT("\"script\":{\"secretRef\":\"s\"}"), "{\"secrets\":{\"s\":\"hunter2!\"}}",
		"settings: customScript.scripts[0].script: expected a script in base64, but the secret \"s\" is "
		"something else");
	refused("{\"notify\":{\"webhooks\":[{\"name\":\"a\",\"url\":\"ftp://u:hunter2@h/?sig=hunter2\"}]}}", NULL,
		"settings: notify.webhooks[0].url: expected an http or https URL: not a usable URI: it does not begin "
		"with \"https://\" or \"http://\"");
	refused(SCRIPT("\"commandToExecute\":{\"secretRef\":\"x\"}"), "{\"secrets\":{\"qwerty\":\"a\"}}",
		"settings: secretRef \"x\": no such secret; add it under \"secrets\"");
	refused(SCRIPT("\"commandToExecute\":\"a\",\"files\":[{\"secretRef\":\"u\"},\"https://h/hunter2\"]"),
		"{\"secrets\":{\"u\":\"https://h/stdout?sig=hunter2\"}}",
		"settings: customScript.scripts[0].files[0]: name from the URI: cannot be used; give \"name\"");
	refused(SCRIPT("\"commandToExecute\":\"a\",\"files\":[\"https://h/hunter2\",{\"secretRef\":\"u\"}]"),
		"{\"secrets\":{\"u\":\"https://h/hunter2\"}}",
		"settings: customScript.scripts[0].files[1]: what the URI ends in is already the name of files[0]");
	refused("{\"drain\":{\"apiVersion\":{\"secretRef\":\"x\"}}}", "{\"secrets\":{\"x\":\"a\"}}",
		"settings: drain.apiVersion: a secretRef is not allowed here");
}

#define PUBLIC_LITERAL(what)                                                                                           \
	"looks like " what " that everyone may read who may read the settings; put it under \"secrets\" and say "      \
	"{\"secretRef\": \"NAME\"}"

static void test_warnings(void **state)
{
	(void)state;
	warned("{}", "{\"secrets\":{\"x\":\"a\"}}", "settings: secret \"x\" is not used by any secretRef");
	warned(SCRIPT("\"commandToExecute\":\"a\",\"files\":[\"https://a.blob.core.windows.net/c/a.sh?sv=1&sig=abc\"]"),
	       NULL, "settings: customScript.scripts[0].files[0].uri: " PUBLIC_LITERAL("a SAS signature"));
	warned(SCRIPT("\"commandToExecute\":\"a\",\"environment\":{\"DB_PASSWORD\":\"hunter2\"}"), NULL,
	       "settings: customScript.scripts[0].environment.DB_PASSWORD: " PUBLIC_LITERAL("a password"));
	warned(SCRIPT("\"commandToExecute\":\"a\",\"environment\":{\"DATABASE_URL\":\"postgres://u:p@h/d\"}"), NULL,
	       "settings: customScript.scripts[0].environment.DATABASE_URL: " PUBLIC_LITERAL("a password"));
	warned(SCRIPT("\"commandToExecute\":\"login --password=hunter2\""), NULL,
	       "settings: customScript.scripts[0].commandToExecute: " PUBLIC_LITERAL("a password"));
	warned(SCRIPT("\"commandToExecute\":\"login --password=$PASSWORD; echo signature\""), NULL, NULL);
	warned("{\"drain\":{\"sharedEvents\":{\"acknowledge\":\"leader\"}}}", NULL,
	       "settings: drain.sharedEvents.acknowledge: \"leader\" asks the other VMs by peerUrl; without it no event "
	       "that is drained for is acknowledged");
	warned("{\"drain\":{\"sharedEvents\":{\"acknowledge\":\"leader\",\"peerUrl\":\"http://{name}:8008/drained\"}}}", NULL,
	       NULL);
	warned("{\"network\":{\"proxy\":\"http://u:p@proxy:3128\"}}", NULL,
	       "settings: network.proxy: " PUBLIC_LITERAL("a password"));
	warned("{\"commandToExecute\":\"a --password=b\",\"fileUris\":[\"https://h/a?sig=1\"]}", NULL,
	       "settings: fileUris[0]: " PUBLIC_LITERAL("a SAS signature"));
	warned("{\"commandToExecute\":\"a\"}", "{\"fileUris\":[\"https://h/a?sig=1\"]}", NULL);
}

/* Whole examples (settings.md 1.5). */

static void test_example_django(void **state)
{
	_cleanup_free_ char *public_text = document("django.json"), *protected_text = document("django.protected.json");
	_cleanup_loading_ struct loading l;
	const struct script_settings *s;
	const struct script_file *f;
	const struct script_variable *v;
	const struct step_settings *step;

	(void)state;
	load(&l, public_text, protected_text);
	assert_int_equal(l.r, 0);
	assert_int_equal(l.report.n_warnings, 0);
	s = l.settings.custom_script->scripts.items;
	assert_int_equal(l.settings.custom_script->scripts.n, 1);
	assert_int_equal(((int *)l.settings.custom_script->wait_for.items)[0], SCRIPT_WAIT_CLOUD_INIT);
	assert_int_equal(((int *)l.settings.custom_script->wait_for.items)[1], SCRIPT_WAIT_PACKAGE_LOCKS);
	assert_string_equal(s->identity->client_id, "11112222-bbbb-3333-cccc-4444dddd5555");
	f = s->files.items;
	assert_int_equal(s->files.n, 2);
	assert_string_equal(f[0].name, "deploy.sh");
	assert_string_equal(f[1].name, "shop-4.2.tar.gz");
	assert_int_equal(f[1].max_size_bytes, 209715200);
	assert_string_equal(f[0].mode, "0500");
	v = s->environment.items;
	assert_int_equal(s->environment.n, 2);
	assert_string_equal(v[1].name, "DATABASE_URL");
	assert_string_equal(settings_value(&l.settings, SECTION_CUSTOM_SCRIPT, &v[1].value),
			    "postgres://shop:example@db.internal/shop");
	assert_int_equal(s->retry.times, 2);
	assert_int_equal(((int64_t *)s->retry.on_exit_codes.items)[0], 75);
	step = l.settings.drain->steps.items;
	assert_int_equal(l.settings.drain->steps.n, 4);
	assert_string_equal(step[0].name, "probeDown-1");
	assert_int_equal(step[0].wait_seconds, 15);
	assert_string_equal(step[1].name, "pause-workers");
	assert_string_equal(((char **)step[1].undo_command.items)[0], "/opt/shop/bin/celery-resume");
	assert_int_equal(step[2].timeout_seconds, 60);
	assert_string_equal(step[3].name, "stopUnits-4");
	assert_int_equal(step[3].units.n, 3);
	assert_int_equal(l.settings.drain->shutdown->max_delay_seconds, 60);
	assert_string_equal(l.settings.health->listen, "0.0.0.0:8008");
	assert_int_equal(((int *)l.settings.health->ready_after.items)[0], READY_AFTER_CUSTOM_SCRIPT);
	assert_int_equal(((struct webhook_settings *)l.settings.notify->webhooks.items)->format, WEBHOOK_SLACK);
}

static void test_example_nginx(void **state)
{
	_cleanup_free_ char *text = document("nginx.json");
	_cleanup_loading_ struct loading l;
	const struct certificate_settings *c;

	(void)state;
	load(&l, text, NULL);
	assert_int_equal(l.r, 0);
	assert_int_equal(l.report.n_warnings, 0);
	c = l.settings.key_refresh->certificates.items;
	assert_string_equal(c->name, "shop");
	assert_string_equal(c->directory, "/etc/nginx/tls/shop");
	assert_string_equal(c->owner, "root");
	assert_string_equal(c->group, "www-data");
	assert_string_equal(c->mode, "0640");
	assert_null(c->identity);
	assert_int_equal(c->layout, STORE_OWN);
	assert_string_equal(c->files.fullchain, "fullchain.pem");
	assert_string_equal(c->files.key, "privkey.pem");
	assert_null(c->files.pkcs12);
	assert_int_equal(c->activate.check.n, 2);
	assert_string_equal(((char **)c->activate.reload_units.items)[0], "nginx.service");
	assert_string_equal(c->activate.verify.endpoint, "127.0.0.1:443");
	assert_int_equal(c->activate.verify.timeout_seconds, 30);
	assert_string_equal(l.settings.key_refresh->identity->client_id, "11112222-bbbb-3333-cccc-4444dddd5555");
	assert_int_equal(l.settings.drain->steps.n, 1);
	assert_int_equal(((struct step_settings *)l.settings.drain->steps.items)->type, STEP_HOOKS);
	assert_int_equal(l.settings.drain->policy.n, 2);
	assert_null(l.settings.drain->shutdown);
}

static void test_example_spot(void **state)
{
	_cleanup_free_ char *text = document("spot.json");
	struct settings_source file = source_of(DOOR_FILES, "/etc/evenkeel/evenkeel.json", text, NULL);
	_cleanup_loading_ struct loading l;
	const struct policy_rule *p;
	const struct step_settings *s, *inner;

	(void)state;
	load_sources(&l, &file, 1);
	assert_int_equal(l.r, 0);
	assert_int_equal(l.report.n_warnings, 0);
	p = l.settings.drain->policy.items;
	assert_int_equal(l.settings.drain->policy.n, 3);
	assert_int_equal(p[0].acknowledge, ACKNOWLEDGE_NEVER);
	assert_int_equal(p[1].action, POLICY_IGNORE);
	assert_int_equal(p[1].acknowledge, ACKNOWLEDGE_IMMEDIATELY);
	assert_int_equal(p[2].types.n, 0);
	assert_int_equal(p[2].acknowledge, ACKNOWLEDGE_WHEN_DRAINED);
	s = l.settings.drain->steps.items;
	assert_string_equal(s[0].user, "batch");
	assert_int_equal(s[0].reserve_seconds, 12);
	assert_string_equal(s[1].name, "parallel-2");
	assert_int_equal(s[1].timeout_seconds, 8);
	assert_int_equal(s[1].reserve_seconds, 2);
	inner = s[1].steps.items;
	assert_string_equal(inner[0].name, "requeue");
	assert_string_equal(inner[0].http.method, "POST");
	assert_int_equal(((int64_t *)inner[0].http.expect.items)[0], 200);
	assert_string_equal(inner[1].name, "stopUnits-2.2");
	assert_false(l.settings.log->console);
}

/* Hash and schema. */

static void hash(const char *public_text, const char *protected_text, char ret[static 65])
{
	struct error err = ERROR_INIT;

	if (settings_hash(public_text, strlen(public_text), protected_text, strlen(protected_text), ret, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_hash(void **state)
{
	char a[65], b[65];
	struct error err = ERROR_INIT;

	(void)state;
	hash("{\"a\":1,\"b\":[1,2]}", "{\"secrets\":{\"x\":\"y\"}}", a);
	hash(" { \"b\" : [ 1, 2 ], \"a\" : 1 } ", "{\"secrets\": {\"x\":\"y\"}}", b);
	assert_string_equal(a, b);
	assert_int_equal(strlen(a), 64);
	hash("{\"a\":1,\"b\":[2,1]}", "{\"secrets\":{\"x\":\"y\"}}", b);
	assert_string_not_equal(a, b);
	hash("{\"a\":1,\"b\":[1,2]}", "{\"secrets\":{\"x\":\"z\"}}", b);
	assert_string_not_equal(a, b);
	/* Nothing moves from one part to the other unseen. */
	hash("{}", "", a);
	hash("", "{}", b);
	assert_string_not_equal(a, b);
	assert_true(settings_hash("{", 1, NULL, 0, a, &err) < 0);
	assert_true(*err.msg);
}

/* Every member that the examples use is in the schema, and none of what is only told to belong elsewhere. */
static void test_schema(void **state)
{
	static const char *const documents[] = {"django.json", "nginx.json", "spot.json", "vault-v4.json"};
	struct buf schema = BUF_INIT(LIMIT_SETTINGS);
	size_t found = 0;

	(void)state;
	assert_int_equal(settings_schema(&schema), 0);
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++) {
		_cleanup_free_ char *text = document(documents[i]);

		for (char *p = strchr(text, '"'), *end; p; p = strchr(end + 1, '"')) {
			_cleanup_free_ char *key = NULL;

			end = strchr(p + 1, '"');
			assert_non_null(end);
			/* Variables of the environment are the operator's own. */
			if (end[1] != ':' || (p[1] >= 'A' && p[1] <= 'Z'))
				continue;
			key = str_format("%.*s", (int)(end + 1 - p), p);
			if (!strstr(buf_str(&schema), key))
				fail_msg("%s is not in the schema", key);
			found++;
		}
	}
	assert_true(found > 60);
	assert_null(strstr(buf_str(&schema), "\"secrets\":{\"description\":\"Values"));
	buf_done(&schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sentences),
		cmocka_unit_test(test_first_eight),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_shape_of_documents),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_whole_from_first_door),
		cmocka_unit_test(test_section_in_two_files),
		cmocka_unit_test(test_user_data),
		cmocka_unit_test(test_secret_of_own_door),
		cmocka_unit_test(test_secret_is_never_shown),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_example_django),
		cmocka_unit_test(test_example_nginx),
		cmocka_unit_test(test_example_spot),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_schema),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

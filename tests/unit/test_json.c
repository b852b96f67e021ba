/* JSON by tables: what is accepted, every message, round trips, limits, and what happens without memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <malloc.h>

#include "agent/base/limits.h"
#include "agent/base/macros.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/json_internal.h"
#include "agent/codec/json_report.h"

/* A settings document in small: every kind, every form. */

static int check_name(const char *s, struct error *err)
{
	if (strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") == strlen(s))
		return 0;
	return error_set(err, ERROR_USER, -EINVAL, "expected a name, got \"%s\"; use letters and digits", s);
}

static int check_url(const char *s, struct error *err)
{
	if (strncmp(s, "http", 4) == 0)
		return 0;
	return error_set(err, ERROR_USER, -EINVAL, "expected an http or https URL, got \"%s\"", s);
}

struct file {
	struct jd_secretable uri;
	char *mode;
	int64_t max_size;
};

struct identity {
	char *client_id;
};

struct script {
	char *name;
	struct jd_secretable command;
	struct jd_list arguments, environment, files, on_exit_codes;
	struct identity *identity;
	struct jd_secretable key;
	bool convert;
	int64_t timeout;
	int policy;
	char *extra;
};

struct ports {
	struct jd_list list;
	bool from_load_balancer;
};

struct step {
	char *name;
	int type;
	int64_t timeout;
	union {
		struct jd_list command; /* run */
		struct ports ports;     /* waitForConnections */
		struct jd_list steps;   /* parallel */
	};
};

struct retry {
	int64_t times, delay;
};

struct drain {
	int64_t polling, lead_in;
	struct jd_list steps;
	struct jd_list policy;
	struct retry retry;
	struct step first;
	int64_t max_delay; /* of shutdown; 0: absent */
	struct {
		char *endpoint;
		int64_t timeout;
	} verify;
};

struct vault {
	int64_t polling;
	bool initial;
};

struct doc {
	struct jd_list *scripts_section;
	struct drain *drain;
	struct vault *vault;
	struct jd_list secrets;
};

struct named_text {
	char *key;
	char *value;
};

struct named_secretable {
	char *key;
	struct jd_secretable value;
};

static const struct jd_type any_text = {.kind = JD_TEXT};
static const struct jd_type boolean = {.kind = JD_BOOLEAN};
static const struct jd_type name_text = {
	.kind = JD_TEXT, .min = 1, .max = 63, .check = check_name, .pattern = "^[A-Za-z0-9_.-]+$"};
static const struct jd_type argument = {
	.kind = JD_TEXT, .no_secret = "a secretRef cannot be an argument (every user can read argv); use environment"};
static const struct jd_type secret_text = {.kind = JD_SECRETABLE, .max = 100};
static const struct jd_type secret_url = {.kind = JD_SECRETABLE, .check = check_url};
static const struct jd_type secret_only = {.kind = JD_SECRETABLE, .must_be_secret = true};
static const struct jd_type seconds = {.kind = JD_INTEGER, .min = 1, .max = 3600};
static const struct jd_type size_in_bytes = {.kind = JD_INTEGER, .min = 0, .max = INT64_MAX};
static const struct jd_type port = {.kind = JD_INTEGER, .min = 1, .max = 65535, .what = "a port"};
static const struct jd_type any_integer = {.kind = JD_INTEGER};
static const struct jd_type raw = {.kind = JD_RAW};

static const struct jd_field file_fields[] = {
	{"uri", &secret_url, offsetof(struct file, uri), JD_REQUIRED, .doc = "Where it is."},
	{"mode", &any_text, offsetof(struct file, mode), .default_text = "0500", .doc = "Its mode."},
	{"maxSizeInBytes", &size_in_bytes, offsetof(struct file, max_size), .default_integer = 4294967296},
	{0},
};
static const struct jd_type file_type = {
	.kind = JD_OBJECT, .fields = file_fields, .size = sizeof(struct file), .short_member = "uri"};

static const struct jd_field identity_fields[] = {
	{"clientId", &any_text, offsetof(struct identity, client_id), JD_OMIT_EMPTY},
	{0},
};
static const struct jd_type identity_type = {
	.kind = JD_POINTER, .fields = identity_fields, .size = sizeof(struct identity)};

static const char *const policies[] = {"oncePerSequence", "oncePerContent", "everyBoot", NULL};
static const struct jd_type policy_type = {.kind = JD_CHOICE, .names = policies};

static const struct jd_type arguments_type = {.kind = JD_LIST, .element = &argument, .max = 64};
static const struct jd_type codes_type = {.kind = JD_LIST, .element = &any_integer, .max = 16};
static const struct jd_type files_type = {.kind = JD_LIST, .element = &file_type, .max = 64};
static const struct jd_type environment_type = {.kind = JD_MAP,
						.element = &secret_text,
						.max = 4,
						.size = sizeof(struct named_secretable),
						.value_offset = offsetof(struct named_secretable, value),
						.check = check_name};

static const struct jd_field script_fields[] = {
	{"name", &name_text, offsetof(struct script, name), JD_REQUIRED, .doc = "Its name."},
	{"commandToExecute", &secret_text, offsetof(struct script, command)},
	{"arguments", &arguments_type, offsetof(struct script, arguments), JD_OMIT_EMPTY},
	{"environment", &environment_type, offsetof(struct script, environment), JD_OMIT_EMPTY},
	{"files", &files_type, offsetof(struct script, files)},
	{"onExitCodes", &codes_type, offsetof(struct script, on_exit_codes), .default_text = "[30, 14, 7]"},
	{"identity", &identity_type, offsetof(struct script, identity)},
	{"storageAccountKey", &secret_only, offsetof(struct script, key)},
	{"convertLineEndings", &boolean, offsetof(struct script, convert), .default_integer = true},
	{"timeoutInSeconds", &seconds, offsetof(struct script, timeout), .default_integer = 60},
	{"runPolicy", &policy_type, offsetof(struct script, policy), .default_integer = 1},
	{"extra", &raw, offsetof(struct script, extra)},
	{0},
};
static const struct jd_type script_type = {.kind = JD_OBJECT, .fields = script_fields, .size = sizeof(struct script)};
static const struct jd_type scripts_type = {
	.kind = JD_LIST, .element = &script_type, .max = 32, .min = 1, .unique = "name"};
static const struct jd_field custom_script_fields[] = {
	{"scripts", &scripts_type, 0, JD_REQUIRED},
	{0},
};
static const struct jd_type custom_script = {
	.kind = JD_POINTER, .fields = custom_script_fields, .size = sizeof(struct jd_list)};

static const struct jd_type command_type = {
	.kind = JD_LIST, .element = &argument, .min = 1, .max = 64, .what = "a command as a list of texts"};
static const struct jd_type port_list = {.kind = JD_LIST, .element = &port, .min = 1, .max = 64};
static const char *const froms[] = {"fromLoadBalancer", NULL};
static const struct jd_type from_type = {
	.kind = JD_BOOLEAN, .names = froms, .what = "a list of ports or \"fromLoadBalancer\""};
static const struct jd_field ports_fields[] = {
	{"list", &port_list, offsetof(struct ports, list)},
	{"from", &from_type, offsetof(struct ports, from_load_balancer)},
	{0},
};
static const struct jd_type ports_type = {.kind = JD_OBJECT,
					  .fields = ports_fields,
					  .size = sizeof(struct ports),
					  .short_member = "from",
					  .short_list = "list",
					  .short_only = true,
					  .what = "a list of ports or \"fromLoadBalancer\""};

static const struct jd_field common_step[] = {
	{"name", &name_text, offsetof(struct step, name)},
	{"timeoutInSeconds", &seconds, offsetof(struct step, timeout), .default_integer = -1},
	{0},
};
static const struct jd_field probe_down[] = {{0}};
static const struct jd_field run[] = {
	{"command", &command_type, offsetof(struct step, command), JD_REQUIRED},
	{0},
};
static const struct jd_field wait_for_connections[] = {
	{"ports", &ports_type, offsetof(struct step, ports), JD_REQUIRED},
	{0},
};
static const char *const inner_names[] = {"probeDown", "run", "waitForConnections", NULL};
static const struct jd_field *const inner_variants[] = {probe_down, run, wait_for_connections};
static const struct jd_type inner_step = {.kind = JD_VARIANT,
					  .tag = "type",
					  .names = inner_names,
					  .variants = inner_variants,
					  .fields = common_step,
					  .size = sizeof(struct step),
					  .tag_offset = offsetof(struct step, type)};
static const struct jd_type inner_steps = {.kind = JD_LIST, .element = &inner_step, .min = 2, .max = 8};
static const struct jd_field parallel[] = {
	{"steps", &inner_steps, offsetof(struct step, steps), JD_REQUIRED},
	{0},
};
static const char *const step_names[] = {"probeDown", "run", "waitForConnections", "parallel", NULL};
static const struct jd_field *const step_variants[] = {probe_down, run, wait_for_connections, parallel};
static const struct jd_type step_type = {.kind = JD_VARIANT,
					 .tag = "type",
					 .names = step_names,
					 .variants = step_variants,
					 .fields = common_step,
					 .size = sizeof(struct step),
					 .tag_offset = offsetof(struct step, type)};
static const struct jd_type steps_type = {.kind = JD_LIST, .element = &step_type, .max = 64, .unique = "name"};
static const struct jd_type texts_type = {.kind = JD_LIST, .element = &any_text, .max = 8};
static const struct jd_field retry_fields[] = {
	{"times", &seconds, offsetof(struct retry, times), .default_integer = 0},
	{"delayInSeconds", &seconds, offsetof(struct retry, delay), .default_integer = 30},
	{0},
};
static const struct jd_type retry_type = {.kind = JD_OBJECT, .fields = retry_fields, .size = sizeof(struct retry)};
static const struct jd_field shutdown_fields[] = {
	{"maxDelayInSeconds", &seconds, offsetof(struct drain, max_delay), .default_integer = 60},
	{0},
};
static const struct jd_type shutdown_type = {.kind = JD_OBJECT, .fields = shutdown_fields};
static const struct jd_field verify_fields[] = {
	{"endpoint", &any_text, offsetof(struct drain, verify.endpoint), JD_REQUIRED},
	{"timeoutInSeconds", &seconds, offsetof(struct drain, verify.timeout), .default_integer = 30},
	{0},
};
static const struct jd_type verify_type = {.kind = JD_OBJECT, .fields = verify_fields};
static const struct jd_field drain_fields[] = {
	{"pollingIntervalInSeconds", &seconds, offsetof(struct drain, polling), .default_integer = 1},
	{"leadInSeconds", &any_integer, offsetof(struct drain, lead_in), .default_integer = 1200},
	{"steps", &steps_type, offsetof(struct drain, steps), JD_OMIT_EMPTY},
	{"policy", &texts_type, offsetof(struct drain, policy), .default_text = "[\"Freeze\", \"Reboot\"]"},
	{"retry", &retry_type, offsetof(struct drain, retry)},
	{"first", &step_type, offsetof(struct drain, first)},
	{"shutdown", &shutdown_type, 0, JD_ZERO_ABSENT},
	{"verify", &verify_type, 0},
	{0},
};
static const struct jd_type drain_type = {.kind = JD_POINTER, .fields = drain_fields, .size = sizeof(struct drain)};

static const struct jd_field vault_fields[] = {
	{"pollingIntervalInS", &seconds, offsetof(struct vault, polling), .default_integer = 3600},
	{"requireInitialSync", &boolean, offsetof(struct vault, initial)},
	{"certificateStoreName", &any_text, .flags = JD_IGNORED},
	{0},
};
static const struct jd_type vault_type = {
	.kind = JD_POINTER, .fields = vault_fields, .size = sizeof(struct vault), .lenient = true};
static const struct jd_type secret_value = {.kind = JD_TEXT, .max = 65536, .sensitive = true};
static const struct jd_type secrets_type = {.kind = JD_MAP,
					    .element = &secret_value,
					    .max = 64,
					    .size = sizeof(struct named_text),
					    .value_offset = offsetof(struct named_text, value)};
static const struct jd_field doc_fields[] = {
	{"customScript", &custom_script, offsetof(struct doc, scripts_section)},
	{"drain", &drain_type, offsetof(struct doc, drain)},
	{"vault", &vault_type, offsetof(struct doc, vault)},
	{"secrets", &secrets_type, offsetof(struct doc, secrets), JD_OMIT_EMPTY},
	{"timestamp", &any_integer, .flags = JD_SILENTLY_IGNORED},
	{"$schema", &any_text, .flags = JD_SILENTLY_IGNORED},
	{0},
};
static const struct jd_type doc_type = {.kind = JD_OBJECT, .fields = doc_fields, .size = sizeof(struct doc)};

static struct jd_options options(struct jd_report *r)
{
	return (struct jd_options){.subject = "settings", .unknown = JD_UNKNOWN_ERROR, .report = r};
}

/* Decodes `text` and holds every error (and warning, with "W ") against `want`, one for each line. */
static void expect_report(const char *text, const char *want)
{
	struct jd_report r = {0};
	struct jd_options o = options(&r);
	struct doc d = {0}, zero = {0};
	struct error err = ERROR_INIT;
	struct buf said = BUF_INIT(65536);
	int code = jd_decode(text, strlen(text), &doc_type, &o, &d, &err);

	for (unsigned i = 0; i < r.n_errors; i++)
		buf_printf(&said, "%s\n", r.errors[i]);
	for (unsigned i = 0; i < r.n_warnings; i++)
		buf_printf(&said, "W %s\n", r.warnings[i]);
	assert_string_equal(buf_str(&said), want);
	if (r.n_errors) {
		assert_true(code < 0);
		assert_string_equal(err.msg, r.errors[0]);
		assert_int_equal(err.cls, ERROR_USER);
		assert_memory_equal(&d, &zero, sizeof(d));
	} else {
		assert_int_equal(code, 0);
		assert_int_equal(err.cls, ERROR_NONE);
	}
	jd_free(&doc_type, &d);
	assert_memory_equal(&d, &zero, sizeof(d));
	jd_report_done(&r);
	buf_done(&said);
}

static const struct {
	const char *text, *want;
} messages[] = {
	{"{}", ""},
	{"null", ""},
	{" {\"drain\":null,\"timestamp\":1,\"$schema\":\"x\"} ", ""},
	{"{\"drain\":{}}", ""},
	{"{\"drian\":{}}", "settings: drian: unknown section; did you mean \"drain\"?\n"},
	{"{\"x\":{}}", "settings: x: unknown section\n"},
	{"{\"\":1}", "settings: [\"\"]: unknown section\n"},
	{"{\"a.b\":1}", "settings: [\"a.b\"]: unknown section\n"},
	{"{\"x\":null}", ""},
	{"{\"drain\":{\"pollInterval\":1}}",
	 "settings: drain.pollInterval: unknown member; did you mean \"pollingIntervalInSeconds\"?\n"},
	{"{\"drain\":{\"PollingIntervalInSeconds\":1}}",
	 "settings: drain.PollingIntervalInSeconds: unknown member; did you mean \"pollingIntervalInSeconds\"?\n"},
	{"{\"drain\":{\"lead\":1}}", "settings: drain.lead: unknown member; did you mean \"leadInSeconds\"?\n"},
	{"{\"drain\":{\"leadInMinutes\":1}}",
	 "settings: drain.leadInMinutes: unknown member; did you mean \"leadInSeconds\"?\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"command\":\"x\"}]}}",
	 "settings: customScript.scripts[0].command: unknown member; did you mean \"commandToExecute\"?\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"timeout\":1}]}}",
	 "settings: customScript.scripts[0].timeout: unknown member; did you mean \"timeoutInSeconds\"?\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"probeDown\",\"naem\":\"x\"}]}}",
	 "settings: drain.steps[0].naem: unknown member; did you mean \"name\"?\n"},
	{"{\"$Schema\":\"x\"}", "settings: $Schema: unknown section\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":\"60s\"}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got \"60s\"\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":7200}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got 7200\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":0}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got 0\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":-1}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got -1\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":1.5}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got 1.5\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":1.0}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got 1.0\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":1e2}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got 1e2\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":true}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got true\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":{}}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got an object\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":[1]}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got a list\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":\"60\"}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got \"60\"\n"},
	{"{\"drain\":{\"leadInSeconds\":\"x\"}}", "settings: drain.leadInSeconds: expected an integer, got \"x\"\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"files\":[{\"uri\":\"http:\",\"maxSizeInBytes\":-1}]}]}}",
	 "settings: customScript.scripts[0].files[0].maxSizeInBytes: expected an integer of at least 0, got -1\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"probeDown\"},{\"type\":\"probeDown\"},{\"type\":\"probeDown\","
	 "\"timeoutInSeconds\":\"60s\"}]}}",
	 "settings: drain.steps[2].timeoutInSeconds: expected an integer from 1 to 3600, got \"60s\"\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"waitForConnections\",\"ports\":[80,70000]}]}}",
	 "settings: drain.steps[0].ports[1]: expected a port from 1 to 65535, got 70000\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"convertLineEndings\":1}]}}",
	 "settings: customScript.scripts[0].convertLineEndings: expected true or false, got 1\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"convertLineEndings\":\"false\"}]}}",
	 "settings: customScript.scripts[0].convertLineEndings: expected true or false, got \"false\"\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"convertLineEndings\":{\"a\":1}}]}}",
	 "settings: customScript.scripts[0].convertLineEndings: expected true or false, got an object\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"identity\":{\"clientId\":5}}]}}",
	 "settings: customScript.scripts[0].identity.clientId: expected a text, got 5\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"identity\":{\"clientId\":{}}}]}}",
	 "settings: customScript.scripts[0].identity.clientId: expected a text, got an object\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"identity\":{\"clientId\":{\"secretRef\":\"x\"}}}]}}",
	 "settings: customScript.scripts[0].identity.clientId: a secretRef is not allowed here\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"arguments\":[\"a\",{\"secretRef\":\"x\"}]}]}}",
	 "settings: customScript.scripts[0].arguments[1]: a secretRef cannot be an argument (every user can read "
	 "argv); use environment\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"arguments\":[\"a\",null]}]}}",
	 "settings: customScript.scripts[0].arguments[1]: expected a text, got null\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"\"}]}}",
	 "settings: customScript.scripts[0].name: must not be empty\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":"
	 "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}]}}",
	 "settings: customScript.scripts[0].name: at most 63 bytes, got 64\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a b\"}]}}",
	 "settings: customScript.scripts[0].name: expected a name, got \"a b\"; use letters and digits\n"},
	{"{\"customScript\":{\"scripts\":[{}]}}", "settings: customScript.scripts[0]: \"name\" is required\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":null}]}}",
	 "settings: customScript.scripts[0]: \"name\" is required\n"},
	{"{\"customScript\":{\"scripts\":[]}}", "settings: customScript.scripts: at least 1 item, got 0\n"},
	{"{\"customScript\":{}}", "settings: customScript: \"scripts\" is required\n"},
	{"{\"customScript\":[]}", "settings: customScript: expected an object, got a list\n"},
	{"{\"customScript\":{\"scripts\":{}}}", "settings: customScript.scripts: expected a list, got an object\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got "
	 "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…\"\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxé\"}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got "
	 "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…\"\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got "
	 "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"\n"},
	{"{\"drain\":{\"pollingIntervalInSeconds\":\"a\\\"\\n\"}}",
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got \"a\\\"\\n\"\n"},
	{"{\"drain\":{\"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\":1}}",
	 "settings: drain[\"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…\"]: unknown member\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":5}]}}",
	 "settings: customScript.scripts[0].commandToExecute: expected a text or {\"secretRef\": \"NAME\"}, got a "
	 "number\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":[\"hunter2\"]}]}}",
	 "settings: customScript.scripts[0].commandToExecute: expected a text or {\"secretRef\": \"NAME\"}, got a "
	 "list\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":{\"secretRef\":5}}]}}",
	 "settings: customScript.scripts[0].commandToExecute: secretRef: expected the name of a secret, got something "
	 "else\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":{\"secretRef\":\"\"}}]}}",
	 "settings: customScript.scripts[0].commandToExecute: secretRef: expected the name of a secret, got something "
	 "else\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":{\"secretRef\":\"a\",\"x\":1}}]}}",
	 "settings: customScript.scripts[0].commandToExecute: expected a text or {\"secretRef\": \"NAME\"}, got an "
	 "object\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"commandToExecute\":"
	 "\"sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss\"}]}"
	 "}",
	 "settings: customScript.scripts[0].commandToExecute: at most 100 bytes, got 101\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"storageAccountKey\":\"hunter2\"}]}}",
	 "settings: customScript.scripts[0].storageAccountKey: must be {\"secretRef\": \"NAME\"}; the value belongs in "
	 "the protected settings under \"secrets\"\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"storageAccountKey\":{}}]}}",
	 "settings: customScript.scripts[0].storageAccountKey: must be {\"secretRef\": \"NAME\"}; the value belongs in "
	 "the protected settings under \"secrets\"\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"storageAccountKey\":{\"secretRef\":\"a\",\"b\":\"c\"}}]}}",
	 "settings: customScript.scripts[0].storageAccountKey: must be {\"secretRef\": \"NAME\"}; the value belongs in "
	 "the protected settings under \"secrets\"\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"storageAccountKey\":5}]}}",
	 "settings: customScript.scripts[0].storageAccountKey: must be {\"secretRef\": \"NAME\"}; the value belongs in "
	 "the protected settings under \"secrets\"\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"files\":[\"ftp://h?sig=hunter2\"]}]}}",
	 "settings: customScript.scripts[0].files[0]: expected an http or https URL\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"files\":[{\"uri\":\"ftp://h?sig=hunter2\"}]}]}}",
	 "settings: customScript.scripts[0].files[0].uri: expected an http or https URL\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"files\":[7]}]}}",
	 "settings: customScript.scripts[0].files[0]: expected a text or {\"secretRef\": \"NAME\"}, got a number\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"files\":[{}]}]}}",
	 "settings: customScript.scripts[0].files[0]: \"uri\" is required\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"files\":[null]}]}}",
	 "settings: customScript.scripts[0].files[0]: expected an object, got null\n"},
	{"{\"secrets\":{\"k\":5}}", "settings: secrets.k: expected a text, got a number\n"},
	{"{\"secrets\":{\"k\":[\"hunter2\"]}}", "settings: secrets.k: expected a text, got a list\n"},
	{"{\"secrets\":{\"k\":null}}", ""},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"runPolicy\":\"evryBoot\"}]}}",
	 "settings: customScript.scripts[0].runPolicy: expected \"oncePerSequence\", \"oncePerContent\" or "
	 "\"everyBoot\", got \"evryBoot\"; did you mean \"everyBoot\"?\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"runPolicy\":5}]}}",
	 "settings: customScript.scripts[0].runPolicy: expected \"oncePerSequence\", \"oncePerContent\" or "
	 "\"everyBoot\", got 5\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"arguments\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
	 "\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
	 "\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
	 "\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
	 "\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]}]}}",
	 "settings: customScript.scripts[0].arguments: at most 64 items, got 70\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"environment\":{\"a\":\"1\",\"b\":\"1\",\"c\":\"1\",\"d\":"
	 "\"1\",\"e\":\"1\"}}]}}",
	 "settings: customScript.scripts[0].environment: at most 4 items, got 5\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"environment\":{\"A B\":\"1\",\"C\":5}}]}}",
	 "settings: customScript.scripts[0].environment[\"A B\"]: expected a name, got \"A B\"; use letters and "
	 "digits\n"
	 "settings: customScript.scripts[0].environment.C: expected a text or {\"secretRef\": \"NAME\"}, got a "
	 "number\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"environment\":[]}]}}",
	 "settings: customScript.scripts[0].environment: expected an object, got a list\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"deploy\"},{\"name\":\"deploy\"}]}}",
	 "settings: customScript.scripts[1].name: \"deploy\" is already the name of scripts[0]\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"a\"},{\"name\":\"a\"}]}}",
	 "settings: customScript.scripts[2].name: \"a\" is already the name of scripts[0]\n"
	 "settings: customScript.scripts[3].name: \"a\" is already the name of scripts[0]\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"probeDown\"},{\"type\":\"probeDown\"}]}}", ""},
	{"{\"drain\":{\"steps\":[{\"type\":\"prboeDown\"}]}}",
	 "settings: drain.steps[0].type: expected \"probeDown\", \"run\", \"waitForConnections\" or \"parallel\", got "
	 "\"prboeDown\"; did you mean \"probeDown\"?\n"},
	{"{\"drain\":{\"steps\":[{}]}}", "settings: drain.steps[0]: \"type\" is required\n"},
	{"{\"drain\":{\"steps\":[{\"type\":5}]}}", "settings: drain.steps[0].type: expected \"probeDown\", \"run\", "
						   "\"waitForConnections\" or \"parallel\", got 5\n"},
	{"{\"drain\":{\"steps\":[\"probeDown\"]}}",
	 "settings: drain.steps[0]: expected an object, got \"probeDown\"\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"run\"}]}}", "settings: drain.steps[0]: \"command\" is required\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"run\",\"command\":\"reboot\"}]}}",
	 "settings: drain.steps[0].command: expected a command as a list of texts, got \"reboot\"\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"probeDown\",\"command\":[\"x\"]}]}}",
	 "settings: drain.steps[0].command: unknown member of type \"probeDown\"\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"parallel\",\"steps\":[{\"type\":\"probeDown\"},{\"type\":\"parallel\"}]}]}"
	 "}",
	 "settings: drain.steps[0].steps[1].type: expected \"probeDown\", \"run\" or \"waitForConnections\", got "
	 "\"parallel\"\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"waitForConnections\",\"ports\":\"fromloadbalancer\"}]}}",
	 "settings: drain.steps[0].ports: expected a list of ports or \"fromLoadBalancer\", got \"fromloadbalancer\"; "
	 "did you mean \"fromLoadBalancer\"?\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"waitForConnections\",\"ports\":{\"list\":[1]}}]}}",
	 "settings: drain.steps[0].ports: expected a list of ports or \"fromLoadBalancer\", got an object\n"},
	{"{\"drain\":{\"steps\":[{\"type\":\"waitForConnections\",\"ports\":[]}]}}",
	 "settings: drain.steps[0].ports: at least 1 item, got 0\n"},
	{"{\"vault\":{\"pollingIntervalInS\":\"60\",\"requireInitialSync\":\"FALSE\"}}", ""},
	{"{\"vault\":{\"pollingIntervalInS\":60.0,\"requireInitialSync\":true}}", ""},
	{"{\"vault\":{\"pollingIntervalInS\":\"60s\"}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got \"60s\"\n"},
	{"{\"vault\":{\"pollingIntervalInS\":60.5}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got 60.5\n"},
	{"{\"vault\":{\"pollingIntervalInS\":\"\"}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got \"\"\n"},
	{"{\"vault\":{\"pollingIntervalInS\":\"-\"}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got \"-\"\n"},
	{"{\"vault\":{\"pollingIntervalInS\":\"99999999999999999999\"}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got \"99999999999999999999\"\n"},
	{"{\"vault\":{\"pollingIntervalInS\":\"-5\"}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got \"-5\"\n"},
	{"{\"vault\":{\"pollingIntervalInS\":\" 6\"}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got \" 6\"\n"},
	{"{\"vault\":{\"pollingIntervalInS\":\"6.\"}}",
	 "settings: vault.pollingIntervalInS: expected an integer from 1 to 3600, got \"6.\"\n"},
	{"{\"vault\":{\"requireInitialSync\":\"yes\"}}",
	 "settings: vault.requireInitialSync: expected true or false, got \"yes\"\n"},
	{"{\"vault\":{\"certificateStoreName\":\"MY\",\"pollingInterval\":1,\"zzz\":{\"a\":[]}}}",
	 "W settings: vault.pollingInterval: unknown member, ignored; did you mean \"pollingIntervalInS\"?\n"
	 "W settings: vault.zzz: unknown member, ignored\n"
	 "W settings: vault.certificateStoreName: has no effect here, ignored\n"},
	{"{\"vault\":{\"certificateStoreName\":5}}",
	 "settings: vault.certificateStoreName: expected a text, got 5\n"
	 "W settings: vault.certificateStoreName: has no effect here, ignored\n"},
	{"{\"timestamp\":\"x\"}", "settings: timestamp: expected an integer, got \"x\"\n"},
	{"{\"drain\":{\"verify\":{}}}", "settings: drain.verify: \"endpoint\" is required\n"},
	{"{\"drain\":{\"verify\":{\"endpoint\":\"x\"},\"shutdown\":{}}}", ""},
	{"{\"customScript\":5,\"drain\":{\"pollingIntervalInSeconds\":0,\"steps\":[{\"type\":\"x\"},{\"type\":\"run\","
	 "\"command\":[]}],\"policy\":7},\"zz\":1}",
	 "settings: zz: unknown section\n"
	 "settings: customScript: expected an object, got 5\n"
	 "settings: drain.pollingIntervalInSeconds: expected an integer from 1 to 3600, got 0\n"
	 "settings: drain.steps[0].type: expected \"probeDown\", \"run\", \"waitForConnections\" or \"parallel\", got "
	 "\"x\"\n"
	 "settings: drain.steps[1].command: at least 1 item, got 0\n"
	 "settings: drain.policy: expected a list, got 7\n"},
	{"{\"drain\":{\"policy\":[1,2,3,4,5,6,7,8]}}", "settings: drain.policy[0]: expected a text, got 1\n"
						       "settings: drain.policy[1]: expected a text, got 2\n"
						       "settings: drain.policy[2]: expected a text, got 3\n"
						       "settings: drain.policy[3]: expected a text, got 4\n"
						       "settings: drain.policy[4]: expected a text, got 5\n"
						       "settings: drain.policy[5]: expected a text, got 6\n"
						       "settings: drain.policy[6]: expected a text, got 7\n"
						       "settings: drain.policy[7]: expected a text, got 8\n"},
	{"{\"customScript\":{\"scripts\":[{\"name\":\"a\",\"arguments\":[1,2,3,4,5,6,7,8,9,10]}]}}",
	 "settings: customScript.scripts[0].arguments[0]: expected a text, got 1\n"
	 "settings: customScript.scripts[0].arguments[1]: expected a text, got 2\n"
	 "settings: customScript.scripts[0].arguments[2]: expected a text, got 3\n"
	 "settings: customScript.scripts[0].arguments[3]: expected a text, got 4\n"
	 "settings: customScript.scripts[0].arguments[4]: expected a text, got 5\n"
	 "settings: customScript.scripts[0].arguments[5]: expected a text, got 6\n"
	 "settings: customScript.scripts[0].arguments[6]: expected a text, got 7\n"
	 "settings: customScript.scripts[0].arguments[7]: expected a text, got 8\n"},
	{"", "settings: line 1, column 1: the text ends where a value is expected\n"},
	{"{\n  \"drain\": {\"a\" 1}}", "settings: line 2, column 17: expected \":\"\n"},
	{"{\"é\": x}", "settings: line 1, column 7: expected a value\n"},
	{"{\"drain\":{},\"drain\":{}}", "settings: line 1, column 13: member \"drain\" stands twice in one object\n"},
	{"[]", "settings: expected an object, got a list\n"},
	{"\"x\"", "settings: expected an object, got \"x\"\n"},
};

static void test_messages(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		expect_report(messages[i].text, messages[i].want);
}

static const char whole[] =
	"{\"customScript\":{\"scripts\":[{\"name\":\"deploy\",\"commandToExecute\":\"sh "
	"a.sh\",\"arguments\":[\"a\",\"b\"],"
	"\"environment\":{\"Z\":\"1\",\"A\":{\"secretRef\":\"k\"}},\"files\":[\"http://"
	"a\",{\"uri\":{\"secretRef\":\"u\"},"
	"\"mode\":\"0700\",\"maxSizeInBytes\":5},{\"secretRef\":\"v\"}],\"identity\":{},"
	"\"storageAccountKey\":{\"secretRef\":\"s\"},\"convertLineEndings\":false,\"timeoutInSeconds\":5,"
	"\"runPolicy\":\"everyBoot\",\"extra\":{\"b\":[1.50,true,null],\"a\":\"\\u00e9\"}},{\"name\":\"x\"}]},"
	"\"drain\":{\"steps\":[{\"type\":\"run\",\"name\":\"r\",\"command\":[\"a\"]},{\"type\":\"parallel\",\"steps\":["
	"{\"type\":\"waitForConnections\",\"ports\":[80,443]},{\"type\":\"waitForConnections\",\"ports\":"
	"\"fromLoadBalancer\",\"timeoutInSeconds\":9}]}],\"policy\":[],\"shutdown\":{},\"verify\":{\"endpoint\":\"e\"}}"
	","
	"\"vault\":{\"pollingIntervalInS\":\"60\","
	"\"requireInitialSync\":\"True\"},\"secrets\":{\"k\":\"v\"}}";

static const char whole_encoded[] =
	"{\"customScript\":{\"scripts\":[{\"name\":\"deploy\",\"commandToExecute\":\"sh "
	"a.sh\",\"arguments\":[\"a\",\"b\"],"
	"\"environment\":{\"Z\":\"1\",\"A\":{\"secretRef\":\"k\"}},\"files\":[{\"uri\":\"http://a\",\"mode\":\"0500\","
	"\"maxSizeInBytes\":4294967296},{\"uri\":{\"secretRef\":\"u\"},\"mode\":\"0700\",\"maxSizeInBytes\":5},"
	"{\"uri\":{\"secretRef\":\"v\"},\"mode\":\"0500\",\"maxSizeInBytes\":4294967296}],\"onExitCodes\":[30,14,7],"
	"\"identity\":{},\"storageAccountKey\":{\"secretRef\":\"s\"},\"convertLineEndings\":false,\"timeoutInSeconds\":"
	"5,"
	"\"runPolicy\":\"everyBoot\",\"extra\":{\"a\":\"\xC3\xA9\",\"b\":[1.50,true,null]}},"
	"{\"name\":\"x\",\"files\":[],\"onExitCodes\":[30,14,7],\"convertLineEndings\":true,\"timeoutInSeconds\":60,"
	"\"runPolicy\":\"oncePerContent\"}]},"
	"\"drain\":{\"pollingIntervalInSeconds\":1,\"leadInSeconds\":1200,\"steps\":[{\"type\":\"run\",\"command\":["
	"\"a\"],"
	"\"name\":\"r\"},{\"type\":\"parallel\",\"steps\":[{\"type\":\"waitForConnections\",\"ports\":[80,443]},"
	"{\"type\":\"waitForConnections\",\"ports\":\"fromLoadBalancer\",\"timeoutInSeconds\":9}]}],\"policy\":[],"
	"\"retry\":{\"delayInSeconds\":30},\"shutdown\":{\"maxDelayInSeconds\":60},"
	"\"verify\":{\"endpoint\":\"e\",\"timeoutInSeconds\":30}},\"vault\":{\"pollingIntervalInS\":60,"
	"\"requireInitialSync\":true},"
	"\"secrets\":{\"k\":\"v\"}}";

static void test_round_trip(void **state)
{
	struct jd_report r = {0};
	struct jd_options o = options(&r);
	struct doc d = {0};
	struct error err = ERROR_INIT;
	struct buf out = BUF_INIT(65536), again = BUF_INIT(65536);

	(void)state;
	if (jd_decode(whole, strlen(whole), &doc_type, &o, &d, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(jd_encode(&doc_type, &d, false, &out), 0);
	assert_string_equal(out.data, whole_encoded);
	jd_free(&doc_type, &d);

	if (jd_decode(out.data, out.len, &doc_type, &o, &d, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(jd_encode(&doc_type, &d, false, &again), 0);
	assert_string_equal(again.data, whole_encoded);
	jd_free(&doc_type, &d);
	assert_int_equal(r.n_errors + r.n_warnings, 0);
	buf_done(&out);
	buf_done(&again);
	jd_report_done(&r);
}

/* Strictness: each text is read, or is not, by the way that takes any JSON. */
static const struct {
	const char *text, *canonical; /* NULL: refused */
} texts[] = {
	/* taken */
	{"{}", "{}"},
	{" [ ] ", "[]"},
	{"\xEF\xBB\xBF{}", "{}"},
	{"null", "null"},
	{"\t\r\n true", "true"},
	{"false", "false"},
	{"0", "0"},
	{"-0", "0"},
	{"123", "123"},
	{"-1", "-1"},
	{"0.5", "0.5"},
	{"1E5", "1E5"},
	{"1e+5", "1e+5"},
	{"-1.250e-10", "-1.250e-10"},
	{"1e999", "1e999"},
	{"9223372036854775807", "9223372036854775807"},
	{"-9223372036854775808", "-9223372036854775808"},
	{"\"\"", "\"\""},
	{"\"\\u0061\"", "\"a\""},
	{"\"\\uD83D\\uDE00\"", "\"\xF0\x9F\x98\x80\""},
	{"\"\\u20ac\\u00e9\\u007f\"", "\"\xE2\x82\xAC\xC3\xA9\x7F\""},
	{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\""},
	{"\"\xF4\x8F\xBF\xBF\xE2\x80\xA8\"", "\"\xF4\x8F\xBF\xBF\xE2\x80\xA8\""},
	{"{\"b\":{\"d\":1,\"c\":[2,{\"z\":1,\"a\":null}]},\"a\":\"x\",\"\":0,\"B\":1}",
	 "{\"\":0,\"B\":1,\"a\":\"x\",\"b\":{\"c\":[2,{\"a\":null,\"z\":1}],\"d\":1}}"},
	{"[1,[2,[3]]]", "[1,[2,[3]]]"},
	{"{\"a\":{\"x\":1},\"b\":{\"x\":2}}", "{\"a\":{\"x\":1},\"b\":{\"x\":2}}"},
	/* structure */
	{"", NULL},
	{" ", NULL},
	{"\xEF\xBB\xBF", NULL},
	{"\xEF\xBB", NULL},
	{"{", NULL},
	{"[", NULL},
	{"]", NULL},
	{"}", NULL},
	{"[}", NULL},
	{"{]", NULL},
	{"[1", NULL},
	{"[1,", NULL},
	{"[1,]", NULL},
	{"[,1]", NULL},
	{"[1,,2]", NULL},
	{"[1 2]", NULL},
	{"[1:2]", NULL},
	{"{\"a\"}", NULL},
	{"{\"a\":}", NULL},
	{"{\"a\":1,}", NULL},
	{"{,}", NULL},
	{"{\"a\" 1}", NULL},
	{"{\"a\",1}", NULL},
	{"{\"a\"::1}", NULL},
	{"{\"a\":1 \"b\":2}", NULL},
	{"{a:1}", NULL},
	{"{'a':1}", NULL},
	{"{1:1}", NULL},
	{"{null:1}", NULL},
	{"{\"a\":1}}", NULL},
	{"[] []", NULL},
	{"{} x", NULL},
	{"1 2", NULL},
	{"[]\f", NULL},
	{"\xC2\xA0[]", NULL},
	{"[1]//c", NULL},
	{"/* c */[]", NULL},
	{"#\n[]", NULL},
	{"[\v1]", NULL},
	{"\xEF\xBB\xBF\xEF\xBB\xBF{}", NULL},
	/* words */
	{"nul", NULL},
	{"nulll", NULL},
	{"True", NULL},
	{"NULL", NULL},
	{"tru", NULL},
	{"NaN", NULL},
	{"Infinity", NULL},
	{"-Infinity", NULL},
	{"undefined", NULL},
	{"truefalse", NULL},
	/* numbers */
	{"01", NULL},
	{"-01", NULL},
	{"00", NULL},
	{"+1", NULL},
	{"-", NULL},
	{"--1", NULL},
	{".5", NULL},
	{"1.", NULL},
	{"1.e5", NULL},
	{"1e", NULL},
	{"1e+", NULL},
	{"1e1.5", NULL},
	{"0x10", NULL},
	{"1_000", NULL},
	{"- 1", NULL},
	{"1a", NULL},
	{"[-]", NULL},
	{"0e", NULL},
	{"1eE2", NULL},
	{"9223372036854775808", NULL},
	{"-9223372036854775809", NULL},
	{"18446744073709551615", NULL},
	{"100000000000000000000000000000", NULL},
	/* texts */
	{"\"", NULL},
	{"\"abc", NULL},
	{"'a'", NULL},
	{"\"a\nb\"", NULL},
	{"\"a\tb\"", NULL},
	{"\"\x01\"", NULL},
	{"\"\\", NULL},
	{"\"\\\"", NULL},
	{"\"\\x41\"", NULL},
	{"\"\\a\"", NULL},
	{"\"\\'\"", NULL},
	{"\"\\U0041\"", NULL},
	{"\"\\u\"", NULL},
	{"\"\\u12\"", NULL},
	{"\"\\u123", NULL},
	{"\"\\u12G4\"", NULL},
	{"\"\\u 123\"", NULL},
	{"\"\\u+123\"", NULL},
	{"\"\\u0000\"", NULL},
	{"{\"\\u0000\":1}", NULL},
	/* half surrogate pairs are refused, not replaced */
	{"\"\\ud800\"", NULL},
	{"\"\\udc00\"", NULL},
	{"\"\\ud800x\"", NULL},
	{"\"\\ud800\\n\"", NULL},
	{"\"\\ud800\\ud800\"", NULL},
	{"\"\\ud800\\u0041\"", NULL},
	{"\"\\udc00\\ud800\"", NULL},
	{"\"\\ud800\\u\"", NULL},
	/* UTF-8 */
	{"\"\x80\"", NULL},
	{"\"\xFF\"", NULL},
	{"\"\xC0\x80\"", NULL},
	{"\"\xC3\"", NULL},
	{"\"\xE2\x82\"", NULL},
	{"\"\xED\xA0\x80\"", NULL},
	{"\"\xF4\x90\x80\x80\"", NULL},
	{"\"\xF8\x88\x80\x80\x80\"", NULL},
	{"{\"\xFF\":1}", NULL},
	{"\xE9", NULL},
	{"\"\xE2\\u0041\x82\xAC\"", NULL},
	/* equal keys, at any depth, however written */
	{"{\"a\":1,\"a\":1}", NULL},
	{"{\"a\":1,\"b\":2,\"a\":null}", NULL},
	{"{\"a\":null,\"a\":1}", NULL},
	{"{\"a\":1,\"\\u0061\":1}", NULL},
	{"[[{\"x\":[{\"y\":1,\"y\":2}]}]]", NULL},
	{"{\"\":1,\"\":1}", NULL},
};

static void test_strictness(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct buf out = BUF_INIT(4096);
		struct error err = ERROR_INIT;
		/* Exactly as long as the text, so that a read behind its end is seen. */
		size_t len = strlen(texts[i].text);
		char *exact = malloc(len ? len : 1);
		int r;

		assert_non_null(exact);
		memcpy(exact, texts[i].text, len);
		r = jd_canonical(exact, len, 4096, &out, &err);
		if (!texts[i].canonical && r != -EBADMSG)
			fail_msg("%s was taken", texts[i].text);
		if (texts[i].canonical && r < 0)
			fail_msg("%s: %s", texts[i].text, err.msg);
		if (texts[i].canonical)
			assert_string_equal(out.data, texts[i].canonical);
		else
			assert_non_null(strstr(err.msg, "line 1, column ") ? err.msg : strstr(err.msg, "line 2, "));
		free(exact);
		buf_done(&out);
	}
}

/* Every beginning of a document but the whole is refused. */
static void test_cut_documents(void **state)
{
	(void)state;
	for (size_t n = 0; n < strlen(whole); n++) {
		struct error err = ERROR_INIT;
		struct doc d = {0};
		struct jd_options o = options(NULL);

		assert_int_equal(jd_decode(whole, n, &doc_type, &o, &d, &err), -EBADMSG);
		assert_non_null(strstr(err.msg, "settings: line 1, column "));
	}
}

static void test_nul_inside(void **state)
{
	static const char text[] = "{\"a\":\0 1}", quoted[] = "\"a\0b\"", behind[] = "{}\0";
	struct buf out = BUF_INIT(100);

	(void)state;
	assert_int_equal(jd_canonical(text, sizeof(text) - 1, 100, &out, NULL), -EBADMSG);
	assert_int_equal(jd_canonical(quoted, sizeof(quoted) - 1, 100, &out, NULL), -EBADMSG);
	assert_int_equal(jd_canonical(behind, sizeof(behind), 100, &out, NULL), -EBADMSG);
	buf_done(&out);
}

static void expect_code(const char *text, size_t len, const struct jd_options *o, int code, const char *message)
{
	struct error err = ERROR_INIT;
	char *value = NULL;

	assert_int_equal(jd_decode(text, len, &raw, o, &value, &err), code);
	if (code < 0)
		assert_string_equal(err.msg, message);
	jd_free(&raw, &value);
}

static void test_limits(void **state)
{
	static char deep[200000];
	struct jd_options o = {.subject = "doc", .max_bytes = 1 << 20, .max_depth = 3, .max_values = 10};

	(void)state;
	expect_code("[[[[1]]]]", 9, &o, 0, "");
	expect_code("[[[[[]]]]]", 10, &o, -E2BIG, "doc: line 1, column 5: nested too deeply, the limit is 3 levels");
	expect_code("{\"a\":[{\"a\":[{}]}]}", 18, &o, -E2BIG,
		    "doc: line 1, column 13: too many values, the limit is 10");
	expect_code("[1,2,3,4,5,6,7,8,9]", 19, &o, 0, "");
	expect_code("[1,2,3,4,5,6,7,8,9,0]", 21, &o, -E2BIG,
		    "doc: line 1, column 20: too many values, the limit is 10");
	expect_code("[{},{},{}]", 10, &o, 0, "");
	expect_code("[{},{},{},1]", 12, &o, -E2BIG, "doc: line 1, column 11: too many values, the limit is 10");
	o.max_bytes = 5;
	expect_code("12345", 5, &o, 0, "");
	expect_code("123456", 6, &o, -E2BIG, "doc: 6 bytes, the limit is 5");

	/* No depth of nesting may cost stack. */
	o = (struct jd_options){.subject = "doc", .max_bytes = sizeof(deep)};
	memset(deep, '[', sizeof(deep));
	expect_code(deep, 100000, &o, -E2BIG, "doc: line 1, column 10: nested too deeply, the limit is 8 levels");
	memset(deep + 100000, ']', 100000);
	expect_code(deep, sizeof(deep), &o, -E2BIG, "doc: line 1, column 10: nested too deeply, the limit is 8 levels");
	for (size_t i = 0; i + 5 <= sizeof(deep); i += 5)
		memcpy(deep + i, "{\"a\":", 5);
	expect_code(deep, sizeof(deep), &o, -E2BIG, "doc: line 1, column 46: nested too deeply, the limit is 8 levels");
}

/* A deep drain step of settings.md 1.3 must fit: parallel, http, undo, headers, secretRef. */
static void test_depth_of_settings(void **state)
{
	static const char text[] =
		"{\"drain\":{\"steps\":[{\"steps\":[{\"undo\":{\"headers\":{\"A\":{\"secretRef\":\"x\"}}}}]}]}}";
	struct jd_options o = {.subject = "doc"};

	(void)state;
	expect_code(text, strlen(text), &o, 0, "");
}

static size_t memory_in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

/* json-c alone would turn 64 KiB of {} into 17 MB. (Sanitizers' allocators count nothing here.) */
static void test_memory(void **state)
{
	size_t len = 64 * 1024, before, used;
	struct json_object *tree = NULL;
	struct error err = ERROR_INIT;
	char *text = malloc(len), *value = NULL;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i + 2 < len; i += 3)
		memcpy(text + i, "{},", 3);
	text[0] = '[';
	memcpy(text + 1, "1,", 2);
	text[len - 1] = ']';
	assert_int_equal(jd_decode_document(text, len, "doc", len, &raw, &value, &err), -E2BIG);
	assert_non_null(strstr(err.msg, "too many values, the limit is 8256"));

	/* The most objects that a document of this size may have. */
	text[2751 * 3 - 1] = ']';
	memset(text + 2751 * 3, ' ', len - 2751 * 3);
	before = memory_in_use();
	assert_int_equal(jd_scan(text, len, len, LIMIT_JSON_DEPTH, 8256, &tree, &err), 0);
	used = memory_in_use() - before;
	assert_true(used < 3UL * 1024 * 1024);
	jd_tree_erase(tree);

	/* And the most that settings may have. */
	len = 3 * (LIMIT_SETTINGS_VALUES / 3);
	before = memory_in_use();
	for (size_t i = 0; i + 2 < len; i += 3)
		memcpy(text + i, "{},", 3);
	text[0] = '[';
	memcpy(text + 1, "1,", 2);
	text[len - 1] = ']';
	assert_int_equal(jd_scan(text, len, len, LIMIT_SETTINGS_DEPTH, LIMIT_SETTINGS_VALUES, &tree, &err), 0);
	used = memory_in_use() - before;
	assert_true(used < 12UL * 1024 * 1024);
	jd_tree_erase(tree);
	free(text);
}

/* Texts of other programs. */

struct event {
	char *id;
	int type, status;
	struct jd_list resources;
	char *not_before;
	int64_t duration;
};

static const char *const event_types[] = {"Freeze", "Reboot", "Redeploy", NULL};
static const struct jd_type event_type = {.kind = JD_CHOICE, .names = event_types, .lenient = true};
static const struct jd_type minus_one_up = {.kind = JD_INTEGER, .min = -1, .max = INT64_MAX, .lenient = true};
static const struct jd_field event_fields[] = {
	{"EventId", &any_text, offsetof(struct event, id), JD_REQUIRED},
	{"EventType", &event_type, offsetof(struct event, type), JD_REQUIRED},
	{"Resources", &texts_type, offsetof(struct event, resources)},
	{"NotBefore", &any_text, offsetof(struct event, not_before)},
	{"DurationInSeconds", &minus_one_up, offsetof(struct event, duration), .default_integer = -1},
	{0},
};
static const struct jd_type event = {.kind = JD_OBJECT, .fields = event_fields, .size = sizeof(struct event)};
static const struct jd_type events_type = {.kind = JD_LIST, .element = &event, .max = LIMIT_EVENTS};

struct events {
	int64_t incarnation;
	struct jd_list events;
};
static const struct jd_field events_fields[] = {
	{"DocumentIncarnation", &any_integer, offsetof(struct events, incarnation), JD_REQUIRED},
	{"Events", &events_type, offsetof(struct events, events), JD_REQUIRED},
	{0},
};
static const struct jd_type events_document = {
	.kind = JD_OBJECT, .fields = events_fields, .size = sizeof(struct events)};

static void test_scheduled_events(void **state)
{
	static const char text[] =
		"{\"DocumentIncarnation\":5,\"New\":{\"a\":[{}]},\"Events\":[{\"EventId\":\"A\",\"EventType\":"
		"\"Reboot\","
		"\"ResourceType\":\"VirtualMachine\",\"Resources\":[\"vm0\",\"vm1\"],\"NotBefore\":\"\","
		"\"DurationInSeconds\":9},{\"EventId\":\"B\",\"EventType\":\"Unheard\",\"NotBefore\":null}]}";
	static const char wrong[] = "{\"DocumentIncarnation\":5,\"Events\":[{\"EventId\":7,\"EventType\":\"Reboot\"}]}";
	struct events d = {0}, zero = {0};
	struct error err = ERROR_INIT;
	const struct event *e;

	(void)state;
	assert_int_equal(jd_decode_document(text, strlen(text), "scheduled events", LIMIT_EVENTS_DOCUMENT,
					    &events_document, &d, &err),
			 0);
	assert_int_equal(d.incarnation, 5);
	assert_int_equal(d.events.n, 2);
	e = d.events.items;
	assert_string_equal(e[0].id, "A");
	assert_int_equal(e[0].type, 1);
	assert_int_equal(e[0].resources.n, 2);
	assert_string_equal(((char **)e[0].resources.items)[1], "vm1");
	assert_string_equal(e[0].not_before, "");
	assert_int_equal(e[0].duration, 9);
	assert_int_equal(e[1].type, -1);
	assert_null(e[1].not_before);
	assert_null(e[1].resources.items);
	assert_int_equal(e[1].duration, -1);
	jd_free(&events_document, &d);

	assert_int_equal(jd_decode_document(wrong, strlen(wrong), "scheduled events", LIMIT_EVENTS_DOCUMENT,
					    &events_document, &d, &err),
			 -EINVAL);
	assert_string_equal(err.msg, "scheduled events: Events[0].EventId: expected a text, got 7");
	assert_int_equal(err.cls, ERROR_PLATFORM);
	assert_memory_equal(&d, &zero, sizeof(d));
}

/* expires_in of a token stands in a text; HandlerEnvironment.json is a list of one object. */
static void test_platform_documents(void **state)
{
	struct token {
		char *access_token;
		int64_t expires_in;
	} token = {0};
	static const struct jd_type access = {.kind = JD_TEXT, .max = 8192, .sensitive = true};
	static const struct jd_field token_fields[] = {
		{"access_token", &access, offsetof(struct token, access_token), JD_REQUIRED},
		{"expires_in", &minus_one_up, offsetof(struct token, expires_in), JD_REQUIRED},
		{0},
	};
	static const struct jd_type token_type = {.kind = JD_OBJECT, .fields = token_fields};
	static const struct jd_field inner[] = {{"logFolder", &any_text, 0, JD_REQUIRED}, {0}};
	static const struct jd_type inner_type = {.kind = JD_OBJECT, .fields = inner, .size = sizeof(char *)};
	static const struct jd_field outer[] = {{"handlerEnvironment", &inner_type, 0, JD_REQUIRED}, {0}};
	static const struct jd_type outer_type = {.kind = JD_OBJECT, .fields = outer, .size = sizeof(char *)};
	static const struct jd_type environment = {.kind = JD_LIST, .element = &outer_type, .min = 1, .max = 1};
	static const char token_text[] = "{\"access_token\":\"eyJ\",\"expires_in\":\"86399\",\"expires_on\":\"1\"}";
	static const char environment_text[] = "[{\"version\":1.0,\"handlerEnvironment\":{\"logFolder\":\"/l\"}}]";
	struct jd_list list = {0};
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(jd_decode_document(token_text, strlen(token_text), "token", 4096, &token_type, &token, &err),
			 0);
	assert_int_equal(token.expires_in, 86399);
	jd_free(&token_type, &token);
	assert_null(token.access_token);
	assert_int_equal(
		jd_decode_document("{\"access_token\":\"hunter2\"}", 26, "token", 4096, &token_type, &token, &err),
		-EINVAL);
	assert_string_equal(err.msg, "token: \"expires_in\" is required");

	assert_int_equal(jd_decode_document(environment_text, strlen(environment_text), "HandlerEnvironment.json", 4096,
					    &environment, &list, &err),
			 0);
	assert_string_equal(*(char **)list.items, "/l");
	jd_free(&environment, &list);
	assert_int_equal(jd_decode_document("[]", 2, "HandlerEnvironment.json", 4096, &environment, &list, &err),
			 -EINVAL);
	assert_string_equal(err.msg, "HandlerEnvironment.json: at least 1 item, got 0");
	assert_int_equal(jd_decode_document("[{}]", 4, "HandlerEnvironment.json", 4096, &environment, &list, &err),
			 -EINVAL);
	assert_string_equal(err.msg, "HandlerEnvironment.json: [0]: \"handlerEnvironment\" is required");
}

static void test_defaults(void **state)
{
	struct jd_options o = options(NULL);
	static const char text[] =
		"{\"customScript\":{\"scripts\":[{\"name\":\"a\"}]},\"drain\":{\"steps\":[]},\"vault\":{}}";
	const struct script *script;
	struct doc d = {0};
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(jd_decode(text, strlen(text), &doc_type, &o, &d, &err), 0);
	script = d.scripts_section->items;
	assert_true(script->convert);
	assert_int_equal(script->timeout, 60);
	assert_int_equal(script->policy, 1);
	assert_int_equal(script->on_exit_codes.n, 3);
	assert_int_equal(((int64_t *)script->on_exit_codes.items)[1], 14);
	assert_null(script->identity);
	assert_null(script->arguments.items);
	assert_non_null(d.drain->steps.items);
	assert_int_equal(d.drain->steps.n, 0);
	assert_int_equal(d.drain->policy.n, 2);
	assert_int_equal(d.drain->retry.delay, 30);
	assert_int_equal(d.drain->first.type, -1);
	assert_int_equal(d.drain->max_delay, 0);
	assert_int_equal(d.drain->verify.timeout, 30);
	assert_int_equal(d.vault->polling, 3600);
	jd_free(&doc_type, &d);
}

static void test_pretty(void **state)
{
	static const char text[] = "{\"drain\":{\"steps\":[],\"verify\":{\"endpoint\":\"a\\nb\"}},\"secrets\":{}}";
	static const char want[] = "{\n"
				   "  \"drain\": {\n"
				   "    \"pollingIntervalInSeconds\": 1,\n"
				   "    \"leadInSeconds\": 1200,\n"
				   "    \"steps\": [],\n"
				   "    \"policy\": [\n"
				   "      \"Freeze\",\n"
				   "      \"Reboot\"\n"
				   "    ],\n"
				   "    \"retry\": {\n"
				   "      \"delayInSeconds\": 30\n"
				   "    },\n"
				   "    \"verify\": {\n"
				   "      \"endpoint\": \"a\\nb\",\n"
				   "      \"timeoutInSeconds\": 30\n"
				   "    }\n"
				   "  },\n"
				   "  \"secrets\": {}\n"
				   "}";
	struct jd_options o = options(NULL);
	struct buf out = BUF_INIT(4096), small = BUF_INIT(20);
	struct doc d = {0};
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(jd_decode(text, strlen(text), &doc_type, &o, &d, &err), 0);
	assert_int_equal(jd_encode(&doc_type, &d, true, &out), 0);
	assert_string_equal(out.data, want);
	assert_int_equal(jd_encode(&doc_type, &d, true, &small), -EFBIG);
	jd_free(&doc_type, &d);
	buf_done(&out);
	buf_done(&small);
}

/* What was built by hand, not decoded: empty things with and without JD_OMIT_EMPTY. */
static void test_omit_empty(void **state)
{
	struct values {
		bool flag;
		int64_t n;
		char *text;
		struct jd_list list;
		struct jd_secretable secret;
		char *raw;
	} zero = {0};
	static const struct jd_field all[] = {
		{"flag", &boolean, offsetof(struct values, flag)},
		{"n", &any_integer, offsetof(struct values, n)},
		{"text", &any_text, offsetof(struct values, text)},
		{"list", &texts_type, offsetof(struct values, list)},
		{"secret", &secret_text, offsetof(struct values, secret)},
		{"raw", &raw, offsetof(struct values, raw)},
		{0},
	};
	static const struct jd_field omitting[] = {
		{"flag", &boolean, offsetof(struct values, flag), JD_OMIT_EMPTY},
		{"n", &any_integer, offsetof(struct values, n), JD_OMIT_EMPTY},
		{"text", &any_text, offsetof(struct values, text), JD_OMIT_EMPTY},
		{"list", &texts_type, offsetof(struct values, list), JD_OMIT_EMPTY},
		{0},
	};
	static const struct jd_field with_defaults[] = {
		{"flag", &boolean, offsetof(struct values, flag), JD_OMIT_EMPTY, .default_integer = true},
		{"n", &any_integer, offsetof(struct values, n), JD_OMIT_EMPTY, .default_integer = 5},
		{"list", &texts_type, offsetof(struct values, list), JD_OMIT_EMPTY, .default_text = "[\"a\"]"},
		{0},
	};
	static const struct jd_type types[] = {
		{.kind = JD_OBJECT, .fields = all},
		{.kind = JD_OBJECT, .fields = omitting},
		{.kind = JD_OBJECT, .fields = with_defaults},
	};
	struct buf out = BUF_INIT(4096);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		assert_int_equal(jd_encode(&types[i], &zero, false, &out), 0);
	assert_string_equal(out.data, "{\"flag\":false,\"n\":0,\"list\":[]}{}{\"flag\":false,\"n\":0,\"list\":[]}");
	buf_done(&out);
}

static void test_quote(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *want;
	} cases[] = {
		{"", 0, "\"\""},
		{"a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\""},
		{"\b\f\n\r\t\x01\x1f\x7f", 8, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\""},
		{"a\0b", 3, "\"a\\u0000b\""},
		{"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\""},
		{"\xFFx\xC3", 3, "\"\xEF\xBF\xBDx\xEF\xBF\xBD\""},
		{"\xE2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
		{"\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
		{"\xC3\"", 2, "\"\xEF\xBF\xBD\\\"\""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf out = BUF_INIT(200);

		assert_int_equal(jd_quote(&out, cases[i].text, cases[i].len), 0);
		assert_string_equal(out.data, cases[i].want);
		buf_done(&out);
	}
}

static void test_report(void **state)
{
	struct jd_report r = {0};
	char longest[3000];

	(void)state;
	jd_report_error(&r, "settings", "a.b", "%s", "wrong");
	jd_report_error(&r, "settings", "a.b", "wrong");
	jd_report_error(&r, "settings", "", "all wrong");
	assert_int_equal(r.n_errors, 2);
	assert_int_equal(r.n_errors_found, 2);
	assert_string_equal(r.errors[0], "settings: a.b: wrong");
	assert_string_equal(r.errors[1], "settings: all wrong");
	for (int i = 0; i < 20; i++) {
		jd_report_error(&r, "settings", "x", "%d", i);
		jd_report_warning(&r, "settings", "x", "%d", i);
	}
	assert_int_equal(r.n_errors, LIMIT_SETTINGS_ERRORS);
	assert_int_equal(r.n_errors_found, 22);
	assert_int_equal(r.n_warnings, LIMIT_SETTINGS_WARNINGS);
	jd_report_done(&r);
	assert_int_equal(r.n_errors + r.n_warnings + r.n_errors_found, 0);

	/* Cut between characters. */
	for (size_t i = 0; i + 2 < sizeof(longest); i += 2)
		memcpy(longest + i, "\xC3\xA9", 3);
	jd_report_error(&r, "settings", "x", "%s", longest);
	jd_report_error(&r, "settings", "xy", "%s", longest);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(strlen(r.errors[i]) < JD_REPORT_SENTENCE && strlen(r.errors[i]) > JD_REPORT_SENTENCE - 6);
		assert_true(utf8_valid(r.errors[i], strlen(r.errors[i])));
	}
	jd_report_done(&r);
}

/* A list with no shape the decoder knows about must not be slow: the time limit of the test says so. */
static void test_many(void **state)
{
	struct buf text = BUF_INIT(1 << 20);
	struct jd_options o = {.subject = "doc", .max_values = 200000};
	char *value = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	buf_puts(&text, "{\"big\":\"");
	for (int i = 0; i < 30000; i++)
		buf_puts(&text, "0123456789");
	buf_puts(&text, "\"");
	for (int i = 0; i < 50000; i++)
		buf_printf(&text, ",\"k%d\":0", i);
	buf_putc(&text, '}');
	assert_int_equal(buf_ok(&text), 0);
	assert_int_equal(jd_decode(text.data, text.len, &raw, &o, &value, &err), 0);
	jd_free(&raw, &value);
	buf_done(&text);
}

static void note_visit(const struct jd_type *type, const struct jd_field *field, void *value, const char *path,
		       void *userdata)
{
	const struct jd_secretable *s = value;

	if (type->kind == JD_TEXT)
		buf_printf(userdata, "%s=%s\n", path, *(char **)value);
	else if (type->kind == JD_SECRETABLE)
		buf_printf(userdata, "%s%s%s\n", path, s->ref ? "->" : "=", s->ref ? s->ref : s->text);
	else if (type->kind == JD_POINTER || type->kind == JD_VARIANT || type->kind == JD_LIST)
		buf_printf(userdata, "%s (%s)\n", path, field ? field->name : "element");
}

/* Every value that is there, outside first, by the paths that messages use. */
static void test_walk(void **state)
{
	static const char text[] =
		"{\"secrets\":{\"a b\":\"1\"},\"customScript\":{\"scripts\":[{\"name\":\"n\",\"files\":[\"http:\"],"
		"\"environment\":{\"A\":{\"secretRef\":\"k\"}},\"onExitCodes\":[]}]},"
		"\"drain\":{\"policy\":[],\"steps\":[{\"type\":\"run\",\"command\":[\"c\"]}]}}";
	static const char want[] = "s.customScript (customScript)\n"
				   "s.customScript.scripts (scripts)\n"
				   "s.customScript.scripts[0].name=n\n"
				   "s.customScript.scripts[0].environment.A->k\n"
				   "s.customScript.scripts[0].files (files)\n"
				   "s.customScript.scripts[0].files[0].uri=http:\n"
				   "s.customScript.scripts[0].files[0].mode=0500\n"
				   "s.customScript.scripts[0].onExitCodes (onExitCodes)\n"
				   "s.drain (drain)\n"
				   "s.drain.steps (steps)\n"
				   "s.drain.steps[0] (element)\n"
				   "s.drain.steps[0].command (command)\n"
				   "s.drain.steps[0].command[0]=c\n"
				   "s.drain.policy (policy)\n"
				   "s.secrets[\"a b\"]=1\n";
	struct jd_options o = options(NULL);
	struct buf seen = BUF_INIT(4096);
	struct error err = ERROR_INIT;
	struct doc d = {0};

	(void)state;
	assert_int_equal(jd_decode(text, strlen(text), &doc_type, &o, &d, &err), 0);
	jd_walk(&doc_type, &d, "s", note_visit, &seen);
	assert_string_equal(buf_str(&seen), want);
	jd_free(&doc_type, &d);
	buf_done(&seen);
}

/* Thousands of mistakes: eight are told, all are counted, and looking for the nearest word stops. */
static void test_many_mistakes(void **state)
{
	struct buf text = BUF_INIT(1 << 20);
	struct jd_report r = {0};
	struct jd_options o = options(&r);
	struct doc d = {0};
	struct error err = ERROR_INIT;

	(void)state;
	buf_puts(&text, "{\"vault\":{");
	for (int i = 0; i < 10000; i++)
		buf_printf(&text, "%s\"pollingIntervalInSecondsWhenTheMoonIs%d\":0", i ? "," : "", i);
	buf_puts(&text, "},\"drain\":{");
	for (int i = 0; i < 10000; i++)
		buf_printf(&text, "%s\"pollingIntervalInSecondsWhenTheMoonIs%d\":0", i ? "," : "", i);
	buf_puts(&text, "}}");
	assert_int_equal(jd_decode(text.data, text.len, &doc_type, &o, &d, &err), -EINVAL);
	assert_int_equal(r.n_errors, LIMIT_SETTINGS_ERRORS);
	assert_int_equal(r.n_errors_found, 10000);
	assert_int_equal(r.n_warnings, LIMIT_SETTINGS_WARNINGS);
	jd_report_done(&r);
	buf_done(&text);
}

/* The longest path that a document can make still gives whole characters, also in the smaller struct error. */
static void test_long_paths(void **state)
{
	static const struct jd_type *const element = &any_integer;
	struct jd_type maps[8];
	struct jd_options o = options(NULL);
	struct buf text = BUF_INIT(1 << 16);
	struct jd_list target = {0};
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		maps[i] = (struct jd_type){
			.kind = JD_MAP,
			.size = sizeof(char *) + sizeof(struct jd_list),
			.value_offset = sizeof(char *),
			.element = i + 1 < ARRAY_SIZE(maps) ? &maps[i + 1] : element,
		};
		buf_puts(&text, "{\"");
		for (int k = 0; k < 80; k++)
			buf_puts(&text, "\xC3\xA9\\u0001");
		buf_puts(&text, "\":");
	}
	buf_puts(&text, "true}}}}}}}}");
	assert_int_equal(jd_decode(text.data, text.len, maps, &o, &target, &err), -EINVAL);
	assert_true(strlen(err.msg) > sizeof(err.msg) - 5);
	assert_true(utf8_valid(err.msg, strlen(err.msg)));
	buf_done(&text);
}

/* json-c's own functions, to look at a value after its document was given back. */
struct json_object *json_object_get(struct json_object *v);
const char *json_object_get_string(struct json_object *v);
int json_object_put(struct json_object *v);
struct json_object *json_object_array_get_idx(const struct json_object *v, size_t i);

static void test_texts_are_erased(void **state)
{
	static const char text[] = "[\"hunter2hunter2hunter2hunter2hunter2hunter2\"]";
	struct json_object *tree = NULL, *kept;

	(void)state;
	assert_int_equal(jd_scan(text, strlen(text), 100, 2, 10, &tree, NULL), 0);
	kept = json_object_get(json_object_array_get_idx(tree, 0));
	assert_string_equal(json_object_get_string(kept), "hunter2hunter2hunter2hunter2hunter2hunter2");
	jd_tree_erase(tree);
	assert_string_equal(json_object_get_string(kept), "");
	json_object_put(kept);
}

static void test_schema_parses(void **state)
{
	struct buf first = BUF_INIT(1 << 20), second = BUF_INIT(1 << 20), canonical = BUF_INIT(1 << 20);
	struct buf small = BUF_INIT(100);
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(jd_schema(&doc_type, "Settings", "https://evenkeel.example/settings.json", &first), 0);
	assert_int_equal(jd_schema(&doc_type, "Settings", "https://evenkeel.example/settings.json", &second), 0);
	assert_string_equal(first.data, second.data);
	if (jd_canonical(first.data, first.len, first.len, &canonical, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(jd_schema(&doc_type, "Settings", NULL, &small), -EFBIG);
	buf_done(&first);
	buf_done(&second);
	buf_done(&canonical);
	buf_done(&small);
}

/* One of each form, word by word. */
static void test_schema_words(void **state)
{
	static const struct jd_type letters = {.kind = JD_TEXT, .min = 1, .max = 8, .pattern = "^[a-z]+$"};
	static const struct jd_type letter_map = {
		.kind = JD_MAP, .element = &letters, .max = 3, .size = 16, .pattern = "^k"};
	static const struct jd_type letter_list = {.kind = JD_LIST, .element = &letters, .min = 1, .max = 2};
	static const struct jd_type loose = {.kind = JD_INTEGER, .lenient = true};
	static const struct jd_field inner[] = {
		{"n", &seconds, 0, JD_REQUIRED, .default_integer = 5},
		{"loose", &loose, 0, .default_integer = 7},
		{0},
	};
	static const struct jd_type pointer = {
		.kind = JD_POINTER, .fields = inner, .lenient = true, .short_member = "n"};
	static const struct jd_field one[] = {{"x", &boolean, 0, .default_integer = true}, {0}};
	static const struct jd_field two[] = {{"y", &any_integer, 0, JD_REQUIRED}, {0}};
	static const struct jd_field all[] = {{"id", &letters, 0}, {0}};
	static const char *const names[] = {"one", "two", NULL};
	static const struct jd_field *const variants[] = {one, two};
	static const struct jd_type variant = {
		.kind = JD_VARIANT, .tag = "type", .names = names, .variants = variants, .fields = all};
	static const struct jd_field fields[] = {
		{"letters", &letters, 0, JD_REQUIRED, .doc = "Some \"letters\"."},
		{"list", &letter_list, 0, .default_text = "[\"a\"]"},
		{"map", &letter_map, 0},
		{"old", &any_text, .flags = JD_IGNORED},
		{"size", &size_in_bytes, 0, .default_integer = -1},
		{"choice", &policy_type, 0, .default_integer = 2},
		{"key", &secret_only, 0},
		{"url", &secret_text, 0},
		{"pointer", &pointer, 0},
		{"variant", &variant, 0},
		{"ports", &ports_type, 0},
		{"raw", &raw, 0},
		{0},
	};
	static const struct jd_type root = {.kind = JD_OBJECT, .fields = fields};
	static const char want[] =
		"{\"$defs\":{\"letters\":{\"maxLength\":8,\"minLength\":1,\"pattern\":\"^[a-z]+$\",\"type\":\"string\"}"
		",\"secretRef\":{\"additionalProperties\":false,"
		"\"properties\":{\"secretRef\":{\"description\":\"The name of a value among the "
		"secrets.\",\"maxLength\":256,"
		"\"minLength\":1,\"type\":\"string\"}},\"required\":[\"secretRef\"],\"type\":\"object\"}},\"$id\":"
		"\"I\",\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","
		"\"additionalProperties\":false,\"properties\":{\"choice\":{\"default\":\"everyBoot\",\"enum\":["
		"\"oncePerSequence\","
		"\"oncePerContent\",\"everyBoot\"]},\"key\":{\"$ref\":\"#/$defs/secretRef\"},\"letters\":{\"$ref\":\"#/"
		"$defs/letters\","
		"\"description\":\"Some "
		"\\\"letters\\\".\"},\"list\":{\"default\":[\"a\"],\"items\":{\"$ref\":\"#/$defs/letters\"},"
		"\"maxItems\":2,\"minItems\":1,\"type\":\"array\"},\"map\":{\"additionalProperties\":{\"$ref\":\"#/"
		"$defs/letters\"},"
		"\"maxProperties\":3,\"propertyNames\":{\"pattern\":\"^k\"},\"type\":\"object\"},\"old\":{"
		"\"deprecated\":true,"
		"\"type\":\"string\"},\"pointer\":{\"anyOf\":[{\"maximum\":3600,\"minimum\":1,\"pattern\":\"^-?[0-9]+("
		"\\\\.0+)?$\","
		"\"type\":[\"integer\",\"string\"]},{\"additionalProperties\":true,\"properties\":{\"loose\":{"
		"\"default\":7,"
		"\"pattern\":\"^-?[0-9]+(\\\\.0+)?$\",\"type\":[\"integer\",\"string\"]},\"n\":{\"maximum\":3600,"
		"\"minimum\":1,"
		"\"pattern\":\"^-?[0-9]+(\\\\.0+)?$\",\"type\":[\"integer\",\"string\"]}},\"required\":[\"n\"],"
		"\"type\":\"object\"}]},"
		"\"ports\":{\"anyOf\":[{\"const\":\"fromLoadBalancer\"},{\"items\":{\"maximum\":65535,\"minimum\":1,"
		"\"type\":\"integer\"},"
		"\"maxItems\":64,\"minItems\":1,\"type\":\"array\"}]},\"raw\":{},\"size\":{\"minimum\":0,\"type\":"
		"\"integer\"},"
		"\"url\":{\"anyOf\":[{\"maxLength\":100,\"type\":\"string\"},{\"$ref\":\"#/$defs/"
		"secretRef\"}]},\"variant\":{\"oneOf\":[{\"additionalProperties\":false,"
		"\"properties\":{\"id\":{\"$ref\":\"#/$defs/"
		"letters\"},\"type\":{\"const\":\"one\"},\"x\":{\"default\":true,\"type\":\"boolean\"}},"
		"\"required\":[\"type\"],\"type\":\"object\"},{\"additionalProperties\":false,\"properties\":{\"id\":{"
		"\"$ref\":\"#/$defs/letters\"},"
		"\"type\":{\"const\":\"two\"},\"y\":{\"type\":\"integer\"}},\"required\":[\"type\",\"y\"],\"type\":"
		"\"object\"}]}},"
		"\"required\":[\"letters\"],\"title\":\"T\",\"type\":\"object\"}";
	struct buf schema = BUF_INIT(1 << 20), canonical = BUF_INIT(1 << 20);
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(jd_schema(&root, "T", "I", &schema), 0);
	if (jd_canonical(schema.data, schema.len, schema.len, &canonical, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(canonical.data, want);
	buf_done(&schema);
	buf_done(&canonical);
}

/* A type that holds itself ends in a reference. */
static const struct jd_type recursive;
static const struct jd_field recursive_fields[] = {{"again", &recursive, 0}, {0}};
static const struct jd_type recursive = {.kind = JD_POINTER, .fields = recursive_fields, .size = sizeof(void *)};

static void test_schema_recursion(void **state)
{
	static const struct jd_type root = {.kind = JD_OBJECT, .fields = recursive_fields};
	struct buf schema = BUF_INIT(1 << 16);

	(void)state;
	assert_int_equal(jd_schema(&root, NULL, NULL, &schema), 0);
	assert_non_null(strstr(schema.data, "\"$ref\": \"#/$defs/again\""));
	buf_done(&schema);
}

/*
 * Memory that runs out: every allocation, ours and json-c's constructors', fails once. Nothing may leak
 * (the sanitizer's word), the target stays zero, the code is -ENOMEM.
 */
static unsigned countdown; /* 0: never */

static bool denied(void)
{
	return countdown > 0 && --countdown == 0;
}

#define WRAP(type, name, failed, args, params)                                                                         \
	type __real_##name params;                                                                                     \
	type __wrap_##name params;                                                                                     \
	type __wrap_##name params                                                                                      \
	{                                                                                                              \
		return denied() ? failed : __real_##name args;                                                         \
	}
WRAP(void *, malloc, NULL, (n), (size_t n))
WRAP(void *, calloc, NULL, (n, size), (size_t n, size_t size))
WRAP(void *, realloc, NULL, (p, n), (void *p, size_t n))
WRAP(char *, strdup, NULL, (s), (const char *s))
WRAP(char *, strndup, NULL, (s, n), (const char *s, size_t n))
WRAP(struct json_object *, json_object_new_object, NULL, (), (void))
WRAP(struct json_object *, json_object_new_array, NULL, (), (void))
WRAP(struct json_object *, json_object_new_boolean, NULL, (b), (int b))
WRAP(struct json_object *, json_object_new_int64, NULL, (n), (int64_t n))
WRAP(struct json_object *, json_object_new_double_s, NULL, (n, s), (double n, const char *s))
WRAP(struct json_object *, json_object_new_string_len, NULL, (s, n), (const char *s, int n))
WRAP(int, json_object_array_add, -1, (a, v), (struct json_object * a, struct json_object *v))
WRAP(int, json_object_object_add_ex, -1, (o, k, v, f),
     (struct json_object * o, const char *k, struct json_object *v, unsigned f))

static void test_oom_decode(void **state)
{
	struct doc zero = {0};
	unsigned sweeps = 0;

	(void)state;
	for (;; sweeps++) {
		struct jd_report r = {0};
		struct jd_options o = options(&r);
		struct error err = ERROR_INIT;
		struct doc d = {0};
		int code;

		countdown = sweeps + 1;
		code = jd_decode(whole, strlen(whole), &doc_type, &o, &d, &err);
		if (countdown > 0) {
			countdown = 0;
			assert_int_equal(code, 0);
			jd_free(&doc_type, &d);
			break;
		}
		assert_int_equal(code, -ENOMEM);
		assert_string_equal(err.msg, "out of memory");
		assert_int_equal(err.cls, ERROR_SYSTEM);
		assert_int_equal(r.n_errors_found, 0);
		assert_memory_equal(&d, &zero, sizeof(d));
		jd_report_done(&r);
	}
	assert_true(sweeps > 150);
}

static void test_oom_errors(void **state)
{
	static const char text[] = "{\"drain\":{\"policy\":[1,2]},\"vault\":{\"x\":1},\"zz\":\"a\"}";

	(void)state;
	for (unsigned n = 1;; n++) {
		struct jd_report r = {0};
		struct jd_options o = options(&r);
		struct error err = ERROR_INIT;
		struct doc d = {0};
		bool through;
		int code;

		countdown = n;
		code = jd_decode(text, strlen(text), &doc_type, &o, &d, &err);
		through = countdown > 0;
		countdown = 0;
		assert_true(code == -ENOMEM || code == -EINVAL);
		assert_true(*err.msg);
		jd_report_done(&r);
		if (!through)
			continue;
		assert_int_equal(code, -EINVAL);
		break;
	}
}

static void test_oom_writing(void **state)
{
	struct jd_options o = options(NULL);
	struct error err = ERROR_INIT;
	struct doc d = {0};
	unsigned failures = 0;

	(void)state;
	assert_int_equal(jd_decode(whole, strlen(whole), &doc_type, &o, &d, &err), 0);
	for (unsigned n = 1;; n++) {
		struct buf a = BUF_INIT(1 << 20), b = BUF_INIT(1 << 20), c = BUF_INIT(1 << 20);
		bool through;
		int ra, rb, rc;

		countdown = n;
		ra = jd_encode(&doc_type, &d, true, &a);
		rb = jd_schema(&doc_type, "t", NULL, &b);
		rc = jd_canonical(whole, strlen(whole), 65536, &c, &err);
		through = countdown > 0;
		countdown = 0;
		buf_done(&a);
		buf_done(&b);
		buf_done(&c);
		if (through) {
			assert_int_equal(ra + rb + rc, 0);
			break;
		}
		assert_int_equal(ra + rb + rc, -ENOMEM);
		failures++;
	}
	assert_true(failures > 50);
	jd_free(&doc_type, &d);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_strictness),
		cmocka_unit_test(test_cut_documents),
		cmocka_unit_test(test_nul_inside),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_depth_of_settings),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_scheduled_events),
		cmocka_unit_test(test_platform_documents),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_pretty),
		cmocka_unit_test(test_omit_empty),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_walk),
		cmocka_unit_test(test_many_mistakes),
		cmocka_unit_test(test_long_paths),
		cmocka_unit_test(test_texts_are_erased),
		cmocka_unit_test(test_schema_parses),
		cmocka_unit_test(test_schema_words),
		cmocka_unit_test(test_schema_recursion),
		cmocka_unit_test(test_oom_decode),
		cmocka_unit_test(test_oom_errors),
		cmocka_unit_test(test_oom_writing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

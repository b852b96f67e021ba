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

#include "agent/base/limits.h"
#include "agent/base/macros.h"
#include "agent/codec/json.h"
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
	int from;
};

struct step {
	char *name;
	int type;
	int64_t timeout;
	union {
		struct jd_list command; /* run */
		struct ports ports;	/* waitForConnections */
		struct jd_list steps;	/* parallel */
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

static const struct jd_type any_text = { .kind = JD_TEXT };
static const struct jd_type boolean = { .kind = JD_BOOLEAN };
static const struct jd_type name_text = { .kind = JD_TEXT, .min = 1, .max = 63, .check = check_name,
					  .pattern = "^[A-Za-z0-9_.-]+$" };
static const struct jd_type argument = { .kind = JD_TEXT,
	.no_secret = "a secretRef cannot be an argument (every user can read argv); use environment" };
static const struct jd_type secret_text = { .kind = JD_SECRETABLE, .max = 100 };
static const struct jd_type secret_url = { .kind = JD_SECRETABLE, .check = check_url };
static const struct jd_type secret_only = { .kind = JD_SECRETABLE, .must_be_secret = true };
static const struct jd_type seconds = { .kind = JD_INTEGER, .min = 1, .max = 3600 };
static const struct jd_type size_in_bytes = { .kind = JD_INTEGER, .min = 0, .max = INT64_MAX };
static const struct jd_type port = { .kind = JD_INTEGER, .min = 1, .max = 65535, .what = "a port" };
static const struct jd_type any_integer = { .kind = JD_INTEGER };
static const struct jd_type raw = { .kind = JD_RAW };

static const struct jd_field file_fields[] = {
	{ "uri", &secret_url, offsetof(struct file, uri), JD_REQUIRED, .doc = "Where it is." },
	{ "mode", &any_text, offsetof(struct file, mode), .default_text = "0500", .doc = "Its mode." },
	{ "maxSizeInBytes", &size_in_bytes, offsetof(struct file, max_size), .default_integer = 4294967296 },
	{ 0 },
};
static const struct jd_type file_type = { .kind = JD_OBJECT, .fields = file_fields, .size = sizeof(struct file),
					  .short_member = "uri" };

static const struct jd_field identity_fields[] = {
	{ "clientId", &any_text, offsetof(struct identity, client_id), JD_OMIT_EMPTY },
	{ 0 },
};
static const struct jd_type identity_type = { .kind = JD_POINTER, .fields = identity_fields,
					      .size = sizeof(struct identity) };

static const char *const policies[] = { "oncePerSequence", "oncePerContent", "everyBoot", NULL };
static const struct jd_type policy_type = { .kind = JD_CHOICE, .names = policies };

static const struct jd_type arguments_type = { .kind = JD_LIST, .element = &argument, .max = 64 };
static const struct jd_type codes_type = { .kind = JD_LIST, .element = &any_integer, .max = 16 };
static const struct jd_type files_type = { .kind = JD_LIST, .element = &file_type, .max = 64 };
static const struct jd_type environment_type = { .kind = JD_MAP, .element = &secret_text, .max = 4,
						 .size = sizeof(struct named_secretable),
						 .value_offset = offsetof(struct named_secretable, value),
						 .check = check_name };

static const struct jd_field script_fields[] = {
	{ "name", &name_text, offsetof(struct script, name), JD_REQUIRED, .doc = "Its name." },
	{ "commandToExecute", &secret_text, offsetof(struct script, command) },
	{ "arguments", &arguments_type, offsetof(struct script, arguments), JD_OMIT_EMPTY },
	{ "environment", &environment_type, offsetof(struct script, environment), JD_OMIT_EMPTY },
	{ "files", &files_type, offsetof(struct script, files) },
	{ "onExitCodes", &codes_type, offsetof(struct script, on_exit_codes), .default_text = "[30, 14, 7]" },
	{ "identity", &identity_type, offsetof(struct script, identity) },
	{ "storageAccountKey", &secret_only, offsetof(struct script, key) },
	{ "convertLineEndings", &boolean, offsetof(struct script, convert), .default_integer = true },
	{ "timeoutInSeconds", &seconds, offsetof(struct script, timeout), .default_integer = 60 },
	{ "runPolicy", &policy_type, offsetof(struct script, policy), .default_integer = 1 },
	{ "extra", &raw, offsetof(struct script, extra) },
	{ 0 },
};
static const struct jd_type script_type = { .kind = JD_OBJECT, .fields = script_fields, .size = sizeof(struct script) };
static const struct jd_type scripts_type = { .kind = JD_LIST, .element = &script_type, .max = 32, .min = 1,
					     .unique = "name" };
static const struct jd_field custom_script_fields[] = {
	{ "scripts", &scripts_type, 0, JD_REQUIRED },
	{ 0 },
};
static const struct jd_type custom_script = { .kind = JD_POINTER, .fields = custom_script_fields,
					      .size = sizeof(struct jd_list) };

static const struct jd_type command_type = { .kind = JD_LIST, .element = &argument, .min = 1, .max = 64,
					     .what = "a command as a list of texts" };
static const struct jd_type port_list = { .kind = JD_LIST, .element = &port, .min = 1, .max = 64 };
static const char *const froms[] = { "fromLoadBalancer", NULL };
static const struct jd_type from_type = { .kind = JD_CHOICE, .names = froms,
					  .what = "a list of ports or \"fromLoadBalancer\"" };
static const struct jd_field ports_fields[] = {
	{ "list", &port_list, offsetof(struct ports, list) },
	{ "from", &from_type, offsetof(struct ports, from), .default_integer = -1 },
	{ 0 },
};
static const struct jd_type ports_type = { .kind = JD_OBJECT, .fields = ports_fields, .size = sizeof(struct ports),
					   .short_member = "from", .short_list = "list", .short_only = true,
					   .what = "a list of ports or \"fromLoadBalancer\"" };

static const struct jd_field common_step[] = {
	{ "name", &name_text, offsetof(struct step, name) },
	{ "timeoutInSeconds", &seconds, offsetof(struct step, timeout), .default_integer = -1 },
	{ 0 },
};
static const struct jd_field probe_down[] = { { 0 } };
static const struct jd_field run[] = {
	{ "command", &command_type, offsetof(struct step, command), JD_REQUIRED },
	{ 0 },
};
static const struct jd_field wait_for_connections[] = {
	{ "ports", &ports_type, offsetof(struct step, ports), JD_REQUIRED },
	{ 0 },
};
static const char *const inner_names[] = { "probeDown", "run", "waitForConnections", NULL };
static const struct jd_field *const inner_variants[] = { probe_down, run, wait_for_connections };
static const struct jd_type inner_step = { .kind = JD_VARIANT, .tag = "type", .names = inner_names,
					   .variants = inner_variants, .fields = common_step,
					   .size = sizeof(struct step), .tag_offset = offsetof(struct step, type) };
static const struct jd_type inner_steps = { .kind = JD_LIST, .element = &inner_step, .min = 2, .max = 8 };
static const struct jd_field parallel[] = {
	{ "steps", &inner_steps, offsetof(struct step, steps), JD_REQUIRED },
	{ 0 },
};
static const char *const step_names[] = { "probeDown", "run", "waitForConnections", "parallel", NULL };
static const struct jd_field *const step_variants[] = { probe_down, run, wait_for_connections, parallel };
static const struct jd_type step_type = { .kind = JD_VARIANT, .tag = "type", .names = step_names,
					  .variants = step_variants, .fields = common_step,
					  .size = sizeof(struct step), .tag_offset = offsetof(struct step, type) };
static const struct jd_type steps_type = { .kind = JD_LIST, .element = &step_type, .max = 64, .unique = "name" };
static const struct jd_type texts_type = { .kind = JD_LIST, .element = &any_text, .max = 8 };
static const struct jd_field retry_fields[] = {
	{ "times", &seconds, offsetof(struct retry, times), .default_integer = 0 },
	{ "delayInSeconds", &seconds, offsetof(struct retry, delay), .default_integer = 30 },
	{ 0 },
};
static const struct jd_type retry_type = { .kind = JD_OBJECT, .fields = retry_fields, .size = sizeof(struct retry) };
static const struct jd_field drain_fields[] = {
	{ "pollingIntervalInSeconds", &seconds, offsetof(struct drain, polling), .default_integer = 1 },
	{ "leadInSeconds", &any_integer, offsetof(struct drain, lead_in), .default_integer = 1200 },
	{ "steps", &steps_type, offsetof(struct drain, steps) },
	{ "policy", &texts_type, offsetof(struct drain, policy), .default_text = "[\"Freeze\", \"Reboot\"]" },
	{ "retry", &retry_type, offsetof(struct drain, retry) },
	{ "first", &step_type, offsetof(struct drain, first) },
	{ 0 },
};
static const struct jd_type drain_type = { .kind = JD_POINTER, .fields = drain_fields, .size = sizeof(struct drain) };

static const struct jd_field vault_fields[] = {
	{ "pollingIntervalInS", &seconds, offsetof(struct vault, polling), .default_integer = 3600 },
	{ "requireInitialSync", &boolean, offsetof(struct vault, initial) },
	{ "certificateStoreName", &any_text, .flags = JD_IGNORED },
	{ 0 },
};
static const struct jd_type vault_type = { .kind = JD_POINTER, .fields = vault_fields, .size = sizeof(struct vault),
					   .lenient = true };
static const struct jd_type secret_value = { .kind = JD_TEXT, .max = 65536, .sensitive = true };
static const struct jd_type secrets_type = { .kind = JD_MAP, .element = &secret_value, .max = 64,
					     .size = sizeof(struct named_text),
					     .value_offset = offsetof(struct named_text, value) };
static const struct jd_field doc_fields[] = {
	{ "customScript", &custom_script, offsetof(struct doc, scripts_section) },
	{ "drain", &drain_type, offsetof(struct doc, drain) },
	{ "vault", &vault_type, offsetof(struct doc, vault) },
	{ "secrets", &secrets_type, offsetof(struct doc, secrets), JD_OMIT_EMPTY },
	{ "timestamp", &any_integer, .flags = JD_SILENTLY_IGNORED },
	{ "$schema", &any_text, .flags = JD_SILENTLY_IGNORED },
	{ 0 },
};
static const struct jd_type doc_type = { .kind = JD_OBJECT, .fields = doc_fields, .size = sizeof(struct doc) };

static struct jd_options options(struct jd_report *r)
{
	return (struct jd_options){ .subject = "settings", .unknown = JD_UNKNOWN_ERROR, .report = r };
}

/* Decodes `text` and holds every error (and warning, with "W ") against `want`, one for each line. */
static void expect_report(const char *text, const char *want)
{
	struct jd_report r = { 0 };
	struct jd_options o = options(&r);
	struct doc d = { 0 }, zero = { 0 };
	struct error err = ERROR_INIT;
	struct buf said = BUF_INIT(65536);
	int code = jd_decode(text, strlen(text), &doc_type, &o, &d, &err);

	for (unsigned i = 0; i < r.n_errors; i++)
		buf_printf(&said, "%s\n", r.errors[i]);
	for (unsigned i = 0; i < r.n_warnings; i++)
		buf_printf(&said, "W %s\n", r.warnings[i]);
	assert_string_equal(buf_str(&said), want);
	if (r.n_errors_found) {
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

static void test_messages(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "{}", "" },
		{ "null", "" },
		{ "{\"drain\":null,\"timestamp\":1,\"$schema\":\"x\"}", "" },
		{ "{\"drian\":{}}", "settings: drian: unknown section; did you mean \"drain\"?\n" },
		{ "{\"x\":{}}", "settings: x: unknown section\n" },
		{ "{\"drain\":{\"pollInterval\":1}}",
		  "settings: drain.pollInterval: unknown member; did you mean \"pollingIntervalInSeconds\"?\n" },
		{ "{\"drain\":{\"PollingIntervalInSeconds\":1}}",
		  "settings: drain.PollingIntervalInSeconds: unknown member; did you mean \"pollingIntervalInSeconds\"?\n" },
		{ "{\"drain\":{\"steps\":[{\"type\":\"probeDown\"},{\"type\":\"probeDown\"},"
		  "{\"type\":\"probeDown\",\"timeoutInSeconds\":\"60s\"}]}}",
		  "settings: drain.steps[2].timeoutInSeconds: expected an integer from 1 to 3600, got \"60s\"\n" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_report(cases[i].text, cases[i].want);
}

static const char whole[] =
	"{\"customScript\":{\"scripts\":[{\"name\":\"deploy\",\"commandToExecute\":\"sh a.sh\",\"arguments\":[\"a\",\"b\"],"
	"\"environment\":{\"Z\":\"1\",\"A\":{\"secretRef\":\"k\"}},\"files\":[\"http://a\",{\"uri\":{\"secretRef\":\"u\"},"
	"\"mode\":\"0700\",\"maxSizeInBytes\":5},{\"secretRef\":\"v\"}],\"identity\":{},"
	"\"storageAccountKey\":{\"secretRef\":\"s\"},\"convertLineEndings\":false,\"timeoutInSeconds\":5,"
	"\"runPolicy\":\"everyBoot\",\"extra\":{\"b\":[1.50,true,null],\"a\":\"\\u00e9\"}},{\"name\":\"x\"}]},"
	"\"drain\":{\"steps\":[{\"type\":\"run\",\"name\":\"r\",\"command\":[\"a\"]},{\"type\":\"parallel\",\"steps\":["
	"{\"type\":\"waitForConnections\",\"ports\":[80,443]},{\"type\":\"waitForConnections\",\"ports\":"
	"\"fromLoadBalancer\",\"timeoutInSeconds\":9}]}],\"policy\":[]},\"vault\":{\"pollingIntervalInS\":\"60\","
	"\"requireInitialSync\":\"True\"},\"secrets\":{\"k\":\"v\"}}";

static const char whole_encoded[] =
	"{\"customScript\":{\"scripts\":[{\"name\":\"deploy\",\"commandToExecute\":\"sh a.sh\",\"arguments\":[\"a\",\"b\"],"
	"\"environment\":{\"Z\":\"1\",\"A\":{\"secretRef\":\"k\"}},\"files\":[{\"uri\":\"http://a\",\"mode\":\"0500\","
	"\"maxSizeInBytes\":4294967296},{\"uri\":{\"secretRef\":\"u\"},\"mode\":\"0700\",\"maxSizeInBytes\":5},"
	"{\"uri\":{\"secretRef\":\"v\"},\"mode\":\"0500\",\"maxSizeInBytes\":4294967296}],\"onExitCodes\":[30,14,7],"
	"\"identity\":{},\"storageAccountKey\":{\"secretRef\":\"s\"},\"convertLineEndings\":false,\"timeoutInSeconds\":5,"
	"\"runPolicy\":\"everyBoot\",\"extra\":{\"a\":\"\xC3\xA9\",\"b\":[1.50,true,null]}},"
	"{\"name\":\"x\",\"files\":[],\"onExitCodes\":[30,14,7],\"convertLineEndings\":true,\"timeoutInSeconds\":60,"
	"\"runPolicy\":\"oncePerContent\"}]},"
	"\"drain\":{\"pollingIntervalInSeconds\":1,\"leadInSeconds\":1200,\"steps\":[{\"type\":\"run\",\"command\":[\"a\"],"
	"\"name\":\"r\"},{\"type\":\"parallel\",\"steps\":[{\"type\":\"waitForConnections\",\"ports\":[80,443]},"
	"{\"type\":\"waitForConnections\",\"ports\":\"fromLoadBalancer\",\"timeoutInSeconds\":9}]}],\"policy\":[],"
	"\"retry\":{\"delayInSeconds\":30}},\"vault\":{\"pollingIntervalInS\":60,\"requireInitialSync\":true},"
	"\"secrets\":{\"k\":\"v\"}}";

static void test_round_trip(void **state)
{
	struct jd_report r = { 0 };
	struct jd_options o = options(&r);
	struct doc d = { 0 };
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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

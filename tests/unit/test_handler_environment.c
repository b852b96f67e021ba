/* HandlerEnvironment.json as agents write it, and what else may be found in its place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/azure/handler_environment.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

#define DIR_NAME "/var/lib/waagent/EvenKeel.EvenKeelForLinux-1.0.0"
#define FOLDERS                                                                                                        \
	"\"logFolder\": \"/var/log/azure/E\", \"configFolder\": \"" DIR_NAME "/config\","                              \
	"\"statusFolder\": \"" DIR_NAME "/status\""

static int parse(const char *text, struct handler_environment *e, struct error *err)
{
	*err = ERROR_INIT;
	return handler_environment_parse(text, strlen(text), DIR_NAME, e, err);
}

static void test_whole(void **state)
{
	struct handler_environment e = { 0 };
	struct error err;

	(void)state;
	assert_int_equal(
		parse("[{\"name\": \"My.Test\", \"version\": 1.0, \"handlerEnvironment\": {" FOLDERS
		      ", \"heartbeatFile\": \"x\", \"eventsFolder\": \"/e\", \"eventsFolder_preview\": \"/e\"}}]",
		      &e, &err),
		0);
	assert_string_equal(e.name, "My.Test");
	assert_string_equal(e.log_folder, "/var/log/azure/E");
	assert_string_equal(e.config_folder, DIR_NAME "/config");
	assert_string_equal(e.status_folder, DIR_NAME "/status");
	assert_string_equal(e.events_folder, "/e");
	assert_string_equal(e.base, DIR_NAME);
	handler_environment_done(&e);
	handler_environment_done(&e);
}

/* Windows' keys, a version as text, no telemetry, a name that is null, a BOM. */
static void test_variants(void **state)
{
	static const char *const good[] = {
		"[{\"version\": \"1.0\", \"seqNo\": \"3\", \"handlerEnvironment\": {" FOLDERS
		", \"deploymentid\": \"d\"}}]",
		"\xef\xbb\xbf[{\"name\": null, \"handlerEnvironment\": {" FOLDERS ", \"eventsFolder\": null}}]\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct handler_environment e = { 0 };
		struct error err;

		assert_int_equal(parse(good[i], &e, &err), 0);
		assert_null(e.name);
		assert_null(e.events_folder);
		handler_environment_done(&e);
	}
}

static void test_broken(void **state)
{
	static const struct {
		const char *text;
		int code;
		enum error_class cls;
		const char *says;
	} cases[] = {
		{ "", -EBADMSG, ERROR_TRANSIENT, "the file is empty" },
		{ "[{\"name\": \"My.Te", -EBADMSG, ERROR_TRANSIENT, "try again" },
		{ "[{\"handlerEnvironment\": {" FOLDERS "}}", -EBADMSG, ERROR_TRANSIENT, "try again" },
		{ "<xml/>", -EBADMSG, ERROR_TRANSIENT, "try again" },
		{ "null", -EINVAL, ERROR_PLATFORM, "got null" },
		{ "{}", -EINVAL, ERROR_PLATFORM, "expected" },
		{ "[]", -EINVAL, ERROR_PLATFORM, "remove and add the extension" },
		{ "[{}]", -EINVAL, ERROR_PLATFORM, "handlerEnvironment" },
		{ "[{\"handlerEnvironment\": {}}]", -EINVAL, ERROR_PLATFORM, "logFolder" },
		{ "[{\"handlerEnvironment\": {" FOLDERS "}}, {}]", -EINVAL, ERROR_PLATFORM, "at most 1 item" },
		{ "[{\"handlerEnvironment\": {\"logFolder\": \"log\", \"configFolder\": \"/c\", \"statusFolder\": "
		  "\"/s\"}}]",
		  -EINVAL, ERROR_PLATFORM, "absolute path, got \"log\"" },
		{ "[{\"handlerEnvironment\": {\"logFolder\": 5, \"configFolder\": \"/c\", \"statusFolder\": \"/s\"}}]",
		  -EINVAL, ERROR_PLATFORM, "logFolder" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct handler_environment e = { 0 };
		struct error err;

		assert_int_equal(parse(cases[i].text, &e, &err), cases[i].code);
		assert_int_equal(err.code, cases[i].code);
		assert_int_equal(err.cls, cases[i].cls);
		if (!strstr(err.msg, cases[i].says) || !strstr(err.msg, DIR_NAME "/HandlerEnvironment.json"))
			fail_msg("case %zu: %s", i, err.msg);
		assert_null(e.base);
	}
}

static void test_file(void **state)
{
	const char *base = getenv("EK_TEST_BINARY_DIR");
	_cleanup_free_ char *dir = str_format("%s/test-handler-environment-XXXXXX", base ? base : "/tmp");
	_cleanup_free_ char *file = NULL, *big = calloc(1, LIMIT_ENVIRONMENT_FILE + 2);
	static const char good[] = "[{\"name\":\"a\",\"handlerEnvironment\":{" FOLDERS "}}]";
	struct handler_environment e = { 0 };
	struct error err = ERROR_INIT;

	(void)state;
	assert_non_null(mkdtemp(dir));
	file = str_format("%s/HandlerEnvironment.json", dir);
	assert_int_equal(handler_environment_read(dir, &e, &err), -ENOENT);
	assert_non_null(strstr(err.msg, file));
	assert_non_null(strstr(err.msg, "AZURE_GUEST_AGENT_EXTENSION_PATH"));

	memset(big, ' ', LIMIT_ENVIRONMENT_FILE + 1);
	assert_int_equal(fs_write(file, big, LIMIT_ENVIRONMENT_FILE + 1, 0644, FS_REPLACE, NULL), 0);
	assert_int_equal(handler_environment_read(dir, &e, &err), -EFBIG);
	assert_non_null(strstr(err.msg, "larger than 65536 bytes"));

	assert_int_equal(fs_write(file, good, strlen(good), 0644, FS_REPLACE, NULL), 0);
	assert_int_equal(handler_environment_read(dir, &e, &err), 0);
	assert_string_equal(e.base, dir);
	handler_environment_done(&e);
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_variants),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

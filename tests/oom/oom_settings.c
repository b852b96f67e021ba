/*
 * Out-of-memory sweep over the settings: the n-th allocation fails, for n = 0, 1, … until a load gets by without. Each
 * load is whole or says so, and leaks nothing (under AddressSanitizer).
 */
#include "tests/support/failing.h"
#include "tests/support/settings.h"

static bool is_out_of_memory(const struct error *err)
{
	return err->code == -ENOMEM || strstr(err->msg, "out of memory");
}

static void sweep(const struct settings_source *sources, size_t n)
{
	long failures = 0;
	int r = -1;

	for (long at = 0; r < 0; at++) {
		struct settings s = {0};
		struct jd_report report = {0};
		struct error err = ERROR_INIT;

		fail_at = at;
		count = 0;
		r = settings_load(sources, n, &s, &report, &err);
		fail_at = -1;
		/* A sentence may be lost without memory, a refusal may not be invented. */
		if (r < 0 && !is_out_of_memory(&err))
			fail_msg("allocation %ld: %s", at, err.msg);
		if (r < 0)
			assert_null(s.drain);
		/* Done when none was left to fail; some failures cost a warning only. */
		if (r == 0 && count > at)
			r = -1;
		failures++;
		settings_done(&s);
		jd_report_done(&report);
	}
	assert_true(failures > 100);
}

static void test_example(void **state)
{
	char *text = document("django.json"), *secrets = document("django.protected.json");
	char *spot = document("spot.json");
	const struct settings_source sources[] = {
		source_of(DOOR_EXTENSION, "settings", text, secrets),
		source_of(DOOR_FILES, "evenkeel.json", spot, NULL),
		source_of(DOOR_USER_DATA, "user data", "{\"notify\":{}}", NULL),
	};

	(void)state;
	sweep(sources, ARRAY_SIZE(sources));
	free(text);
	free(secrets);
	free(spot);
}

static void test_peers(void **state)
{
	char *v3 = document("vault-v3.json"), *v4 = document("vault-v4.json"), *nginx = document("nginx.json");
	const struct settings_source one[] = {
		source_of(DOOR_EXTENSION, "settings", v3, NULL),
		source_of(DOOR_FILES, "evenkeel.json",
			  "{\"commandToExecute\":\"a\",\"fileUris\":[\"https://h/a%20b\"]}",
			  "{\"storageAccountName\":\"abc\",\"storageAccountKey\":\"a2V5\"}"),
	};
	const struct settings_source two[] = {
		source_of(DOOR_EXTENSION, "settings", v4,
			  "{\"script\":\"eA==\",\"fileUris\":[\"https://h/a\"],\"managedIdentity\":{\"clientId\":"
			  "\"11112222-bbbb-3333-cccc-4444dddd5555\"}}"),
		source_of(DOOR_FILES, "evenkeel.json", nginx, NULL),
	};

	(void)state;
	sweep(one, ARRAY_SIZE(one));
	sweep(two, ARRAY_SIZE(two));
	free(v3);
	free(v4);
	free(nginx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_peers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

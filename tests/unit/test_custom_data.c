/* Custom data as provisioning leaves it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/azure/custom_data.h"
#include "agent/base/limits.h"

static void test_decode(void **state)
{
	static const struct {
		const char *text, *decoded;
	} cases[] = { { "IyEvYmlu\nL3No\n", "#!/bin/sh" },
		      { "#!/bin/sh\n", "#!/bin/sh\n" },
		      { "IyEvYmluL3N", "IyEvYmluL3N" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_USER_DATA_DECODED);

		assert_int_equal(custom_data_decode(cases[i].text, strlen(cases[i].text), &out, NULL), 0);
		assert_string_equal(buf_str(&out), cases[i].decoded);
	}
}

static void test_ovf(void **state)
{
	static const struct {
		const char *xml, *decoded;
		int result;
	} cases[] = {
		{ "<Environment><ns1:CustomData>IyEv\n YmluL3No</ns1:CustomData></Environment>", "#!/bin/sh", 0 },
		{ "<CustomData attribute=\"x\">IyE=</CustomData>", "#!", 0 },
		{ "<wa:NoCustomData>x</wa:NoCustomData><wa:CustomDataX/><wa:CustomData>IyE=</wa:CustomData>", "#!", 0 },
		{ "<wa:CustomData/>", NULL, -ENOENT },
		{ "<wa:CustomData></wa:CustomData>", NULL, -ENOENT },
		{ "<Environment/>", NULL, -ENOENT },
		{ "", NULL, -ENOENT },
		{ "<CustomData>not base64!</CustomData>", NULL, -EINVAL },
		{ "<CustomData>IyE=", NULL, -EBADMSG },
		{ "<CustomData ", NULL, -EBADMSG },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_USER_DATA_DECODED);
		struct error e = ERROR_INIT;

		assert_int_equal(custom_data_from_ovf(cases[i].xml, strlen(cases[i].xml), &out, &e), cases[i].result);
		if (cases[i].decoded)
			assert_string_equal(buf_str(&out), cases[i].decoded);
		/* Its own text is never told. */
		assert_null(strstr(e.msg, "base64!"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_decode), cmocka_unit_test(test_ovf) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

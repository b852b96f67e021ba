/*
 * Out-of-memory sweep over user data: the n-th allocation fails, for n = 0, 1, … until it is taken apart, includes and all,
 * without. Each time it is whole or says so, and leaks nothing (under AddressSanitizer).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/core/settings_common.h"
#include "agent/core/userdata_apply.h"
#include "agent/core/userdata_parts.h"
#include "tests/support/failing.h"

static const char message[] =
	"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"b\"\n\n"
	"--b\nContent-Type: text/x-shellscript; name=\"a.sh\"\nContent-Transfer-Encoding: base64\n\nIyEvYmluL3NoCg==\n"
	"--b\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n"
	"H4sIAAAAAAACA1NW1E/KzNMvzuBKTc7IV8hIzcnJ5wIAedQ/FxUAAAA=\n"
	"--b\nContent-Type: text/cloud-config-archive\n\n#cloud-config-archive\n- |\n  #!/bin/sh\n- type: text/x-shellscript\n"
	"  filename: \"x\"\n  content: '#!/bin/sh'\n"
	"--b\nContent-Type: text/cloud-boothook\nContent-Transfer-Encoding: quoted-printable\n\n#cloud-boothook\n#!/bin/sh=\n\n"
	"--b\n\n#include\nhttp://x/\n--b--\n";

static int take_apart(struct userdata_parts *p, struct userdata_revision *r, struct error *err)
{
	static const struct userdata_body body = { "#!/bin/sh\n", 10 };
	int kinds[] = { USERDATA_SHELLSCRIPT };
	const struct userdata_settings s = { .parts = { kinds, 1 } };
	int k = userdata_parts_make(message, sizeof(message) - 1, "sha", p, err);

	if (k >= 0)
		k = userdata_parts_include(p, p->items.n - 1, &body, 1, err);
	if (k >= 0)
		k = userdata_runs_make(r, p, &s, false);
	return k;
}

static void test_sweep(void **state)
{
	long failures = 0;
	int r = -1;

	(void)state;
	for (long at = 0; r < 0; at++) {
		struct userdata_memory m = { 0 };
		struct userdata_parts p = { 0 };
		struct error err = ERROR_INIT;
		struct userdata_revision *revision = userdata_memory_add(&m, "sha");

		assert_non_null(revision);
		fail_at = at;
		count = 0;
		r = take_apart(&p, revision, &err);
		fail_at = -1;
		/* An archive that cannot be read for want of memory is not one that cannot be read. */
		if (r < 0 && r != -ENOMEM)
			fail_msg("allocation %ld: %s", at, err.msg);
		if (r >= 0 && count > at)
			fail_msg("allocation %ld was not missed", at);
		failures += r < 0;
		if (r >= 0)
			assert_int_equal(p.items.n, 6);
		userdata_parts_done(&p);
		jd_free(&userdata_memory_type, &m);
	}
	assert_true(failures > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_sweep) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The layout under a root, and which machine and boot this is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"

static void test_layout(void **state)
{
	struct paths p;
	struct error err;

	(void)state;
	assert_int_equal(unsetenv("EVENKEEL_ROOT"), 0);
	assert_int_equal(paths_init(&p, NULL, &err), 0);
	assert_string_equal(p.root, "");
	assert_string_equal(p.records, "/var/lib/evenkeel/state");
	assert_string_equal(p.api_socket, "/run/evenkeel/api.sock");
	assert_string_equal(p.logind, "/etc/systemd/logind.conf.d");
	assert_string_equal(p.log_default, "/var/log/azure/EvenKeel.EvenKeelForLinux");
	paths_done(&p);
	assert_null(p.root);

	assert_int_equal(setenv("EVENKEEL_ROOT", "/tmp/a//", 1), 0);
	assert_int_equal(paths_init(&p, NULL, &err), 0);
	assert_string_equal(p.root, "/tmp/a");
	assert_string_equal(p.run_jobs, "/tmp/a/run/evenkeel/jobs");
	paths_done(&p);
	/* What the caller says counts before the environment. */
	assert_int_equal(paths_init(&p, "/", &err), 0);
	assert_string_equal(p.waagent, "/var/lib/waagent");
	paths_done(&p);
	assert_int_equal(unsetenv("EVENKEEL_ROOT"), 0);

	assert_int_equal(paths_init(&p, "relative", &err), -EINVAL);
	assert_non_null(strstr(err.msg, "relative"));
}

static void test_parent(void **state)
{
	static const char *const cases[][2] = {
		{ "/a/b", "/a" }, { "/a", "/" }, { "/", "/" }, { "a", "." }, { "a/b/c", "a/b" }, { "", "." },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *parent = path_parent(cases[i][0]);

		assert_string_equal(parent, cases[i][1]);
	}
}

static void test_under_root(void **state)
{
	static const struct {
		const char *root, *in, *out;
	} cases[] = {
		{ "", "/etc/x", "/etc/x" },	   { "/r", "/etc/x", "/r/etc/x" }, { "/r", "/r/etc/x", "/r/etc/x" },
		{ "/r", "/rest/x", "/r/rest/x" }, { "/r", "/r", "/r" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct paths p;
		_cleanup_free_ char *s = NULL;

		assert_int_equal(paths_init(&p, cases[i].root, NULL), 0);
		s = path_under_root(&p, cases[i].in);
		assert_string_equal(s, cases[i].out);
		paths_done(&p);
	}
}

static void test_join(void **state)
{
	_cleanup_free_ char *a = path_join("/a", "b"), *b = path_join("/a/", "/b"), *c = path_join("/", "b");

	(void)state;
	assert_string_equal(a, "/a/b");
	assert_string_equal(b, "/a/b");
	assert_string_equal(c, "/b");
}

static void put(const struct paths *p, const char *path, const char *text)
{
	_cleanup_free_ char *full = path_under_root(p, path);
	_cleanup_free_ char *dir = strdup(full);

	*strrchr(dir, '/') = '\0';
	assert_int_equal(fs_mkdirs(dir, 0755, NULL), 0);
	assert_int_equal(fs_write(full, text, strlen(text), 0644, FS_NO_SYNC, NULL), 0);
}

static void test_machine(void **state)
{
	char root[] = "/tmp/ek-paths-XXXXXX", id[MACHINE_ID_MAX];
	struct paths p;
	struct error err;

	(void)state;
	assert_non_null(mkdtemp(root));
	assert_int_equal(paths_init(&p, root, NULL), 0);

	assert_int_equal(machine_identity(&p, id, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "machine-id"));
	put(&p, "/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
	assert_int_equal(machine_identity(&p, id, &err), 0);
	assert_string_equal(id, "0123456789abcdef0123456789abcdef");
	put(&p, "/sys/class/dmi/id/product_uuid", "00000000-0000-0000-0000-000000000000\n");
	assert_int_equal(machine_identity(&p, id, &err), 0);
	assert_string_equal(id, "0123456789abcdef0123456789abcdef");
	put(&p, "/sys/class/dmi/id/product_uuid", "A1B2C3D4-0000-1111-2222-333344445555\n");
	assert_int_equal(machine_identity(&p, id, &err), 0);
	assert_string_equal(id, "a1b2c3d4-0000-1111-2222-333344445555");

	/* Without a file below the root, the kernel's own. */
	assert_int_equal(machine_boot_id(&p, id, &err), 0);
	assert_int_equal(strlen(id), 36);
	put(&p, "/proc/sys/kernel/random/boot_id", "b007\n");
	assert_int_equal(machine_boot_id(&p, id, &err), 0);
	assert_string_equal(id, "b007");
	put(&p, "/proc/sys/kernel/random/boot_id", "no identifier, this\n");
	assert_int_equal(machine_boot_id(&p, id, &err), -EBADMSG);
	assert_string_equal(id, "b007");

	paths_done(&p);
	assert_int_equal(fs_remove_tree(root, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_parent),
		cmocka_unit_test(test_under_root),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SELinux without SELinux: its file system and restorecon are files below a root of their own. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"
#include "agent/io/selinux.h"

#define PATIENT_USEC (60 * USEC_PER_SEC)
#define SHORT_USEC   (300 * USEC_PER_MSEC)

struct world {
	char dir[40];
	struct paths paths;
};

static char *below(const struct world *w, const char *name)
{
	char *path = str_format("%s/%s", w->dir, name);

	assert_non_null(path);
	return path;
}

static void put(const struct world *w, const char *name, const char *text, mode_t mode)
{
	_cleanup_free_ char *path = below(w, name), *directory = strdup(path);
	struct error e = ERROR_INIT;

	assert_non_null(directory);
	*strrchr(directory, '/') = '\0';
	assert_int_equal(fs_mkdirs(directory, 0755, &e), 0);
	assert_int_equal(fs_write(path, text, strlen(text), mode, FS_REPLACE, &e), 0);
}

static void get(const struct world *w, const char *name, struct buf *ret)
{
	_cleanup_free_ char *path = below(w, name);
	struct error e = ERROR_INIT;

	buf_reset(ret);
	assert_int_equal(fs_read(path, 4096, ret, &e), 0);
}

/* What it does after it has noted its words, each on a line of its own. */
static void put_restorecon(const struct world *w, const char *rest)
{
	_cleanup_free_ char *text = str_format("#!/bin/sh\nprintf '%%s\\n' \"$@\" >>'%s/words'\n%s\n", w->dir, rest);

	assert_non_null(text);
	put(w, "usr/sbin/restorecon", text, 0755);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct error e = ERROR_INIT;

	assert_non_null(w);
	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/ek-selinux-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(paths_init(&w->paths, w->dir, &e), 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	struct error e = ERROR_INIT;

	assert_int_equal(fs_remove_tree(w->dir, &e), 0);
	paths_done(&w->paths);
	free(w);
	return 0;
}

static void test_mode(void **state)
{
	struct world *w = *state;

	assert_string_equal(selinux_mode_name(selinux_mode(&w->paths)), "off");
	put(w, "sys/fs/selinux/enforce", "1", 0644);
	assert_string_equal(selinux_mode_name(selinux_mode(&w->paths)), "enforcing");
	put(w, "sys/fs/selinux/enforce", "0", 0644);
	assert_string_equal(selinux_mode_name(selinux_mode(&w->paths)), "permissive");
}

/* Only what is there, a link as itself, and no word is anything but a path. */
static void test_what_is_labelled(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *file = below(w, "a b;$(touch x)"), *gone = below(w, "gone"), *link = below(w, "link"),
			    *expected = NULL;
	const char *const paths[] = { file, NULL, gone, link };
	_cleanup_buf_ struct buf words = BUF_INIT(4096);
	struct error e = ERROR_INIT;

	put(w, "a b;$(touch x)", "", 0644);
	assert_int_equal(symlink("nowhere", link), 0);
	put_restorecon(w, "");
	assert_int_equal(selinux_relabel(&w->paths, paths, ARRAY_SIZE(paths), PATIENT_USEC, &e), 0);
	assert_false(fs_exists(gone));
	{
		_cleanup_free_ char *started = below(w, "words");

		assert_false(fs_exists(started)); /* SELinux is off */
	}
	put(w, "sys/fs/selinux/enforce", "0", 0644);
	assert_int_equal(selinux_relabel(&w->paths, paths, ARRAY_SIZE(paths), PATIENT_USEC, &e), 0);
	get(w, "words", &words);
	expected = str_format("--\n%s\n%s\n", file, link);
	assert_string_equal(buf_str(&words), expected);

	/* Nothing there, nothing to start. */
	assert_int_equal(selinux_relabel(&w->paths, &paths[2], 1, PATIENT_USEC, &e), 0);
	get(w, "words", &words);
	assert_string_equal(buf_str(&words), expected);
}

/* A list without end is refused before anything is started. */
static void test_too_many(void **state)
{
	struct world *w = *state;
	const char *paths[SELINUX_PATHS_MAX + 1];
	struct error e = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		paths[i] = w->dir;
	put(w, "sys/fs/selinux/enforce", "1", 0644);
	put_restorecon(w, "");
	assert_int_equal(selinux_relabel(&w->paths, paths, ARRAY_SIZE(paths), PATIENT_USEC, &e), -E2BIG);
	assert_int_equal(selinux_relabel(&w->paths, paths, ARRAY_SIZE(paths) - 1, PATIENT_USEC, &e), 0);
}

static void test_failures(void **state)
{
	static const struct {
		const char *rest;
		int result;
		const char *told, *not_told;
	} cases[] = {
		{ "echo 'lsetfilecon failed' >&2; echo more >&2; exit 7", -EIO, "exit code 7: lsetfilecon failed",
		  "more" },
		{ "kill -KILL $$", -EIO, "signal 9", NULL },
		/* More than fits into a pipe, and the first of it is what is told. */
		{ "echo first; head -c 500000 /dev/zero | tr '\\0' x; exit 1", -EIO, "exit code 1: first", "xxx" },
		/* What it leaves running holds the pipe, and keeps nobody. */
		{ "sleep 30 & exit 0", 0, NULL, NULL },
		{ "exec 1>&- 2>&-; sleep 0.1; exit 3", -EIO, "exit code 3", NULL },
	};
	struct world *w = *state;
	const char *const paths[] = { w->dir };
	struct error e = ERROR_INIT;

	put(w, "sys/fs/selinux/enforce", "1", 0644);
	assert_int_equal(selinux_relabel(&w->paths, paths, 1, PATIENT_USEC, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "policycoreutils"));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		usec_t begin = time_boot();

		put_restorecon(w, cases[i].rest);
		assert_int_equal(selinux_relabel(&w->paths, paths, 1, PATIENT_USEC, &e), cases[i].result);
		assert_true(usec_sub(time_boot(), begin) < 20 * USEC_PER_SEC);
		if (cases[i].told)
			assert_non_null(strstr(e.msg, cases[i].told));
		if (cases[i].not_told)
			assert_null(strstr(e.msg, cases[i].not_told));
	}
	put(w, "usr/sbin/restorecon", "#!/nonexistent/interpreter\n", 0755);
	assert_true(selinux_relabel(&w->paths, paths, 1, PATIENT_USEC, &e) < 0);
	assert_non_null(strstr(e.msg, "restorecon"));
}

/* Gone, or dead and not yet waited for by who has adopted it. */
static bool has_ended(const char *pid)
{
	_cleanup_free_ char *path = str_format("/proc/%s/stat", pid);
	_cleanup_buf_ struct buf text = BUF_INIT(4096);
	const char *after;

	assert_non_null(path);
	if (fs_read(path, 4095, &text, NULL) < 0)
		return true;
	after = strrchr(buf_str(&text), ')');
	return after && str_starts(after, ") Z");
}

static void test_hanging(void **state)
{
	struct world *w = *state;
	const char *const paths[] = { w->dir };
	_cleanup_buf_ struct buf pids = BUF_INIT(100);
	usec_t begin = time_boot(), until;
	struct error e = ERROR_INIT;
	char *rest;

	put(w, "sys/fs/selinux/enforce", "1", 0644);
	{
		_cleanup_free_ char *text = str_format(
			"#!/bin/sh\ntrap '' TERM INT\nsleep 60 &\necho $$ $! >'%s/new'\nmv '%s/new' '%s/pids'\nsleep 60\n",
			w->dir, w->dir, w->dir);

		assert_non_null(text);
		put(w, "sbin/restorecon", text, 0755);
	}
	assert_int_equal(selinux_relabel(&w->paths, paths, 1, SHORT_USEC, &e), -ETIMEDOUT);
	assert_true(usec_sub(time_boot(), begin) < 30 * USEC_PER_SEC);
	assert_non_null(strstr(e.msg, "did not end within"));
	{
		_cleanup_free_ char *there = below(w, "pids");

		/* On a very busy machine it was killed before it could tell who it is. */
		if (!fs_exists(there))
			return;
	}
	get(w, "pids", &pids);
	rest = pids.data;
	until = usec_add(time_boot(), 20 * USEC_PER_SEC);
	for (const char *pid; rest && (pid = strsep(&rest, " \n"));)
		while (*pid && !has_ended(pid)) {
			assert_true(time_boot() < until);
			assert_int_equal(usleep(5000), 0);
		}
}

static void test_type(void **state)
{
	static const char label[] = "system_u:object_r:usr_t:s0:c1,c2", broken[] = "nonsense";
	struct world *w = *state;
	_cleanup_free_ char *file = below(w, "file"), *link = below(w, "link");
	char type[SELINUX_TYPE_MAX];
	struct error e = ERROR_INIT;

	assert_int_equal(selinux_type(file, type, &e), -ENOENT);
	put(w, "file", "", 0644);
	assert_int_equal(symlink("file", link), 0);
	/* A host with SELinux gives a label to everything; others to what is asked for, if root asks. */
	if (selinux_type(file, type, &e) == 0 || setxattr(file, "security.selinux", label, sizeof(label), 0) < 0)
		skip();
	assert_int_equal(selinux_type(file, type, &e), 0);
	assert_string_equal(type, "usr_t");
	assert_int_equal(selinux_type(link, type, &e), -ENODATA);
	assert_int_equal(setxattr(file, "security.selinux", broken, sizeof(broken), 0), 0);
	assert_int_equal(selinux_type(file, type, &e), -EINVAL);
	assert_non_null(strstr(e.msg, file));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mode),     TEST(test_what_is_labelled), TEST(test_too_many),
		TEST(test_failures), TEST(test_hanging),	  TEST(test_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

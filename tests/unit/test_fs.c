/* Files: what readers see, what a failure leaves behind, what removal does not follow. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

/* Every test works in a new directory and leaves it empty. */
static int setup(void **state)
{
	const char *base = getenv("EK_TEST_BINARY_DIR");
	char *dir = str_format("%s/test-fs-XXXXXX", base ? base : "/tmp");

	*state = dir;
	return dir && mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct error err;
	int r = chdir("/") < 0 ? -1 : fs_remove_tree(*state, &err);

	free(*state);
	return r;
}

static void expect_content(const char *path, const char *text)
{
	_cleanup_buf_ struct buf b = BUF_INIT(100000);

	assert_int_equal(fs_read(path, 100000, &b, NULL), 0);
	assert_string_equal(buf_str(&b), text);
}

static void put(const char *path, const char *text)
{
	assert_int_equal(fs_write(path, text, strlen(text), 0644, 0, NULL), 0);
}

/* Counts everything, also the temporary names that fs_list() hides. */
static int entries(const char *path)
{
	_cleanup_(closedirp) DIR *d = opendir(path);
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n - 2;
}

static void test_read(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(8);
	struct error err = ERROR_INIT;

	(void)state;
	put("f", "12345678");
	assert_int_equal(fs_read("f", 8, &b, &err), 0); /* exactly the limit, in a buffer of exactly the limit */
	assert_string_equal(buf_str(&b), "12345678");
	buf_reset(&b);
	assert_int_equal(fs_read("f", 7, &b, &err), -EFBIG);
	assert_string_equal(err.msg, "cannot read f: it is larger than 7 bytes");
	assert_int_equal(b.len, 0);
	put("f", "123456789");
	assert_int_equal(fs_read("f", 100, &b, &err), -EFBIG);
	put("f", "345");
	assert_int_equal(buf_puts(&b, "12"), 0);
	assert_int_equal(fs_read("f", 8, &b, &err), 0); /* appends */
	assert_string_equal(buf_str(&b), "12345");
	put("f", "");
	assert_int_equal(fs_read("f", 0, &b, &err), 0);
	assert_int_equal(b.len, 5);

	assert_int_equal(fs_read("none", 8, &b, &err), -ENOENT);
	assert_string_equal(err.msg, "cannot read none: No such file or directory");
	assert_int_equal(fs_read(".", 8, &b, &err), -EISDIR);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(fs_read("fifo", 8, &b, &err), -EINVAL); /* and does not hang */
	assert_int_equal(fs_read("/dev/null", 8, &b, &err), -EINVAL);
	assert_int_equal(symlink("f", "link"), 0);
	assert_int_equal(fs_read("link", 8, &b, &err), 0);
	assert_int_equal(fs_read_nofollow("link", 8, &b, &err), -ELOOP);
	assert_int_equal(fs_read_nofollow("f", 8, &b, &err), 0);
}

static void test_read_proc(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(100000), small = BUF_INIT(20);

	(void)state;
	assert_int_equal(fs_read("/proc/self/status", 100000, &b, NULL), 0); /* its size is said to be 0 */
	assert_non_null(strstr(buf_str(&b), "Pid:"));
	assert_int_equal(fs_read("/proc/self/status", 20, &small, NULL), -EFBIG);
	assert_int_equal(small.len, 0);
}

static void test_write(void **state)
{
	char name[300];
	struct error err;
	struct stat st;
	mode_t mask = umask(077);

	(void)state;
	assert_int_equal(fs_write("f", "one", 3, 0644, 0, &err), 0);
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644); /* whatever the umask */
	assert_int_equal(fs_write("f", "two", 3, 0400, FS_NO_SYNC, &err), 0);
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	expect_content("f", "two");
	assert_int_equal(fs_write("f", "three", 5, 0644, FS_KEEP, &err), -EEXIST);
	assert_string_equal(err.msg, "cannot write f: File exists");
	expect_content("f", "two");
	assert_int_equal(fs_write("g", "", 0, 0600, FS_KEEP, &err), 0);
	expect_content("g", "");
	assert_int_equal(stat("g", &st), 0);
	assert_int_equal(st.st_nlink, 1);

	assert_int_equal(symlink("f", "link"), 0); /* the link is replaced, not followed */
	assert_int_equal(fs_write("link", "four", 4, 0644, 0, &err), 0);
	expect_content("f", "two");
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISREG(st.st_mode));

	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(fs_write("d", "x", 1, 0644, 0, &err), -EISDIR);
	assert_int_equal(fs_write("d/", "x", 1, 0644, 0, &err), -EINVAL);
	assert_int_equal(fs_write("d/..", "x", 1, 0644, 0, &err), -EINVAL);
	assert_int_equal(fs_write("", "x", 1, 0644, 0, &err), -EINVAL);
	assert_int_equal(fs_write("none/f", "x", 1, 0644, 0, &err), -ENOENT);
	assert_int_equal(fs_write("f/g", "x", 1, 0644, 0, &err), -ENOTDIR);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(fs_write(name, "x", 1, 0644, 0, &err), -ENAMETOOLONG);
	name[255] = '\0'; /* as long as a name may be: the temporary one is not longer */
	assert_int_equal(fs_write(name, "x", 1, 0644, 0, &err), 0);
	assert_int_equal(fs_unlink(name, &err), 0);
	assert_int_equal(entries("."), 4);
	assert_int_equal(entries("d"), 0);
	umask(mask);
}

/* Of many that write with FS_KEEP exactly one wins, and its content is whole. */
static void test_keep_race(void **state)
{
	enum { WRITERS = 8 };
	int go[2], won = 0, winner = -1;

	(void)state;
	assert_int_equal(pipe(go), 0);
	for (int i = 0; i < WRITERS; i++)
		if (fork() == 0) {
			char text[5000], c;
			int r;

			close(go[1]);
			memset(text, 'a' + i, sizeof(text));
			if (read(go[0], &c, 1) < 0)
				_exit(3);
			r = fs_write("f", text, sizeof(text), 0600, FS_KEEP, NULL);
			_exit(r == 0 ? 100 + i : r == -EEXIST ? 1 : 2);
		}
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < WRITERS; i++) {
		int status;

		assert_true(wait(&status) > 0);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) >= 100) {
			winner = WEXITSTATUS(status) - 100;
			won++;
		} else {
			assert_int_equal(WEXITSTATUS(status), 1);
		}
	}
	assert_int_equal(won, 1);
	{
		_cleanup_buf_ struct buf b = BUF_INIT(5000);

		assert_int_equal(fs_read("f", 5000, &b, NULL), 0);
		assert_int_equal(b.len, 5000);
		for (size_t i = 0; i < b.len; i++)
			assert_int_equal(b.data[i], 'a' + winner);
	}
	assert_int_equal(entries("."), 1);
}

/* Runs `fn` in a child that is nobody, because permissions do not hold root back. */
static int as_nobody(int (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (geteuid() == 0 && (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0))
			_exit(99);
		_exit(fn());
	}
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int write_in_ro(void)
{
	struct error err = ERROR_INIT;

	int r = fs_write("ro/f", "new", 3, 0644, 0, &err);

	return str_equal(err.msg, "cannot write ro/f: Permission denied") ? -r : 98;
}

static void test_read_only_dir(void **state)
{
	(void)state;
	assert_int_equal(chmod(".", 0755), 0);
	assert_int_equal(mkdir("ro", 0755), 0);
	put("ro/f", "old");
	assert_int_equal(chmod("ro", 0555), 0);
	assert_int_equal(as_nobody(write_in_ro), EACCES);
	expect_content("ro/f", "old");
	assert_int_equal(entries("ro"), 1);
	assert_int_equal(chmod("ro", 0755), 0);
}

static void test_no_space(void **state)
{
	static char big[256 * 1024];
	struct error err;

	(void)state;
	assert_int_equal(mkdir("small", 0755), 0);
	/* Mounts of our own, which end with this program. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "small", "tmpfs", 0, "size=64k") < 0) {
		print_message("cannot mount a tmpfs here\n");
		skip();
	}
	put("small/f", "old");
	assert_int_equal(fs_write("small/f", big, sizeof(big), 0644, 0, &err), -ENOSPC);
	assert_string_equal(err.msg, "cannot write small/f: No space left on device");
	expect_content("small/f", "old");
	assert_int_equal(fs_write("big", big, sizeof(big), 0644, 0, &err), 0);
	assert_int_equal(fs_copy("big", "small/f", 0644, &err), -ENOSPC);
	expect_content("small/f", "old");
	assert_int_equal(entries("small"), 1);

	/* A tree does not reach into another file system, ... */
	assert_int_equal(fs_remove_tree("small", &err), -EXDEV);
	expect_content("small/f", "old");
	assert_int_equal(umount("small"), 0);
	/* ... nor into a mount of the same one. */
	assert_int_equal(mkdir("kept", 0755), 0);
	put("kept/f", "precious");
	assert_int_equal(mkdir("tree", 0755), 0);
	assert_int_equal(mkdir("tree/mnt", 0755), 0);
	put("tree/f", "x");
	assert_int_equal(mount("kept", "tree/mnt", NULL, MS_BIND, NULL), 0);
	assert_int_equal(fs_remove_tree("tree", &err), -EXDEV);
	assert_int_equal(umount("tree/mnt"), 0);
	expect_content("kept/f", "precious");
	assert_false(fs_exists("tree/f")); /* the rest is gone all the same */
}

static void test_mkdirs(void **state)
{
	mode_t mask = umask(077);
	struct error err;
	struct stat st;
	char path[5000];

	(void)state;
	assert_int_equal(mkdir("a", 0700), 0);
	assert_int_equal(fs_mkdirs("a/b//c/", 0755, &err), 0);
	assert_int_equal(stat("a/b/c", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(stat("a/b", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(stat("a", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700); /* not ours */
	assert_int_equal(fs_mkdirs("a/b/c", 0711, &err), 0);
	assert_int_equal(stat("a/b/c", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(symlink("a", "link"), 0);
	assert_int_equal(fs_mkdirs("link/d", 0755, &err), 0);
	assert_true(fs_is_dir("a/d"));
	put("f", "");
	assert_int_equal(fs_mkdirs("f", 0755, &err), -ENOTDIR);
	assert_int_equal(fs_mkdirs("f/g", 0755, &err), -ENOTDIR);
	assert_int_equal(fs_mkdirs("", 0755, &err), -EINVAL);
	assert_int_equal(fs_mkdirs("/", 0755, &err), 0);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(fs_mkdirs(path, 0755, &err), -ENAMETOOLONG);
	umask(mask);
}

static void test_remove_tree(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(fs_mkdirs("keep/dir", 0755, &err), 0);
	put("keep/f", "precious");
	assert_int_equal(fs_mkdirs("t/a/b", 0755, &err), 0);
	put("t/a/f", "x");
	put("t/" FS_TEMPORARY_PREFIX "left", "x");
	assert_int_equal(symlink("../keep", "t/link"), 0);
	assert_int_equal(symlink("nowhere", "t/dangling"), 0);
	assert_int_equal(mkfifo("t/fifo", 0600), 0);
	assert_int_equal(symlink("keep", "top"), 0);
	assert_int_equal(fs_remove_tree("t", &err), 0);
	assert_false(fs_exists("t"));
	assert_int_equal(fs_remove_tree("top", &err), 0); /* a link is a leaf */
	expect_content("keep/f", "precious");
	assert_true(fs_is_dir("keep/dir"));
	assert_int_equal(fs_remove_tree("t", &err), 0);
	assert_int_equal(fs_remove_tree("no/such", &err), 0);
	assert_int_equal(fs_remove_tree("keep/..", &err), -EINVAL);
	assert_int_equal(fs_remove_tree("keep/f", &err), 0); /* also a file */
	assert_false(fs_exists("keep/f"));
}

static void test_remove_deep(void **state)
{
	char path[2 * LIMIT_TREE_DEPTH + 100] = "t";
	struct error err;

	(void)state;
	for (int i = 0; i < LIMIT_TREE_DEPTH; i++)
		strcat(path, "/d");
	assert_int_equal(fs_mkdirs(path, 0755, &err), 0);
	assert_int_equal(fs_remove_tree("t", &err), -ELOOP);
	assert_int_equal(fs_remove_tree("t/d", &err), 0); /* one less */
	assert_int_equal(fs_remove_tree("t", &err), 0);
}

static void test_symlink(void **state)
{
	char target[100];
	struct error err;
	ssize_t n;

	(void)state;
	assert_int_equal(fs_symlink("one", "link", &err), 0);
	assert_int_equal(fs_symlink("two/three", "link", &err), 0);
	n = readlink("link", target, sizeof(target) - 1);
	assert_true(n > 0);
	target[n] = '\0';
	assert_string_equal(target, "two/three");
	put("f", "x");
	assert_int_equal(fs_symlink("one", "f", &err), -EEXIST);
	expect_content("f", "x");
	assert_int_equal(entries("."), 2);
}

static void test_copy(void **state)
{
	static char big[300001];
	_cleanup_buf_ struct buf b = BUF_INIT(sizeof(big));
	struct error err;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 % 251);
	assert_int_equal(fs_write("from", big, sizeof(big), 0600, 0, &err), 0);
	assert_int_equal(fs_copy("from", "to", 0750, &err), 0);
	assert_int_equal(fs_read("to", sizeof(big), &b, &err), 0);
	assert_int_equal(b.len, sizeof(big));
	assert_memory_equal(b.data, big, sizeof(big));
	assert_int_equal(stat("to", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(fs_copy("none", "to", 0600, &err), -ENOENT);
	assert_string_equal(err.msg, "cannot copy none: No such file or directory");
	assert_int_equal(fs_copy("from", "none/to", 0600, &err), -ENOENT);
	assert_int_equal(fs_copy(".", "to", 0600, &err), -EISDIR);
	assert_int_equal(entries("."), 2);
}

static void test_list(void **state)
{
	static const char *const expected[] = {".hidden", "B", "a", "b", "\xc3\xa9", NULL};
	_cleanup_strv_ char **v = NULL;
	struct error err;

	(void)state;
	for (size_t i = 0; expected[i]; i++)
		put(expected[4 - i], "");
	put(FS_TEMPORARY_PREFIX "left", "");
	assert_int_equal(fs_list(".", 4, &v, &err), -E2BIG);
	assert_string_equal(err.msg, ". has more than 4 entries");
	assert_null(v);
	assert_int_equal(fs_list(".", 5, &v, &err), 0);
	assert_int_equal(strv_length(v), 5);
	for (size_t i = 0; expected[i]; i++)
		assert_string_equal(v[i], expected[i]);
	strv_free(TAKE_PTR(v));
	assert_int_equal(fs_list("none", 5, &v, &err), -ENOENT);
	assert_int_equal(fs_list("a", 5, &v, &err), -ENOTDIR);
	assert_int_equal(mkdir("dir", 0755), 0);
	assert_int_equal(fs_list("dir", 0, &v, &err), 0);
	assert_int_equal(strv_length(v), 0);
}

static void test_small(void **state)
{
	int fds[2];
	struct error err;

	(void)state;
	put("f", "");
	assert_true(fs_exists("f") && !fs_is_dir("f") && fs_is_dir(".") && !fs_exists("none"));
	assert_int_equal(fs_unlink("f", &err), 0);
	assert_int_equal(fs_unlink("f", &err), 0);
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(fs_unlink("d", &err), -EISDIR);
	assert_int_equal(fs_fsync_dir("d", &err), 0);
	assert_int_equal(fs_fsync_dir("none", &err), -ENOENT);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	assert_int_equal(fs_write_all(fds[1], "abc", 3), 0);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(fs_write_all(fds[1], "abc", 3), -EBADF);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_read),          TEST(test_read_proc), TEST(test_write),  TEST(test_keep_race),
		TEST(test_read_only_dir), TEST(test_no_space),  TEST(test_mkdirs), TEST(test_remove_tree),
		TEST(test_remove_deep),   TEST(test_symlink),   TEST(test_copy),   TEST(test_list),
		TEST(test_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

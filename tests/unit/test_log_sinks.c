/* Log lines as they arrive: in files that are rotated, deleted and not writable, in the journal, on a console. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/log_sinks.h"

struct world {
	char dir[40];
	char *path;
	struct log_file *file;
	struct buf text;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	strcpy(w->dir, "/tmp/ek-log-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->path = str_format("%s/evenkeel.log", w->dir);
	w->text = BUF_INIT(1 << 20);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	int r;

	log_file_close(w->file);
	log_console_remove();
	log_stderr_remove();
	r = fs_remove_tree(w->dir, NULL);
	buf_done(&w->text);
	free(w->path);
	free(w);
	return r;
}

static const char *content(struct world *w, const char *path)
{
	buf_reset(&w->text);
	return fs_read(path, 1 << 20, &w->text, NULL) == 0 ? buf_str(&w->text) : NULL;
}

static void open_log(struct world *w, size_t max, unsigned files)
{
	assert_int_equal(log_file_open(w->path, max, files, LOG_LEVEL_INFO, &w->file, NULL), 0);
}

static void test_line(void **state)
{
	struct world *w = *state;
	const char *s;
	struct stat st;

	umask(022);
	open_log(w, 1 << 20, 3);
	log_for(LOG_LEVEL_INFO, (.handler = "drain", .event_id = "E-1", .job = "j1", .unit = "app.service"), "begun: %d", 1);
	log_debug("not wanted");
	log_warning("plain");
	s = content(w, w->path);
	assert_non_null(s);
	assert_true(strlen(s) > 25);
	assert_int_equal(s[10], 'T');
	assert_int_equal(s[19], '.');
	assert_int_equal(s[23], 'Z');
	assert_true(str_starts(s + 24, " info drain: begun: 1 event=E-1 job=j1 unit=app.service\n"));
	assert_non_null(strstr(s, "Z warning plain\n"));
	assert_null(strstr(s, "not wanted"));
	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

static void test_rotation(void **state)
{
	struct world *w = *state;
	char name[100];
	struct stat st;

	open_log(w, 500, 3);
	for (int i = 0; i < 40; i++)
		log_info("line %02d of forty, each of them about sixty bytes long", i);
	assert_non_null(strstr(content(w, w->path), "line 39"));
	for (int i = 1; i <= 3; i++) {
		(void)snprintf(name, sizeof(name), "%s.%d", w->path, i);
		assert_int_equal(fs_exists(name), i < 3);
		if (i < 3) {
			assert_int_equal(stat(name, &st), 0);
			assert_true(st.st_size <= 500 && st.st_size > 300);
		}
	}
	(void)snprintf(name, sizeof(name), "%s.1", w->path);
	assert_null(strstr(content(w, name), "line 39"));
	assert_non_null(strstr(content(w, name), "line 3"));

	/* A line larger than the file may be is still one line in a file of its own. */
	{
		_cleanup_free_ char *big = calloc(1, 1001);

		memset(big, 'b', 1000);
		log_info("%s", big);
		log_info("after");
		assert_true(str_ends(content(w, w->path), "after\n"));
		assert_null(strstr(content(w, w->path), "bbb"));
	}
}

static void test_one_file(void **state)
{
	_cleanup_free_ char *first = NULL;
	struct world *w = *state;

	open_log(w, 300, 1);
	for (int i = 0; i < 20; i++)
		log_info("line %02d of twenty, each of them about sixty bytes long", i);
	first = str_format("%s.1", w->path);
	assert_false(fs_exists(first));
	assert_true(strlen(content(w, w->path)) <= 300);
	assert_non_null(strstr(content(w, w->path), "line 19"));
}

static void test_deleted(void **state)
{
	_cleanup_free_ char *moved = NULL;
	struct world *w = *state;

	open_log(w, 1 << 20, 3);
	moved = str_format("%s/elsewhere", w->dir);
	log_info("one");
	assert_int_equal(unlink(w->path), 0);
	log_info("two");
	assert_non_null(strstr(content(w, w->path), "two"));
	assert_null(strstr(content(w, w->path), "one"));
	assert_int_equal(rename(w->path, moved), 0);
	log_info("three");
	assert_non_null(strstr(content(w, w->path), "three"));

	/* Not a file any more: the message is lost, the program goes on, without asking at every line. */
	assert_int_equal(unlink(w->path), 0);
	assert_int_equal(mkdir(w->path, 0700), 0);
	log_info("lost");
	assert_int_equal(rmdir(w->path), 0);
	log_info("also lost");
	assert_false(fs_exists(w->path));
}

static void test_cannot_open(void **state)
{
	_cleanup_free_ char *path = NULL;
	struct world *w = *state;
	struct error err = ERROR_INIT;

	path = str_format("%s/no/such/dir/log", w->dir);
	assert_int_equal(log_file_open(path, 100, 2, LOG_LEVEL_INFO, &w->file, &err), -ENOENT);
	assert_non_null(strstr(err.msg, path));
	assert_null(w->file);
}

/* Four processes write at once while the file is rotated: every line is whole. */
static void test_many_writers(void **state)
{
	struct world *w = *state;
	unsigned lines = 0;
	pid_t pids[4];

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			if (log_file_open(w->path, 4000, 20, LOG_LEVEL_INFO, &w->file, NULL) < 0)
				_exit(1);
			for (int n = 0; n < 100; n++)
				log_info("writer %zu wrote this line as number %02d END", i, n);
			_exit(0);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	for (int i = 0; i < 20; i++) {
		_cleanup_free_ char *name = i ? str_format("%s.%d", w->path, i) : strdup(w->path);
		const char *s = content(w, name);

		for (; s && *s; s = strchr(s, '\n') + 1) {
			const char *end = strchr(s, '\n');

			assert_non_null(end);
			assert_memory_equal(end - 4, " END", 4);
			assert_int_equal(s[23], 'Z');
			lines++;
		}
	}
	assert_int_equal(lines, 400);
}

static void test_console(void **state)
{
	struct world *w = *state;
	char big[1000];

	/* It is opened for each line, never made. */
	log_console_add(w->path);
	log_for(LOG_LEVEL_INFO, (.milestone = true), "lost");
	assert_false(fs_exists(w->path));
	assert_int_equal(fs_write(w->path, "", 0, 0600, 0, NULL), 0);
	log_info("no milestone");
	log_for(LOG_LEVEL_INFO, (.milestone = true), "drained");
	assert_string_equal(content(w, w->path), "evenkeel: drained\n");
	for (size_t i = 0; i + 2 < sizeof(big); i += 2)
		memcpy(big + i, "\xc3\xa9", 3);
	log_for(LOG_LEVEL_INFO, (.milestone = true), "%s", big);
	content(w, w->path);
	assert_true(w->text.len - strlen("evenkeel: drained\n") <= 200);
	assert_true(utf8_valid(w->text.data, w->text.len));
	assert_true(str_ends(w->text.data, "\xc3\xa9\n"));
	log_console_remove();
	log_for(LOG_LEVEL_INFO, (.milestone = true), "removed");
	assert_null(strstr(content(w, w->path), "removed"));
	/* A FIFO nobody reads does not hold us up. */
	assert_int_equal(unlink(w->path), 0);
	assert_int_equal(mkfifo(w->path, 0600), 0);
	log_console_add(w->path);
	log_for(LOG_LEVEL_INFO, (.milestone = true), "to nobody");
}

static void test_stderr(void **state)
{
	struct world *w = *state;
	int saved = dup(2), fd = open(w->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(saved >= 0 && fd >= 0);
	assert_int_equal(dup2(fd, 2), 2);
	log_stderr_add(LOG_LEVEL_WARNING, false);
	log_error("bad");
	log_info("quiet");
	log_stderr_remove();
	log_stderr_add(LOG_LEVEL_INFO, true);
	log_info("plain words");
	log_stderr_remove();
	assert_int_equal(dup2(saved, 2), 2);
	close(saved);
	close(fd);
	assert_string_equal(content(w, w->path), "error: bad\nplain words\n");
}

/* Our own socket in the journal's place, in a mount namespace of our own. */
static int journal_child(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char got[4096];
	ssize_t n;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/run", "tmpfs", 0, "size=1m") < 0)
		return 77;
	if (mkdir("/run/systemd", 0755) < 0 || mkdir("/run/systemd/journal", 0755) < 0 ||
	    bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return 2;
	log_journal_add(LOG_LEVEL_INFO);
	log_for(LOG_LEVEL_WARNING, (.handler = "drain", .event_id = "E-1", .sequence = "3", .job = "j", .unit = "u.service"),
		"slow");
	log_journal_remove();
	log_warning("nobody hears this");
	n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);
	if (n <= 0)
		return 3;
	got[n] = '\0';
	for (const char *const *p = (const char *const[]){ "MESSAGE=slow\n", "PRIORITY=4\n", "SYSLOG_IDENTIFIER=evenkeel\n",
							   "EVENKEEL_HANDLER=drain\n", "EVENKEEL_EVENT_ID=E-1\n",
							   "EVENKEEL_SEQUENCE=3\n", "EVENKEEL_JOB=j\n",
							   "EVENKEEL_UNIT=u.service\n", NULL };
	     *p; p++)
		if (!strstr(got, *p))
			return 4;
	if (strstr(got, "CODE_FILE"))
		return 5;
	if (recv(fd, got, sizeof(got), MSG_DONTWAIT) >= 0)
		return 6;
	log_journal_add(LOG_LEVEL_INFO);
	log_for(LOG_LEVEL_WARNING, (.job = "two\nlines"), "slow");
	n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);
	if (n <= 0 || !memmem(got, (size_t)n, "EVENKEEL_JOB\n\x09\0\0\0\0\0\0\0two\nlines\n", 31))
		return 7;
	/* A journal that does not read is not waited for. */
	(void)alarm(10);
	for (int i = 0; i < 20000; i++)
		log_info("%d", i);
	log_journal_remove();
	return 0;
}

static void test_journal(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(journal_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_line),	 TEST(test_rotation), TEST(test_one_file), TEST(test_deleted), TEST(test_cannot_open),
		TEST(test_many_writers), TEST(test_console),  TEST(test_stderr),   TEST(test_journal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

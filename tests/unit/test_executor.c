/* Jobs as children: how they end, how they are stopped, and how a later process finds them again. (Jobs as transient
 * units need a systemd: tests/machine/probe_executor.c.) */
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
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/bus.h"
#include "agent/io/executor.h"
#include "agent/io/loop.h"

/* What the jobs do, by their id. */
static const char runner[] = "#!/bin/sh\n"
			     "[ \"$1\" = run ] || exit 99\n"
			     "cd \"$EVENKEEL_TEST_DIR\" || exit 98\n"
			     "echo x >> \"began-$2\"\n"
			     "case \"$2\" in\n"
			     "ok) exit 0 ;;\n"
			     "seven) exit 7 ;;\n"
			     "segv) kill -SEGV $$ ;;\n"
			     "polite) trap 'echo bye > polite-end; exit 5' TERM; while :; do sleep 0.05; done ;;\n"
			     "stubborn) trap '' TERM; (trap '' TERM; sleep 30 & echo $! > stubborn-child; wait) & wait; sleep 30 ;;\n"
			     "slow) sleep 0.5; exit 3 ;;\n"
			     "long) sleep 30 ;;\n"
			     "leaves|kills) sleep 30 & echo $! > \"$2-child\"; exit 0 ;;\n"
			     "env) env > env; ls -l /proc/self/fd > fds; cat > stdin; exit 0 ;;\n"
			     "esac\n";

struct world {
	char dir[40];
	char *binary, *run_jobs;
	struct loop *loop;
	struct executor *executor;
	struct executor_job *job;
	struct loop_timer *end;
	int calls;
	struct executor_outcome last;
	bool free_in_callback;
};

static char *path_of(struct world *w, const char *name)
{
	return str_format("%s/%s", w->dir, name);
}

static void open_executor(struct world *w)
{
	assert_int_equal(loop_new(&w->loop, NULL), 0);
	assert_int_equal(executor_new(&w->executor, w->loop, NULL, w->binary, w->run_jobs, NULL), 0);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	strcpy(w->dir, "/tmp/ek-executor-XXXXXX");
	if (!mkdtemp(w->dir) || setenv("EVENKEEL_TEST_DIR", w->dir, 1) < 0)
		return -1;
	w->binary = path_of(w, "runner");
	w->run_jobs = path_of(w, "run/jobs");
	if (fs_write(w->binary, runner, strlen(runner), 0755, FS_NO_SYNC, NULL) < 0)
		return -1;
	open_executor(w);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	int r;

	executor_job_free(w->job);
	executor_free(w->executor);
	loop_timer_free(w->end);
	loop_free(w->loop);
	r = fs_remove_tree(w->dir, NULL);
	free(w->binary);
	free(w->run_jobs);
	free(w);
	return r;
}

static void on_done(const struct executor_outcome *o, void *userdata)
{
	struct world *w = userdata;

	w->calls++;
	w->last = *o;
	if (w->free_in_callback)
		executor_job_free(TAKE_PTR(w->job));
	assert_non_null(o->id);
	assert_true(strlen(o->id) > 0);
	loop_exit(w->loop, 0);
}

static void on_end(void *userdata)
{
	struct world *w = userdata;

	loop_exit(w->loop, 4);
}

static void start(struct world *w, const char *id)
{
	struct executor_request req = { .id = id, .description = "a test" };
	struct error err = ERROR_INIT;

	assert_int_equal(executor_start(w->executor, &req, on_done, w, &w->job, &err), 0);
}

static void wait_end(struct world *w)
{
	int before = w->calls;

	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->calls, before + 1);
	executor_job_free(TAKE_PTR(w->job));
}

static void turn(struct world *w, usec_t span)
{
	if (!w->end)
		assert_int_equal(loop_timer_new(w->loop, "end", on_end, w, &w->end), 0);
	loop_timer_after(w->end, span);
	assert_int_equal(loop_run(w->loop), 4);
}

static void wait_file(struct world *w, const char *name)
{
	_cleanup_free_ char *path = path_of(w, name);
	struct stat st;

	for (int i = 0; i < 500 && (stat(path, &st) < 0 || !st.st_size); i++)
		usleep(10000);
	assert_true(fs_exists(path));
}

static pid_t pid_in(struct world *w, const char *name)
{
	_cleanup_free_ char *path = path_of(w, name);
	_cleanup_buf_ struct buf b = BUF_INIT(100);

	wait_file(w, name);
	assert_int_equal(fs_read(path, 100, &b, NULL), 0);
	return (pid_t)atoi(buf_str(&b));
}

/* A killed process may stay a zombie if nobody reaps here. */
static bool is_running(pid_t pid)
{
	_cleanup_free_ char *path = str_format("/proc/%d/stat", pid);
	_cleanup_buf_ struct buf b = BUF_INIT(4096);

	if (fs_read(path, 4096, &b, NULL) < 0)
		return false;
	return strstr(buf_str(&b), ") Z ") == NULL && strstr(buf_str(&b), ") X ") == NULL;
}

static bool is_gone_soon(pid_t pid)
{
	for (int i = 0; i < 300 && is_running(pid); i++)
		usleep(10000);
	return !is_running(pid);
}

static bool has_pid_file(struct world *w, const char *id)
{
	_cleanup_free_ char *path = str_format("%s/%s.pid", w->run_jobs, id);

	return fs_exists(path);
}

static void test_ends(void **state)
{
	static const struct {
		const char *id;
		int code, status;
	} cases[] = {
		{ "ok", CLD_EXITED, 0 },
		{ "seven", CLD_EXITED, 7 },
		{ "segv", CLD_KILLED, SIGSEGV },
	};
	struct world *w = *state;

	assert_int_equal(executor_kind(w->executor), EXECUTOR_CHILDREN);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		start(w, cases[i].id);
		assert_true(has_pid_file(w, cases[i].id));
		assert_int_equal(w->calls, (int)i);
		wait_end(w);
		assert_int_equal(w->last.end, EXECUTOR_ENDED);
		assert_true(w->last.code == cases[i].code || w->last.code == CLD_DUMPED);
		assert_int_equal(w->last.status, cases[i].status);
		executor_release(w->executor, cases[i].id);
		assert_false(has_pid_file(w, cases[i].id));
	}
}

static void test_free_in_callback(void **state)
{
	struct world *w = *state;

	w->free_in_callback = true;
	start(w, "ok");
	assert_int_equal(loop_run(w->loop), 0);
	assert_null(w->job);
}

static void test_refused(void **state)
{
	static const char *const bad[] = { "", "-x", ".x", "a/b", "A", "a b", "a$b", "\xc3\xa9" };
	struct executor_job *other = NULL;
	struct world *w = *state;
	struct error err;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct executor_request req = { .id = bad[i], .description = "x" };

		assert_int_equal(executor_start(w->executor, &req, on_done, w, &other, &err), -EINVAL);
		assert_int_equal(executor_attach(w->executor, bad[i], on_done, w, &other, &err), -EINVAL);
	}
	start(w, "slow");
	assert_int_equal(executor_start(w->executor, &(struct executor_request){ .id = "slow" }, on_done, w, &other, &err),
			 -EEXIST);
	assert_int_equal(executor_attach(w->executor, "slow", on_done, w, &other, &err), -EEXIST);
	assert_null(other);
	wait_end(w);
	assert_int_equal(w->last.status, 3);
}

static void test_cannot_execute(void **state)
{
	struct executor_job *job = NULL;
	struct world *w = *state;
	struct error err;

	assert_int_equal(unlink(w->binary), 0);
	assert_int_equal(executor_start(w->executor, &(struct executor_request){ .id = "ok" }, on_done, w, &job, &err), -ENOENT);
	assert_non_null(strstr(err.msg, w->binary));
	assert_non_null(strstr(err.msg, "ok"));
	assert_false(has_pid_file(w, "ok"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void test_stop_polite(void **state)
{
	struct world *w = *state;
	usec_t begin;

	start(w, "polite");
	wait_file(w, "began-polite");
	usleep(100000);
	begin = time_boot();
	executor_stop(w->job, 10 * USEC_PER_SEC);
	wait_end(w);
	assert_true(time_boot() - begin < 5 * USEC_PER_SEC);
	assert_int_equal(w->last.code, CLD_EXITED);
	assert_int_equal(w->last.status, 5);
	wait_file(w, "polite-end");
}

static void test_stop_stubborn(void **state)
{
	struct world *w = *state;
	pid_t grandchild;
	usec_t begin;

	start(w, "stubborn");
	grandchild = pid_in(w, "stubborn-child");
	assert_true(is_running(grandchild));
	begin = time_boot();
	executor_stop(w->job, 300 * USEC_PER_MSEC);
	wait_end(w);
	assert_true(time_boot() - begin >= 300 * USEC_PER_MSEC);
	assert_int_equal(w->last.code, CLD_KILLED);
	assert_int_equal(w->last.status, SIGKILL);
	assert_true(is_gone_soon(grandchild));
}

static void test_survivors(void **state)
{
	struct executor_request req = { .id = "leaves", .description = "x", .leave_survivors = true };
	struct world *w = *state;
	pid_t pid;

	start(w, "kills");
	wait_end(w);
	assert_true(is_gone_soon(pid_in(w, "kills-child")));

	assert_int_equal(executor_start(w->executor, &req, on_done, w, &w->job, NULL), 0);
	wait_end(w);
	executor_release(w->executor, "leaves");
	pid = pid_in(w, "leaves-child");
	usleep(50000);
	assert_true(is_running(pid));
	assert_int_equal(kill(pid, SIGKILL), 0);
}

static void test_clean_start(void **state)
{
	_cleanup_free_ char *env = NULL, *fds = NULL, *stdin_path = NULL;
	_cleanup_buf_ struct buf b = BUF_INIT(65536);
	struct world *w = *state;
	int open_fd = open("/dev/zero", O_RDONLY); /* without O_CLOEXEC, as a library may */
	struct stat st;

	env = path_of(w, "env");
	fds = path_of(w, "fds");
	stdin_path = path_of(w, "stdin");
	assert_int_equal(setenv("NOTIFY_SOCKET", "/x", 1), 0);
	assert_int_equal(setenv("SECRET_OF_MINE", "/x", 1), 0);
	start(w, "env");
	wait_end(w);
	close(open_fd);
	assert_int_equal(unsetenv("NOTIFY_SOCKET") + unsetenv("SECRET_OF_MINE"), 0);
	assert_int_equal(fs_read(env, 65536, &b, NULL), 0);
	assert_non_null(strstr(buf_str(&b), "EVENKEEL_TEST_DIR="));
	assert_null(strstr(buf_str(&b), "NOTIFY_SOCKET"));
	assert_null(strstr(buf_str(&b), "SECRET_OF_MINE"));
	buf_reset(&b);
	assert_int_equal(fs_read(fds, 65536, &b, NULL), 0);
	assert_null(strstr(buf_str(&b), "/dev/zero"));
	assert_null(strstr(buf_str(&b), "eventpoll"));
	assert_int_equal(stat(stdin_path, &st), 0); /* ended at once: /dev/null */
	assert_int_equal(st.st_size, 0);
}

static void test_watch_again(void **state)
{
	struct world *w = *state;

	/* Freed while it runs: it goes on, nobody is called, and the same process may watch it again. */
	start(w, "slow");
	executor_job_free(TAKE_PTR(w->job));
	turn(w, 50 * USEC_PER_MSEC);
	assert_int_equal(w->calls, 0);
	assert_int_equal(executor_attach(w->executor, "slow", on_done, w, &w->job, NULL), 0);
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_ENDED);
	assert_int_equal(w->last.status, 3);

	/* Freed, and ended meanwhile: it was reaped, and there is nothing to watch any more. */
	executor_release(w->executor, "slow");
	start(w, "ok");
	executor_job_free(TAKE_PTR(w->job));
	turn(w, 300 * USEC_PER_MSEC);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(executor_attach(w->executor, "ok", on_done, w, &w->job, NULL), 0);
	assert_int_equal(w->calls, 1); /* not from inside */
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_NOT_FOUND);
}

/* A process that starts the job and is killed; the job is then nobody's child. */
static void start_and_die(struct world *w, const char *id)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct world other = { .binary = w->binary, .run_jobs = w->run_jobs };

		if (loop_new(&other.loop, NULL) == 0 &&
		    executor_new(&other.executor, other.loop, NULL, w->binary, w->run_jobs, NULL) == 0 &&
		    executor_start(other.executor, &(struct executor_request){ .id = id }, on_done, w, &other.job, NULL) == 0)
			(void)kill(getpid(), SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(has_pid_file(w, id));
}

static unsigned times_begun(struct world *w, const char *name)
{
	_cleanup_free_ char *path = path_of(w, name);
	_cleanup_buf_ struct buf b = BUF_INIT(100);

	assert_int_equal(fs_read(path, 100, &b, NULL), 0);
	return (unsigned)(b.len / 2);
}

static void test_killed_daemon(void **state)
{
	struct world *w = *state;

	/* In init's place: orphans come to us, and are reaped by us. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL), 0);
	start_and_die(w, "slow");
	assert_int_equal(executor_attach(w->executor, "slow", on_done, w, &w->job, NULL), 0);
	turn(w, 50 * USEC_PER_MSEC);
	assert_int_equal(w->calls, 0); /* it still runs */
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_ENDED);
	assert_int_equal(w->last.code, 0); /* whose child it was has the status; the result file tells */
	while (waitpid(-1, NULL, 0) > 0)
		;
	assert_int_equal(executor_attach(w->executor, "slow", on_done, w, &w->job, NULL), 0);
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_NOT_FOUND);

	/* Starting what an earlier process has started watches that one. */
	start_and_die(w, "long");
	wait_file(w, "began-long");
	start(w, "long");
	turn(w, 50 * USEC_PER_MSEC);
	assert_int_equal(times_begun(w, "began-long"), 1);
	executor_stop(w->job, 0);
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_ENDED);
	while (waitpid(-1, NULL, 0) > 0)
		;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0UL, 0UL, 0UL, 0UL), 0);
}

static void test_stale_pid_file(void **state)
{
	static const char *const texts[] = { "", "garbage", "1 1 0\n", "99999999999 5 0\n", "-5 5 0\n", "5", "5 5\n" };
	_cleanup_free_ char *path = NULL, *own = NULL;
	struct world *w = *state;

	path = str_format("%s/long.pid", w->run_jobs);
	own = str_format("%d 1 0\n", getpid()); /* alive, but of another start time */
	assert_int_equal(fs_mkdirs(w->run_jobs, 0700, NULL), 0);
	for (size_t i = 0; i <= ARRAY_SIZE(texts); i++) {
		const char *text = i < ARRAY_SIZE(texts) ? texts[i] : own;

		assert_int_equal(fs_write(path, text, strlen(text), 0600, FS_NO_SYNC, NULL), 0);
		assert_int_equal(executor_attach(w->executor, "long", on_done, w, &w->job, NULL), 0);
		wait_end(w);
		assert_int_equal(w->last.end, EXECUTOR_NOT_FOUND);
	}
}

/* "any run ID", as a runner is called, with a child; in `group`, or in one of its own with 0. */
static pid_t spawn_called_run(struct world *w, const char *id, pid_t group)
{
	static const char script[] = "sleep 30 &\necho $! > ../child\necho $$ > \"../called-$1\"\nwait\n";
	_cleanup_free_ char *cwd = path_of(w, "cwd"), *file = path_of(w, "cwd/run"), *called = str_format("called-%s", id);
	char name[] = "any", run[] = "run";
	char *argv[] = { name, run, called + strlen("called-"), NULL };
	pid_t pid;

	assert_int_equal(fs_mkdirs(cwd, 0700, NULL), 0);
	assert_int_equal(fs_write(file, script, strlen(script), 0600, FS_NO_SYNC, NULL), 0);
	pid = fork();
	if (pid == 0) {
		if (setpgid(0, group) == 0 && chdir(cwd) == 0)
			(void)execv("/bin/sh", argv);
		_exit(1);
	}
	assert_int_equal(pid_in(w, called), pid);
	return pid;
}

static pid_t spawn_leader(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)setpgid(0, 0);
		(void)pause();
		_exit(1);
	}
	(void)setpgid(pid, pid);
	return pid;
}

static void end_of(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void write_pid_file(struct world *w, const char *id, pid_t pid)
{
	_cleanup_free_ char *path = str_format("%s/%s.pid", w->run_jobs, id), *text = str_format("%d 12345 0\n", pid);

	assert_int_equal(fs_mkdirs(w->run_jobs, 0700, NULL), 0);
	assert_int_equal(fs_write(path, text, strlen(text), 0600, FS_NO_SYNC, NULL), 0);
}

/* The guard was killed: the runner, of its group, is found; and it is told to stop like any other. */
static void test_orphan(void **state)
{
	struct world *w = *state;
	pid_t leader = spawn_leader(), orphan = spawn_called_run(w, "same", leader);

	end_of(leader);
	write_pid_file(w, "same", leader);
	assert_int_equal(executor_attach(w->executor, "same", on_done, w, &w->job, NULL), 0);
	turn(w, 50 * USEC_PER_MSEC);
	assert_int_equal(w->calls, 0);
	executor_stop(w->job, 10 * USEC_PER_SEC);
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_ENDED);
	assert_int_equal(waitpid(orphan, NULL, 0), orphan);
	assert_true(is_gone_soon(pid_in(w, "child")));
}

/* Another root's service, or a test beside this one, runs a job of the same id: it is not ours to watch, nor to stop. */
static void test_not_our_orphan(void **state)
{
	struct world *w = *state;
	pid_t leader = spawn_leader(), other = spawn_called_run(w, "same", 0);

	end_of(leader);
	write_pid_file(w, "same", leader);
	assert_int_equal(executor_attach(w->executor, "same", on_done, w, &w->job, NULL), 0);
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_NOT_FOUND);
	assert_true(is_running(other));
	/* Nor when it has the very number of our dead one, which then leads a group of strangers. */
	write_pid_file(w, "same", other);
	assert_int_equal(executor_attach(w->executor, "same", on_done, w, &w->job, NULL), 0);
	wait_end(w);
	assert_int_equal(w->last.end, EXECUTOR_NOT_FOUND);
	assert_true(is_running(other));
	assert_int_equal(kill(-other, SIGKILL), 0);
	assert_int_equal(waitpid(other, NULL, 0), other);
}

static void test_no_systemd_below_a_root(void **state)
{
	struct world *w = *state;
	struct bus *b = NULL;
	struct error err = ERROR_INIT;

	assert_int_equal(setenv("EVENKEEL_ROOT", w->dir, 1), 0);
	assert_int_equal(bus_open(&b, w->loop, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "EVENKEEL_ROOT"));
	assert_null(b);
	assert_int_equal(unsetenv("EVENKEEL_ROOT"), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ends),	    TEST(test_free_in_callback),
		TEST(test_refused),	    TEST(test_cannot_execute),
		TEST(test_stop_polite),	    TEST(test_stop_stubborn),
		TEST(test_survivors),	    TEST(test_clean_start),
		TEST(test_watch_again),	    TEST(test_killed_daemon),
		TEST(test_stale_pid_file),
		TEST(test_orphan),
		TEST(test_not_our_orphan), TEST(test_no_systemd_below_a_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

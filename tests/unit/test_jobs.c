/* Jobs from end to end: files, executor (children), the real runner, results; and what is left after kills. */
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
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/core/exit_codes.h"
#include "agent/core/job.h"
#include "agent/io/executor.h"
#include "agent/io/loop.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "handlers/common/jobs.h"
#include "tests/support/place.h"

#define ID_MAX 64

struct world {
	struct place place;
	struct loop_timer *timer;
	void (*at_time)(struct world *w);
	struct jobs_handle *handle;
	int calls;
	/* Of the last result. */
	int end;
	int64_t exit_code, signal, code, survivors, stdout_bytes;
	char *message, *out, *err;
	int number;
};

static void close_world(struct world *w)
{
	jobs_handle_free(w->handle);
	w->handle = NULL;
	loop_timer_free(w->timer);
	w->timer = NULL;
	place_close(&w->place);
}

static void forget_last(struct world *w)
{
	free(w->message);
	free(w->out);
	free(w->err);
	w->message = w->out = w->err = NULL;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w || place_make(&w->place) < 0)
		return -1;
	place_open(&w->place);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	close_world(w);
	forget_last(w);
	(void)umount2(w->place.paths.jobs, MNT_DETACH);
	if (place_remove(&w->place) < 0)
		return -1;
	free(w);
	return 0;
}

static char *path_in(struct world *w, const char *name)
{
	return str_format("%s/%s", w->place.dir, name);
}

static char *job_file(struct world *w, const char *id, const char *name)
{
	_cleanup_free_ char *directory = path_of_job(&w->place.paths, id);

	return str_format("%s/%s", directory, name);
}

static char *read_file(const char *path)
{
	struct buf b = BUF_INIT(64UL * 1024 * 1024);

	assert_int_equal(fs_read(path, b.max, &b, NULL), 0);
	return b.data ? b.data : strdup("");
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

static void on_done(const struct job_result *r, void *userdata)
{
	struct world *w = userdata;

	w->calls++;
	forget_last(w);
	w->end = r->end;
	w->exit_code = r->exit_code;
	w->signal = r->signal;
	w->code = r->code;
	w->survivors = r->survivors;
	w->stdout_bytes = r->stdout_bytes;
	w->message = strdup(r->message ? r->message : "");
	w->out = strdup(r->stdout_tail ? r->stdout_tail : "");
	w->err = strdup(r->stderr_tail ? r->stderr_tail : "");
	loop_exit(w->place.loop, 0);
}

static void on_time(void *userdata)
{
	struct world *w = userdata;

	w->at_time(w);
}

static void at(struct world *w, usec_t span, void (*fn)(struct world *w))
{
	w->at_time = fn;
	assert_int_equal(loop_timer_new(w->place.loop, "test", on_time, w, &w->timer), 0);
	loop_timer_after(w->timer, span);
}

static void wait_done(struct world *w)
{
	int before = w->calls;

	assert_int_equal(loop_run(w->place.loop), 0);
	assert_int_equal(w->calls, before + 1);
	jobs_handle_free(w->handle);
	w->handle = NULL;
	loop_timer_free(w->timer);
	w->timer = NULL;
}

static void start(struct world *w, struct job *job, const struct job_secrets *secrets)
{
	const struct jobs_request req = { .job = job, .secrets = secrets };
	struct error e = ERROR_INIT;

	if (jobs_start(w->place.jobs, &req, on_done, w, &w->handle, &e) < 0)
		fail_msg("%s", e.msg);
}

/* Starts and waits; the id is the title and a number. */
static void run(struct world *w, struct job *job, const struct job_secrets *secrets)
{
	char id[ID_MAX];

	if (!job->id) {
		(void)snprintf(id, sizeof(id), "j-%d", ++w->number);
		job->id = id;
	}
	start(w, job, secrets);
	wait_done(w);
	job->id = NULL;
}

static void run_shell(struct world *w, struct job *job, const char *text)
{
	struct job_secret value = { (char[]){ JOB_CONTENT_COMMAND }, strdup(text) };
	const struct job_secrets secrets = { { &value, 1 } };

	job->kind = JOB_COMMAND;
	job->shell_is_secret = true;
	run(w, job, &secrets);
	free(value.value);
}

static struct job new_job(int kind)
{
	struct job j;

	job_init(&j);
	j.kind = kind;
	return j;
}

/* ---- commands ---- */

static void test_command(void **state)
{
	struct world *w = *state;
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, (char[]){ "env | sort; echo \"$0\" \"$1\" >&2; exit 7" },
			 (char[]){ "a b" }, (char[]){ "$c" } };
	struct job_variable variable = { (char[]){ "EXTRA" }, (char[]){ "x y" } };
	struct job job = new_job(JOB_COMMAND);
	_cleanup_free_ char *expected = NULL, *work = NULL;

	job.argv = (struct jd_list){ argv, 5 };
	job.environment = (struct jd_list){ &variable, 1 };
	job.id = (char[]){ "env" };
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_EXITED);
	assert_int_equal(w->exit_code, 7);
	assert_int_equal(w->code, CODE_SCRIPT_EXIT);
	assert_string_equal(w->err, "a b $c\n");
	work = job_file(w, "env", "work");
	expected = str_format("EXTRA=x y\nHOME=/root\nLANG=C.UTF-8\nLOGNAME=root\n"
			      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=%s\nSHELL=/bin/",
			      work);
	if (geteuid() == 0)
		assert_true(str_starts(w->out, expected));
	assert_int_equal(mode_of(work), 0700);
	for (const char *const *name = (const char *const[]){ "job.json", "started", "stdout", "stderr", "result.json", NULL }; *name;
	     name++) {
		_cleanup_free_ char *path = job_file(w, "env", *name);

		assert_int_equal(mode_of(path), 0600);
	}
	jobs_forget(w->place.jobs, "env", true);
	assert_int_not_equal(access(work, F_OK), 0);
}

static void test_secrets_are_nowhere(void **state)
{
	struct world *w = *state;
	struct job_secret values[] = {
		{ (char[]){ JOB_CONTENT_COMMAND },
		  (char[]){ "# hunter2\nprintf %s \"$PASSWORD\" | wc -c; tr '\\0' ' ' < /proc/$PPID/cmdline; "
			    "tr '\\0' ' ' < /proc/$PPID/environ; tr '\\0' ' ' < /proc/$$/cmdline" } },
		{ (char[]){ "PASSWORD" }, (char[]){ "hunter2" } },
	};
	const struct job_secrets secrets = { { values, 2 } };
	struct job_variable variable = { (char[]){ "PASSWORD" }, NULL };
	struct job job = new_job(JOB_COMMAND);
	_cleanup_free_ char *handed = NULL, *command = NULL, *text = NULL, *json = NULL;

	job.shell_is_secret = true;
	job.environment = (struct jd_list){ &variable, 1 };
	job.id = (char[]){ "secret" };
	run(w, &job, &secrets);
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_true(str_starts(w->out, "7\n"));
	assert_non_null(strstr(w->out, "run secret"));
	assert_null(strstr(w->out, "hunter2"));
	handed = str_format("%s/secret.secrets", w->place.paths.run_jobs);
	assert_int_not_equal(access(handed, F_OK), 0);
	command = job_file(w, "secret", "command.sh");
	assert_int_not_equal(access(command, F_OK), 0);
	json = job_file(w, "secret", "job.json");
	text = read_file(json);
	assert_null(strstr(text, "hunter2"));
}

static void test_missing_secret(void **state)
{
	struct world *w = *state;
	struct job_variable variable = { (char[]){ "PASSWORD" }, NULL };
	char *argv[] = { (char[]){ "true" } };
	struct job job = new_job(JOB_COMMAND);

	job.argv = (struct jd_list){ argv, 1 };
	job.environment = (struct jd_list){ &variable, 1 };
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_non_null(strstr(w->message, "PASSWORD"));
}

static void test_no_such_program(void **state)
{
	struct world *w = *state;
	char *argv[] = { (char[]){ "no-such-program-here" } };
	struct job job = new_job(JOB_COMMAND);

	job.argv = (struct jd_list){ argv, 1 };
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_string_equal(w->message, "cannot run no-such-program-here: No such file or directory");
	job.directory = (char[]){ "/no/such/directory" };
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_non_null(strstr(w->message, "/no/such/directory"));
}

static void test_input_and_descriptors(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);

	job.input = (char[]){ "{\"a\":1}" };
	run_shell(w, &job, "cat; ls /proc/$$/fd >fds; grep -v '^1[01]$' fds | tr '\\n' ' '; umask; grep SigIgn /proc/$$/status; ps -o nice= -p $$");
	/* 10 and 11 are the shell's own: the file it reads, and its output while that of ls goes elsewhere. In a pipeline its
	 * pipes would come and go. */
	assert_true(str_starts(w->out, "{\"a\":1}0 1 2 0022\nSigIgn:\t0000000000000000\n"));
	job.input = NULL;
	job.nice = 5;
	run_shell(w, &job, "cat; ps -o nice= -p $$ | tr -d ' '");
	assert_string_equal(w->out, "5\n");
}

static void test_signal(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);

	run_shell(w, &job, "kill -SEGV $$");
	assert_int_equal(w->end, JOB_SIGNALED);
	assert_int_equal(w->signal, SIGSEGV);
	assert_non_null(strstr(w->message, "SIGSEGV"));
	/* A script that ends its own process group does not end the runner. */
	run_shell(w, &job, "trap '' TERM; kill -TERM 0; exit 4");
	assert_int_equal(w->end, JOB_EXITED);
	assert_int_equal(w->exit_code, 4);
}

/* ---- scripts ---- */

static void run_script(struct world *w, struct job *job, const char *bytes, size_t len)
{
	struct buf b = BUF_INIT(1UL << 20);
	struct job_secret value = { (char[]){ JOB_CONTENT_SCRIPT }, NULL };
	const struct job_secrets secrets = { { &value, 1 } };

	assert_int_equal(base64_encode(bytes, len, &b), 0);
	value.value = b.data;
	job->kind = JOB_SCRIPT;
	run(w, job, &secrets);
	buf_done(&b);
}

static void test_script(void **state)
{
	static const char crlf[] = "#!/bin/bash -e\r\necho \"$# $2 ${BASH_VERSION:+bash} $-\"\r\n";
	static const char plain[] = "echo no shebang\n", foreign[] = "#!/no/such/interpreter -x\n";
	static const unsigned char utf16[] = "\xff\xfe" "e\0c\0h\0o\0 \0\x3d\xd8\x00\xde\r\0\n\0";
	struct world *w = *state;
	char *argv[] = { (char[]){ "one" }, (char[]){ "two words" } };
	struct job job = new_job(JOB_SCRIPT);
	_cleanup_free_ char *path = NULL, *left = NULL;

	job.convert_line_endings = true;
	job.argv = (struct jd_list){ argv, 2 };
	job.id = (char[]){ "script" };
	run_script(w, &job, crlf, strlen(crlf));
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_true(str_starts(w->out, "2 two words bash e"));
	path = job_file(w, "script", "work/script.sh");
	assert_int_equal(mode_of(path), 0500);
	run_script(w, &job, (const char *)utf16, sizeof(utf16) - 1);
	assert_string_equal(w->out, "\xf0\x9f\x98\x80\n");
	job.id = (char[]){ "wiped" };
	job.wipe_script = true;
	run_script(w, &job, plain, strlen(plain));
	assert_string_equal(w->out, "no shebang\n");
	left = job_file(w, "wiped", "work/script.sh");
	assert_int_not_equal(access(left, F_OK), 0);
	run_script(w, &job, foreign, strlen(foreign));
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_non_null(strstr(w->message, "/no/such/interpreter"));
}

/* Also what a script of another user has left. */
static void test_forget(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_SCRIPT), forget = new_job(JOB_FORGET);
	struct job_file files[] = { { .name = (char[]){ "old" } }, { .name = (char[]){ "never-was" } }, { .name = (char[]){ "self" } } };
	static const char text[] = "mkdir -p a/b; echo >a/b/c; chmod 0 a/b a; [ $(id -u) != 0 ] || chown -R 65534 a\n";
	_cleanup_free_ char *old = NULL, *other = NULL;

	job.id = (char[]){ "old" };
	run_script(w, &job, text, strlen(text));
	assert_int_equal(w->end, JOB_SUCCEEDED);
	job.id = (char[]){ "other" };
	run_script(w, &job, "true\n", 5);
	old = job_file(w, "old", "result.json");
	other = job_file(w, "other", "result.json");
	assert_int_equal(access(old, F_OK), 0);

	forget.id = (char[]){ "forget" };
	forget.files = (struct jd_list){ files, 2 };
	run(w, &forget, NULL);
	/* Who is not root cannot even enter what it has locked itself. */
	assert_int_equal(w->end, geteuid() == 0 ? JOB_SUCCEEDED : JOB_EXITED);
	assert_int_equal(access(old, F_OK) == 0, false);
	assert_int_equal(access(other, F_OK), 0);

	forget.id = (char[]){ "self" };
	forget.files = (struct jd_list){ files + 2, 1 };
	run(w, &forget, NULL);
	assert_int_equal(w->end, JOB_EXITED);
	assert_non_null(strstr(w->message, "\"self\" is not a job to forget"));
}

/* What was made out elsewhere is written down once, and only where there is a job. */
static void test_kept_result(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_SCRIPT);
	const struct job_result gone = { .end = JOB_INTERRUPTED, .message = (char[]){ "gone" } };
	_cleanup_free_ char *path = NULL, *text = NULL, *again = NULL;

	job.id = (char[]){ "kept" };
	run_script(w, &job, "true\n", 5);
	path = job_file(w, "kept", "result.json");
	jobs_keep_result(w->place.jobs, "kept", &gone);
	text = read_file(path);
	assert_null(strstr(text, "gone"));
	assert_int_equal(unlink(path), 0);
	jobs_keep_result(w->place.jobs, "kept", &gone);
	again = read_file(path);
	assert_non_null(strstr(again, "\"id\":\"kept\""));
	assert_non_null(strstr(again, "\"end\":\"interrupted\""));
	jobs_keep_result(w->place.jobs, "nobody", &gone);
	jobs_keep_result(w->place.jobs, "../kept", &gone);
}

/* ---- ending ---- */

static bool alive(const char *path)
{
	_cleanup_free_ char *text = read_file(path);

	return kill((pid_t)atol(text), 0) == 0;
}

static void test_timeout_ends_all(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);
	_cleanup_free_ char *a = path_in(w, "a"), *b = path_in(w, "b"), *text = NULL;

	text = str_format("trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > %s; sleep 60; sleep 60' & (sleep 60 & echo $! > %s; wait) & "
			  "echo said; sleep 60; sleep 60",
			  a, b);
	job.leave_survivors = true;
	job.timeout_seconds = 1;
	job.grace_seconds = 1;
	run_shell(w, &job, text);
	assert_int_equal(w->end, JOB_TIMED_OUT);
	assert_int_equal(w->code, CODE_TIMEOUT);
	assert_string_equal(w->out, "said\n");
	assert_int_equal(w->survivors, 0);
	assert_false(alive(a));
	assert_false(alive(b));
}

static void test_deadline(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);
	usec_t before = time_boot();

	job.deadline_boot_usec = (int64_t)usec_add(before, 300 * USEC_PER_MSEC);
	run_shell(w, &job, "sleep 60");
	assert_int_equal(w->end, JOB_TIMED_OUT);
	assert_true(usec_sub(time_boot(), before) < 3 * USEC_PER_SEC);
}

static void stop_it(struct world *w)
{
	jobs_stop(w->handle, 500 * USEC_PER_MSEC);
}

static void test_stop(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);
	usec_t before = time_boot();

	at(w, 300 * USEC_PER_MSEC, stop_it);
	run_shell(w, &job, "trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done");
	assert_int_equal(w->end, JOB_STOPPED);
	assert_string_equal(w->out, "bye\n");
	/* The job's own grace is longer than that of the one who stops it. */
	job.grace_seconds = 60;
	at(w, 300 * USEC_PER_MSEC, stop_it);
	run_shell(w, &job, "trap '' TERM; while :; do sleep 0.1; done");
	assert_int_equal(w->end, JOB_STOPPED);
	assert_true(usec_sub(time_boot(), before) < 5 * USEC_PER_SEC);
}

static void test_survivors(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);
	_cleanup_free_ char *path = NULL, *text = NULL, *pid = path_in(w, "pid"), *command = NULL;

	job.leave_survivors = true;
	job.id = (char[]){ "leaves" };
	command = str_format("(sleep 0.6; echo late; sleep 0.2; echo later) & echo $! > %s; echo early", pid);
	run_shell(w, &job, command);
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_string_equal(w->out, "early\n");
	assert_in_range(w->survivors, 1, 2); /* the shell in the background, and its sleep */
	path = job_file(w, "leaves", "stdout");
	for (int i = 0; i < 100; i++) {
		free(text);
		text = read_file(path);
		if (str_equal(text, "early\nlate\nlater\n"))
			break;
		usleep(20000);
	}
	assert_string_equal(text, "early\nlate\nlater\n");
	/* Without that wish nothing is left. */
	job.leave_survivors = false;
	free(command);
	command = str_format("sleep 60 & echo $! > %s", pid);
	run_shell(w, &job, command);
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_int_equal(w->survivors, 0);
	assert_false(alive(pid));
}

/* ---- output ---- */

static void test_output_cap(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);
	_cleanup_free_ char *path = NULL, *text = NULL;
	struct buf tail = BUF_INIT(100);
	struct stat st;

	job.output_max_bytes = 65536;
	job.tail_bytes = 16;
	job.id = (char[]){ "loud" };
	run_shell(w, &job, "echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo the last line");
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_int_equal(w->stdout_bytes, 6 + 5000000 + 1 + 14);
	assert_string_equal(w->out, "x\nthe last line\n");
	path = job_file(w, "loud", "stdout");
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size <= 65536 && st.st_size > 32768);
	text = read_file(path);
	assert_true(str_starts(text, "first\nxxx"));
	assert_true(str_ends(text, "x\nthe last line\n"));
	assert_non_null(strstr(text, "bytes left out here]"));
	assert_int_equal(jobs_tail(w->place.jobs, "loud", false, 10, &tail), 0);
	assert_string_equal(tail.data, "last line\n");
	buf_done(&tail);
}

static void test_odd_output(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);

	run_shell(w, &job, "printf 'a\\377\\0b\\033[1m\\303\\251\\303'");
	assert_string_equal(w->out, "a\xef\xbf\xbd\xef\xbf\xbd" "b\xef\xbf\xbd[1m\xc3\xa9\xef\xbf\xbd");
	job.tail_bytes = 3;
	run_shell(w, &job, "printf '\\303\\251\\303\\251'");
	assert_string_equal(w->out, "\xc3\xa9");
}

/* ---- users ---- */

static void test_user(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);

	if (geteuid() != 0)
		skip();
	job.user = (char[]){ "nobody" };
	run_shell(w, &job, "id -un; id -Gn; echo $USER $LOGNAME; touch mine; stat -c %U mine .; id -u > /dev/stderr");
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_string_equal(w->out, "nobody\nnogroup\nnobody nobody\nnobody\nnobody\n");
	assert_string_equal(w->err, "65534\n");
	job.user = (char[]){ "nobody:daemon" };
	run_shell(w, &job, "id -gn");
	assert_string_equal(w->out, "daemon\n");
	run_script(w, &job, "#!/bin/sh\nid -un", 16);
	assert_string_equal(w->out, "nobody\n");
	job.user = (char[]){ "no-such-user" };
	run_shell(w, &job, "id -un");
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_string_equal(w->message, "there is no user \"no-such-user\" on this machine");
}

/* ---- hooks ---- */

static void put(const char *directory, const char *name, mode_t mode, const char *text)
{
	_cleanup_free_ char *path = path_join(directory, name);

	assert_int_equal(fs_write(path, text, strlen(text), mode, FS_NO_SYNC, NULL), 0);
}

static void test_hooks(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_HOOKS);
	_cleanup_free_ char *directory = path_in(w, "hooks"), *bad = path_in(w, "hooks/30-bad");

	job.directory = directory;
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_SUCCEEDED); /* none */
	assert_int_equal(fs_mkdirs(directory, 0755, NULL), 0);
	put(directory, "20-b", 0755, "#!/bin/sh\necho b $X\n");
	put(directory, "10-a", 0700, "echo a\n");
	put(directory, "README", 0644, "not run\n");
	put(directory, "10-a~", 0755, "echo copy\n");
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_string_equal(w->out, "a\nb\n");
	put(directory, "05-fails", 0755, "#!/bin/sh\necho f; exit 9\n");
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_EXITED);
	assert_int_equal(w->exit_code, 9);
	assert_string_equal(w->out, "f\na\nb\n"); /* the others are run all the same */
	assert_non_null(strstr(w->message, "05-fails"));
	put(directory, "05-fails", 0755, "#!/bin/sh\nsleep 60 & sleep 60\n");
	job.timeout_seconds = 1;
	job.grace_seconds = 1;
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_TIMED_OUT);
	assert_string_equal(w->out, "a\nb\n");
	put(directory, "05-fails", 0755, "#!/bin/sh\n");
	put(directory, "30-bad", 0755, "echo bad\n");
	assert_int_equal(chmod(bad, 0775), 0);
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_non_null(strstr(w->message, "30-bad can be written by others"));
	assert_string_equal(w->out, "a\nb\n");
	assert_int_equal(chmod(directory, 0777), 0);
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_string_equal(w->out, "");
}

/* ---- files ---- */

static void install(struct world *w, const char *directory, const char *version, const char *content, bool stage)
{
	struct job_secret values[] = { { (char[]){ "0" }, strdup(content) }, { (char[]){ "1" }, (char[]){ "AAEC" } } };
	const struct job_secrets secrets = { { values, 2 } };
	struct job_acl acl = { (char[]){ "daemon" }, (char[]){ "nogroup" } };
	struct job_file files[] = {
		{ .name = (char[]){ "key.pem" }, .mode = (char[]){ "0640" }, .owner = (char[]){ "root" }, .content = (char[]){ "0" },
		  .acls = { &acl, 1 } },
		{ .name = (char[]){ "chain.p12" }, .mode = (char[]){ "0644" }, .content = (char[]){ "1" }, .base64 = true },
	};
	struct job job = new_job(JOB_INSTALL);

	if (!*content)
		files[0].content = files[1].content = NULL;
	job.directory = strdup(directory);
	job.version = strdup(version);
	job.files = (struct jd_list){ files, 2 };
	job.stage = stage;
	run(w, &job, &secrets);
	free(job.directory);
	free(job.version);
	free(values[0].value);
}

static void expect(const char *directory, const char *name, const char *content)
{
	_cleanup_free_ char *path = path_join(directory, name), *text = read_file(path);

	assert_string_equal(text, content);
}

static void test_install(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *directory = path_in(w, "certs/web"), *key = path_in(w, "certs/web/versions/v1/key.pem");
	_cleanup_free_ char *binary = path_in(w, "certs/web/chain.p12"), *v1 = path_in(w, "certs/web/versions/v1");
	struct job_file names[] = { { .name = (char[]){ "key.pem" } }, { .name = (char[]){ "chain.p12" } } };
	struct job job = new_job(JOB_REMOVE);
	unsigned char acl[100];
	struct stat st;

	if (geteuid() != 0)
		skip();
	install(w, directory, "v1", "one", false);
	assert_string_equal(w->message, "the files are installed");
	expect(directory, "key.pem", "one");
	assert_int_equal(stat(binary, &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(mode_of(key), 0640);
	assert_int_equal(getxattr(key, "system.posix_acl_access", acl, sizeof(acl)), 4 + 6 * 8);

	install(w, directory, "v2", "two", true); /* only made */
	expect(directory, "key.pem", "one");
	expect(directory, "versions/v2/key.pem", "two");
	install(w, directory, "v2", "", false);
	expect(directory, "key.pem", "two");
	install(w, directory, "v1", "", false); /* back */
	expect(directory, "key.pem", "one");
	install(w, directory, "v3", "three", false);
	expect(directory, "key.pem", "three");
	assert_int_equal((access(v1, F_OK) == 0) + fs_exists(directory), 1 + (access(v1, F_OK) == 0));
	install(w, directory, "v9", "", false);
	assert_int_equal(w->end, JOB_EXITED);
	assert_non_null(strstr(w->message, "v9"));
	expect(directory, "key.pem", "three");

	job.directory = directory;
	job.files = (struct jd_list){ names, 2 };
	run(w, &job, NULL);
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_int_not_equal(access(directory, F_OK), 0);
}

static void test_install_keeps_versions(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *directory = path_in(w, "c"), *versions = path_in(w, "c/versions");
	_cleanup_strv_ char **left = NULL;

	if (geteuid() != 0)
		skip();
	for (int i = 1; i <= 4; i++) {
		char name[8];

		(void)snprintf(name, sizeof(name), "v%d", i);
		install(w, directory, name, name, false);
		expect(directory, "key.pem", name);
	}
	assert_int_equal(fs_list(versions, 100, &left, NULL), 0);
	assert_int_equal(strv_length(left), 2);
	assert_string_equal(left[0], "v3");
	assert_string_equal(left[1], "v4");
}

static void test_install_refuses(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *directory = path_in(w, "open/web"), *parent = path_in(w, "open"), *other = path_in(w, "other");

	if (geteuid() != 0)
		skip();
	assert_int_equal(fs_mkdirs(parent, 0777, NULL), 0);
	install(w, directory, "v1", "one", false);
	assert_int_equal(w->end, JOB_EXITED);
	assert_non_null(strstr(w->message, "chmod go-w"));
	assert_int_equal(fs_mkdirs(other, 0755, NULL), 0);
	put(other, "key.pem", 0600, "theirs");
	install(w, other, "v1", "one", false);
	assert_int_equal(w->end, JOB_EXITED);
	assert_non_null(strstr(w->message, "was not installed by evenkeel"));
	expect(other, "key.pem", "theirs");
}

static void test_install_plain(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *directory = path_in(w, "plain"), *path = path_in(w, "plain/token");
	struct job_secret value = { (char[]){ "c" }, (char[]){ "first" } };
	const struct job_secrets secrets = { { &value, 1 } };
	struct job_file file = { .name = (char[]){ "token" }, .mode = (char[]){ "0400" }, .content = (char[]){ "c" } };
	struct job job = new_job(JOB_INSTALL);

	job.directory = directory;
	job.files = (struct jd_list){ &file, 1 };
	run(w, &job, &secrets);
	assert_int_equal(w->end, JOB_SUCCEEDED);
	value.value = (char[]){ "second" };
	run(w, &job, &secrets);
	expect(directory, "token", "second");
	assert_int_equal(mode_of(path), 0400);
	job.kind = JOB_REMOVE;
	run(w, &job, NULL);
	assert_int_not_equal(access(path, F_OK), 0);
}

static size_t names_in(const char *directory)
{
	_cleanup_free_ char *command = str_format("ls -A %s | wc -l", directory);
	FILE *f = popen(command, "r");
	unsigned n = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

/* One step of a plain file's way into use; `content` NULL: of what is there. */
static void step(struct world *w, const char *directory, const char *content, bool stage, const char *drop, int64_t keep)
{
	struct job_secret value = { (char[]){ "c" }, (char *)(uintptr_t)(content ? content : "") };
	const struct job_secrets secrets = { { &value, 1 } };
	struct job_file file = { .name = (char[]){ "token" }, .mode = (char[]){ "0440" }, .content = content ? (char[]){ "c" } : NULL };
	struct job job = new_job(JOB_INSTALL);

	job.directory = (char *)(uintptr_t)directory;
	job.files = (struct jd_list){ &file, 1 };
	job.stage = stage;
	job.drop = (char *)(uintptr_t)drop;
	job.keep_versions = keep;
	run(w, &job, content ? &secrets : NULL);
}

/* Made beside, switched, taken back, kept: each done twice, as after a kill, comes to the same. */
static void test_install_in_steps(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *directory = path_in(w, "steps"), *token = path_in(w, "steps/token");
	_cleanup_free_ char *made = path_in(w, "steps/" JOB_FILE_NEW "token"), *former = path_in(w, "steps/" JOB_FILE_FORMER "token");

	step(w, directory, "one", false, NULL, 2);
	for (int n = 0; n < 2; n++) {
		step(w, directory, "two", true, NULL, 100);
		expect(directory, "token", "one");
		assert_int_equal(mode_of(made), 0440);
	}
	/* Killed between its two halves. */
	assert_int_equal(link(token, former), 0);
	for (int n = 0; n < 2; n++) {
		step(w, directory, NULL, false, NULL, 100);
		assert_int_equal(w->end, JOB_SUCCEEDED);
		expect(directory, "token", "two");
		expect(directory, JOB_FILE_FORMER "token", "one");
		assert_int_not_equal(access(made, F_OK), 0);
	}
	for (int n = 0; n < 2; n++) {
		step(w, directory, NULL, false, "", 100);
		assert_int_equal(w->end, JOB_SUCCEEDED);
		expect(directory, "token", "one");
		assert_int_equal(names_in(directory), 1);
	}
	/* Rejected before the switch. */
	step(w, directory, "three", true, NULL, 100);
	step(w, directory, NULL, false, "", 100);
	expect(directory, "token", "one");
	assert_int_equal(names_in(directory), 1);
	/* Kept. */
	step(w, directory, "four", true, NULL, 100);
	step(w, directory, NULL, false, NULL, 100);
	for (int n = 0; n < 2; n++) {
		step(w, directory, NULL, false, NULL, 1);
		expect(directory, "token", "four");
		assert_int_equal(names_in(directory), 1);
	}
	/* Nothing to switch to, and nothing there. */
	assert_int_equal(unlink(token), 0);
	step(w, directory, NULL, false, NULL, 1);
	assert_int_equal(w->end, JOB_EXITED);
	assert_non_null(strstr(w->message, "is not there any more"));
}

/* A set that is taken back is removed, and what is kept besides stays. */
static void test_a_set_is_taken_back(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *directory = path_in(w, "back"), *versions = path_in(w, "back/versions");
	struct job_file names[] = { { .name = (char[]){ "key.pem" } }, { .name = (char[]){ "chain.p12" } } };
	struct job job = new_job(JOB_INSTALL);

	if (geteuid() != 0)
		skip();
	install(w, directory, "v1", "one", false);
	install(w, directory, "v2", "two", true);
	job.directory = directory;
	job.files = (struct jd_list){ names, 2 };
	job.keep_versions = 100;
	for (int n = 0; n < 4; n++) {
		job.version = n % 2 ? (char[]){ "v1" } : (char[]){ "v2" };
		job.drop = n % 2 ? (char[]){ "v2" } : NULL;
		if (n == 2)
			install(w, directory, "v2", "two", true);
		run(w, &job, NULL);
		assert_int_equal(w->end, JOB_SUCCEEDED);
		expect(directory, "key.pem", n % 2 ? "one" : "two");
		assert_int_equal(names_in(versions), n % 2 ? 1 : 2);
	}
}

/* ---- kills, restarts, reboots ---- */

static pid_t runner_pid(struct world *w, const char *id)
{
	_cleanup_free_ char *path = str_format("%s/%s.pid", w->place.paths.run_jobs, id), *text = NULL;

	for (int i = 0; i < 500 && access(path, F_OK) < 0; i++)
		usleep(1000);
	text = read_file(path);
	return (pid_t)atol(text);
}

static void test_restart(void **state)
{
	struct world *w = *state;
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, (char[]){ "sleep 0.5; echo done; exit 5" } };
	struct job job = new_job(JOB_COMMAND);

	job.id = (char[]){ "long" };
	job.argv = (struct jd_list){ argv, 3 };
	start(w, &job, NULL);
	close_world(w);
	place_open(&w->place);
	assert_int_equal(jobs_attach(w->place.jobs, "long", on_done, w, &w->handle, NULL), 0);
	wait_done(w);
	assert_int_equal(w->end, JOB_EXITED);
	assert_int_equal(w->exit_code, 5);
	/* Once more, when all is over: the result stands. */
	close_world(w);
	place_open(&w->place);
	assert_int_equal(jobs_attach(w->place.jobs, "long", on_done, w, &w->handle, NULL), 0);
	wait_done(w);
	assert_int_equal(w->exit_code, 5);
	/* And starting it again only tells that. */
	start(w, &job, NULL);
	wait_done(w);
	assert_int_equal(w->exit_code, 5);
	assert_string_equal(w->out, "done\n");
}

static void test_unknown(void **state)
{
	struct world *w = *state;

	assert_int_equal(jobs_attach(w->place.jobs, "never-heard-of", on_done, w, &w->handle, NULL), 0);
	wait_done(w);
	assert_int_equal(w->end, JOB_NOT_STARTED);
	assert_int_equal(jobs_attach(w->place.jobs, "../up", on_done, w, &w->handle, NULL), -EINVAL);
}

static void test_kills(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);
	int interrupted = 0, ended = 0, not_started = 0;

	for (int i = 0; i < 40; i++) {
		char id[ID_MAX];
		/* A file for each round: what was killed in the last one may be dying still. */
		_cleanup_free_ char *text = NULL, *name = str_format("count-%d", i), *count = path_in(w, name);
		_cleanup_free_ char *command = str_format("echo x >> %s; sleep 0.02", count);
		char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, command };
		pid_t pid;

		(void)snprintf(id, sizeof(id), "kill-%d", i);
		job.argv = (struct jd_list){ argv, 3 };
		job.id = id;
		start(w, &job, NULL);
		pid = runner_pid(w, id);
		usleep((useconds_t)(i * 1200));
		if (pid > 0)
			(void)kill(pid, SIGKILL);
		close_world(w);
		place_open(&w->place);
		assert_int_equal(jobs_attach(w->place.jobs, id, on_done, w, &w->handle, NULL), 0);
		wait_done(w);
		interrupted += w->end == JOB_INTERRUPTED;
		ended += w->end == JOB_SUCCEEDED;
		not_started += w->end == JOB_NOT_STARTED;
		if (w->end == JOB_NOT_STARTED) {
			assert_int_not_equal(access(count, F_OK), 0);
			start(w, &job, NULL); /* allowed, under the same id */
			wait_done(w);
			assert_int_equal(w->end, JOB_SUCCEEDED);
		} else {
			start(w, &job, NULL); /* tells the same again, and runs nothing */
			wait_done(w);
		}
		if (access(count, F_OK) == 0) {
			text = read_file(count);
			/* The shell may have been killed between making the file and writing to it. */
			if (!str_equal(text, "x\n") && !(str_empty(text) && w->end == JOB_INTERRUPTED))
				fail_msg("round %d: \"%s\", end %d: %s", i, text, w->end, w->message);
		}
		jobs_forget(w->place.jobs, id, true);
	}
	assert_int_equal(interrupted + ended + not_started, 40);
	assert_true(interrupted > 0);
}

static void test_reboot(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);
	char *argv[] = { (char[]){ "sleep" }, (char[]){ "60" } };
	_cleanup_free_ char *path = NULL;
	pid_t pid;

	job.id = (char[]){ "boot" };
	job.argv = (struct jd_list){ argv, 2 };
	start(w, &job, NULL);
	pid = runner_pid(w, "boot");
	path = job_file(w, "boot", "started");
	for (int i = 0; i < 500 && access(path, F_OK) < 0; i++)
		usleep(1000);
	usleep(50000);
	assert_int_equal(kill(pid, SIGKILL), 0);
	close_world(w);
	strcpy(w->place.boot_id, "another-boot");
	place_open(&w->place);
	assert_int_equal(jobs_attach(w->place.jobs, "boot", on_done, w, &w->handle, NULL), 0);
	wait_done(w);
	assert_int_equal(w->end, JOB_INTERRUPTED);
	assert_non_null(strstr(w->message, "interrupted by a reboot"));
}

/* ---- disks ---- */

static bool mount_small(const char *path, const char *options, unsigned long flags)
{
	return geteuid() == 0 && fs_mkdirs(path, 0711, NULL) == 0 && mount("tmpfs", path, "tmpfs", flags, options) == 0;
}

static void fill(const char *directory)
{
	_cleanup_free_ char *path = path_join(directory, "rest");
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	static const char block[4096];

	assert_true(fd >= 0);
	while (write(fd, block, sizeof(block)) > 0)
		;
}

static void test_full_disk(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_COMMAND);

	if (!mount_small(w->place.paths.jobs, "size=512k,mode=711", 0))
		skip();
	job.id = (char[]){ "fills" };
	run_shell(w, &job, "echo before; head -c 2000000 /dev/zero > filler; echo after; head -c 100000 /dev/zero | tr '\\0' y; "
			   "echo; echo end; exit 6");
	assert_int_equal(w->end, JOB_EXITED);
	assert_int_equal(w->exit_code, 6);
	assert_true(str_ends(w->out, "y\nend\n"));
	assert_non_null(strstr(w->message, "not all of its output could be kept"));
	fill(w->place.paths.jobs);
	/* There is no room for another: it is done all the same, below /run. */
	job.id = (char[]){ "next" };
	run_shell(w, &job, "pwd; echo done");
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_non_null(strstr(w->out, "/run/evenkeel/jobs/next/work\ndone\n"));
}

static void test_noexec(void **state)
{
	struct world *w = *state;
	struct job job = new_job(JOB_SCRIPT);

	if (!mount_small(w->place.paths.jobs, "size=2m,mode=711", MS_NOEXEC))
		skip();
	run_script(w, &job, "#!/bin/sh\necho runs", 20);
	assert_int_equal(w->end, JOB_SUCCEEDED);
	assert_string_equal(w->out, "runs\n");
	run_shell(w, &job, "echo too");
	assert_string_equal(w->out, "too\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_command), TEST(test_secrets_are_nowhere), TEST(test_missing_secret), TEST(test_no_such_program),
		TEST(test_input_and_descriptors), TEST(test_signal), TEST(test_script), TEST(test_forget), TEST(test_kept_result), TEST(test_timeout_ends_all),
		TEST(test_deadline), TEST(test_stop), TEST(test_survivors), TEST(test_output_cap), TEST(test_odd_output),
		TEST(test_user), TEST(test_hooks), TEST(test_install), TEST(test_install_keeps_versions),
		TEST(test_install_in_steps), TEST(test_a_set_is_taken_back),
		TEST(test_install_refuses), TEST(test_install_plain), TEST(test_restart), TEST(test_unknown), TEST(test_kills),
		TEST(test_reboot), TEST(test_full_disk), TEST(test_noexec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

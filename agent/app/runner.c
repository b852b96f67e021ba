/*
 * `evenkeel run ID`: one job, in a process of its own, once. What it is to do and what came of it are files, so nobody
 * has to be there when it ends.
 */
#include "agent/app/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/gzip.h"
#include "agent/codec/timefmt.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"

#define RESULT_RESERVED 65536
#define KILL_AGAIN_USEC (10 * USEC_PER_MSEC)
#define KILL_MOST_USEC	(10 * USEC_PER_SEC) /* a process in an uninterruptible wait does not hold the result for ever */
#define CONVERT_PIECE	65536

enum phase {
	PHASE_DOWNLOADING,
	PHASE_RUNNING, /* the process that was started lives */
	PHASE_ENDING,  /* SIGTERM was sent to all; until the grace is over */
	PHASE_KILLING, /* SIGKILL, again and again until nothing is left */
	PHASE_OVER,
};

struct runner {
	struct paths paths;
	char boot_id[MACHINE_ID_MAX];
	char *directory; /* of the job */
	char *work;
	struct job job;
	struct job_secrets secrets;
	struct runner_user user;
	char **env;
	struct loop *loop;
	struct loop_timer *timer;
	struct capture *out, *err;
	int result_fd;
	char *result_made; /* its name until it is whole */

	char **hooks; /* JOB_HOOKS */
	size_t next_hook;

	enum phase phase;
	pid_t child;
	usec_t started_boot, started_wall;
	usec_t kill_until;
	int end_of_step; /* enum job_end, when it is not the process that decides */
	bool stopped;
	struct job_result result;
	bool decided; /* the result tells of a failure already: a later hook does not change it */
};

/* ---- the result ---- */

static void set_text(char **to, const char *text)
{
	if (str_set(to, text) < 0)
		*to = NULL;
}

/* The first failure counts. */
_printf_(4, 5) static void conclude(struct runner *r, int end, int code, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;

	if (r->decided)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	r->decided = end != JOB_SUCCEEDED;
	r->result.end = end;
	r->result.code = code;
	free(r->result.message);
	r->result.message = text;
}

/* Room for the result before there is anything to tell: a script that fills the disk does not take it away. */
static int reserve_result(struct runner *r, struct error *err)
{
	r->result_made = path_join(r->directory, FS_TEMPORARY_PREFIX "result");
	if (!r->result_made)
		return error_oom(err);
	r->result_fd = open(r->result_made, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r->result_fd < 0)
		return error_errno(err, -errno, "%s", r->result_made);
	/* Without the room it is tried all the same. */
	(void)posix_fallocate(r->result_fd, 0, RESULT_RESERVED);
	return 0;
}

static int put_result(struct runner *r, const struct buf *text)
{
	if (lseek(r->result_fd, 0, SEEK_SET) < 0)
		return -errno;
	return fs_write_all(r->result_fd, text->data, text->len);
}

static void halve(char **text)
{
	size_t n = *text ? strlen(*text) : 0, from = n ? utf8_tail(*text, n, n / 2) : 0;

	if (n)
		memmove(*text, *text + from, n - from + 1);
}

/* Shorter until it fits where the disk has no more room than what was reserved. */
static int write_result(struct runner *r, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = path_join(r->directory, "result.json");
	int k;

	if (!path)
		return error_oom(err);
	for (;;) {
		buf_reset(&text);
		k = jd_encode(&job_result_type, &r->result, false, &text);
		if (k >= 0)
			k = put_result(r, &text);
		if (k != -ENOSPC && k != -EDQUOT && k != -EFBIG)
			break;
		if (str_empty(r->result.stdout_tail) && str_empty(r->result.stderr_tail))
			break;
		halve(&r->result.stdout_tail);
		halve(&r->result.stderr_tail);
	}
	if (k < 0)
		return error_errno(err, k, "cannot write %s", path);
	if (ftruncate(r->result_fd, (off_t)text.len) < 0 || fsync(r->result_fd) < 0 || rename(r->result_made, path) < 0)
		return error_errno(err, -errno, "cannot write %s", path);
	return fs_fsync_dir(r->directory, err);
}

static void tell_output(struct runner *r)
{
	int e = r->out->file_failed ? r->out->file_error : r->err->file_failed ? r->err->file_error : 0;

	r->result.stdout_tail = capture_tail(r->out, (size_t)r->job.tail_bytes);
	r->result.stderr_tail = capture_tail(r->err, (size_t)r->job.tail_bytes);
	r->result.stdout_bytes = (int64_t)r->out->produced;
	r->result.stderr_bytes = (int64_t)r->err->produced;
	if (e) {
		char *more = str_format("%s; not all of its output could be kept: %s", r->result.message ? r->result.message : "",
					strerror(-e));

		if (more) {
			free(r->result.message);
			r->result.message = more;
		}
	}
}

static void complete_result(struct runner *r)
{
	char text[TIMEFMT_MAX];

	r->result.format = JOB_FORMAT;
	set_text(&r->result.id, r->job.id);
	set_text(&r->result.boot_id, r->boot_id);
	set_text(&r->result.started_at, timefmt_utc_usec(r->started_wall, text));
	set_text(&r->result.ended_at, timefmt_utc_usec(time_wall(), text));
	r->result.duration_msec = (int64_t)(usec_sub(time_boot(), r->started_boot) / USEC_PER_MSEC);
	if (r->out && r->err)
		tell_output(r);
}

/* ---- the steps of a job: one process, or one for each hook ---- */

static void next_step(struct runner *r);

static void over(struct runner *r)
{
	r->phase = PHASE_OVER;
	loop_timer_stop(r->timer);
	loop_exit(r->loop, 0);
}

static void step_over(struct runner *r)
{
	r->child = 0;
	loop_timer_stop(r->timer);
	if (r->job.kind == JOB_HOOKS && !r->stopped)
		next_step(r);
	else
		over(r);
}

/* How the process of this step is called in sentences. */
static const char *step_name(const struct runner *r)
{
	if (r->job.kind == JOB_HOOKS && r->next_hook)
		return r->hooks[r->next_hook - 1];
	return str_empty(r->job.title) ? "the command" : r->job.title;
}

static void judge_exit(struct runner *r, int status)
{
	int64_t seconds = (int64_t)((usec_sub(time_boot(), r->started_boot) + USEC_PER_SEC / 2) / USEC_PER_SEC);

	if (!r->decided) {
		r->result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
		r->result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	}
	if (r->end_of_step == JOB_TIMED_OUT)
		conclude(r, JOB_TIMED_OUT, CODE_TIMEOUT, "%s ran longer than its limit and was ended after %" PRId64 " s", step_name(r),
			 seconds);
	else if (r->end_of_step == JOB_STOPPED)
		conclude(r, JOB_STOPPED, CODE_INTERRUPTED, "%s was stopped after %" PRId64 " s", step_name(r), seconds);
	else if (WIFSIGNALED(status)) {
		struct job_result told = { .end = JOB_SIGNALED, .signal = WTERMSIG(status) };
		char phrase[128];

		conclude(r, JOB_SIGNALED, CODE_SCRIPT_EXIT, "%s was %s", step_name(r), job_result_phrase(&told, phrase));
	} else if (WEXITSTATUS(status) != 0)
		conclude(r, JOB_EXITED, CODE_SCRIPT_EXIT, "%s ended with exit code %d", step_name(r), WEXITSTATUS(status));
	else if (r->job.kind != JOB_HOOKS)
		conclude(r, JOB_SUCCEEDED, CODE_NONE, "%s ended well", step_name(r));
}

static void kill_round(struct runner *r)
{
	size_t left = runner_signal_descendants(SIGKILL);

	if ((left || r->child) && loop_now_boot(r->loop) < r->kill_until) {
		loop_timer_after(r->timer, KILL_AGAIN_USEC);
		return;
	}
	if (r->child)
		judge_exit(r, SIGKILL);
	r->result.survivors = (int64_t)left;
	step_over(r);
}

static void begin_killing(struct runner *r)
{
	r->phase = PHASE_KILLING;
	r->kill_until = usec_add(loop_now_boot(r->loop), KILL_MOST_USEC);
	kill_round(r);
}

static void begin_ending(struct runner *r, int end)
{
	if (r->phase != PHASE_RUNNING)
		return;
	r->phase = PHASE_ENDING;
	r->end_of_step = end;
	(void)runner_signal_descendants(SIGTERM);
	loop_timer_after(r->timer, usec_from_seconds((uint64_t)r->job.grace_seconds));
}

static void on_timer(void *userdata)
{
	struct runner *r = userdata;

	if (r->phase == PHASE_DOWNLOADING)
		loop_exit(r->loop, DOWNLOADS_STOPPED);
	else if (r->phase == PHASE_RUNNING)
		begin_ending(r, JOB_TIMED_OUT);
	else if (r->phase == PHASE_ENDING)
		begin_killing(r);
	else if (r->phase == PHASE_KILLING)
		kill_round(r);
}

static void on_stop(int signo, void *userdata)
{
	struct runner *r = userdata;

	(void)signo;
	/* Asked a second time there is no more patience. */
	if (r->stopped && r->phase == PHASE_ENDING) {
		begin_killing(r);
		return;
	}
	r->stopped = true;
	if (r->phase == PHASE_DOWNLOADING)
		loop_exit(r->loop, DOWNLOADS_STOPPED);
	else
		begin_ending(r, JOB_STOPPED);
}

static void on_main_exit(struct runner *r, int status)
{
	judge_exit(r, status);
	r->child = 0;
	/* Its children have what is left of the grace. */
	if (r->phase == PHASE_ENDING)
		return;
	if (r->phase == PHASE_RUNNING && r->job.leave_survivors) {
		r->result.survivors = (int64_t)runner_signal_descendants(0);
		step_over(r);
	} else if (r->phase == PHASE_RUNNING) {
		begin_killing(r);
	}
}

/* Orphans come to us, too: we are their subreaper. */
static void on_child(int signo, void *userdata)
{
	struct runner *r = userdata;
	int status;
	pid_t pid;

	(void)signo;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == r->child)
			on_main_exit(r, status);
	if (r->phase == PHASE_ENDING && !r->child && runner_signal_descendants(0) == 0)
		step_over(r);
}

/* ---- starting a step ---- */

/* The deadline is of one boot: after another it is past. */
static usec_t step_due(const struct runner *r)
{
	usec_t due = USEC_INFINITY, now = time_boot();

	if (r->job.timeout_seconds)
		due = usec_add(now, usec_from_seconds((uint64_t)r->job.timeout_seconds));
	if (r->job.deadline_boot_usec)
		due = usec_min(due, str_equal(r->job.boot_id, r->boot_id) ? (usec_t)r->job.deadline_boot_usec : now);
	return due;
}

static int start(struct runner *r, char *const *argv, const char *directory, struct error *err)
{
	const struct runner_spawn s = { .argv = argv,
					.env = r->env,
					.directory = directory,
					.user = &r->user,
					.input = r->job.input,
					.nice = (int)r->job.nice,
					.out_fd = r->out->write_fd,
					.err_fd = r->err->write_fd };
	int k;

	k = runner_spawn(&s, &r->child, err);
	if (k < 0)
		return k;
	r->phase = PHASE_RUNNING;
	r->end_of_step = -1;
	loop_timer_at(r->timer, step_due(r));
	return 0;
}

static const char *working_directory(const struct runner *r)
{
	return str_empty(r->job.directory) ? r->work : r->job.directory;
}

/* argv and what stands before it; the strings are borrowed. */
static int start_with(struct runner *r, const char *const *before, struct error *err)
{
	char *const *given = r->job.argv.items;
	_cleanup_free_ const char **argv = calloc(4 + r->job.argv.n + 1, sizeof(*argv));
	size_t n = 0;

	if (!argv)
		return error_oom(err);
	for (; before && *before; before++)
		argv[n++] = *before;
	for (size_t i = 0; i < r->job.argv.n; i++)
		argv[n++] = given[i];
	return start(r, (char *const *)(const void *)argv, working_directory(r), err);
}

/* ---- scripts ---- */

/* The bytes as they shall stand in the file. */
static int script_bytes(const struct runner *r, struct buf *ret, struct error *err)
{
	const char *text = job_secret(&r->secrets, JOB_CONTENT_SCRIPT);
	_cleanup_buf_ struct buf raw = BUF_SECRET_INIT(LIMIT_SCRIPT_DECODED), plain = BUF_SECRET_INIT(LIMIT_SCRIPT_DECODED);
	struct text_convert convert = { 0 };
	struct buf *bytes = &raw;
	int k;

	if (!text)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "the script itself is missing");
	k = base64_decode(text, strlen(text), true, &raw, err);
	if (k >= 0 && gzip_detect(buf_str(&raw), raw.len)) {
		k = gzip_inflate(raw.data, raw.len, &plain, err);
		bytes = &plain;
	}
	if (k < 0)
		return error_wrap(err, k, "the script");
	if (!r->job.convert_line_endings)
		return buf_append(ret, buf_str(bytes), bytes->len) < 0 ? error_oom(err) : 0;
	for (size_t at = 0; k >= 0 && at < bytes->len; at += CONVERT_PIECE)
		k = text_convert_feed(&convert, bytes->data + at,
				      bytes->len - at < CONVERT_PIECE ? bytes->len - at : CONVERT_PIECE, ret);
	if (k >= 0)
		k = text_convert_end(&convert, ret);
	return k < 0 ? error_errno(err, k, "the script cannot be converted") : 0;
}

/* A new file of the user's own, 0500: never over something that is there. */
static int put_program(const struct runner *r, const char *path, const void *data, size_t len, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int k;

	if (fd < 0)
		return error_errno(err, -errno, "%s", path);
	k = fs_write_all(fd, data, len);
	if (k < 0)
		return error_errno(err, k, "%s", path);
	if ((r->user.switched && fchown(fd, r->user.uid, r->user.gid) < 0) || fchmod(fd, 0500) < 0)
		return error_errno(err, -errno, "%s", path);
	return 0;
}

/* Run by its interpreter, named by ourselves, so that it also runs where the file system does not allow execution. */
static int start_script(struct runner *r, struct error *err)
{
	_cleanup_buf_ struct buf bytes = BUF_SECRET_INIT(3 * LIMIT_SCRIPT_DECODED);
	_cleanup_free_ char *path = path_join(r->work, "script.sh"), *interpreter = NULL, *argument = NULL;
	const char *before[4] = { NULL };
	size_t n = 0;
	int k;

	if (!path)
		return error_oom(err);
	k = script_bytes(r, &bytes, err);
	if (k >= 0)
		k = put_program(r, path, buf_str(&bytes), bytes.len, err);
	if (k < 0)
		return k;
	if (text_shebang(buf_str(&bytes), bytes.len, &interpreter, &argument)) {
		if (!interpreter)
			return error_oom(err);
		before[n++] = interpreter;
		if (argument)
			before[n++] = argument;
	} else if (bytes.len < 4 || memcmp(bytes.data, "\x7f" "ELF", 4) != 0) {
		before[n++] = "/bin/sh";
	}
	before[n] = path;
	k = start_with(r, before, err);
	return k < 0 && interpreter ? error_wrap(err, k, "the script's first line names %s", interpreter) : k;
}

/* Shell text is a secret as a whole: it goes through a file, for argv is public. */
static int start_shell(struct runner *r, struct error *err)
{
	const char *text = job_secret(&r->secrets, JOB_CONTENT_COMMAND);
	_cleanup_free_ char *path = path_join(r->directory, "command.sh");
	const char *const before[] = { "/bin/sh", path, NULL };
	int k;

	if (!path)
		return error_oom(err);
	if (!text)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "the command itself is missing");
	k = put_program(r, path, text, strlen(text), err);
	return k < 0 ? k : start_with(r, before, err);
}

/* ---- hooks ---- */

static int start_hook(struct runner *r, const char *path, struct error *err)
{
	const char *const argv[] = { path, NULL };

	return start(r, (char *const *)(const void *)argv, "/", err);
}

static void next_step(struct runner *r)
{
	struct error e = ERROR_INIT;

	while (r->hooks[r->next_hook]) {
		const char *path = r->hooks[r->next_hook++];

		if (step_due(r) <= time_boot()) {
			conclude(r, JOB_TIMED_OUT, CODE_TIMEOUT, "no time was left for %s and what follows it", path);
			break;
		}
		if (start_hook(r, path, &e) >= 0)
			return;
		conclude(r, JOB_NOT_STARTED, CODE_EXECUTION_UNKNOWN, "%s", e.msg);
	}
	over(r);
}

static int start_hooks(struct runner *r, struct error *err)
{
	_cleanup_free_ char *refused = NULL;
	int k = runner_hooks_list(r->job.directory, &r->hooks, &refused, err);

	if (k < 0)
		return k;
	if (refused)
		conclude(r, JOB_NOT_STARTED, CODE_EXECUTION_UNKNOWN, "%s", refused);
	else
		conclude(r, JOB_SUCCEEDED, CODE_NONE, r->hooks[0] ? "the hooks ended well" : "there are no hooks in %s", r->job.directory);
	next_step(r);
	return 0;
}

/* ---- preparing ---- */

static int read_job(struct runner *r, const char *id, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = NULL;
	int k;

	r->directory = path_of_job(&r->paths, id);
	path = r->directory ? path_join(r->directory, "job.json") : NULL;
	r->work = r->directory ? path_join(r->directory, "work") : NULL;
	if (!path || !r->work)
		return error_oom(err);
	k = fs_read_nofollow(path, LIMIT_JOB_FILE, &text, err);
	if (k >= 0)
		k = job_decode(buf_str(&text), text.len, &r->job, err);
	if (k >= 0 && !str_equal(r->job.id, id))
		k = error_set(err, ERROR_SYSTEM, -EINVAL, "%s is of another job", path);
	return k;
}

/* The one lock: whoever made this file runs the job, and nobody ever again. */
static int claim(struct runner *r, struct error *err)
{
	_cleanup_free_ char *path = path_join(r->directory, "started");
	_cleanup_close_ int fd = -1;

	if (!path)
		return error_oom(err);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return error_set(err, ERROR_SYSTEM, -EEXIST, "job %s has been started before; nothing is run twice", r->job.id);
	if (fd < 0)
		return error_errno(err, -errno, "%s", path);
	/* The name is the lock; on a full disk the boot in it is missing. */
	if (fs_write_all(fd, r->boot_id, strlen(r->boot_id)) < 0 && ftruncate(fd, 0) < 0)
		return error_errno(err, -errno, "%s", path);
	if (fsync(fd) < 0)
		return error_errno(err, -errno, "%s", path);
	return fs_fsync_dir(r->directory, err);
}

static int read_secrets(struct runner *r, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_JOB_SECRETS);
	_cleanup_free_ char *name = str_format("%s.secrets", r->job.id);
	_cleanup_free_ char *path = name ? path_join(r->paths.run_jobs, name) : NULL;
	struct error e = ERROR_INIT;
	int k;

	if (!path)
		return error_oom(err);
	k = fs_read_nofollow(path, LIMIT_JOB_SECRETS, &text, &e);
	if (k == -ENOENT)
		return 0; /* none, or gone with a reboot: what needs one says so */
	if (fs_unlink(path, err) < 0)
		return -EIO;
	if (k < 0)
		return error_wrap(err, error_set(err, e.cls, k, "%s", e.msg), "secrets of the job");
	return job_secrets_decode(text.data, text.len, &r->secrets, err);
}

/* Downloads may have made it; the user who owns it gets in only now. */
static int make_work(struct runner *r, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (mkdir(r->work, 0700) < 0 && errno != EEXIST)
		return error_errno(err, -errno, "%s", r->work);
	fd = open(r->work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (r->user.switched && fchown(fd, r->user.uid, r->user.gid) < 0) || fchmod(fd, 0700) < 0)
		return error_errno(err, -errno, "%s", r->work);
	return 0;
}

static int open_capture(struct runner *r, const char *name, struct capture **ret, struct error *err)
{
	_cleanup_free_ char *path = path_join(r->directory, name);
	struct capture *c = calloc(1, sizeof(*c));

	if (!path || !c) {
		free(c);
		return error_oom(err);
	}
	c->read_fd = c->write_fd = c->file_fd = -1;
	*ret = c;
	if (capture_open(c, r->loop, path, (uint64_t)r->job.output_max_bytes, err) < 0)
		return -EIO;
	/* Or the user could not open /dev/stderr. */
	if (r->user.switched && fchown(c->write_fd, r->user.uid, r->user.gid) < 0)
		return error_errno(err, -errno, "cannot hand over the %s of the job", name);
	return 0;
}

static int open_loop(struct runner *r, struct error *err)
{
	int k = loop_new(&r->loop, err);

	if (k < 0)
		return k;
	k = loop_timer_new(r->loop, "step", on_timer, r, &r->timer);
	if (k >= 0)
		k = loop_signal(r->loop, SIGCHLD, on_child, r);
	if (k >= 0)
		k = loop_signal(r->loop, SIGTERM, on_stop, r);
	if (k >= 0)
		k = loop_signal(r->loop, SIGINT, on_stop, r);
	return k < 0 ? error_errno(err, k, "cannot set up signals") : 0;
}

static int prepare(struct runner *r, struct error *err)
{
	int k = read_secrets(r, err);

	if (k >= 0)
		k = runner_user_find(r->job.user, &r->user, err);
	if (k >= 0)
		k = runner_environment(&r->job, &r->secrets, &r->user, &r->env, err);
	if (k >= 0)
		k = make_work(r, err);
	if (k >= 0)
		k = open_capture(r, "stdout", &r->out, err);
	if (k >= 0)
		k = open_capture(r, "stderr", &r->err, err);
	return k;
}

static void forget_secrets(struct runner *r)
{
	jd_free(&job_secrets_type, &r->secrets);
	if (r->job.kind != JOB_HOOKS || !r->hooks || !r->hooks[r->next_hook]) {
		runner_environment_free(r->env);
		r->env = NULL;
	}
}

/* ---- the whole ---- */

static int start_job(struct runner *r, struct error *err)
{
	switch (r->job.kind) {
	case JOB_COMMAND:
		return r->job.argv.n ? start_with(r, NULL, err) : start_shell(r, err);
	case JOB_SCRIPT:
		return start_script(r, err);
	default:
		return start_hooks(r, err);
	}
}

/* Files are installed without a process; signals wait until it is done, for half a set helps nobody. */
static void do_files(struct runner *r)
{
	struct error e = ERROR_INIT;
	int k = r->job.kind == JOB_INSTALL ? runner_install(&r->job, &r->secrets, &e) : runner_remove(&r->job, &e);

	if (k >= 0 && r->job.kind == JOB_REMOVE)
		k = runner_close_again(&r->job, &e);
	/* The files are there: whoever cannot get at them is told of, not waited for. */
	else if (k >= 0 && !r->job.stage &&
		 runner_reach(&r->job, r->paths.root, &r->result.warning, &r->result.opened, &e) < 0)
		r->result.warning = strdup(e.msg);
	if (k < 0)
		conclude(r, JOB_EXITED, CODE_INTERNAL, "%s", e.msg);
	else
		conclude(r, JOB_SUCCEEDED, CODE_NONE, "%s", r->job.kind == JOB_INSTALL ? "the files are installed" : "the files are removed");
	r->result.exit_code = k < 0 ? EXIT_FAILED : 0;
}

static void drain_output(struct runner *r)
{
	(void)capture_drain(r->out);
	(void)capture_drain(r->err);
	if (!r->job.leave_survivors || !r->result.survivors) {
		/* Whoever else holds the pipes is not ours to wait for. */
		loop_io_free(r->out->io);
		loop_io_free(r->err->io);
		r->out->io = r->err->io = NULL;
	}
}

/* False: the job ends here, and the result says why. */
static bool download(struct runner *r)
{
	struct error e = ERROR_INIT;
	int code = CODE_NONE, end;

	if (!r->job.downloads.n)
		return true;
	r->phase = PHASE_DOWNLOADING;
	loop_timer_at(r->timer, step_due(r));
	end = runner_download(r->loop, &r->job, &r->secrets, &r->user, r->work, &code, &e);
	loop_timer_stop(r->timer);
	r->phase = PHASE_RUNNING;
	if (end == DOWNLOADS_DONE)
		return true;
	if (end == DOWNLOADS_STOPPED && r->stopped)
		conclude(r, JOB_STOPPED, CODE_INTERRUPTED, "stopped while its files were downloaded");
	else if (end == DOWNLOADS_STOPPED)
		conclude(r, JOB_TIMED_OUT, CODE_TIMEOUT, "time was up while its files were downloaded");
	else
		conclude(r, JOB_NOT_STARTED, code, "%s", e.msg);
	return false;
}

static void do_job(struct runner *r)
{
	struct error e = ERROR_INIT;
	int k = prepare(r, &e);

	if (k >= 0 && (r->job.kind == JOB_INSTALL || r->job.kind == JOB_REMOVE)) {
		do_files(r);
	} else if (k < 0 || download(r)) {
		if (k >= 0)
			k = start_job(r, &e);
		if (k < 0)
			conclude(r, JOB_NOT_STARTED, k == -ENOMEM ? CODE_INTERNAL : CODE_EXECUTION_UNKNOWN, "%s", e.msg);
		else if (r->phase != PHASE_OVER) {
			forget_secrets(r);
			k = loop_run(r->loop);
			if (k < 0)
				conclude(r, JOB_INTERRUPTED, CODE_INTERNAL, "the runner's loop failed: %s", strerror(-k));
		}
	}
	jd_free(&job_secrets_type, &r->secrets);
	if (r->out && r->err)
		drain_output(r);
}

static void wipe(struct runner *r)
{
	struct error e = ERROR_INIT;
	_cleanup_free_ char *command = path_join(r->directory, "command.sh"), *script = path_join(r->work, "script.sh");

	if (command)
		(void)unlink(command);
	if (script && r->job.wipe_script)
		(void)unlink(script);
	if (r->job.wipe && fs_remove_tree(r->work, &e) < 0)
		conclude(r, r->result.end, (int)r->result.code, "%s; its files could not be removed: %s",
			 r->result.message ? r->result.message : "", e.msg);
}

/* What was left running may still write: a process of its own takes it until the last of them has closed its end, else
 * they would die of a broken pipe. */
static void leave_pump(struct runner *r)
{
	sigset_t none;

	if (!r->job.leave_survivors || !r->result.survivors || (r->out->read_fd < 0 && r->err->read_fd < 0))
		return;
	if (fork() != 0)
		return;
	(void)setsid();
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	capture_pump(r->out, r->err);
	_exit(0);
}

static void runner_done(struct runner *r)
{
	if (r->out)
		capture_close(r->out);
	if (r->err)
		capture_close(r->err);
	free(r->out);
	free(r->err);
	loop_timer_free(r->timer);
	loop_free(r->loop);
	closep(&r->result_fd);
	free(r->result_made);
	strv_free(r->hooks);
	runner_environment_free(r->env);
	runner_user_done(&r->user);
	jd_free(&job_secrets_type, &r->secrets);
	jd_free(&job_type, &r->job);
	jd_free(&job_result_type, &r->result);
	free(r->work);
	free(r->directory);
	paths_done(&r->paths);
}

/* Until here nothing has been done and the job may be started again; from claim() on there is a result. */
static int begin(struct runner *r, const char *id, struct error *err)
{
	int k = paths_init(&r->paths, NULL, err);

	if (k >= 0)
		k = read_job(r, id, err);
	if (k >= 0)
		k = machine_boot_id(&r->paths, r->boot_id, err);
	if (k >= 0)
		k = open_loop(r, err);
	if (k >= 0)
		k = claim(r, err);
	if (k >= 0)
		k = reserve_result(r, err);
	return k;
}

int verb_run(int argc, char **argv)
{
	struct runner r = { .result_fd = -1, .end_of_step = -1, .phase = PHASE_RUNNING };
	struct error e = ERROR_INIT;
	int k;

	if (argc != 2 || !job_id_valid(argv[1])) {
		fprintf(stderr, "Usage: evenkeel run JOB\n");
		return EXIT_USAGE;
	}
	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)umask(077);
	r.started_boot = time_boot();
	r.started_wall = time_wall();
	k = begin(&r, argv[1], &e);
	if (k >= 0) {
		do_job(&r);
		complete_result(&r);
		wipe(&r);
		k = write_result(&r, &e);
		if (k >= 0)
			leave_pump(&r);
	}
	if (k < 0)
		fprintf(stderr, "evenkeel run %s: %s\n", argv[1], e.msg);
	runner_done(&r);
	return k < 0 ? EXIT_FAILED : EXIT_OK;
}

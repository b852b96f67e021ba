/*
 * Jobs as children, where no systemd answers. Each leads a session and process group of its own and has a file
 * ID.pid, "PID STARTTIME SURVIVORS", by which a later process finds it again: the start time tells it from another
 * process that was given the same number. The child writes the file itself, before it becomes the runner, so there is no moment
 * at which a runner runs that nobody could find.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/executor_internal.h"
#include "agent/io/process_tree.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

struct child {
	struct executor *executor;
	struct child *next;
	struct executor_job *job; /* NULL: nobody watches, but it is still to be reaped */
	char *id;
	pid_t pid; /* and the number of the job's process group */
	uint64_t start; /* of a process that is not ours */
	int pidfd;
	struct loop_io *io;
	bool ours; /* to be waited for */
	bool leave_survivors;
	struct executor_outcome outcome;
};

struct children {
	struct child *list;
};

static char *pid_file(const struct executor *e, const char *id)
{
	return str_format("%s/%s.pid", e->run_jobs, id);
}

/* Field 22 of /proc/PID/stat, after the name in parentheses, which may hold anything. Async-signal-safe. */
static bool parse_start_time(const char *stat, uint64_t *ret)
{
	const char *s = strrchr(stat, ')');
	uint64_t n = 0;
	int field = 2;

	for (; s && *s && field < 22; s++)
		field += *s == ' ';
	if (!s || *s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	*ret = n;
	return true;
}

/* Async-signal-safe. */
static bool read_start_time(const char *path, uint64_t *ret)
{
	char stat[1024];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, stat, sizeof(stat) - 1);
	close(fd);
	if (n <= 0)
		return false;
	stat[n] = '\0';
	return parse_start_time(stat, ret);
}

/* ---- the end ---- */

static void on_exit_of(int fd, uint32_t events, void *userdata);

static void child_free(struct child *c)
{
	struct children *all = c->executor->backend;

	for (struct child **p = &all->list; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			break;
		}
	if (c->job)
		c->job->backend = NULL;
	loop_io_free(c->io);
	if (c->pidfd >= 0)
		close(c->pidfd);
	free(c->id);
	free(c);
}

/* How it ended. The zombie stays, and with it the number, which nobody else can be given. */
static void note_end(struct child *c)
{
	siginfo_t si = { 0 };

	if (c->ours && waitid(P_PID, (id_t)c->pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == c->pid) {
		c->outcome.code = si.si_code;
		c->outcome.status = si.si_status;
	}
}

static void reap(struct child *c)
{
	siginfo_t si;

	if (c->ours)
		(void)waitid(P_PID, (id_t)c->pid, &si, WEXITED | WNOHANG);
	c->ours = false;
}

/* The kernel gives the number to nobody else while anybody is left in the group of it. So when another process has it, none
 * of ours is left. */
static void kill_group(const struct child *c)
{
	uint64_t start;
	char stat[40];

	(void)snprintf(stat, sizeof(stat), "/proc/%d/stat", c->pid);
	if (c->ours || !read_start_time(stat, &start) || start == c->start)
		(void)kill(-c->pid, SIGKILL);
}

/* The process that was started is the guard of the runner proper, which has the same command line and is of its group: when
 * the guard is killed, the runner lives until it has ended everything. 0, or -ESRCH: there is none. */
static int find_orphan(pid_t group, const char *id, int *ret_pidfd)
{
	pid_t pid = process_find(group, "run", id);
	int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (pidfd < 0)
		return -ESRCH;
	/* It may have ended since, and its number be another's. */
	if (!process_is(pid, group, "run", id)) {
		close(pidfd);
		return -ESRCH;
	}
	*ret_pidfd = pidfd;
	return 0;
}

/* True: it is watched in place of its guard. */
static bool watch_orphan(struct child *c)
{
	int pidfd;

	if (c->outcome.code == CLD_EXITED || find_orphan(c->pid, c->id, &pidfd) < 0)
		return false;
	loop_io_free(c->io);
	close(c->pidfd);
	c->io = NULL;
	c->pidfd = pidfd;
	return loop_io_new(c->executor->loop, "orphan", pidfd, EPOLLIN, on_exit_of, c, &c->io) >= 0;
}

static void on_exit_of(int fd, uint32_t events, void *userdata)
{
	struct child *c = userdata;
	struct executor_job *job = c->job;
	struct executor_outcome o;

	(void)fd;
	(void)events;
	note_end(c);
	if (watch_orphan(c))
		return;
	if (!c->leave_survivors || (job && job->stopping))
		kill_group(c);
	reap(c);
	o = c->outcome;
	o.end = EXECUTOR_ENDED;
	child_free(c);
	if (job)
		executor_job_end(job, &o);
}

static int watch(struct executor *e, const char *id, pid_t pid, int pidfd, bool ours, struct child **ret)
{
	struct children *all = e->backend;
	struct child *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	*c = (struct child){ .executor = e, .pid = pid, .pidfd = -1, .ours = ours, .next = all->list, .id = strdup(id) };
	all->list = c;
	r = c->id ? loop_io_new(e->loop, "child", pidfd, EPOLLIN, on_exit_of, c, &c->io) : -ENOMEM;
	if (r < 0) {
		child_free(c);
		return r;
	}
	c->pidfd = pidfd;
	*ret = c;
	return 0;
}

/* ---- starting ---- */

struct launch {
	const char *binary;
	char *const *argv, *const *envp;
	const char *pid_path, *tmp_path;
	bool leave_survivors;
	int status_fd;
};

static char *append_number(char *at, uint64_t n)
{
	char digits[24];
	size_t len = 0;

	do
		digits[len++] = (char)('0' + n % 10);
	while (n /= 10);
	while (len)
		*at++ = digits[--len];
	return at;
}

/* Between fork and exec only async-signal-safe functions: libcurl may have a thread. */
static int announce(const struct launch *l)
{
	char text[64], *at = text;
	uint64_t start;
	ssize_t n;
	int fd;

	if (!read_start_time("/proc/self/stat", &start))
		return EIO;
	at = append_number(at, (uint64_t)getpid());
	*at++ = ' ';
	at = append_number(at, start);
	*at++ = ' ';
	*at++ = l->leave_survivors ? '1' : '0';
	*at++ = '\n';
	fd = open(l->tmp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return errno;
	n = write(fd, text, (size_t)(at - text));
	if (n != at - text)
		return n < 0 ? errno : ENOSPC;
	return rename(l->tmp_path, l->pid_path) < 0 ? errno : 0;
}

static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < 65; s++)
		(void)sigaction(s, &dfl, NULL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whatever a library has left open without the flag. */
static void close_on_exec_all(void)
{
	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	for (int fd = 3; fd < 1024; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static _Noreturn void become_runner(const struct launch *l)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), r;
	ssize_t n;

	(void)setsid();
	reset_signals();
	r = null < 0 || dup2(null, STDIN_FILENO) < 0 ? errno : announce(l);
	if (r == 0) {
		close_on_exec_all();
		(void)execve(l->binary, l->argv, l->envp);
		r = errno;
	}
	n = write(l->status_fd, &r, sizeof(r));
	(void)n;
	_exit(127);
}

/* The pipe ends without a word when the program was executed. */
static int await_exec(int fd)
{
	int code = 0;
	ssize_t n;

	do
		n = read(fd, &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(code) ? -code : n < 0 ? -errno : 0;
}

/* The process, > 1. */
static pid_t spawn(const struct launch *wanted, int *ret_pidfd)
{
	_cleanup_close_ int from = -1, to = -1, pidfd = -1;
	struct launch l = *wanted;
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	from = fds[0];
	to = fds[1];
	l.status_fd = to;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		become_runner(&l);
	close(TAKE_FD(to));
	r = await_exec(from);
	if (r == 0) {
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (pidfd < 0)
			r = -errno;
	}
	if (r < 0) {
		(void)kill(-pid, SIGKILL);
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		(void)unlink(l.pid_path);
		(void)unlink(l.tmp_path);
		return r;
	}
	*ret_pidfd = TAKE_FD(pidfd);
	return pid;
}

/* ---- finding again ---- */

struct found {
	pid_t pid;
	uint64_t start;
	bool leave_survivors;
	int pidfd;
};

static bool parse_pid_file(const char *text, struct found *f)
{
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *words[3] = { NULL };
	uint64_t pid, survivors;

	for (size_t i = 0; rest && i < ARRAY_SIZE(words); i++)
		words[i] = strsep(&rest, i + 1 < ARRAY_SIZE(words) ? " " : "\n");
	if (!words[2] || !str_to_u64(words[0], 1 << 30, &pid) || !str_to_u64(words[1], UINT64_MAX, &f->start) ||
	    !str_to_u64(words[2], 1, &survivors) || pid < 2)
		return false;
	f->pid = (pid_t)pid;
	f->leave_survivors = survivors;
	return true;
}

/* The process of that file, if it still is the one. The descriptor is taken first: what it stands for cannot change,
 * so if the start time is right afterwards, it was right when it was taken. */
static int find(struct executor *e, const char *id, struct found *ret)
{
	_cleanup_free_ char *path = pid_file(e, id);
	_cleanup_buf_ struct buf b = BUF_INIT(256);
	_cleanup_close_ int pidfd = -1;
	struct found f;
	uint64_t start;
	char stat[40];

	if (!path)
		return -ENOMEM;
	if (fs_read_nofollow(path, 256, &b, NULL) < 0 || !parse_pid_file(buf_str(&b), &f))
		return -ESRCH;
	pidfd = (int)syscall(SYS_pidfd_open, f.pid, 0);
	if (pidfd < 0 && errno != ESRCH && errno != EINVAL)
		return -errno;
	(void)snprintf(stat, sizeof(stat), "/proc/%d/stat", f.pid);
	if (pidfd >= 0 && read_start_time(stat, &start) && start == f.start)
		f.pidfd = TAKE_FD(pidfd);
	else if (pidfd >= 0 || find_orphan(f.pid, id, &f.pidfd) < 0)
		return -ESRCH; /* another process has the number: nobody is left in that group */
	*ret = f;
	return 0;
}

static struct child *child_of(struct executor *e, const char *id)
{
	struct children *all = e->backend;

	for (struct child *c = all->list; c; c = c->next)
		if (str_equal(c->id, id))
			return c;
	return NULL;
}

static void bind_child(struct executor_job *job, struct child *c)
{
	c->job = job;
	job->backend = c;
}

/* 0 when there is one to watch, -ESRCH when there is none. */
static int watch_existing(struct executor_job *job)
{
	struct executor *e = job->executor;
	struct child *c = child_of(e, job->id);
	struct found f = { .pidfd = -1 };
	int r;

	if (!c) {
		r = find(e, job->id, &f);
		if (r < 0)
			return r;
		r = watch(e, job->id, f.pid, f.pidfd, false, &c);
		if (r < 0) {
			close(f.pidfd);
			return r;
		}
		c->start = f.start;
		c->leave_survivors = f.leave_survivors;
	}
	bind_child(job, c);
	return 0;
}

static int launch(struct executor_job *job, const struct executor_request *req)
{
	static const char *const also[] = { "PATH", "LANG", "HOME", "TMPDIR", NULL };
	struct executor *e = job->executor;
	_cleanup_free_ char *pid_path = pid_file(e, job->id);
	_cleanup_free_ char *tmp_path = pid_path ? str_format("%s.new", pid_path) : NULL;
	_cleanup_(strv_freep) char **envp = executor_environment(also);
	char run[] = "run";
	char *argv[] = { e->binary, run, job->id, NULL };
	struct launch l = {
		.binary = e->binary,
		.argv = argv,
		.envp = envp,
		.pid_path = pid_path,
		.tmp_path = tmp_path,
		.leave_survivors = req->leave_survivors,
	};
	_cleanup_close_ int pidfd = -1;
	struct child *c;
	pid_t pid;
	int r;

	if (!tmp_path || !envp)
		return -ENOMEM;
	pid = spawn(&l, &pidfd);
	if (pid < 0)
		return pid;
	r = watch(e, job->id, pid, pidfd, true, &c);
	if (r < 0) { /* it cannot be told when it ends, so it must not run */
		(void)kill(-pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		(void)unlink(pid_path);
		return r;
	}
	(void)TAKE_FD(pidfd);
	c->leave_survivors = req->leave_survivors;
	bind_child(job, c);
	return 0;
}

static int children_start(struct executor_job *job, const struct executor_request *req, struct error *err)
{
	struct executor *e = job->executor;
	int r = fs_mkdirs(e->run_jobs, 0700, err);

	if (r < 0)
		return r;
	r = watch_existing(job);
	if (r == -ESRCH)
		r = launch(job, req);
	return r < 0 ? error_errno(err, r, "%s", e->binary) : 0;
}

static int children_attach(struct executor_job *job, struct error *err)
{
	int r = watch_existing(job);

	if (r == -ESRCH) {
		executor_job_end_later(job, EXECUTOR_NOT_FOUND);
		return 0;
	}
	return r < 0 ? error_errno(err, r, "its process cannot be watched") : 0;
}

/* The descriptor says whether it is still there; its group is only then surely its own. */
static void children_kill(struct executor_job *job, bool all)
{
	struct child *c = job->backend;

	if (!c || syscall(SYS_pidfd_send_signal, c->pidfd, all ? 0 : SIGTERM, NULL, 0) < 0)
		return;
	if (!all)
		return;
	/* It must not go on when what it waits for is gone, nor end of itself: it is stopped first, and killed last, since what
	 * it has started could not be told from others' without it. Twice: what was begun while the first pass looked. */
	(void)kill(c->pid, SIGSTOP);
	for (int i = 0; i < 2; i++)
		(void)process_tree_signal(c->pid, SIGKILL);
	(void)kill(c->pid, SIGKILL);
	(void)kill(-c->pid, SIGKILL);
}

static void children_forget(struct executor_job *job)
{
	struct child *c = job->backend;

	if (c)
		c->job = NULL;
}

static void children_release(struct executor *e, const char *id)
{
	_cleanup_free_ char *path = pid_file(e, id);

	if (path)
		(void)unlink(path);
}

static int children_init(struct executor *e, struct error *err)
{
	e->backend = calloc(1, sizeof(struct children));
	return e->backend ? 0 : error_oom(err);
}

static void children_done(struct executor *e)
{
	struct children *all = e->backend;

	while (all && all->list)
		child_free(all->list);
	free(all);
}

const struct executor_ops executor_children = {
	.init = children_init,
	.done = children_done,
	.start = children_start,
	.attach = children_attach,
	.kill = children_kill,
	.forget = children_forget,
	.release = children_release,
};

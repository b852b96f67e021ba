/* Starting the processes of a job. */
#include "agent/app/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"

#define BUSY_TRIES 40
#define BUSY_WAIT_MSEC 50

/* ---- starting ---- */

enum stage { STAGE_SIGNALS, STAGE_STREAMS, STAGE_USER, STAGE_DIRECTORY, STAGE_EXECUTE };

struct report {
	int stage, error;
};

_Noreturn static void give_up(int fd, enum stage stage)
{
	const struct report r = { (int)stage, errno };

	_exit(fs_write_all(fd, &r, sizeof(r)) < 0 ? 126 : 127);
}

static void reset_signals(void)
{
	struct sigaction a = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		if (s != SIGKILL && s != SIGSTOP)
			(void)sigaction(s, &a, NULL); /* those of the C library refuse, rightly */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whatever was handed down to us stays with us. */
static void close_on_exec_from(int first)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)first, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */) == 0)
		return;
#endif
	for (int fd = first; fd < 65536; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int become(const struct runner_user *u)
{
	if (!u->switched)
		return 0;
	if (initgroups(u->name, u->gid) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
	    setresuid(u->uid, u->uid, u->uid) < 0)
		return -1;
	return 0;
}

/* "Text file busy": another process of this machine was forked while the file was still open for writing. */
static void execute(const struct runner_spawn *s)
{
	/* execvp() looks in PATH of the new environment, as a shell in it would, and gives to sh what has no "#!". */
	environ = s->env;
	for (int i = 0; i < BUSY_TRIES; i++) {
		(void)execvp(s->argv[0], s->argv);
		if (errno != ETXTBSY)
			return;
		(void)poll(NULL, 0, BUSY_WAIT_MSEC);
	}
}

_Noreturn static void child(const struct runner_spawn *s, int in_fd, int report_fd, pid_t parent)
{
	reset_signals();
	/* A session of its own: `kill 0` in a script does not end the runner. */
	(void)setsid();
	(void)umask(022);
	if (dup2(in_fd, STDIN_FILENO) < 0 || dup2(s->out_fd, STDOUT_FILENO) < 0 || dup2(s->err_fd, STDERR_FILENO) < 0)
		give_up(report_fd, STAGE_STREAMS);
	close_on_exec_from(3);
	if (s->nice && setpriority(PRIO_PROCESS, 0, s->nice) < 0)
		give_up(report_fd, STAGE_USER);
	if (become(s->user) < 0)
		give_up(report_fd, STAGE_USER);
	/* A runner that is killed takes its script along, else the script could run twice at a time. Changing the user
	 * has cleared it, so it comes after. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		give_up(report_fd, STAGE_SIGNALS);
	if (s->directory && chdir(s->directory) < 0)
		give_up(report_fd, STAGE_DIRECTORY);
	execute(s);
	give_up(report_fd, STAGE_EXECUTE);
}

/* A file without a name: the script reads it whenever it wants, and nobody has to feed it. */
static int open_input(const char *text, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (!text) {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return fd < 0 ? error_errno(err, -errno, "cannot open /dev/null") : TAKE_FD(fd);
	}
	fd = memfd_create("input", MFD_CLOEXEC);
	if (fd < 0 || fs_write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, errno ? -errno : -EIO, "cannot make the input of the job");
	return TAKE_FD(fd);
}

static int tell_failure(const struct runner_spawn *s, const struct report *r, struct error *err)
{
	const char *why = strerror(r->error);

	if (r->stage == STAGE_DIRECTORY)
		return error_set(err, ERROR_USER, -r->error, "cannot enter the working directory %s as user %s: %s", s->directory,
				 s->user->name, why);
	if (r->stage == STAGE_USER)
		return error_set(err, ERROR_SYSTEM, -r->error, "cannot become user %s: %s", s->user->name, why);
	if (r->stage == STAGE_EXECUTE)
		return error_set(err, ERROR_USER, -r->error, "cannot run %s: %s", s->argv[0], why);
	return error_set(err, ERROR_SYSTEM, -r->error, "cannot prepare the process of %s: %s", s->argv[0], why);
}

int runner_spawn(const struct runner_spawn *s, pid_t *ret, struct error *err)
{
	_cleanup_close_ int in_fd = open_input(s->input, err), read_fd = -1, write_fd = -1;
	struct report report;
	pid_t self = getpid(), pid;
	int fds[2];
	ssize_t n;

	if (in_fd < 0)
		return in_fd;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, -errno, "cannot make a pipe");
	read_fd = fds[0];
	write_fd = fds[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, -errno, "cannot start a process");
	if (pid == 0)
		child(s, in_fd, write_fd, self);
	closep(&write_fd);
	do
		n = read(read_fd, &report, sizeof(report));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(report)) {
		(void)waitpid(pid, NULL, 0);
		return tell_failure(s, &report, err);
	}
	*ret = pid;
	return 0;
}

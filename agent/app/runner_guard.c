/* The guard of a runner: a process that does nothing but see to it that a killed runner leaves nothing behind. */
#include "agent/app/runner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/io/process_tree.h"

#define KILL_AGAIN_NSEC (10L * 1000 * 1000)
#define KILL_MOST	1000 /* times: a process in an uninterruptible wait does not keep us for ever */

static void reap_all(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* What the runner had started has come to us, its next subreaper. */
static void kill_all(const sigset_t *signals)
{
	const struct timespec again = { .tv_nsec = KILL_AGAIN_NSEC };

	for (int i = 0; i < KILL_MOST && process_tree_signal(getpid(), SIGKILL); i++) {
		(void)sigtimedwait(signals, NULL, &again);
		reap_all();
	}
}

/* As the runner ended, so that whoever started us sees it. */
_Noreturn static void end_as(int status)
{
	sigset_t none;

	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(WTERMSIG(status), SIG_DFL);
	(void)raise(WTERMSIG(status));
	_exit(EXIT_FAILURE);
}

_Noreturn static void guard(pid_t runner, const sigset_t *signals, void (*clean_up)(void *userdata), void *userdata)
{
	for (;;) {
		int signo = sigwaitinfo(signals, NULL), status;
		pid_t pid;

		if (signo != SIGCHLD) {
			if (signo > 0)
				(void)kill(runner, RUNNER_TOLD);
			continue;
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid != runner)
				continue;
			if (WIFSIGNALED(status)) {
				kill_all(signals);
				clean_up(userdata);
			}
			end_as(status);
		}
	}
}

int runner_guard(void (*clean_up)(void *userdata), void *userdata, struct error *err)
{
	pid_t self = getpid(), pid;
	sigset_t signals, before;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, &before) < 0)
		return error_errno(err, -errno, "cannot block signals");
	pid = fork();
	if (pid < 0)
		return error_errno(err, -errno, "cannot start the runner");
	if (pid > 0)
		guard(pid, &signals, clean_up, userdata);
	if (prctl(PR_SET_PDEATHSIG, RUNNER_ORPHANED) < 0 || getppid() != self)
		return error_errno(err, errno ? -errno : -ESRCH, "the guard of the runner is gone");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return error_errno(err, -errno, "cannot become the reaper of what is started");
	return sigprocmask(SIG_SETMASK, &before, NULL) < 0 ? error_errno(err, -errno, "cannot unblock signals") : 0;
}

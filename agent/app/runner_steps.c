/* The steps of a job: one process, or one for each hook. They are started, watched, and ended with all they started. */
#include "agent/app/runner_job.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "agent/io/process_tree.h"

#define KILL_AGAIN_USEC (10 * USEC_PER_MSEC)
#define KILL_MOST_USEC	(10 * USEC_PER_SEC) /* a process in an uninterruptible wait does not hold the result for ever */

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
	/* What has ended since the last SIGCHLD is gone when the result says so, whoever is to reap for us. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
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
		runner_conclude(r, JOB_TIMED_OUT, CODE_TIMEOUT, "%s ran longer than its limit and was ended after %" PRId64 " s", step_name(r),
			 seconds);
	else if (r->end_of_step == JOB_STOPPED)
		runner_conclude(r, JOB_STOPPED, CODE_INTERRUPTED, "%s was stopped after %" PRId64 " s", step_name(r), seconds);
	else if (WIFSIGNALED(status)) {
		struct job_result told = { .end = JOB_SIGNALED, .signal = WTERMSIG(status) };
		char phrase[128];

		runner_conclude(r, JOB_SIGNALED, CODE_SCRIPT_EXIT, "%s was %s", step_name(r), job_result_phrase(&told, phrase));
	} else if (WEXITSTATUS(status) != 0)
		runner_conclude(r, JOB_EXITED, CODE_SCRIPT_EXIT, "%s ended with exit code %d", step_name(r), WEXITSTATUS(status));
	else if (r->job.kind != JOB_HOOKS)
		runner_conclude(r, JOB_SUCCEEDED, CODE_NONE, "%s ended well", step_name(r));
}

static void kill_round(struct runner *r)
{
	size_t left = process_tree_signal(getpid(), SIGKILL);

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
	(void)process_tree_signal(getpid(), SIGTERM);
	loop_timer_after(r->timer, usec_from_seconds((uint64_t)r->job.grace_seconds));
}

void runner_on_timer(void *userdata)
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

void runner_on_stop(int signo, void *userdata)
{
	struct runner *r = userdata;
	bool told = signo == RUNNER_TOLD;

	/* Asked a second time there is no more patience. A manager that tells the whole cgroup asks once, in two ways. */
	r->asked[told]++;
	if (r->asked[told] > 1 && r->phase == PHASE_ENDING) {
		begin_killing(r);
		return;
	}
	r->stopped = true;
	if (r->phase == PHASE_DOWNLOADING)
		loop_exit(r->loop, DOWNLOADS_STOPPED);
	else if (r->phase == PHASE_OVER)
		loop_exit(r->loop, 0); /* only output is still being sent */
	else
		begin_ending(r, JOB_STOPPED);
}

void runner_on_orphaned(int signo, void *userdata)
{
	struct runner *r = userdata;

	(void)signo;
	if (r->phase != PHASE_RUNNING && r->phase != PHASE_ENDING)
		return;
	r->orphaned = r->stopped = true;
	begin_killing(r);
}

static void on_main_exit(struct runner *r, int status)
{
	judge_exit(r, status);
	r->child = 0;
	/* Its children have what is left of the grace. */
	if (r->phase == PHASE_ENDING)
		return;
	if (r->phase == PHASE_RUNNING && r->job.leave_survivors) {
		r->result.survivors = (int64_t)process_tree_signal(getpid(), 0);
		step_over(r);
	} else if (r->phase == PHASE_RUNNING) {
		begin_killing(r);
	}
}

/* Orphans come to us, too: we are their subreaper. */
void runner_on_child(int signo, void *userdata)
{
	struct runner *r = userdata;
	int status;
	pid_t pid;

	(void)signo;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == r->child)
			on_main_exit(r, status);
	if (r->phase == PHASE_ENDING && !r->child && process_tree_signal(getpid(), 0) == 0)
		step_over(r);
}

/* ---- starting a step ---- */

/* Of what is left until the deadline: one hook that hangs, and does not end when it is told to, leaves those after it their
 * reserve, or else their equal part. */
static usec_t share(const struct runner *r, usec_t left)
{
	size_t after = 0;
	usec_t kept;

	while (r->job.kind == JOB_HOOKS && r->hooks[r->next_hook + after])
		after++;
	if (after == 0 || r->job.reserve_seconds == 0)
		return left;
	kept = usec_from_seconds((uint64_t)r->job.reserve_seconds * after + (uint64_t)r->job.grace_seconds);
	return usec_max(usec_sub(left, kept), left / (after + 1));
}

/* The deadline is of one boot: after another it is past. */
usec_t runner_step_due(const struct runner *r)
{
	usec_t due = USEC_INFINITY, now = time_boot();

	/* Of the whole job, its downloads included; each hook has its own. */
	if (r->job.timeout_seconds)
		due = usec_add(r->job.kind == JOB_HOOKS ? now : r->started_boot, usec_from_seconds((uint64_t)r->job.timeout_seconds));
	if (r->job.deadline_boot_usec && !str_equal(r->job.boot_id, r->boot_id))
		due = now;
	else if (r->job.deadline_boot_usec)
		due = usec_min(due, usec_add(now, share(r, usec_sub((usec_t)r->job.deadline_boot_usec, now))));
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
	loop_timer_at(r->timer, runner_step_due(r));
	return 0;
}

static const char *working_directory(const struct runner *r)
{
	return str_empty(r->job.directory) ? r->work : r->job.directory;
}

/* argv and what stands before it; the strings are borrowed. */
int runner_start_with(struct runner *r, const char *const *before, struct error *err)
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

		if (runner_step_due(r) <= time_boot()) {
			runner_conclude(r, JOB_TIMED_OUT, CODE_TIMEOUT, "no time was left for %s and what follows it", path);
			break;
		}
		if (start_hook(r, path, &e) >= 0)
			return;
		runner_conclude(r, JOB_NOT_STARTED, CODE_EXECUTION_UNKNOWN, "%s", e.msg);
	}
	over(r);
}

int runner_start_hooks(struct runner *r, struct error *err)
{
	_cleanup_free_ char *refused = NULL;
	int k = runner_hooks_list(r->job.directory, &r->hooks, &refused, err);

	if (k < 0)
		return k;
	if (refused)
		runner_conclude(r, JOB_NOT_STARTED, CODE_EXECUTION_UNKNOWN, "%s", refused);
	else
		runner_conclude(r, JOB_SUCCEEDED, CODE_NONE, r->hooks[0] ? "the hooks ended well" : "there are no hooks in %s", r->job.directory);
	next_step(r);
	return 0;
}

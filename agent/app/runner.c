/*
 * `evenkeel run ID`: one job, in a process of its own, once. What it is to do and what came of it are files, so nobody
 * has to be there when it ends.
 */
#include "agent/app/runner_job.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"

/* After the end of the job, for what its blobs do not have yet: not beyond the time it had, but some in any case. */
#define UPLOAD_REST_USEC  (20 * USEC_PER_SEC)
#define UPLOAD_LEAST_USEC (3 * USEC_PER_SEC)

/* ---- the job ---- */

static void forget_secrets(struct runner *r)
{
	jd_free(&job_secrets_type, &r->secrets);
	if (r->job.kind != JOB_HOOKS || !r->hooks || !r->hooks[r->next_hook]) {
		runner_environment_free(r->env);
		r->env = NULL;
	}
}

static int start_job(struct runner *r, struct error *err)
{
	switch (r->job.kind) {
	case JOB_COMMAND:
		return r->job.argv.n ? runner_start_with(r, NULL, err) : runner_start_shell(r, err);
	case JOB_SCRIPT:
		return runner_start_script(r, err);
	default:
		return runner_start_hooks(r, err);
	}
}

/* Files are installed without a process; signals wait until it is done, for half a set helps nobody. */
static void do_files(struct runner *r)
{
	struct error e = ERROR_INIT;
	int k = r->job.kind == JOB_INSTALL  ? runner_install(&r->job, &r->secrets, &r->paths, &r->result.notice, &e)
		: r->job.kind == JOB_FORGET ? runner_forget(&r->job, &r->paths, &e)
					    : runner_remove(&r->job, &e);

	if (k >= 0 && r->job.kind == JOB_REMOVE)
		k = runner_close_again(&r->job, &e);
	/* The files are there: whoever cannot get at them is told of, not waited for. */
	else if (k >= 0 && !r->job.stage &&
		 runner_reach(&r->job, r->paths.root, &r->result.warning, &r->result.opened, &e) < 0)
		r->result.warning = strdup(e.msg);
	if (k < 0)
		runner_conclude(r, JOB_EXITED, CODE_INTERNAL, "%s", e.msg);
	else
		runner_conclude(r, JOB_SUCCEEDED, CODE_NONE, "%s", r->job.kind == JOB_INSTALL ? "the files are installed" : "the files are removed");
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
	loop_timer_at(r->timer, runner_step_due(r));
	end = runner_download(r->loop, &r->job, &r->secrets, &r->user, r->work, NULL, &code, &e);
	loop_timer_stop(r->timer);
	r->phase = PHASE_RUNNING;
	if (end == DOWNLOADS_DONE)
		return true;
	if (end == DOWNLOADS_STOPPED)
		r->result.notice = *e.msg ? str_format("its files were still being downloaded: %s", e.msg) :
					    strdup("its files were still being downloaded");
	if (end == DOWNLOADS_STOPPED && r->stopped)
		runner_conclude(r, JOB_STOPPED, CODE_INTERRUPTED, "stopped while its files were downloaded");
	else if (end == DOWNLOADS_STOPPED)
		runner_conclude(r, JOB_TIMED_OUT, CODE_TIMEOUT, "time was up while its files were downloaded");
	else
		runner_conclude(r, JOB_NOT_STARTED, code, "%s", e.msg);
	return false;
}

static int code_of(int error)
{
	return error == -ENOMEM ? CODE_INTERNAL : error == -EKEYREJECTED ? CODE_POLICY_REFUSED : CODE_EXECUTION_UNKNOWN;
}

/* A blob that cannot be written keeps no script from running. */
static void open_upload(struct runner *r)
{
	struct error e = ERROR_INIT;

	if (upload_new(&r->upload, r->loop, &r->job, &r->secrets, r->out, r->err, &e) < 0)
		r->result.notice = str_format("its output was not sent to blobs: %.400s", e.msg);
}

static void close_upload(struct runner *r)
{
	usec_t due = USEC_INFINITY;

	if (r->job.timeout_seconds)
		due = usec_add(r->started_boot, usec_from_seconds((uint64_t)r->job.timeout_seconds));
	if (r->job.deadline_boot_usec && str_equal(r->job.boot_id, r->boot_id))
		due = usec_min(due, (usec_t)r->job.deadline_boot_usec);
	upload_finish(r->upload, usec_max(usec_min(usec_sub(due, time_boot()), UPLOAD_REST_USEC), UPLOAD_LEAST_USEC));
	if (!r->result.notice)
		r->result.notice = upload_notice(r->upload);
	upload_free(r->upload);
	r->upload = NULL;
}

static void do_job(struct runner *r)
{
	struct error e = ERROR_INIT;
	int k = runner_prepare(r, &e);

	if (k >= 0 && (r->job.kind == JOB_INSTALL || r->job.kind == JOB_REMOVE || r->job.kind == JOB_FORGET)) {
		do_files(r);
	} else if (k < 0 || download(r)) {
		if (k >= 0)
			k = runner_policy_downloads(r, &e);
		if (k >= 0)
			k = runner_hand_over_work(r, &e);
		/* Until now the signal has ended us, and nothing had begun. */
		if (k >= 0)
			k = loop_signal(r->loop, RUNNER_ORPHANED, runner_on_orphaned, r);
		if (k >= 0) {
			open_upload(r);
			k = start_job(r, &e);
		}
		if (k < 0)
			runner_conclude(r, JOB_NOT_STARTED, code_of(k), "%s", e.msg);
		else if (r->phase != PHASE_OVER) {
			forget_secrets(r);
			k = loop_run(r->loop);
			if (k < 0)
				runner_conclude(r, JOB_INTERRUPTED, CODE_INTERNAL, "the runner's loop failed: %s", strerror(-k));
		}
	}
	jd_free(&job_secrets_type, &r->secrets);
	if (r->out && r->err)
		drain_output(r);
}

/* ---- the end ---- */

static void wipe(void *userdata)
{
	struct runner *r = userdata;
	struct error e = ERROR_INIT;
	_cleanup_free_ char *command = path_join(r->directory, "command.sh"), *script = path_join(r->work, "script.sh");

	if (command)
		(void)unlink(command);
	if (script && r->job.wipe_script)
		(void)unlink(script);
	if (r->job.wipe && fs_remove_tree(r->work, &e) < 0)
		runner_conclude(r, r->result.end, (int)r->result.code, "%s; its files could not be removed: %s",
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
	upload_free(r->upload);
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

/* ---- the whole ---- */

/* Until here nothing has been done and the job may be started again; from runner_claim() on there is a result. */
static int begin(struct runner *r, const char *id, struct error *err)
{
	int k = paths_init(&r->paths, NULL, err);

	if (k >= 0)
		k = runner_read_job(r, id, err);
	if (k >= 0)
		k = machine_boot_id(&r->paths, r->boot_id, err);
	/* Files are put in place without a process, by a unit that may not even signal others. */
	if (k >= 0 && r->job.kind != JOB_INSTALL && r->job.kind != JOB_REMOVE && r->job.kind != JOB_FORGET)
		k = runner_guard(wipe, r, err);
	if (k >= 0)
		k = runner_open_loop(r, err);
	if (k >= 0)
		k = runner_claim(r, err);
	if (k >= 0)
		k = runner_reserve_result(r, err);
	return k;
}

static int finish(struct runner *r, struct error *err)
{
	int k;

	runner_complete_result(r);
	r->phase = PHASE_OVER;
	close_upload(r);
	wipe(r);
	if (r->orphaned) {
		(void)unlink(r->result_made);
		return 0;
	}
	r->result.kept_bytes = (int64_t)fs_tree_bytes(r->directory, LIMIT_TREE_FILES);
	k = runner_write_result(r, err);
	if (k >= 0)
		leave_pump(r);
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
		k = finish(&r, &e);
	}
	if (k < 0)
		fprintf(stderr, "evenkeel run %s: %s\n", argv[1], e.msg);
	runner_done(&r);
	return k < 0 ? EXIT_FAILED : EXIT_OK;
}

/* `evenkeel scripts logs`: what a run has written, from its files, also while it is still writing; and what came of it. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/arguments.h"
#include "agent/app/cli_scripts.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/core/job.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "handlers/custom_script/script_runs.h"

#define LOOK_MSEC  100
#define RUNS_MAX   100000

/* ---- the verdict ---- */

static int read_result(const char *directory, struct job_result *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = path_join(directory, "result.json");
	int r = path ? fs_read_nofollow(path, LIMIT_JOB_FILE, &text, err) : error_oom(err);

	return r < 0 ? r : job_result_decode(buf_str(&text), text.len, ret, err);
}

static int verdict(const struct job_result *r)
{
	switch ((enum job_end)r->end) {
	case JOB_SUCCEEDED:
	case JOB_EXITED:
		return (int)r->exit_code;
	case JOB_SIGNALED:
		return VERDICT_SIGNAL + (int)r->signal;
	case JOB_TIMED_OUT:
		return VERDICT_TIMED_OUT;
	default:
		return VERDICT_NO_END;
	}
}

static int tell_verdict(const char *verb, const struct job_result *r)
{
	char phrase[128];

	/* An exit code speaks for itself. */
	if (r->end != JOB_SUCCEEDED && r->end != JOB_EXITED)
		fprintf(stderr, "evenkeel %s: %s\n", verb, job_result_why(r, phrase));
	return verdict(r);
}

/* Nobody will write a result any more: the machine was started anew since, and no service has said so yet. */
static bool is_lost(const struct paths *p, const char *directory)
{
	_cleanup_buf_ struct buf text = BUF_INIT(MACHINE_ID_MAX);
	_cleanup_free_ char *path = path_join(directory, "started");
	char boot[MACHINE_ID_MAX];
	struct error e = ERROR_INIT;

	return path && fs_read_nofollow(path, MACHINE_ID_MAX, &text, &e) >= 0 && text.len > 0 && machine_boot_id(p, boot, &e) >= 0 &&
	       !str_equal(buf_str(&text), boot);
}

static int fail(const char *verb, int r)
{
	fprintf(stderr, "evenkeel %s: %s\n", verb, strerror(-r));
	return EXIT_FAILED;
}

static int follow_job(const struct paths *p, const char *verb, const char *directory, struct output *output)
{
	for (;;) {
		struct job_result result = { 0 };
		struct error e = ERROR_INIT;
		/* First, so that nothing is left to be printed after it. */
		int has = read_result(directory, &result, &e), r = output_print(output), code;

		if (r < 0 || (has < 0 && has != -ENOENT)) {
			jd_free(&job_result_type, &result);
			return fail(verb, r < 0 ? r : has);
		}
		if (has >= 0) {
			code = tell_verdict(verb, &result);
			jd_free(&job_result_type, &result);
			return code;
		}
		if (!fs_is_dir(directory) || is_lost(p, directory)) {
			fprintf(stderr, "evenkeel %s: the run was interrupted by a reboot, or is gone\n", verb);
			return VERDICT_NO_END;
		}
		(void)poll(NULL, 0, LOOK_MSEC);
	}
}

int scripts_print(const struct paths *p, const char *verb, const char *job, enum logs_form form, bool follow)
{
	_cleanup_free_ char *directory = path_of_job(p, job);
	_cleanup_(output_freep) struct output *output = NULL;
	int r = directory ? output_new(&output, directory, form) : -ENOMEM;

	if (r < 0)
		return fail(verb, r);
	if (follow)
		return follow_job(p, verb, directory, output);
	r = output_print(output);
	return r < 0 ? fail(verb, r) : EXIT_OK;
}

/* ---- the verb ---- */

struct logs_options {
	const char *name, *job;
	uint64_t run; /* 1: the newest */
	bool only_stderr, follow;
};

static int read_options(int argc, char **argv, struct logs_options *o)
{
	const struct argument arguments[] = { { "--follow", .flag = &o->follow },
					      { "--stderr", .flag = &o->only_stderr },
					      { "--job", .text = &o->job },
					      { "--run", .number = &o->run, .min = 1, .max = RUNS_MAX },
					      { .word = &o->name } };
	int code = arguments_read("scripts logs", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code == EXIT_OK && ((!o->name && !o->job) || (o->job && o->run)))
		return cli_usage("scripts logs");
	return code;
}

static bool is_asked_for(const struct logs_options *o, const struct script_kept *k)
{
	return !k->helper && (!o->name || str_equal(k->name, o->name)) && (!o->job || str_equal(k->id, o->job));
}

static int find_run(const struct paths *p, const struct logs_options *o, char **ret)
{
	uint64_t skip = o->run ? o->run - 1 : 0, seen = 0;
	struct script_runs runs = { 0 };
	char boot[MACHINE_ID_MAX];
	struct error e = ERROR_INIT;
	int r = machine_boot_id(p, boot, &e);

	if (r >= 0)
		r = script_runs_read(p, boot, &runs, &e);
	if (r < 0) {
		fprintf(stderr, "evenkeel scripts logs: %s\n", e.msg);
		return r == -EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
	}
	for (size_t i = 0; i < runs.n && !*ret; i++)
		if (is_asked_for(o, &runs.items[i]) && seen++ == skip)
			*ret = strdup(runs.items[i].id);
	script_runs_done(&runs);
	if (*ret)
		return EXIT_OK;
	if (seen > 0)
		fprintf(stderr, "evenkeel scripts logs: %s has %" PRIu64 " kept run%s; --run 1 is the newest\n", o->name, seen,
			seen == 1 ? "" : "s");
	else
		fprintf(stderr, "evenkeel scripts logs: there is no kept run of \"%s\"; evenkeel scripts shows all of them\n",
			o->job ? o->job : o->name);
	return EXIT_FAILED;
}

int scripts_logs(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_free_ char *job = NULL;
	struct logs_options o = { 0 };
	int code = read_options(argc, argv, &o);

	if (code == EXIT_OK)
		code = scripts_open("scripts logs", &p);
	if (code == EXIT_OK)
		code = find_run(&p, &o, &job);
	return code == EXIT_OK ? scripts_print(&p, "scripts logs", job, o.only_stderr ? LOGS_STDERR : LOGS_MARKED, o.follow) : code;
}

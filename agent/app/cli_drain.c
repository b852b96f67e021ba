/* The verbs that order draining and its end, and look on while it is done: drain, restore, ack, quiesce, resume, simulate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/arguments.h"
#include "agent/app/cli_client.h"
#include "agent/app/cli_drain_watch.h"
#include "agent/app/verbs.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

/* ---- when it is over ---- */

/* Drained by all steps, or it will not be any more. */
static bool is_drained(const struct drain_view *v, int *ret_code)
{
	*ret_code = str_equal(v->phase, "drained") && str_equal(v->level, "success") ? EXIT_OK : EXIT_FAILED;
	return !str_equal(v->phase, "draining");
}

static bool is_restored(const struct drain_view *v, int *ret_code)
{
	*ret_code = str_equal(v->phase, "degraded") ? EXIT_FAILED : EXIT_OK;
	/* Something else that holds it is no failure of ours. */
	return !str_equal(v->phase, "restoring");
}

static bool is_rehearsed(const struct drain_view *v, int *ret_code)
{
	*ret_code = str_equal(v->rehearsal, "done") ? EXIT_OK : EXIT_FAILED;
	return str_empty(v->rehearsal) || str_equal(v->rehearsal, "done") || str_equal(v->rehearsal, "failed");
}

/* ---- drain, restore, ack ---- */

int verb_drain(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	const char *reason = NULL;
	bool wait = false;
	const struct argument arguments[] = { { "--wait", .flag = &wait }, { .word = &reason } };
	int64_t since = 0;
	int code;

	code = arguments_read("drain", arguments, ARRAY_SIZE(arguments), argc, argv);
	if (code == EXIT_OK)
		code = cli_open(&p);
	if (code == EXIT_OK && wait)
		code = drain_told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "drain", "/v1/drain", reason ? reason : "");
	return code == EXIT_OK && wait ? drain_watch(&p, "drain", since, USEC_INFINITY, is_drained) : code;
}

int verb_restore(int argc, char **argv)
{
	if (argc > 2 || (argc == 2 && !str_equal(argv[1], "--force")))
		return cli_usage("restore");
	return cli_order_alone("restore", "/v1/restore", argc == 2 ? "force" : "");
}

int verb_ack(int argc, char **argv)
{
	return argc == 2 && argv[1][0] != '-' ? cli_order_alone("ack", "/v1/ack", argv[1]) : cli_usage("ack");
}

/* ---- backup ---- */

int verb_quiesce(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_free_ char *argument = NULL;
	uint64_t lasts = 900, within = 300;
	const struct argument arguments[] = { { "--for", .seconds = &lasts }, { "--within", .seconds = &within } };
	int64_t since = 0;
	int code = arguments_read("quiesce", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	if (within > lasts)
		within = lasts;
	argument = str_format("%llu %llu", (unsigned long long)lasts, (unsigned long long)within);
	code = argument ? cli_open(&p) : EXIT_FAILED;
	if (code == EXIT_OK)
		code = drain_told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "quiesce", "/v1/quiesce", argument);
	if (code != EXIT_OK)
		return code;
	/* The daemon ends the drain when its time is up; a little more for it to say so. */
	code = drain_watch(&p, "quiesce", since, usec_add(usec_from_seconds(within), CLI_ANSWER_USEC), is_drained);
	if (code == EXIT_OK)
		return EXIT_OK;
	fprintf(stderr, "evenkeel quiesce: not all steps could be done in time; resuming\n");
	(void)cli_order(&p, "resume", "/v1/resume", "");
	return EXIT_FAILED;
}

#define RESUMED_USEC (10 * USEC_PER_MINUTE)

int verb_resume(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	int64_t since = 0;
	int code;

	(void)argv;
	if (argc > 1)
		return cli_usage("resume");
	code = cli_open(&p);
	if (code == EXIT_OK)
		code = drain_told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "resume", "/v1/resume", "");
	if (code != EXIT_OK)
		return code;
	code = drain_watch(&p, "resume", since, RESUMED_USEC, is_restored);
	if (code > EXIT_OK)
		fprintf(stderr, "evenkeel resume: not everything could be restored; evenkeel status tells more\n");
	return code < 0 ? EXIT_FAILED : code;
}

/* ---- rehearsal ---- */

/* The notice that is documented for the type. */
static uint64_t documented_notice(const char *type)
{
	return str_equal_nocase(type, "Preempt")     ? 30
	       : str_equal_nocase(type, "Terminate") ? 300
	       : str_equal_nocase(type, "Redeploy")  ? 600
						     : 900;
}

static int simulate(const char *argument, bool dry)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	int64_t since = 0;
	int code = cli_open(&p);

	if (code == EXIT_OK && !dry)
		code = drain_told_so_far(&p, &since);
	if (code == EXIT_OK)
		code = cli_order(&p, "simulate", "/v1/simulate", argument);
	return code == EXIT_OK && !dry ? drain_watch(&p, "simulate", since, USEC_INFINITY, is_rehearsed) : code;
}

int verb_simulate(int argc, char **argv)
{
	_cleanup_free_ char *argument = NULL, *duration = NULL;
	const char *type = NULL, *in = NULL, *lasts = NULL;
	uint64_t notice, seconds;
	bool dry = false;
	const struct argument arguments[] = {
		{ "--dry-run", .flag = &dry }, { "--in", .text = &in }, { "--duration", .text = &lasts }, { .word = &type }
	};
	int code = arguments_read("simulate", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	if (str_empty(type) || strchr(type, ' '))
		return cli_usage("simulate");
	notice = documented_notice(type);
	if (in && !cli_duration(in, &notice))
		return cli_bad_duration(in);
	if (lasts && !cli_duration(lasts, &seconds))
		return cli_bad_duration(lasts);
	duration = lasts ? str_format("%llu", (unsigned long long)seconds) : strdup("-");
	if (duration)
		argument = str_format("%s %llu %s%s", type, (unsigned long long)notice, duration, dry ? " dry" : "");
	return argument ? simulate(argument, dry) : EXIT_FAILED;
}

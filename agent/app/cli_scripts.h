/* The parts of `evenkeel scripts`, for its own files only. */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct paths;

/* What a script's end is as an exit code of ours: its own, or one of these (as timeout(1) and shells have them). */
#define VERDICT_TIMED_OUT 124
#define VERDICT_NO_END	  125 /* not started, stopped, interrupted: there is no exit code */
#define VERDICT_SIGNAL	  128 /* + its number */

/* The paths; EXIT_NOT_PERMITTED (told) for whoever is not root. Release with paths_done() in any case. */
_nodiscard_ int scripts_open(const char *verb, struct paths *p);

/* What service or record, and the files of the runs tell. Release with jd_free(&script_view_type, …) in any case. */
struct script_view;
_nodiscard_ int scripts_gather(const struct paths *p, struct script_view *view, struct error *err);

/* cli_scripts_output.c: what a job has captured, in pieces as it grows */

enum logs_form {
	LOGS_MARKED, /* both streams, each piece under "[stdout]" or "[stderr]" */
	LOGS_STDERR, /* that one alone */
	LOGS_LIVE,   /* each to our own stream of that name, unmarked */
};

struct output;
_nodiscard_ int output_new(struct output **ret, const char *directory, enum logs_form form);
/* What has come since the last call. */
_nodiscard_ int output_print(struct output *o);
void output_free(struct output *o);
DEFINE_CLEANUP(struct output *, output_free)

/* cli_scripts_logs.c */

int scripts_logs(int argc, char **argv);
/* Prints the output of this job; `follow`: until it ends, and returns its verdict. */
int scripts_print(const struct paths *p, const char *verb, const char *job, enum logs_form form, bool follow);

/* cli_scripts_run.c */
int scripts_run(int argc, char **argv);

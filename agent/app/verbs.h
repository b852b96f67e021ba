/* The program's verbs: one table is dispatch, help and completion. */
#pragma once

#include <stdbool.h>

struct buf;

struct verb {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the verb; returns an exit code of exit_codes.h */
	const char *arguments;		   /* its argument line: agent/app/arguments.h */
	const char *help;
	bool internal; /* called by the platform or by ourselves; not in the short help */
};

extern const struct verb verbs[]; /* ends with a NULL name */

/* The verb of that name, or NULL. */
const struct verb *verb_find(const char *name);
/* verb_help.c: usage, what it does, examples. */
void verb_print_help(const struct verb *v);

int verb_extension(int argc, char **argv); /* install, enable, disable, update, uninstall */
int verb_service(int argc, char **argv);
int verb_daemon(int argc, char **argv);
int verb_run(int argc, char **argv);
int verb_status(int argc, char **argv);
int verb_drain(int argc, char **argv);
int verb_restore(int argc, char **argv);
int verb_ack(int argc, char **argv);
int verb_quiesce(int argc, char **argv);
int verb_resume(int argc, char **argv);
int verb_simulate(int argc, char **argv);
int verb_pause(int argc, char **argv);
int verb_events(int argc, char **argv);
int verb_certs(int argc, char **argv);
int verb_scripts(int argc, char **argv);
int verb_doctor(int argc, char **argv);
int verb_support_bundle(int argc, char **argv);
int verb_userdata(int argc, char **argv);
int verb_generalize(int argc, char **argv);
int verb_validate(int argc, char **argv);
int verb_schema(int argc, char **argv);
int verb_logs(int argc, char **argv);
int verb_completion(int argc, char **argv);
int verb_version(int argc, char **argv);
int verb_help(int argc, char **argv);

int version_json(struct buf *out); /* appends what `version --json` prints */

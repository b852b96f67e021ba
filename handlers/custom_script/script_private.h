/* The parts of the custom script handler, for its own files only. */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/core/script_plan.h"
#include "handlers/common/handler.h"
#include "handlers/common/jobs.h"

#define SCRIPT_HANDLER "customScript"

/* A job that may be alive. */
struct script_live {
	struct handler *handler;
	struct script_live *next;
	char *name, *job;
	struct jobs_handle *handle;
	bool attached; /* begun by an earlier process */
	bool cancelled;
	bool over; /* its callback has run; freed by the next advance */
	usec_t since_boot;
	usec_t judge_at; /* stopped by nobody we know: perhaps a shutdown; 0: no */
	struct job_result result; /* of that */
	char *progress; /* what the status says of it, made anew every 5 s */
};

enum script_phase {
	SCRIPTS_OVER,	/* nothing is to be begun */
	SCRIPTS_BUSY,	/* scripts of a former sequence number still run */
	SCRIPTS_WAITING, /* for what waitFor names */
	SCRIPTS_DELAYED, /* before a further try */
	SCRIPTS_RUNNING,
	SCRIPTS_REBOOTING,
};

struct handler {
	const struct handler_host *host;
	const struct settings *settings; /* of the goal in force, or NULL */
	const struct custom_script_settings *section; /* NULL: absent */
	char *key, *sequence;
	char (*content)[65]; /* of each script of the section */
	struct script_memory memory;
	struct record *record;
	struct script_live *lives;
	enum script_phase phase;
	const char *waiting_for; /* a literal */
	bool waited;		 /* what waitFor names has been met in this process */
	usec_t wait_since, try_at, deadline;
	struct loop_timer *timer; /* the next thing to look at */
	struct loop_timer *tick;  /* progress of what runs */
	struct jobs_handle *reboot;
	bool retired;
};

/* script_job.c: the job of one script; both are released with jd_free(). */
_nodiscard_ int script_job_make(const struct handler *h, const struct script_settings *s, const char *id, struct job *ret,
				struct job_secrets *ret_secrets, struct error *err);
/* What this version cannot do and a script asks for: 0, or -EOPNOTSUPP with a sentence. */
_nodiscard_ int script_job_possible(const struct script_settings *s, struct error *err);
/* "cs-<name>-<random>-<number>". NULL on out of memory. */
char *script_job_id(const char *name, int64_t number);
/* Removes the oldest job directories of the script beyond `keep`; `running` (may be NULL) stays. */
void script_job_prune(const struct handler *h, const char *name, int64_t keep, const char *running);

/* script_wait.c: what is not met yet, as a phrase ("cloud-init to finish"), or NULL. */
const char *script_wait_unmet(const struct handler_host *host, const struct custom_script_settings *section);

/* script_report.c */
_nodiscard_ int script_report_all(struct handler *h, handler_report_fn add, void *userdata);
/* Sentence and output of a result into the run. -ENOMEM. */
_nodiscard_ int script_report_result(struct script_run *run, const struct script_settings *s, const struct job_result *r,
				     enum script_next next, const char *boot_id);
void script_report_progress(struct handler *h, struct script_live *live);

/* The parts of the custom script handler, for its own files only. */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/core/script_plan.h"
#include "agent/core/script_policy.h"
#include "handlers/common/handler.h"
#include "handlers/common/jobs.h"

#define SCRIPT_HANDLER "customScript"
#define TICK_USEC      (5 * USEC_PER_SEC) /* between two looks at what runs */

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
	SCRIPTS_LATE,	/* they do so beyond the deadline */
	SCRIPTS_PAUSED,	/* by an operator */
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
	bool unsaved; /* the memory has changed since it was saved last */
	struct script_policy policy; /* as it was when the last script began */
	struct record *record;
	struct script_live *lives;
	enum script_phase phase;
	const char *waiting_for; /* a literal */
	bool waited;		 /* what waitFor names has been met in this process */
	usec_t wait_since, deadline;
	usec_t paused_since; /* a script that is due has been kept back by an operator; 0: none */
	usec_t reboot_at; /* not before, after a try in vain */
	struct loop_timer *timer; /* the next thing to look at */
	struct loop_timer *tick;  /* progress of what runs */
	struct loop_timer *pruning;  /* old runs are looked at */
	struct jobs_handle *forget;  /* and removed */
	char *forget_id;
	struct jobs_handle *reboot;
	struct script_hand *hands;
	bool retired;
};

/* custom_script.c: the plan, carried out. Looks at everything anew each time, so that it can be called at any moment. */
void script_advance(struct handler *h);
/* At `when` again, or before. */
void script_look_again(struct handler *h, usec_t when);
/* Failed under this key, and tried again when the delay of `retry` is over. */
bool script_delayed(const struct handler *h, const struct script_run *run);

/* script_record.c */
_nodiscard_ int script_record_open(struct handler *h, struct error *err);
_nodiscard_ int script_record_save(struct handler *h, struct error *err);
/* Where nothing more can be done than to go on. */
void script_record_save_or_log(struct handler *h);

/* script_lives.c */
struct script_live *script_live_new(struct handler *h, const char *name, const char *job);
void script_live_free(struct script_live *l);
struct script_live *script_lives_find(const struct handler *h, const char *name);
/* Frees those that are over. */
void script_lives_sweep(struct handler *h);
/* Watches the runs of the record that nobody watches yet: after a restart, also those of a former number. */
void script_lives_attach(struct handler *h);
/* Whether something of a former number must end first; the asynchronous ones only when they are due again. */
bool script_lives_former(struct handler *h);

/* script_result.c: of a job (userdata: struct script_live) and of the timer `tick` (userdata: struct handler). */
void script_on_done(const struct job_result *r, void *userdata);
void script_on_tick(void *userdata);
const struct script_settings *script_find(const struct handler *h, const char *name);

/* script_begin.c, each of script i: begins it, or says why not. */
void script_begin(struct handler *h, size_t i);
void script_not_run(struct handler *h, size_t i, const char *why);
/* The first script that is due tells why, the others follow as after any failure. */
void script_give_up_waiting(struct handler *h, size_t i);

/* script_allow.c: reads the machine's policy anew and asks it about this script: 0, -EKEYREJECTED, or another error when the
 * policy cannot be read. */
_nodiscard_ int script_allow(struct handler *h, const struct script_settings *s, struct error *err);

/* script_reboot.c: true while a reboot that a script has asked for is still to come. */
bool script_rebooting(struct handler *h);

/* script_job.c: the job of one script; both are released with jd_free(). */
_nodiscard_ int script_job_make(const struct handler *h, const struct script_settings *s, const char *id, struct job *ret,
				struct job_secrets *ret_secrets, struct error *err);
/* What a script asks for and cannot be done: 0, or -EINVAL with a sentence. */
_nodiscard_ int script_job_possible(const struct script_settings *s, struct error *err);
/* A value for the secrets file of a job. -ENOMEM. */
_nodiscard_ int script_job_secret(struct job_secrets *all, const char *name, const char *value);
/* script_sources.c: what is downloaded before, where the output goes, with whose rights and how the network is reached. */
_nodiscard_ int script_job_sources(const struct handler *h, const struct script_settings *s, struct job *job,
				   struct job_secrets *secrets, struct error *err);
/* "cs-<name>-<random>-<number>". NULL on out of memory. */
char *script_job_id(const char *name, int64_t number);

/* script_prune.c: removes the runs that are not kept any more; soon, and now (userdata: struct handler). */
void script_prune_soon(struct handler *h);
void script_prune(void *userdata);

/* script_hand.c: what `evenkeel scripts run` has asked for. */
_nodiscard_ int script_hand_order(struct handler *h, const char *order, const char *argument, struct buf *reply, struct error *err);
/* Watches those of the record. */
void script_hands_attach(struct handler *h);
void script_hands_free(struct handler *h);

/* script_look.c */
_nodiscard_ int script_look(struct handler *h, const char *query, struct buf *json, struct error *err);

/* script_wait.c: what is not met yet, as a phrase ("cloud-init to finish"), or NULL. */
const char *script_wait_unmet(const struct handler_host *host, const struct custom_script_settings *section);

/* script_report.c */
_nodiscard_ int script_report_all(struct handler *h, handler_report_fn add, void *userdata);
/* Sentence and output of a result into the run. -ENOMEM. */
_nodiscard_ int script_report_result(const struct handler *h, struct script_run *run, const struct script_settings *s,
				     const struct job_result *r, enum script_next next);
void script_report_progress(struct handler *h, struct script_live *live);
/* What a script that is due waits for. */
void script_report_waiting(const struct handler *h, const struct script_run *run, struct buf *out);

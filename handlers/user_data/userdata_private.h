/* The parts of the user data handler, for its own files only. */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/core/settings.h"
#include "agent/core/userdata_apply.h"
#include "agent/core/userdata_plan.h"
#include "agent/core/userdata_view.h"
#include "handlers/common/handler.h"
#include "handlers/common/jobs.h"

#define HANDLER "userData"

struct userdata_fetch;

/*
 * On disk, all below state/, 0600: user-data (the last good copy), user-data.record (what it is), user-data.memory (what has
 * been applied), user-data.plan (what is being applied, whole: content and parts), user-data.applied (the content last
 * applied, for people who ask for the difference).
 */
struct handler {
	const struct handler_host *host;
	const struct userdata_settings *section; /* of the goal in force; NULL: absent */
	bool retired;

	/* Watching: watch.c */
	struct userdata_plan plan;
	struct record *record;
	char *copy_path;
	int source; /* what is watched; -1: nothing */
	int64_t interval_seconds;
	struct imds_call *call;
	struct loop_timer *watch_timer;

	/* Applying: apply.c */
	struct userdata_memory memory;
	struct record *memory_record;
	struct userdata_parts parts; /* of the revision that is applied, or is to be */
	bool planned;		     /* they are there, with all that includes have brought */
	struct userdata_progress progress;
	usec_t cloud_init_since; /* since when it is waited for, in this process */
	bool unlocked;		 /* the package managers' locks have been free, or were waited for long enough */
	struct jobs_handle *job;
	bool attached, cancelling;
	unsigned refusals; /* in a row: jobs of which systemd has begun nothing */
	usec_t try_at;
	struct userdata_fetch *fetch;
	size_t include; /* which part it is for */
	unsigned fetch_tries;
	char *fetch_problem; /* of the last one, or NULL */
	struct loop_timer *apply_timer;

	/* Settings parts: offer.c */
	char *offered;		/* for which content and consent they were offered last */
	char *settings_problem; /* why they were refused, or NULL */
};

/* watch.c */
_nodiscard_ int userdata_watch_open(struct handler *h, struct error *err);
void userdata_watch(struct handler *h);
void userdata_unwatch(struct handler *h);
void userdata_watch_close(struct handler *h);
/* Appends the last good copy, if it is what the record says. -ENOENT, -EBADMSG. */
_nodiscard_ int userdata_copy(const struct handler *h, struct buf *out, struct error *err);

/* apply.c: looks at everything anew each time, so that it can be called at any moment; userdata_apply_soon() from anywhere. */
_nodiscard_ int userdata_apply_open(struct handler *h, struct error *err);
void userdata_apply_soon(struct handler *h);
void userdata_apply_close(struct handler *h);
/* What the source has now, as far as it is known: NULL when there is nothing. */
const char *userdata_content(const struct handler *h);

/* memory.c */
_nodiscard_ int userdata_memory_open(struct handler *h, struct error *err);
void userdata_memory_close(struct handler *h);
_nodiscard_ int userdata_save(struct handler *h, struct error *err);
void userdata_save_or_log(struct handler *h); /* where nothing more can be done than to go on */
/* The content that is there now becomes a revision. False: it could not be recorded. */
_nodiscard_ bool userdata_note(struct handler *h, enum userdata_state state);
void userdata_note_unset(struct handler *h);	     /* confirmed that there is none: what comes later is a change */
void userdata_keep_applied(const struct handler *h); /* the content of the plan is what the machine has now */

/* prepare.c: from content to parts that can be run. 1: not yet (a timer is set, or a fetch is under way); 0: ready;
 * negative: this revision cannot be applied, for good. */
_nodiscard_ int userdata_prepare(struct handler *h, struct userdata_revision *r, struct error *err);
void userdata_prepare_done(struct handler *h); /* forgets the plan, in memory and on disk */

/* part_run.c: goes on with the parts of this revision. False: they are over. */
bool userdata_next_part(struct handler *h, struct userdata_revision *r);

/* part_job.c */
_nodiscard_ int userdata_part_start(struct handler *h, const struct userdata_revision *r, size_t i, jobs_done_fn done,
				    struct error *err);
void userdata_part_prune(struct handler *h); /* removes job directories that no revision names */

/* fetch.c: the URLs of one include, one after the other. */
typedef void (*userdata_fetch_fn)(struct handler *h, const struct userdata_body *bodies, size_t n,
				  const struct error *failure);
_nodiscard_ int userdata_fetch_start(struct handler *h, const struct userdata_item *include, userdata_fetch_fn done,
				     struct error *err);
void userdata_fetch_free(struct userdata_fetch *f);

/* offer.c: settings parts of the content in force are what the daemon has; only from the apply timer. */
void userdata_offer(struct handler *h);
/* What the offer has come to, into the runs of a revision. -ENOMEM */
_nodiscard_ int userdata_offer_into_runs(const struct handler *h, struct userdata_revision *r);

/* operate.c */
_nodiscard_ int userdata_operate(struct handler *h, const char *order, const char *argument, struct buf *reply,
				 struct error *err);
_nodiscard_ int userdata_look(struct handler *h, const char *query, struct buf *json, struct error *err);
_nodiscard_ int userdata_report(struct handler *h, handler_report_fn add, void *userdata);
void userdata_measure(const struct handler *h, struct metrics *m);

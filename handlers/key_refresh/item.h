/*
 * What key refresh is made of: the handler (key_refresh.c), which knows who is next (turns.c), and its items, which do the work
 * (item.c and its parts, activate.c). For this handler's own files only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/macros.h"
#include "agent/core/key_pace.h"
#include "agent/core/key_plan.h"
#include "handlers/common/handler.h"
#include "handlers/common/jobs.h"

struct buf;
struct http_call;
struct hooks;
struct jobs_handle;
struct key_job;
struct loop_timer;
struct reloads;
struct sweep;
struct vault_call;
struct vault_secret;
struct x509_bundle;

#define HANDLER	   "keyRefresh"
#define RECORD_MAX (64UL * 1024)

enum item_phase {
	PHASE_IDLE,
	PHASE_FETCHING,
	PHASE_INSTALLING,
	PHASE_REMOVING,
	PHASE_ACTIVATING, /* a step of plan.record.activation is at work */
	PHASE_WAITING,	  /* for its units to be reloaded, together with those of others */
	PHASE_TOLD,	  /* they have been: its commands are next, when there is room */
};

struct item {
	struct handler *h;
	struct key_item plan;
	char *name, *record_path;
	enum item_phase phase;
	struct vault_call *call;
	/* Of the job that runs: the settings may change meanwhile, and what it makes is what it was asked for. */
	struct jobs_handle *job;
	char *job_id, *job_url, *job_set, *identity;
	char job_shape[SHA256_HEX_MAX];
	struct key_found found;
	char older_for[64]; /* the newest version, when the one before it has been tried (older.h) */
	/* Orders to ask the vault (the first is its being there): how many, in which the try that runs is, how many have
	 * been answered. */
	int64_t asked, asking, answered;
	bool ordered; /* by an operator, and not done yet: a pause does not keep it back */
	usec_t checked_wall; /* when the vault last answered well; 0: not yet */

	/* Of the activation's step. */
	usec_t later_boot;	/* when it is tried again; 0: at once */
	bool abandon;		/* other settings: what has been begun is not gone on with */
	bool lost;		/* it was begun again once already */
	bool resumed;		/* from the record: the vault has not been asked since */
	usec_t waiting_boot;	/* since when it waits for its units */
	char **units;		/* asked to reload now */
	char *problem;		/* of the first unit or command that failed */
	size_t command;
	struct http_call *probe;
	struct loop_timer *probe_timer;
	usec_t probe_until, probe_wait;
	char seen[160]; /* by the last probe */
};

struct handler {
	const struct handler_host *host;
	const struct key_refresh_settings *settings; /* of the goal state; NULL: the section is absent */
	struct vaults *vaults;
	struct key_goal goal;
	char *goal_path, *wanted_path, *directory;
	struct item **items;
	size_t n;
	bool retiring;
	struct key_pace pace;
	struct loop_timer *timer;
	struct reloads *reloads;
	struct hooks *hooks;
	struct sweep *sweep;
};

_nodiscard_ int item_new(struct handler *h, const char *name, struct item **ret);
void item_free(struct item *i); /* a job that runs runs on */

/* Goes over to this wish. What did not change is left alone; what failed is tried at once for a new goal state. */
_nodiscard_ int item_set_wish(struct item *i, const struct key_wish *wish, bool new_goal);

/* item_fetch.c: asks the vault, and does what follows from the answer. When it has ended the item is idle, plan.next_boot says
 * when it is due again, and the handler's timer is armed. */
void item_fetch(struct item *i);

/* item_files.c. Uninstall: stops asking, and removes the files if the settings say so; also called when a job that ran has
 * ended. */
void item_retire(struct item *i);

/* turns.c: of the handler's timer, whose `userdata` the handler is; begins with whoever is due, and arms it again */
void key_refresh_turn(void *userdata);
/* By a pause, unless an operator has ordered it. */
bool item_is_paused(const struct item *i);

/* measures.c: for who watches many VMs. `result`: installed, failed, rejected. */
void measure_install(const struct item *i, const char *result);
void key_refresh_measure(const struct handler *h, struct metrics *m);

/* view.c: what operators see and order, as struct handler_class says. */
_nodiscard_ int key_refresh_look(struct handler *h, const char *query, struct buf *json, struct error *err);
_nodiscard_ int key_refresh_operate(struct handler *h, const char *order, const char *argument, struct buf *reply,
				    struct error *err);
void key_refresh_poll(struct handler *h);
/* Keeps on disk what the settings want, for the commands. */
void key_refresh_note_wanted(const struct handler *h);

/* ---- what the item's files share ---- */

static inline struct key_activation *item_way(struct item *i)
{
	return &i->plan.record.activation;
}
struct key_clock item_clock(const struct handler *h);
/* 0, or why it could not be written; that has been logged. */
int item_save(struct item *i, unsigned flags, struct error *err);
/* Whoever is to be told of certificates hears what has become of the installed version. */
void item_tell(const struct item *i, const char *words);
/* The end of a try: it is idle; who is next is seen from the loop. */
void item_ended(struct item *i);
/* The same after plan.problem, which is told if it is the first one. */
void item_failed(struct item *i, bool first);
void item_install_failed(struct item *i, const struct error *why);

/* item_fetch.c: whether the url names a version */
bool item_is_pinned(const struct item *i);
/* What the vault gave. *ret_bundle stays as it is for a plain secret. */
_nodiscard_ int item_understand(const struct item *i, const struct vault_secret *s, struct x509_bundle **ret_bundle,
				struct key_found *ret, struct error *err);

/* item_files.c: puts what was found into use, or in place where nothing is to be told of it */
void item_install(struct item *i, const struct x509_bundle *bundle, const struct vault_secret *secret);
/* Starts one of the jobs that write or remove files; `done` forgets it. */
_nodiscard_ int item_start_files(struct item *i, const struct key_job *j, jobs_done_fn done, struct error *err);
void item_forget_job(struct item *i);

DEFINE_CLEANUP(struct item *, item_free)

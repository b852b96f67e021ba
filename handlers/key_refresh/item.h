/*
 * What key refresh is made of: the handler, which knows who is next (key_refresh.c), and its items, which do the work
 * (item.c). For this handler's own files only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/macros.h"
#include "agent/core/key_plan.h"
#include "handlers/common/handler.h"
#include "handlers/common/jobs.h"

struct jobs_handle;
struct loop_timer;
struct vault_call;

#define HANDLER	   "keyRefresh"
#define RECORD_MAX (64UL * 1024)

enum item_phase { PHASE_IDLE, PHASE_FETCHING, PHASE_INSTALLING, PHASE_REMOVING };

struct item {
	struct handler *h;
	struct key_item plan;
	char *name, *record_path;
	enum item_phase phase;
	struct vault_call *call;
	/* Of the job that runs: the settings may change meanwhile, and what it makes is what it was asked for. */
	struct jobs_handle *job;
	char *job_id, *job_url, *identity;
	char job_shape[SHA256_HEX_MAX];
	struct key_found found;
	char older_for[64]; /* the newest version, when the one before it has been tried (older.h) */
	int64_t warned_days; /* told in the log; -1: nothing yet */
};

struct handler {
	const struct handler_host *host;
	const struct key_refresh_settings *settings; /* of the goal state; NULL: the section is absent */
	struct vaults *vaults;
	const char **suffixes; /* NULL-terminated; the texts belong to the settings */
	struct key_goal goal;
	char *goal_path, *directory;
	struct item **items;
	size_t n;
	bool retiring;
	struct loop_timer *timer;
};

_nodiscard_ int item_new(struct handler *h, const char *name, struct item **ret);
void item_free(struct item *i); /* a job that runs runs on */

/* Goes over to this wish. What did not change is left alone; what failed is tried at once for a new goal state. */
_nodiscard_ int item_set_wish(struct item *i, const struct key_wish *wish, bool new_goal);

/* Asks the vault, and does what follows from the answer. When it has ended the item is idle, plan.next_boot says when
 * it is due again, and the handler's timer is armed. */
void item_fetch(struct item *i);

/* Uninstall: stops asking, and removes the files if the settings say so; also called when a job that ran has ended. */
void item_retire(struct item *i);

DEFINE_CLEANUP(struct item *, item_free)

/* ---- for the other parts of this handler ---- */

struct key_job;
struct vault_secret;
struct x509_bundle;

/* Runs a job that writes or removes files; `done` forgets it. */
_nodiscard_ int item_start_files(struct item *i, const struct key_job *j, jobs_done_fn done, struct error *err);
void item_forget_job(struct item *i);
/* Idle again; the handler looks for what is next. */
void item_ended(struct item *i);
/* The url names a version. */
bool item_is_pinned(const struct item *i);
/* What the vault gave. *ret_bundle stays as it is for a plain secret. */
_nodiscard_ int item_understand(const struct item *i, const struct vault_secret *s, struct x509_bundle **ret_bundle,
				struct key_found *ret, struct error *err);

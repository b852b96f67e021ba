/* The parts of the drain handler, for its own files only: the shell around core's drain machine. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/base/limits.h"
#include "agent/core/drain_core.h"
#include "handlers/common/handler.h"

struct buf;
struct bus_call;
struct guard;
struct imds_call;
struct loop_timer;
struct metrics;
struct peers;
struct record;
struct drain_steps;
struct watch;

#define TOLD_MAX 256 /* lines kept for those who look on */

struct told_line {
	int64_t number;
	usec_t wall;
	enum log_level level;
	char *text;
};

enum rehearsal_phase {
	REHEARSAL_NONE,
	REHEARSAL_WAITING, /* for the lead */
	REHEARSAL_DRAINING,
	REHEARSAL_DRAINED, /* and the platform, if there were one, not at it yet */
	REHEARSAL_STARTED,
	REHEARSAL_RESTORING,
	REHEARSAL_DONE,
	REHEARSAL_FAILED,
	_REHEARSAL_PHASES,
};

struct rehearsal {
	enum rehearsal_phase phase;
	char *type;
	int acknowledge; /* what the policy says, enum policy_acknowledge */
	usec_t not_before_boot, lasts_usec;
	bool clean; /* so far */
	struct loop_timer *timer;
};

struct handler {
	const struct handler_host *host;
	struct drain_core *core; /* NULL before the first apply() */
	struct drain_steps *steps;
	struct record *record;
	struct drain_state *found; /* in the record, until the core takes it */
	struct watch *watch;
	struct peers *peers;
	struct guard *guard; /* against shutdowns */
	struct rehearsal rehearsal;

	/* The settings in force; NULL: no section. Borrowed from the goal. */
	const struct drain_settings *settings;
	bool health_checked;

	struct loop_timer *core_timer;
	struct imds_call *ack;
	int64_t ack_token, peers_token;
	bool fallback_told;

	/* The snapshot being taken. */
	struct bus_call *unit_call;
	char **units, **active;
	size_t unit_at, n_active;
	int64_t snapshot_token;

	bool running_actions;
	usec_t told_boot; /* when what is told of draining was last made anew */

	/* What has been counted so far (telling.c). */
	int counted_phase;
	usec_t phase_since_boot, ack_since_boot;
	char **counted_events;

	struct told_line told[TOLD_MAX]; /* a ring */
	int64_t n_told;
};

/* drain.c */
struct drain_now drain_now(const struct handler *h);

/* actions.c: what the core wants done */
void drain_run_actions(struct handler *h);
/* The same after an input. `input` names it, for when it did not get through (r). */
void drain_after_input(struct handler *h, int r, const char *input);
/* After a document: once a second, nearly always with nothing new, of which then nothing is made. */
void drain_after_poll(struct handler *h, int r);
/* Logs it, and shows it to those who look on. */
void drain_say(struct handler *h, enum log_level level, const char *event_id, bool milestone, const char *text);

/* snapshot.c: which units are active, how many hooks there are */
void drain_take_snapshot(struct handler *h, int64_t token);
void drain_drop_snapshot(struct handler *h);
/* Files in the directories of hooks steps: each file has the step's timeout, so the budget counts them. */
void drain_count_hooks(struct handler *h, const struct drain_plan *plan, unsigned counts[static LIMIT_LEDGER]);

/* acknowledge.c */
void drain_acknowledge(struct handler *h, const struct drain_action *a);
void drain_ask_peers(struct handler *h, const struct drain_action *a);

/* telling.c: metrics, and notices to webhooks */
void drain_notify(const struct handler *h, const struct drain_action *a);
void drain_count(struct handler *h); /* after every turn of the core */
void drain_count_acknowledgement(struct handler *h, const char *result, bool final);
void drain_measure(const struct handler *h, struct metrics *m);

/* rehearsal.c */
_nodiscard_ int rehearsal_open(struct handler *h);
void rehearsal_close(struct handler *h);
_nodiscard_ int rehearsal_begin(struct handler *h, const char *type, usec_t notice, int64_t duration_seconds,
				struct error *err);
/* Appends the lines of a dry run. */
_nodiscard_ int rehearsal_dry_run(struct handler *h, const char *type, usec_t notice, int64_t duration_seconds,
				  struct buf *out, struct error *err);
void rehearsal_end(struct handler *h); /* an operator wants none */
void rehearsal_look(struct handler *h); /* after every turn of the core */
extern const char *const rehearsal_phase_names[];

/* orders.c */
_nodiscard_ int drain_operate(struct handler *h, const char *order, const char *argument, struct buf *reply,
			      struct error *err);
_nodiscard_ int drain_look(struct handler *h, const char *query, struct buf *json, struct error *err);

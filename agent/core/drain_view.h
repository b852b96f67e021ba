/*
 * What people are shown of draining: one value that the daemon fills and writes as JSON, and that the commands read back
 * by the same tables. Times are texts (ISO 8601, UTC), absent ones NULL; release with jd_free(&drain_view_type, v).
 */
#pragma once

#include "agent/codec/json.h"
#include "agent/core/drain_core.h"

struct view_event {
	char *id, *type, *source, *description;
	char *status;		    /* Scheduled, Started, or the platform's word */
	char *state;		    /* of the event machine; paused: waiting, and a pause keeps it from being drained for */
	char *action, *acknowledge; /* what the policy decided */
	char *acknowledgement;	    /* none, peers, wanted, accepted, refused */
	char *not_before, *drain_at, *acknowledged_at;
	int64_t duration_seconds; /* -1: unknown */
	bool shared, leader, holds;
};

struct view_hold {
	char *kind, *reason;
	char *drained_by, *until; /* NULL: nothing presses, never */
};

struct view_step {
	char *name, *type;
	char *state; /* planned, running, undoing, done, failed, timeout, stopped, skipped */
	char *detail;
	int64_t group; /* steps of one group run at the same time */
	int64_t timeout_msec, reserve_msec;
};

struct view_line {	/* something that was told */
	int64_t number; /* ascending */
	char *time, *level, *text;
};

struct drain_view {
	char *phase;  /* of the host machine */
	char *result; /* clean, incomplete, aborted: of the last drain, while drained */
	char *level;  /* success, transitioning, warning, error: warning when drained although a step failed */
	char *sentence;
	bool serving, configured;
	struct jd_list events, holds, steps, lines;
	int64_t told;	 /* number of the last line */
	char *rehearsal; /* "", waiting, draining, drained, started, restoring, done, failed */
};

extern const struct jd_type drain_view_type;

/* All but lines, told and rehearsal. drain: the settings, for what is planned while serving; NULL: no section. -ENOMEM. */
_nodiscard_ int drain_view_fill(const struct drain_core *core, const struct drain_settings *drain, struct drain_now now,
				struct drain_view *ret);
/* What a record alone tells, where no core runs: phase, result, events, holds, steps. `this_boot`: the record is of the boot
 * that runs, so that its times by the boot clock mean something. -ENOMEM. */
_nodiscard_ int drain_view_fill_record(const struct drain_state *s, bool this_boot, struct drain_now now,
				       struct drain_view *ret);
/* Appends a line. -ENOMEM. */
_nodiscard_ int drain_view_add_line(struct drain_view *v, int64_t number, usec_t wall, const char *level,
				    const char *text);

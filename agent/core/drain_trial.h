/*
 * A drain in virtual time: the life of one event played through the drain core itself, every step taking nearly
 * all the time it is given. What `evenkeel simulate --dry-run` prints is therefore what the same settings would do, budget included.
 */
#pragma once

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/core/drain_core.h"

struct drain_trial {
	const struct drain_settings *drain;
	const char *type; /* of the event; its source is the platform */
	usec_t notice_usec;
	int64_t duration_seconds; /* -1: unknown */
	const unsigned *hooks;	  /* as drain_core_snapshot_result(); NULL: one each */
	struct drain_now now;
};

/* Appends one line per thing that would happen, with the seconds since the event was seen. -ENOMEM, -EFBIG (`out`). */
_nodiscard_ int drain_trial_run(const struct drain_trial *trial, struct buf *out);

/* How long the platform is taken to be at it when the duration is unknown. */
#define DRAIN_TRIAL_STARTED_USEC (10 * USEC_PER_SEC)

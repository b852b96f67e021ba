/* What status, /ready and the CLI say about draining, computed from the core (settings.md 3.2). */
#pragma once

#include "agent/core/drain_core.h"

enum drain_level { DRAIN_LEVEL_SUCCESS, DRAIN_LEVEL_TRANSITIONING, DRAIN_LEVEL_WARNING, DRAIN_LEVEL_ERROR };

struct drain_status {
	enum host_state phase;
	enum drain_result result;
	enum drain_level level;
	bool serving; /* /ready may say 200 */
	bool boot_pending; /* after a boot, before the first document */
	size_t n_holds, n_steps, steps_over;
	const struct drain_event *next; /* earliest event that is known and not begun; NULL */
	usec_t deadline_wall;		/* earliest of the holds; 0: none */
	char sentence[600];		/* "drained for Reboot X, acknowledged 10:02:11" */
};

void drain_status_get(const struct drain_core *core, struct drain_now now, struct drain_status *ret);

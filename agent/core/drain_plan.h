/*
 * The plan of one drain: the steps of the settings, parallel groups laid flat, with their own
 * copies of all texts, because the settings may change or go while the VM is drained.
 * Fixed when the host leaves serving, the same until it serves again. Immutable and counted.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/time.h"
#include "agent/core/settings_drain.h"

/* Steps with the same group run at the same time; groups are ascending and stand together. */
struct plan_step {
	struct step_settings settings; /* never STEP_PARALLEL; retry and onFailure with the group's merged in */
	int64_t group;
	int64_t timeout_usec; /* of the whole step: stopUnits has its units times 30 s; hooks: of one hook */
	int64_t reserve_usec;
};

struct drain_plan {
	struct jd_list steps; /* of struct plan_step, at most LIMIT_LEDGER */
	unsigned refs;
};

/* Of settings as settings_load() leaves them, defaults resolved; NULL: no steps at all. -ENOMEM; -E2BIG more
 * than LIMIT_LEDGER steps after laying groups flat, or more text than half a record holds. */
_nodiscard_ int drain_plan_new(const struct drain_settings *settings, struct drain_plan **ret, struct error *err);
struct drain_plan *drain_plan_ref(struct drain_plan *plan);
void drain_plan_unref(struct drain_plan *plan); /* NULL is fine */
DEFINE_CLEANUP(struct drain_plan *, drain_plan_unref)

static inline const struct plan_step *drain_plan_step(const struct drain_plan *plan, size_t i)
{
	return &((const struct plan_step *)plan->steps.items)[i];
}

bool step_is_wait(const struct step_settings *s);  /* probeDown, waitForConnections, waitUntil */
bool step_has_undo(const struct step_settings *s); /* something for the shell to do when it is undone */

extern const char *const step_type_names[]; /* NULL-terminated, the settings' words */
extern const struct jd_type drain_plan_steps_type; /* JD_LIST of struct plan_step, for the record */

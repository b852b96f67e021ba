/*
 * The plan of one drain: the steps of the settings with every default resolved, parallel groups laid flat,
 * and their own copies of all texts, because the settings may change or go while the VM is drained.
 * Fixed when the host leaves serving, the same until it serves again. Immutable and counted.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/time.h"
#include "agent/core/settings_common.h"
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

/* Default steps when the settings have none: probeDown if health.listen is set, then hooks. -ENOMEM;
 * -E2BIG more than LIMIT_LEDGER steps after laying groups flat. */
_nodiscard_ int drain_plan_new(const struct drain_settings *settings, const struct health_settings *health,
			       struct drain_plan **ret, struct error *err);
struct drain_plan *drain_plan_ref(struct drain_plan *plan);
void drain_plan_unref(struct drain_plan *plan); /* NULL is fine */
DEFINE_CLEANUP(struct drain_plan *, drain_plan_unref)

static inline const struct plan_step *drain_plan_step(const struct drain_plan *plan, size_t i)
{
	return &((const struct plan_step *)plan->steps.items)[i];
}

bool step_is_wait(const struct step_settings *s);  /* probeDown, waitForConnections, waitUntil */
bool step_has_undo(const struct step_settings *s); /* something for the shell to do when it is undone */

/* 1.3's columns "timeout" and "reserve", in seconds (0: none), of one unit or hook where 1.3 says "each". */
int64_t step_default_timeout(enum step_type type);
int64_t step_default_reserve(enum step_type type);

extern const char *const step_type_names[]; /* NULL-terminated, the settings' words */
extern const struct jd_type drain_plan_steps_type; /* JD_LIST of struct plan_step, for the record */

/*
 * Carrying out one step of a drain plan, or its undo: `run` and `hooks` as jobs, `stopUnits` over D-Bus, `probeDown` as a
 * wait. Each step is begun under the core's token; its answer comes back exactly once, from the loop.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/core/drain_core.h"
#include "handlers/common/handler.h"

struct drain_steps;

typedef void (*drain_steps_result_fn)(void *userdata, int64_t token, enum step_outcome outcome, int exit_code, const char *detail);

_nodiscard_ int drain_steps_new(const struct handler_host *host, drain_steps_result_fn result, void *userdata, struct drain_steps **ret,
			  struct error *err);
void drain_steps_free(struct drain_steps *s); /* what runs as a job runs on */
DEFINE_CLEANUP(struct drain_steps *, drain_steps_free)

/* NULL, or why steps of this type cannot be carried out by this version. */
const char *drain_steps_unbuilt(enum step_type type);

/* `state` says which units were active and what the VM is drained for. Whatever cannot be begun is answered as failed;
 * -ENOMEM: not even that. */
_nodiscard_ int drain_steps_begin(struct drain_steps *s, const struct drain_action *a, const struct drain_state *state);
void drain_steps_shorten(struct drain_steps *s, int64_t token, usec_t timeout);
/* -ENOENT: no such step is under way, and no answer will come. */
int drain_steps_stop(struct drain_steps *s, int64_t token);
/* Jobs of former records: their ids would be given out again. */
void drain_steps_forget_all(struct drain_steps *s);

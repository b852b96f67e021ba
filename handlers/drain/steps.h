/*
 * Carrying out one step of a drain plan, or its undo: commands, hooks, waits for a command and the probe's table as jobs,
 * units over D-Bus, requests over HTTP, connections as the kernel counts them. Each step is begun under the core's token;
 * its answer comes back exactly once, from the loop. The wait of probeDown is the core's own.
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

/* New settings are in force (NULL: none). Values of secrets that steps refer to are copied, for the plan has their names
 * only; `drained`: there is a plan, so those that the settings have no more are kept. -ENOMEM. */
_nodiscard_ int drain_steps_settings(struct drain_steps *s, const struct settings *settings, bool drained);
/* Whether this machine can do what the settings ask for; the error names the member and says what to do. */
_nodiscard_ int drain_steps_check(const struct paths *paths, const struct drain_settings *settings, struct error *err);

/* `state` says which units were active and what the VM is drained for. Whatever cannot be begun is answered as failed;
 * -ENOMEM: not even that. */
_nodiscard_ int drain_steps_begin(struct drain_steps *s, const struct drain_action *a, const struct drain_state *state);
void drain_steps_shorten(struct drain_steps *s, int64_t token, usec_t timeout);
/* -ENOENT: no such step is under way, and no answer will come. */
int drain_steps_stop(struct drain_steps *s, int64_t token);
/* Whether a step of this type that an earlier process of ours began would be found by drain_steps_stop(). Where not, what
 * it did cannot be known. */
bool drain_steps_leaves_trace(enum step_type type);

/* DRAIN_PUT_BACK: makes the table that refuses probes as the steps of `state` want it. */
void drain_steps_put_back(struct drain_steps *s, const struct drain_state *state);
/* After every input: a table that no step of `state` stands for is removed. Cheap when there is none. */
void drain_steps_tidy(struct drain_steps *s, const struct drain_state *state);
/* Jobs of former records: their ids would be given out again. */
void drain_steps_forget_all(struct drain_steps *s);

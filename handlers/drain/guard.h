/*
 * drain.shutdown: logind's delay inhibitor, and the drop-in that lets it delay for long enough. The daemon's sandbox cannot
 * write below /etc, so a confined job does; logind reads it at SIGHUP. While it allows enough without us, nothing is written.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/core/settings_drain.h"
#include "handlers/common/handler.h"

struct guard;

/* A shutdown is wanted now, or was called off; also told once at the beginning. */
typedef void (*guard_shutdown_fn)(void *userdata, bool preparing);

_nodiscard_ int guard_new(const struct handler_host *host, guard_shutdown_fn shutdown, void *userdata,
			  struct guard **ret, struct error *err);
void guard_free(struct guard *g);
/* NULL: shutdowns are let through, and the drop-in goes. */
void guard_apply(struct guard *g, const struct shutdown_settings *s);
/* How long a shutdown may be held back now, a little less than logind allows. */
usec_t guard_delay(const struct guard *g);
void guard_let_go(struct guard *g);
bool guard_busy(const struct guard *g); /* the drop-in is being written or removed */
/* What keeps shutdowns from being held back as the settings want it, or "". */
const char *guard_trouble(const struct guard *g, char *out, size_t size);

DEFINE_CLEANUP(struct guard *, guard_free)

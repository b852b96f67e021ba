/*
 * `evenkeel pause`: for a while nothing begins but what an operator orders. It stands in a file below /run with the boot it
 * belongs to, so that it survives a restart of the daemon, and ends with the boot.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "handlers/common/handler.h"

struct daemon;
struct pause;
struct paths;

#define PAUSE_SECONDS_MAX (24 * 3600)

/* Takes up what the file says; before the handlers are opened, which ask pause_is_on(). */
_nodiscard_ int pause_new(struct daemon *d, struct pause **ret, struct error *err);
void pause_free(struct pause *p);
bool pause_is_on(const struct pause *p);

/* The order: "SECONDS [REASON]", or "end". Replaces the pause that is on. Tells in one sentence what was done; an error of
 * class user refuses. */
_nodiscard_ int pause_operate(struct pause *p, const char *argument, struct buf *reply, struct error *err);

/* The component "pause", while one is on. */
_nodiscard_ int pause_report(const struct pause *p, handler_report_fn add, void *userdata);
/* Appends {"since", "until", "remainingInSeconds", "reason"}; false: none is on. */
bool pause_describe(const struct pause *p, struct buf *out);
/* The same from the file, where no daemon runs. */
bool pause_describe_file(const struct paths *p, struct buf *out);

DEFINE_CLEANUP(struct pause *, pause_free)

/* HandlerEnvironment.json (extension-contract.md 2): an array of one object, unknown keys ignored, written in place by the
 * agent, so a bad document may be good a moment later. */
#pragma once

#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct handler_environment {
	char *name; /* Publisher.Type, may be NULL */
	char *log_folder, *config_folder, *status_folder; /* absolute, required */
	char *events_folder; /* may be NULL; we write no telemetry */
	char *base;	     /* the version directory: where the file is */
};

/* Reads DIR/HandlerEnvironment.json. Errors name the file: missing, empty, larger than 64 KiB, truncated, foreign. */
_nodiscard_ int handler_environment_read(const char *dir, struct handler_environment *ret, struct error *err);
void handler_environment_done(struct handler_environment *e);
/* The same from bytes, for fuzzing. */
_nodiscard_ int handler_environment_parse(const char *text, size_t len, const char *dir,
					  struct handler_environment *ret, struct error *err);

/*
 * The service: one loop that watches, decides and tells. What it does lives in handlers; here are the goal state, the
 * status, the listeners and the order of starting and stopping.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"

struct daemon_options {
	bool until_idle; /* end when no duty is open and nothing runs: `enable` where no manager answers */
};

/* Until stopped. Returns an exit code of exit_codes.h; a negative errno when it could not begin or go on. Logs to the sinks
 * that are there, and to a file of its own. */
_nodiscard_ int daemon_main(const struct daemon_options *o, struct error *err);

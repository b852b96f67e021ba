/*
 * The service: one loop that watches, decides and tells. What it does lives in handlers; here are the goal state, the
 * status, the listeners and the order of starting and stopping.
 */
#pragma once

#include <stdbool.h>

struct daemon_options {
	bool foreground; /* log to stderr too */
	bool until_idle; /* end when no duty is open and nothing runs: `enable` where no manager answers */
};

/* Until stopped. Returns an exit code of exit_codes.h. */
int daemon_main(const struct daemon_options *o);

/* What the extension commands know before they begin: the agent's environment and our places. */
#pragma once

#include <stdbool.h>

#include "agent/azure/handler_environment.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"

struct log_file;

struct extension {
	struct paths paths;
	struct handler_environment environment; /* zero when it could not be read */
	char *version;	    /* of this package: AZURE_GUEST_AGENT_EXTENSION_VERSION, else the binary's */
	char *directory;    /* the version directory */
	usec_t deadline;    /* boot time: systemd is waited for no longer */
	struct log_file *log;
};

/* Finds the version directory (AZURE_GUEST_AGENT_EXTENSION_PATH, else two levels above the binary, else the working
 * directory) and reads HandlerEnvironment.json; log to its logFolder and to stderr in the plain form that the portal shows.
 * With `need_environment` false a missing or broken file is tolerated (disable, uninstall). */
_nodiscard_ int extension_init(struct extension *x, bool need_environment, struct error *err);
void extension_done(struct extension *x);

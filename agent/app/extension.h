/* What the extension commands know before they begin: the agent's environment and our places. */
#pragma once

#include <stdbool.h>

#include "agent/azure/handler_environment.h"
#include "agent/base/error.h"
#include "agent/base/macros.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"

struct bus;
struct log_file;
struct loop;

#define EXTENSION_ANSWER_USEC (20 * USEC_PER_SEC) /* of the service */

struct extension {
	struct paths paths;
	struct handler_environment environment; /* zero when it could not be read */
	char *version;	    /* of this package: AZURE_GUEST_AGENT_EXTENSION_VERSION, else the binary's */
	char *directory;    /* the version directory */
	struct log_file *log;
	usec_t deadline;    /* boot time: systemd is waited for no longer */
};

/* Finds the version directory (AZURE_GUEST_AGENT_EXTENSION_PATH, else two levels above the binary, else the working
 * directory) and reads HandlerEnvironment.json; log to its logFolder and to stderr in the plain form that the portal shows.
 * With `need_environment` false a missing or broken file is tolerated (disable, uninstall). */
_nodiscard_ int extension_init(struct extension *x, bool need_environment, struct error *err);
void extension_done(struct extension *x);

/* The log file in the logFolder, if there is one; a failure costs only that. */
void extension_open_log(struct extension *x);
/* As bus_open(), with the command's deadline. */
_nodiscard_ int extension_open_manager(const struct extension *x, struct loop **ret_loop, struct bus **ret, struct error *err);
/* NULL where no manager answers: the next enable does what is left to do with it. */
struct bus *extension_manager_if_any(const struct extension *x, struct loop **ret_loop);

/* extension_enable.c */
_nodiscard_ int extension_enable(struct extension *x, struct error *err);

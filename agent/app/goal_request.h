/*
 * The goal state as the extension's commands hand it to the daemon: one file, state/goal.json, written whole by `enable` and
 * `disable`, read by the daemon. It holds the settings as received (still encrypted), so the daemon needs neither the
 * version directory nor the agent to start again after a boot.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct paths;

struct goal_request {
	char *handler;	       /* Publisher.Type */
	char *version;	       /* of the binary that wrote it */
	char *sequence;	       /* "" without an extension */
	char *settings;	       /* bytes of N.settings; NULL: none */
	char *problem;	       /* why they could not be read; NULL: they could */
	char *config_folder, *log_folder;
	char *status_folder;   /* NULL: taken away by disable */
	char *installation;    /* id of this installation of the extension */
};

/* -ENOENT: there is none. */
_nodiscard_ int goal_request_read(const struct paths *p, struct goal_request *ret, struct error *err);
_nodiscard_ int goal_request_write(const struct paths *p, const struct goal_request *g, struct error *err);
/* The goal state that was accepted last, kept so that a former number stays in force. */
_nodiscard_ int goal_in_force_read(const struct paths *p, struct goal_request *ret, struct error *err);
_nodiscard_ int goal_in_force_write(const struct paths *p, const struct goal_request *g, struct error *err);
void goal_request_done(struct goal_request *g);

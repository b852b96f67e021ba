/*
 * A delay inhibitor of logind: while it is held, reboot and shutdown wait, for InhibitDelayMaxSec= at most. It is taken as
 * soon as logind answers, and again after logind, or the bus, has gone and come back; the process's end lets go of it.
 * Callbacks come from the loop. Needs the system bus: the private socket of systemd does not lead to logind.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct bus;
struct inhibitor;
struct loop;

struct inhibitor_client {
	/* PrepareForShutdown: it is wanted now, or was called off. May come again with what it said already. */
	void (*shutdown)(void *userdata, bool preparing);
	/* What inhibitor_max_delay() or inhibitor_trouble() says has changed. */
	void (*changed)(void *userdata);
};

/* Takes it. */
_nodiscard_ int inhibitor_new(struct bus *bus, struct loop *loop, const char *why,
			      const struct inhibitor_client *client, void *userdata, struct inhibitor **ret,
			      struct error *err);
/* Lets go and stops listening. */
void inhibitor_free(struct inhibitor *i);
/* The shutdown may go on; it is not taken again before one is called off. */
void inhibitor_let_go(struct inhibitor *i);
/* logind's settings may be others now. */
void inhibitor_ask_again(struct inhibitor *i);

usec_t inhibitor_max_delay(const struct inhibitor *i);	  /* logind's own limit; 0 before it has told */
const char *inhibitor_trouble(const struct inhibitor *i); /* why it is not held, or "" */

DEFINE_CLEANUP(struct inhibitor *, inhibitor_free)

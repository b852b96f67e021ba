/*
 * The TCP endpoints of health.*: readiness and metrics. The service manager keeps their sockets over a restart
 * (agent/io/service.h): who asks meanwhile waits instead of being refused. Both are here, because with new settings they may
 * take each other's address: a socket that is still wanted is never closed, one that no longer is has let go of its address
 * before another is bound.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/base/macros.h"
#include "agent/io/listener.h"

struct loop;
struct endpoints;

enum endpoint { ENDPOINT_READINESS, ENDPOINT_METRICS, _ENDPOINT_MAX };

_nodiscard_ int endpoints_new(struct loop *loop, struct endpoints **ret, struct error *err);
/* Who answers there; to be told before the first endpoints_apply(). */
void endpoints_answer(struct endpoints *e, enum endpoint which, listener_fn fn, void *userdata);
/* Goes over to these addresses (NULL: nobody listens), and tries again what did not work before. The first time it takes what
 * the process before has left to the manager; what of that nobody wants is given back. Not from a request's handler. */
void endpoints_apply(struct endpoints *e, const char *const addresses[static _ENDPOINT_MAX]);

/* As it was told by endpoints_apply(), or NULL. */
const char *endpoints_address(const struct endpoints *e, enum endpoint which);
/* Why nobody is answered there, or NULL. */
const char *endpoints_problem(const struct endpoints *e, enum endpoint which);
/* At the end of a process, while those can answer who do: see listener_finish(). */
void endpoints_finish(struct endpoints *e);
/* The manager goes on keeping the sockets: it closes them itself when the service is not to start again. */
void endpoints_free(struct endpoints *e);

DEFINE_CLEANUP(struct endpoints *, endpoints_free)

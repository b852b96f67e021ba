/*
 * Asking the other VMs of a shared event whether they are drained: GET of drain.sharedEvents.peerUrl, in which {name}
 * stands for the other VM. A peer is drained when it answers 200 and the first word of the body is "drained", as GET
 * /drained on health.listen does. Anything else, silence included, is a no.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/error.h"

struct http;
struct peers;

/* All of them said yes; or one of them did not, and `why` tells about it. Once, from the loop; it may ask again. */
typedef void (*peers_done_fn)(void *userdata, bool drained, const char *why);

_nodiscard_ int peers_new(struct http *http, peers_done_fn done, void *userdata, struct peers **ret);
void peers_free(struct peers *p);
/* Ends what was asked before, without an answer. */
_nodiscard_ int peers_ask(struct peers *p, const char *url, const char *const *names, struct error *err);
void peers_stop(struct peers *p);

DEFINE_CLEANUP(struct peers *, peers_free)

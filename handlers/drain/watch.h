/*
 * Watching Scheduled Events: one poll at a time, for as long as there is a drain section. Good answers end in a callback, from
 * the loop; nothing else the service does or fails to do goes further than watch_trouble(), and the last document stays.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/core/drain_core.h"
#include "handlers/common/handler.h"

struct watch;

struct watch_client {
	/* The name of this VM, once, before the first document. Negative: could not be taken in, asked again. */
	int (*name)(void *userdata, const char *name);
	/* Each valid answer; when the service says that nothing has changed, the last one again. */
	void (*document)(void *userdata, const struct events_document *doc);
	/* Until the next poll when all is well; and the most that a failure may add to it (USEC_INFINITY: its own rule). */
	usec_t (*pause)(void *userdata, usec_t *ret_most);
};

_nodiscard_ int watch_new(const struct handler_host *host, const struct watch_client *client, void *userdata,
			  struct watch **ret, struct error *err);
void watch_free(struct watch *w);
DEFINE_CLEANUP(struct watch *, watch_free)

/* Begins, or goes on with another api-version. */
_nodiscard_ int watch_start(struct watch *w, const char *api_version);
void watch_stop(struct watch *w);
/* The next poll at once, or as soon as the one under way is answered. */
void watch_now(struct watch *w);

const char *watch_api_version(const struct watch *w); /* of the settings, or what the service asked for instead */
bool watch_named(const struct watch *w);
const char *watch_trouble(const struct watch *w); /* of the last poll, or "" */

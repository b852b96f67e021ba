/*
 * HTTP listeners (libmicrohttpd on the loop): readiness and metrics on TCP, the local API on a unix socket.
 * Handlers answer at once from memory: whatever takes time answers 202 and goes on elsewhere. Limits: connections,
 * request size and idle time from limits.h. On a unix socket the peer's uid is known.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct loop;
struct listener;

struct listener_request {
	const char *method, *path; /* path without query */
	const char *query;	   /* raw, or "" */
	const char *accept;	   /* of the header, or "" */
	const char *body;	   /* NUL-terminated */
	size_t body_len;
	bool local;    /* unix socket */
	uid_t peer_uid; /* when local; (uid_t)-1 otherwise */
};

struct listener_reply {
	unsigned status;	  /* default 404 */
	const char *content_type; /* literal; default "application/json" */
	struct buf body;	  /* at most LIMIT_API_REPLY */
};

typedef void (*listener_fn)(const struct listener_request *req, struct listener_reply *reply, void *userdata);

const char *listener_library(void); /* its version */

/* Takes over `fd`, a listening stream socket (TCP or unix). */
_nodiscard_ int listener_new(struct loop *loop, int fd, listener_fn fn, void *userdata, struct listener **ret,
			     struct error *err);
/* Accepts nobody any more and answers who has been accepted, by the handler: for 200 ms at most, and only where there is
 * somebody. Whoever connects now waits in the socket, which the service manager may keep for the next process. */
void listener_finish(struct listener *l);
/* Not from its own handler. */
void listener_free(struct listener *l);

/* Binds "127.0.0.1:8008", "[::1]:8008", "0.0.0.0:8008" or "localhost:8008"; the message names the endpoint and,
 * for -EADDRINUSE, what to look at. */
_nodiscard_ int listener_bind_tcp(const char *endpoint, int *ret_fd, struct error *err);
/* Whether it is a TCP socket that listens on just that endpoint. */
bool listener_is_bound(int fd, const char *endpoint);
/* Replaces a stale socket file; mode of the file as given. */
_nodiscard_ int listener_bind_unix(const char *path, mode_t mode, int *ret_fd, struct error *err);

DEFINE_CLEANUP(struct listener *, listener_free)

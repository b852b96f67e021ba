/* One request to the running daemon over its local API (unix socket); synchronous, for commands. */
#pragma once

#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"

struct jd_type;
struct paths;

/* Whether a daemon holds its lock now. Never starts one. */
bool api_daemon_running(const struct paths *p);

/* Whether this user may look for one at all: the service's files are root's. */
bool api_permitted(const struct paths *p);

/* Appends the reply's body. Returns the HTTP status, or -ECONNREFUSED/-ENOENT (nobody listens), -ETIMEDOUT, ….
 * With socket activation a request starts the service. */
_nodiscard_ int api_call(const struct paths *p, const char *method, const char *path, const char *body, usec_t timeout,
			 struct buf *reply, struct error *err);

/* GET of a document: `text` is it (emptied before), `ret` what it decodes to. -EACCES: this user may not ask; -EAGAIN: not
 * now; -EPROTO: another refusal; or as api_call(). */
_nodiscard_ int api_look(const struct paths *p, const char *path, usec_t timeout, const struct jd_type *type, struct buf *text,
			 void *ret, struct error *err);
/* The sentence of an answer that is no success, with `code`. */
int api_refused(struct error *err, int code, const char *method, const char *path, int status, const struct buf *reply);

/* Repeats the request until the daemon answers 200 (it answers 202 while it is at it), also past a daemon that hangs or is
 * started anew meanwhile, for `timeout` in all; 0, or what went wrong last. */
_nodiscard_ int api_wait(const struct paths *p, const char *method, const char *path, usec_t timeout, struct error *err);

/*
 * One question to our own service over its unix socket, on the loop. Not by http.h: that initialises all of TLS, which
 * takes a short command longer than its own work. Here both ends are ours and nothing is encrypted, redirected or kept:
 * the connection is of HTTP/1.0 and ends with the answer.
 *
 * Ownership: local_ask() copies what it needs. The call belongs to the caller and is the cancellation handle: freed
 * before it ends, its callback never runs. The callback runs at most once, from the loop, never from inside
 * local_ask(). It may free its own call and ask again.
 */
#pragma once

#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct loop;
struct local_call;

struct local_request {
	const char *socket; /* path */
	const char *method, *target;
	const char *body;     /* text; NULL: none. With all of the above at most LIMIT_LOCAL_QUESTION */
	usec_t timeout_usec;  /* whole exchange; required */
	size_t max_body;      /* a longer answer fails with -EFBIG; required */
};

/* Valid inside the callback only. */
struct local_answer {
	int result;	    /* 0, or a negative errno when no whole answer came: -ENOENT and -ECONNREFUSED nobody listens,
			     * -EACCES not for this user, -ETIMEDOUT, -EFBIG, -EPROTO not HTTP, -EIO … */
	int status;	    /* HTTP */
	const char *body;   /* NUL-terminated, `len` bytes */
	size_t len;
	const char *detail; /* for people, when result < 0 */
};
typedef void (*local_done_fn)(const struct local_answer *answer, void *userdata);

_nodiscard_ int local_ask(struct loop *loop, const struct local_request *req, local_done_fn done, void *userdata,
			  struct local_call **ret, struct error *err);
void local_call_free(struct local_call *c);

DEFINE_CLEANUP(struct local_call *, local_call_free)

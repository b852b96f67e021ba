/*
 * The one HTTP client: libcurl's multi interface on the loop.
 *
 * Ownership: http_submit() copies what it needs from the request. The returned call belongs to the caller and is
 * the cancellation handle: http_call_free() before completion cancels, and the callback then never runs. The
 * callback runs at most once, from the loop, never from inside http_submit(). It may free its own call and submit
 * others; it must not free the client. All calls are freed before their client.
 *
 * Platform addresses (169.254.169.254, 168.63.129.16) and loopback never go through a proxy. No redirects unless
 * asked; a redirect never carries Referer, never leads from https to http, and Authorization never goes to another
 * host. http and https only, TLS 1.2 at least, certificates verified. A header that cannot be added fails the request.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

struct loop;
struct http;
struct http_call;

struct http_options {
	const char *proxy;	    /* NULL: none. The environment's proxy variables are never used */
	const char *const *no_proxy; /* host suffixes, NULL-terminated, or NULL */
	const char *ca_file;	    /* bundle or hashed directory; NULL: the system's, probed in that order */
	unsigned host_connections;  /* at once to one host, more requests wait for theirs; 0: 4 */
	const char *connect_to;	    /* "HOST:PORT:ADDRESS:PORT[,…]" for tests and rehearsals; NULL: none */
};

struct http_response;

/* A piece of a 2xx answer's body; a negative errno ends the call with that result. It may not call this client. */
typedef int (*http_sink_fn)(const void *data, size_t len, void *userdata);
/* Before the first piece: status and headers of the answer whose body comes now. As above; not for an empty body. */
typedef int (*http_head_fn)(const struct http_response *resp, void *userdata);

struct http_request {
	const char *method; /* NULL: GET, or POST with a body */
	const char *url;
	const char *const *headers; /* NULL-terminated "Name: value" list, or NULL */
	const void *body;
	size_t body_len;
	usec_t timeout_usec;	     /* whole exchange; required */
	usec_t connect_timeout_usec; /* 0: the lesser of 10 s and the whole */
	size_t max_body;	     /* a larger answer fails with -EFBIG; required */
	unsigned max_redirects;	     /* 0: a redirect is an answer like any other */
	http_sink_fn sink;	     /* NULL: the body is kept for the callback. Else it goes there, with the callback's
				      * userdata, and only the beginning of other answers than 2xx is kept */
	http_head_fn head;	     /* NULL: none; only with a sink */
	bool decode;		     /* what comes with a Content-Encoding although none is asked for, is decoded: gzip */
	bool secret;		     /* erase what was sent and received */
	/* "ADDRESS:PORT": only a TLS handshake, with whoever answers there, for the name in the URL (an address: none).
	 * Nothing is sent and nobody is trusted: the answer is the certificate that is served. */
	const char *probe;
};

/* Valid inside the callback only. */
struct http_response {
	int result;	    /* 0, or a negative errno when no complete answer came (-ETIMEDOUT, -ECONNREFUSED,
			     * -EHOSTUNREACH no such name, -EKEYREJECTED TLS, -EFBIG, -ENETUNREACH, -EACCES a local
			     * rule forbids it, -EPROTO not HTTP, -ELOOP redirects, -ENOTSUP
			     * its encoding cannot be undone, -EIO …) */
	long status;	    /* HTTP status; 0 if none was received */
	const char *body;   /* NUL-terminated, `len` bytes */
	size_t len;
	const char *detail; /* for people, when result < 0; never holds a URL's query */
	const char *host;   /* as asked */
	usec_t elapsed_usec;
	bool connected; /* a connection was made, whatever came of it */
	const char *address; /* of the host, as its name was resolved and connected to; NULL: no connection, or a proxy stands between */
	const char *certificate; /* of a probe: PEM, or NULL */
	const struct http_call *call;
};

/* First value of a response header (name without case), or NULL. Valid inside the callback. */
const char *http_response_header(const struct http_response *resp, const char *name);

typedef void (*http_done_fn)(const struct http_response *resp, void *userdata);

const char *http_library(void); /* its version, "7.88.1" */

_nodiscard_ int http_new(struct http **ret, struct loop *loop, const struct http_options *o, struct error *err);
void http_free(struct http *h);
/* Applies to calls submitted later. */
_nodiscard_ int http_configure(struct http *h, const struct http_options *o, struct error *err);

_nodiscard_ int http_submit(struct http *h, const struct http_request *req, http_done_fn done, void *userdata,
			    struct http_call **ret, struct error *err);
void http_call_free(struct http_call *call);

DEFINE_CLEANUP(struct http *, http_free)
DEFINE_CLEANUP(struct http_call *, http_call_free)

/*
 * The Instance Metadata Service (user-data.md A, scheduled-events.md): instance facts, user data, scheduled events, ports
 * that the load balancer sends to.
 * A call is one request, never through a proxy, with `Metadata: true`. Callbacks as agent/io/http.h says: the call is
 * the caller's, who may free it in its callback. Nothing is retried here: the caller has a retry_state and retry.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/base/limits.h"
#include "agent/base/time.h"

struct http;
struct http_call;

#define IMDS_ENDPOINT "http://169.254.169.254"

struct imds_failure {
	int status;	     /* HTTP status; 200: an answer that cannot be used; 0: no (whole) answer */
	usec_t retry_after;  /* 0: none */
	struct error err;    /* told with host, phase, status and the service's words */
	char newest_version[16]; /* of a 400 that lists newest-versions, else "" */
};

struct imds_instance { /* what the service does not say is "" */
	char *name;	/* compute.name: who we are in an event's Resources; never "" */
	char *vm_id;
	char *location, *environment, *scale_set, *vm_size, *resource_id;
};
void imds_instance_done(struct imds_instance *i);

/* Exactly one of the two is given. */
typedef void (*imds_instance_fn)(const struct imds_instance *instance, const struct imds_failure *failure, void *userdata);
typedef void (*imds_bytes_fn)(const char *body, size_t len, const struct imds_failure *failure, void *userdata);

struct imds_call;
_nodiscard_ int imds_get_instance(struct http *http, imds_instance_fn done, void *userdata, struct imds_call **ret,
				  struct error *err);
/* The decoded user data (possibly 0 bytes: none set, or a provider failed: the caller confirms). Larger than 64 KiB
 * decoded, or no base64: a failure of class platform with status 200. */
_nodiscard_ int imds_get_user_data(struct http *http, imds_bytes_fn done, void *userdata, struct imds_call **ret,
				   struct error *err);
/* The raw events document of that api-version; timeout as given (the first answer may take 2 minutes). etag: the one that
 * came with the last document, or NULL; then the answer may be that nothing has changed. */
struct imds_events {
	bool unchanged; /* 304: the document that came with `etag`; no body */
	const char *body;
	size_t len;
	const char *etag; /* NULL: none is offered, or none that can be sent back */
};
typedef void (*imds_events_fn)(const struct imds_events *events, const struct imds_failure *failure, void *userdata);
_nodiscard_ int imds_get_events(struct http *http, const char *api_version, const char *etag, usec_t timeout,
				imds_events_fn done, void *userdata, struct imds_call **ret, struct error *err);
/* POST StartRequests for these ids (NULL-terminated). Success: body is empty. */
_nodiscard_ int imds_acknowledge(struct http *http, const char *api_version, const char *const *ids, imds_bytes_fn done,
				 void *userdata, struct imds_call **ret, struct error *err);
/* The raw document of the load balancer's rules for this VM; 404: it is behind none that is told of. */
_nodiscard_ int imds_get_load_balancer(struct http *http, usec_t timeout, imds_bytes_fn done, void *userdata,
				       struct imds_call **ret, struct error *err);
void imds_call_free(struct imds_call *c); /* cancels */

DEFINE_CLEANUP(struct imds_call *, imds_call_free)

/* -ENODATA (transient): the answer is a partial one, without compute.name. */
_nodiscard_ int imds_instance_parse(const char *text, size_t len, struct imds_instance *ret, struct error *err);

struct imds_backends { /* local ports that inbound rules for TCP lead to, each once; at least one */
	uint16_t ports[LIMIT_PORTS];
	size_t n;
};
/* -ENODATA: no rule for TCP; -ENOTSUP: a rule for all ports; -E2BIG: too many; -EINVAL, -EBADMSG. */
_nodiscard_ int imds_load_balancer_parse(const char *text, size_t len, struct imds_backends *ret, struct error *err);

/*
 * Requests to blobs and any other http(s) source, each with the right that blob.h finds for its URI: the URI as it is, signed
 * anew for each request, or with a token of the managed identity (a token that is refused is renewed once).
 */
#pragma once

#include <stdbool.h>

#include "agent/azure/blob.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/io/http.h"

struct blob_call;
struct blob_client;
struct loop;

/* All of it is borrowed for the client's life. */
struct blob_client_options {
	struct loop *loop;
	struct http *http;
	struct blob_credentials credentials;
	const char *permissions; /* that signatures made with a key give: "r", "racw" */
};

_nodiscard_ int blob_client_new(struct blob_client **ret, const struct blob_client_options *o, struct error *err);
/* After all its calls. */
void blob_client_free(struct blob_client *c);

struct blob_request {
	const char *uri;
	const char *query; /* a literal that goes behind it, "comp=appendblock"; NULL: nothing */
	bool anonymous;	   /* the URI as it is, although there is an identity */
	struct http_request
		http; /* without url; the method is a literal, the body is borrowed until the callback has run */
};

/* Valid inside the callback only. */
struct blob_answer {
	const struct http_response *http; /* NULL: nothing was asked, `error` says why */
	const struct error *error;
	enum blob_right right;
	const char *who; /* with BLOB_IDENTITY: which */
};
typedef void (*blob_done_fn)(const struct blob_answer *answer, void *userdata);

/* The callback runs at most once, from the loop, and may free its own call; sink and head get the same userdata. */
_nodiscard_ int blob_submit(struct blob_client *c, const struct blob_request *req, blob_done_fn done, void *userdata,
			    struct blob_call **ret, struct error *err);
void blob_call_free(struct blob_call *call);
/* The request itself is on its way: not any more before it, at the identity's. */
bool blob_call_asked(const struct blob_call *call);

/* "the server says 403 AuthorizationPermissionMismatch (request id …): ADVICE", or what went wrong before any answer. */
void blob_describe(const struct blob_answer *answer, const char *uri, bool writing, char *out, size_t size);

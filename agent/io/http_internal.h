/*
 * What the files of the HTTP client share; curl is known to http*.c alone.
 *
 * http.c         the client on the loop, and the life of a call
 * http_setup.c   what all requests of a client have in common
 * http_request.c from a request to a handle that curl can run
 * http_answer.c  what comes in, while it comes
 * http_result.c  what came of it
 */
#pragma once

#include <curl/curl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "agent/base/buf.h"
#include "agent/io/http.h"

struct http_setup {
	char *proxy;	/* may hold a password */
	char *no_proxy; /* as curl understands the list */
	char *ca_file, *ca_path;
	struct curl_slist *connect_to;
};

struct http {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	unsigned n_calls;
	bool global; /* curl_global_init() done */
	struct http_setup setup;
};

/* How far a call has come, as its callbacks see it: the times that curl tells mean other things in newer versions. A
 * redirect begins anew, a kept connection goes straight to waiting. */
enum http_phase {
	HTTP_RESOLVING,
	HTTP_CONNECTING,
	HTTP_TLS,
	HTTP_WAITING,
	HTTP_RECEIVING,
};

/* A socket that curl opened, and where it was to lead. */
struct http_socket {
	int fd;
	socklen_t len;
	struct sockaddr_storage to;
};

/* curl tries a name's addresses side by side, a few at a time. */
#define HTTP_SOCKETS 4

struct http_call {
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *connect_to; /* own copy: configuration may change while the call runs */
	char *host, *where;	       /* as asked; with the port if one was given */
	bool https, literal, proxied;
	enum http_phase phase;
	struct http_socket sockets[HTTP_SOCKETS]; /* the last of n_sockets, in a ring */
	unsigned n_sockets;
	char peer[INET6_ADDRSTRLEN]; /* with which TLS began; "": it never began */
	void *request;
	size_t request_len;
	struct buf body;
	struct buf header; /* lines "Name: value", each ended by NUL */
	size_t header_total;
	size_t streamed, max_body;
	http_sink_fn sink;
	http_head_fn head; /* NULL: none, or it has been told */
	int failed;	   /* why we ended the transfer ourselves */
	bool secret, added, calling, freed, probe;
	char text[CURL_ERROR_SIZE];
	char detail[CURL_ERROR_SIZE + 256];
	http_done_fn done;
	void *userdata;
};

void http_setup_done(struct http_setup *s);
/* Never through a proxy: routes of the platform that exist only on this host. */
bool http_is_direct(const char *host);
/* Whether the list of hosts that need no proxy has it; for messages only, curl decides for itself. */
bool http_is_excepted(const struct http_setup *s, const char *host);

/* Everything of the request that can be refused is refused here. `easy` is there, and the call's own fields are set. */
_nodiscard_ int http_call_prepare(struct http_call *c, const struct http_request *req, struct error *err);

/* curl's callbacks; `userdata` is the call. */
size_t http_on_body(char *data, size_t size, size_t nmemb, void *userdata);
size_t http_on_header(char *data, size_t size, size_t nmemb, void *userdata);

/* Fills in the response of a call that has ended so; it points into the call. */
void http_call_result(struct http_call *c, CURLcode code, struct http_response *ret);

/* libcurl's multi interface on the loop: curl says which sockets and when, sd-event watches. */
#include "agent/io/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"

#define DEFAULT_CONNECT_TIMEOUT (10 * USEC_PER_SEC)
#define DEFAULT_HOST_CONNECTIONS	4L  /* so that one slow service cannot keep the others waiting */
#define MAX_TOTAL_CONNECTIONS	16L
#define MAX_IDLE_CONNECTIONS	8L
#define BUFFER_SMALL		16384L
#define BUFFER_STREAM		131072L
/* Newer curls refuse a larger header by themselves; older ones keep every line of it. */
#define MAX_HEADER_TOTAL (16 * LIMIT_HTTP_HEADERS)

struct http {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer *timer;
	unsigned n_calls;
	bool global; /* curl_global_init() done */

	char *proxy;
	char *no_proxy;
	char *ca_file, *ca_path;
	struct curl_slist *connect_to;
};

struct http_call {
	struct http *http;
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *connect_to; /* own copy: configuration may change while the call runs */
	char *host, *where;	       /* as asked; with the port if one was given */
	bool https, literal, proxied;
	void *request;
	size_t request_len;
	struct buf body;
	struct buf header; /* lines "Name: value", each ended by NUL */
	size_t header_total;
	size_t streamed, max_body;
	http_sink_fn sink;
	http_head_fn head; /* NULL: none, or it has been told */
	int failed; /* why we ended the transfer ourselves */
	bool secret, added, calling, freed, probe;
	char text[CURL_ERROR_SIZE];
	char detail[CURL_ERROR_SIZE + 256];
	http_done_fn done;
	void *userdata;
};

static void reap(struct http *h);
static void call_destroy(struct http_call *c);

/* ---- curl asks, the loop watches ---- */

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct http *h = userdata;
	int ev = 0, running;

	(void)s;
	if (revents & EPOLLIN)
		ev |= CURL_CSELECT_IN;
	if (revents & EPOLLOUT)
		ev |= CURL_CSELECT_OUT;
	if (revents & (EPOLLERR | EPOLLHUP))
		ev |= CURL_CSELECT_ERR;
	(void)curl_multi_socket_action(h->multi, fd, ev, &running);
	reap(h);
	return 0;
}

static void on_timer(void *userdata)
{
	struct http *h = userdata;
	int running;

	(void)curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	reap(h);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *sockp)
{
	static const uint32_t mask[] = {
		[CURL_POLL_NONE] = 0,
		[CURL_POLL_IN] = EPOLLIN,
		[CURL_POLL_OUT] = EPOLLOUT,
		[CURL_POLL_INOUT] = EPOLLIN | EPOLLOUT,
	};
	struct http *h = userdata;
	sd_event_source *io = sockp;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		sd_event_source_disable_unref(io);
		(void)curl_multi_assign(h->multi, fd, NULL);
		return 0;
	}
	if (what < 0 || (size_t)what >= ARRAY_SIZE(mask))
		return -1;
	if (io)
		return sd_event_source_set_io_events(io, mask[what]) < 0 ? -1 : 0;
	if (sd_event_add_io(loop_sd_event(h->loop), &io, fd, mask[what], on_io, h) < 0)
		return -1;
	(void)sd_event_source_set_description(io, "http-io");
	if (curl_multi_assign(h->multi, fd, io) == CURLM_OK)
		return 0;
	sd_event_source_disable_unref(io);
	return -1;
}

/* Counted from the clock itself, not from the time of this dispatch: curl counts so too. */
static int want_timer(CURLM *multi, long ms, void *userdata)
{
	struct http *h = userdata;

	(void)multi;
	if (ms < 0)
		loop_timer_stop(h->timer);
	else
		loop_timer_at(h->timer, usec_add(time_boot(), (usec_t)ms * USEC_PER_MSEC));
	return 0;
}

/* Not every curl we run on opens its sockets so, and our children must not inherit them. */
static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void)userdata;
	(void)purpose;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- what comes in ---- */

/* Ends the transfer: curl then reports a write error, and `failed` says why. */
static size_t refuse(struct http_call *c, int result)
{
	c->failed = result;
	return 0;
}

static bool is_success(struct http_call *c)
{
	long status = 0;

	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	return status >= 200 && status < 300;
}

/* Each answer is told of once: what redirects bring along is not shown to us. */
static int tell_head(struct http_call *c)
{
	http_head_fn head = c->head;
	struct http_response resp = { .body = "", .host = c->host, .call = c, .connected = true };

	c->head = NULL;
	if (!head)
		return 0;
	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &resp.status);
	return head(&resp, c->userdata);
}

static size_t on_body(char *data, size_t size, size_t nmemb, void *userdata)
{
	struct http_call *c = userdata;
	size_t n = size * nmemb;
	int r;

	if (!c->sink) {
		r = buf_append(&c->body, data, n);
		return r < 0 ? refuse(c, r) : n;
	}
	if (!is_success(c)) {
		size_t room = c->body.max - c->body.len;

		r = buf_append(&c->body, data, n < room ? n : room);
		return r < 0 ? refuse(c, r) : n;
	}
	r = tell_head(c);
	if (r < 0)
		return refuse(c, r);
	if (n > c->max_body - c->streamed)
		return refuse(c, -EFBIG);
	c->streamed += n;
	r = c->sink(data, n, c->userdata);
	return r < 0 ? refuse(c, r) : n;
}

/* Every answer begins anew: interim ones (100) and redirects that were followed are of no interest. */
static size_t on_header(char *data, size_t size, size_t nmemb, void *userdata)
{
	struct http_call *c = userdata;
	size_t n = size * nmemb, len = n;

	c->header_total += n;
	if (c->header_total > MAX_HEADER_TOTAL)
		return refuse(c, -EFBIG);
	if (n >= 5 && memcmp(data, "HTTP/", 5) == 0) {
		buf_reset(&c->header);
		return n;
	}
	while (len && strchr("\r\n \t", data[len - 1]))
		len--;
	if (!len || len + 1 > c->header.max - c->header.len)
		return n;
	if (buf_append(&c->header, data, len) < 0 || buf_putc(&c->header, '\0') < 0)
		return refuse(c, -ENOMEM);
	return n;
}

const char *http_response_header(const struct http_response *resp, const char *name)
{
	const struct buf *b = &resp->call->header;
	size_t n = strlen(name);

	for (size_t at = 0; at < b->len; at += strlen(b->data + at) + 1) {
		const char *line = b->data + at;

		if (strncasecmp(line, name, n) != 0 || line[n] != ':')
			continue;
		line += n + 1;
		return line + strspn(line, " \t");
	}
	return NULL;
}

/* ---- what came of it ---- */

static int connect_errno(const struct http_call *c)
{
	long os = 0;

	(void)curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os);
	switch (os) {
	case ENETUNREACH:
	case EHOSTUNREACH: /* which means "no such name" in our answers */
		return -ENETUNREACH;
	case ETIMEDOUT:
		return -ETIMEDOUT;
	case EACCES:
	case EPERM:
		return -EACCES;
	default:
		return -ECONNREFUSED;
	}
}

static int result_of(const struct http_call *c, CURLcode code)
{
	long status = 0;

	if (c->failed)
		return c->failed;
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		return connect_errno(c);
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return -EKEYREJECTED;
	case CURLE_TOO_MANY_REDIRECTS:
		return -ELOOP;
	case CURLE_BAD_CONTENT_ENCODING:
		return -ENOTSUP;
	case CURLE_WEIRD_SERVER_REPLY:
		return -EPROTO;
	case CURLE_UNSUPPORTED_PROTOCOL:
		/* Before any status it is an answer that is not HTTP/1; after one, a redirect to what is not allowed. */
		(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
		return status ? -EPROTONOSUPPORT : -EPROTO;
	default:
		return -EIO;
	}
}

static curl_off_t time_of(const struct http_call *c, CURLINFO what)
{
	curl_off_t usec = 0;

	(void)curl_easy_getinfo(c->easy, what, &usec);
	return usec;
}

/* How far it came; a kept connection goes straight to waiting. curl counts TLS as connecting, but it knows the
 * peer's address only when there is a connection. */
static const char *phase_of(const struct http_call *c, CURLcode code)
{
	const char *ip = NULL;

	(void)curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip);
	if (time_of(c, CURLINFO_STARTTRANSFER_TIME_T) > 0 && c->header_total)
		return "receiving from";
	if (time_of(c, CURLINFO_PRETRANSFER_TIME_T) > 0)
		return "waiting for";
	if (c->https && (!str_empty(ip) || result_of(c, code) == -EKEYREJECTED))
		return "TLS with";
	if (time_of(c, CURLINFO_CONNECT_TIME_T) > 0)
		return "waiting for";
	if (time_of(c, CURLINFO_NAMELOOKUP_TIME_T) > 0 || c->literal)
		return "connecting to";
	return "resolving";
}

/* Which of its addresses it was, where a name has several; not where the URL says it, or a proxy stands between. */
static const char *address_of(const struct http_call *c)
{
	const char *ip = NULL;

	(void)curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip);
	return c->literal || c->proxied || str_empty(ip) ? NULL : ip;
}

/* What the proxy said when it was asked for a way through; 0: nothing, or it agreed. */
static long proxy_refusal(const struct http_call *c)
{
	long status = 0;

	(void)curl_easy_getinfo(c->easy, CURLINFO_HTTP_CONNECTCODE, &status);
	return status >= 200 && status < 300 ? 0 : status;
}

/* curl's own texts may hold parts of a URL; only those about TLS say more than we do, and hold none. */
static const char *reason_of(const struct http_call *c, CURLcode code, int result)
{
	switch (result) {
	case -EFBIG:
		return "the answer is too large";
	case -ENOMEM:
		return "out of memory";
	case -EHOSTUNREACH:
		return "no such name, or no name server answers";
	case -ECONNREFUSED:
		return "connection refused";
	case -ENETUNREACH:
		return "no route to it";
	case -EACCES:
		return "this machine forbids the connection (a firewall or route rule)";
	case -EKEYREJECTED:
		return c->text[0] ? c->text : curl_easy_strerror(code);
	case -ELOOP:
		return "too many redirects";
	case -EPROTO:
		return "the answer is not HTTP";
	case -EPROTONOSUPPORT:
		return "it redirects to a protocol that is not allowed here";
	default:
		if (c->failed)
			return "what was received cannot be stored";
		return curl_easy_strerror(code);
	}
}

static void describe(struct http_call *c, CURLcode code, int result)
{
	double seconds = (double)time_of(c, CURLINFO_TOTAL_TIME_T) / (double)USEC_PER_SEC;
	const char *phase = phase_of(c, code), *ip = address_of(c);
	char where[400];

	(void)snprintf(where, sizeof(where), "%s%s%s%s%s", c->where, ip ? " (" : "", ip ? ip : "", ip ? ")" : "",
		       c->proxied ? " through the proxy" : "");
	if (proxy_refusal(c))
		(void)snprintf(c->detail, sizeof(c->detail), "the proxy refuses the way to %s with status %ld", c->where,
			       proxy_refusal(c));
	else if (code == CURLE_COULDNT_RESOLVE_PROXY)
		(void)snprintf(c->detail, sizeof(c->detail), "resolving the proxy for %s failed after %.1f s: no such name, or no"
							     " name server answers",
			       c->where, seconds);
	else if (result == -ETIMEDOUT)
		(void)snprintf(c->detail, sizeof(c->detail), "%s %s timed out after %.1f s", phase, where, seconds);
	else
		(void)snprintf(c->detail, sizeof(c->detail), "%s %s failed after %.1f s: %s", phase, where, seconds,
			       reason_of(c, code, result));
}

/* The first of those that were sent, as curl lists its properties. */
static const char *certificate_of(const struct http_call *c)
{
	static const char name[] = "Cert:";
	struct curl_certinfo *info = NULL;

	if (!c->probe || curl_easy_getinfo(c->easy, CURLINFO_CERTINFO, &info) != CURLE_OK || !info || info->num_of_certs < 1)
		return NULL;
	for (const struct curl_slist *l = info->certinfo[0]; l; l = l->next)
		if (str_starts(l->data, name))
			return l->data + sizeof(name) - 1;
	return NULL;
}

static void finish(struct http_call *c, CURLcode code)
{
	struct http_response resp = {
		.result = result_of(c, code),
		.body = buf_str(&c->body),
		.len = c->body.len,
		.host = c->host,
		.call = c,
	};

	resp.elapsed_usec = (usec_t)time_of(c, CURLINFO_TOTAL_TIME_T);
	resp.connected = time_of(c, CURLINFO_CONNECT_TIME_T) > 0;
	resp.address = address_of(c);
	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &resp.status);
	if (resp.result < 0) {
		describe(c, code, resp.result);
		resp.detail = c->detail;
	}
	resp.certificate = certificate_of(c);
	(void)curl_multi_remove_handle(c->http->multi, c->easy);
	c->added = false;
	/* If it frees its own call, what `resp` points to must last until it returns. */
	c->calling = true;
	c->done(&resp, c->userdata);
	c->calling = false;
	if (c->freed)
		call_destroy(c);
}

/* A callback may free other calls: curl then takes their messages out of the queue. */
static void reap(struct http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		CURLcode code = m->data.result;
		struct http_call *c = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
		finish(c, code);
	}
}

/* ---- one call ---- */

static void call_destroy(struct http_call *c)
{
	if (c->easy) {
		if (c->added)
			(void)curl_multi_remove_handle(c->http->multi, c->easy);
		curl_easy_cleanup(c->easy);
		c->http->n_calls--;
	}
	for (struct curl_slist *l = c->headers; l && c->secret; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(c->headers);
	curl_slist_free_all(c->connect_to);
	if (c->request && c->secret)
		explicit_bzero(c->request, c->request_len);
	free(c->request);
	buf_done(&c->body);
	buf_done(&c->header);
	free(c->host);
	free(c->where);
	free(c);
}

void http_call_free(struct http_call *c)
{
	if (!c)
		return;
	if (c->calling)
		c->freed = true;
	else
		call_destroy(c);
}

static bool is_loopback_name(const char *host)
{
	return str_equal_nocase(host, "localhost") || str_equal(host, "[::1]") || str_starts(host, "127.");
}

static bool is_literal(const char *host)
{
	return host[0] == '[' || strspn(host, "0123456789.") == strlen(host);
}

/* Routes of the platform that exist only on this host; a proxy has others of its own, or none. */
static bool is_direct(const char *host)
{
	return str_equal(host, "169.254.169.254") || str_equal(host, "168.63.129.16") || is_loopback_name(host);
}

DEFINE_CLEANUP(CURLU *, curl_url_cleanup)
DEFINE_CLEANUP(char *, curl_free)
#define _cleanup_curl_ _cleanup_(curl_freep)

/* curl reads a URL in more ways than one may guess (decimal addresses, user parts), so it is asked, not copied. */
static int parse_url(struct http_call *c, const char *url, struct error *err)
{
	_cleanup_(curl_url_cleanupp) CURLU *u = curl_url();
	_cleanup_curl_ char *scheme = NULL, *host = NULL, *port = NULL;

	if (!u)
		return error_oom(err);
	/* The URL may carry a signature, so it is not repeated. */
	if (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK || !*host)
		return error_set(err, ERROR_USER, -EINVAL, "not a URL (%zu characters)", strlen(url));
	if (!str_equal_nocase(scheme, "http") && !str_equal_nocase(scheme, "https"))
		return error_set(err, ERROR_USER, -EINVAL, "%s: only http and https URLs are fetched, not %s", host,
				 scheme);
	c->https = str_equal_nocase(scheme, "https");
	c->literal = is_literal(host);
	(void)curl_url_get(u, CURLUPART_PORT, &port, 0);
	c->host = strdup(host);
	c->where = port ? str_format("%s:%s", host, port) : strdup(host);
	return c->host && c->where ? 0 : error_oom(err);
}

static int add_header(struct http_call *c, const char *line, struct error *err)
{
	struct curl_slist *l;

	/* The value may be a token; only the name is told. */
	if (strpbrk(line, "\r\n") || !strpbrk(line, ":;"))
		return error_set(err, ERROR_SYSTEM, -EINVAL, "%s: the request header %.*s is not one line \"Name: value\"",
				 c->where, (int)strcspn(line, ":;\r\n"), line);
	l = curl_slist_append(c->headers, line);
	if (!l)
		return error_oom(err);
	c->headers = l;
	return 0;
}

static int add_headers(struct http_call *c, const struct http_request *req, struct error *err)
{
	bool typed = false;
	int r = 0;

	for (const char *const *p = req->headers; r == 0 && p && *p; p++) {
		typed = typed || strncasecmp(*p, "Content-Type:", 13) == 0;
		r = add_header(c, *p, err);
	}
	/* curl would call any body a form, and wait a second for leave to send a large one. */
	if (r == 0 && req->body && !typed)
		r = add_header(c, "Content-Type:", err);
	if (r == 0 && req->body)
		r = add_header(c, "Expect:", err);
	/* What is stored encoded comes so in any case; nothing is to be compressed for us, for then it has no length. */
	if (r == 0 && req->decode)
		r = add_header(c, "Accept-Encoding: identity", err);
	return r;
}

static int copy_body(struct http_call *c, const struct http_request *req, struct error *err)
{
	if (!req->body)
		return 0;
	c->request = malloc(req->body_len + 1);
	if (!c->request)
		return error_oom(err);
	if (req->body_len)
		memcpy(c->request, req->body, req->body_len);
	c->request_len = req->body_len;
	return 0;
}

static long to_msec(usec_t usec)
{
	usec_t ms = usec / USEC_PER_MSEC;

	return ms < 1 ? 1 : ms > INT_MAX ? INT_MAX : (long)ms;
}

#define SET(opt, val) (r = r != CURLE_OK ? r : curl_easy_setopt(e, (opt), (val)))

static CURLcode set_method(struct http_call *c, const struct http_request *req)
{
	const char *method = req->method ? req->method : req->body ? "POST" : "GET";
	CURL *e = c->easy;
	CURLcode r = CURLE_OK;

	if (str_equal(method, "HEAD"))
		SET(CURLOPT_NOBODY, 1L);
	if (req->body || str_equal(method, "POST")) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->request_len);
		SET(CURLOPT_POSTFIELDS, c->request ? (const char *)c->request : "");
	}
	/* A custom word would also be used for what follows a redirect. */
	if (!str_equal(method, "GET") && !str_equal(method, "HEAD") && !str_equal(method, "POST"))
		SET(CURLOPT_CUSTOMREQUEST, method);
	return r;
}

static CURLcode set_protocols(struct http_call *c)
{
	CURL *e = c->easy;
	CURLcode r = CURLE_OK;

	/* What was asked for over TLS is not answered in the clear. */
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, c->https ? "https" : "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
	SET(CURLOPT_REDIR_PROTOCOLS, (long)(c->https ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	return r;
}

/* As curl understands the list: a name with all below it; only for messages. */
static bool is_excepted(const struct http *h, const char *host)
{
	const char *p = h->no_proxy;
	size_t len = strlen(host);

	while (p && *p) {
		size_t n = strcspn(p, ","), skip = *p == '.' ? 1 : 0;

		if (n > skip && len >= n - skip && strncasecmp(host + len - (n - skip), p + skip, n - skip) == 0 &&
		    (len == n - skip || host[len - (n - skip) - 1] == '.'))
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

static CURLcode set_route(struct http_call *c)
{
	const struct http *h = c->http;
	bool direct = !h->proxy || is_direct(c->host);
	CURL *e = c->easy;
	CURLcode r = CURLE_OK;

	/* "" and not NULL: with NULL curl asks the environment. */
	c->proxied = !direct && !is_excepted(h, c->host);
	SET(CURLOPT_PROXY, direct ? "" : h->proxy);
	SET(CURLOPT_NOPROXY, h->no_proxy);
	/* What the proxy says to CONNECT is no part of the answer. */
	if (!direct)
		SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (c->connect_to)
		SET(CURLOPT_CONNECT_TO, c->connect_to);
	if (h->ca_path || h->ca_file) {
		SET(CURLOPT_CAPATH, h->ca_path);
		SET(CURLOPT_CAINFO, h->ca_file);
	}
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	return r;
}

/* Whom it may be is not the question, and what an earlier handshake has agreed on is no answer. */
static CURLcode set_probe(struct http_call *c)
{
	CURL *e = c->easy;
	CURLcode r = CURLE_OK;

	SET(CURLOPT_CONNECT_ONLY, 1L);
	SET(CURLOPT_CERTINFO, 1L);
	SET(CURLOPT_SSL_VERIFYPEER, 0L);
	SET(CURLOPT_SSL_VERIFYHOST, 0L);
	SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_PROXY, "");
	return r;
}

/* Everything that can be refused is refused here, in one chain: the first failure ends it. */
static CURLcode configure(struct http_call *c, const struct http_request *req)
{
	usec_t connect = req->connect_timeout_usec;
	CURL *e = c->easy;
	CURLcode r = CURLE_OK;

	if (!connect)
		connect = usec_min(DEFAULT_CONNECT_TIMEOUT, req->timeout_usec);
	SET(CURLOPT_PRIVATE, c);
	SET(CURLOPT_URL, req->url);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_ERRORBUFFER, c->text);
	SET(CURLOPT_TIMEOUT_MS, to_msec(req->timeout_usec));
	SET(CURLOPT_CONNECTTIMEOUT_MS, to_msec(connect));
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, c);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, c);
	SET(CURLOPT_BUFFERSIZE, c->sink ? BUFFER_STREAM : BUFFER_SMALL);
	SET(CURLOPT_USERAGENT, "EvenKeel");
	SET(CURLOPT_FOLLOWLOCATION, req->max_redirects ? 1L : 0L);
	SET(CURLOPT_MAXREDIRS, (long)req->max_redirects);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Else giving up on a name that does not resolve waits, in the loop, until the resolver gives up too. */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	if (req->unix_socket)
		SET(CURLOPT_UNIX_SOCKET_PATH, req->unix_socket);
	if (req->decode)
		SET(CURLOPT_ACCEPT_ENCODING, "gzip");
	if (c->headers)
		SET(CURLOPT_HTTPHEADER, c->headers);
	r = r != CURLE_OK ? r : set_protocols(c);
	r = r != CURLE_OK ? r : set_route(c);
	if (c->probe)
		r = r != CURLE_OK ? r : set_probe(c);
	return r != CURLE_OK ? r : set_method(c, req);
}
#undef SET

static int copy_slist(struct curl_slist **ret, const struct curl_slist *from)
{
	struct curl_slist *copy = NULL;

	for (; from; from = from->next) {
		struct curl_slist *l = curl_slist_append(copy, from->data);

		if (!l) {
			curl_slist_free_all(copy);
			return -ENOMEM;
		}
		copy = l;
	}
	*ret = copy;
	return 0;
}

static int probe_route(struct http_call *c, const char *endpoint)
{
	_cleanup_free_ char *route = str_format("::%s", endpoint);

	c->connect_to = route ? curl_slist_append(NULL, route) : NULL;
	return c->connect_to ? 0 : -ENOMEM;
}

int http_submit(struct http *h, const struct http_request *req, http_done_fn done, void *userdata,
		struct http_call **ret, struct error *err)
{
	_cleanup_(http_call_freep) struct http_call *c = NULL;
	size_t kept;
	CURLcode code;
	int r;

	if (!req->timeout_usec || !req->max_body)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "an HTTP request without a time or size limit");

	c = calloc(1, sizeof(*c));
	if (!c)
		return error_oom(err);
	kept = req->sink ? LIMIT_ERROR_BODY : req->max_body;
	*c = (struct http_call){
		.http = h,
		.done = done,
		.userdata = userdata,
		.sink = req->sink,
		.head = req->sink ? req->head : NULL,
		.max_body = req->max_body,
		.secret = req->secret,
		.probe = req->probe,
		.body = req->secret ? BUF_SECRET_INIT(kept) : BUF_INIT(kept),
		.header = req->secret ? BUF_SECRET_INIT(LIMIT_HTTP_HEADERS) : BUF_INIT(LIMIT_HTTP_HEADERS),
	};
	c->easy = curl_easy_init();
	if (!c->easy)
		return error_oom(err);
	h->n_calls++;

	r = parse_url(c, req->url, err);
	if (r == 0)
		r = add_headers(c, req, err);
	if (r == 0)
		r = copy_body(c, req, err);
	if (r < 0)
		return r;
	if (req->probe ? probe_route(c, req->probe) < 0 : copy_slist(&c->connect_to, h->connect_to) < 0)
		return error_oom(err);
	code = configure(c, req);
	if (code != CURLE_OK)
		return error_set(err, ERROR_SYSTEM, code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL,
				 "cannot prepare a request to %s: %s", c->where, curl_easy_strerror(code));
	if (curl_multi_add_handle(h->multi, c->easy) != CURLM_OK)
		return error_set(err, ERROR_SYSTEM, -ENOMEM, "cannot begin a request to %s", c->where);
	c->added = true;

	*ret = TAKE_PTR(c);
	return 0;
}

/* ---- the client ---- */

/* OpenSSL looks certificates up in a directory by the hash of their subject: 8 hexadecimal digits, ".", a number. */
static bool is_hash_link(const char *name)
{
	return strspn(name, "0123456789abcdef") == 8 && name[8] == '.' && name[9] >= '0' && name[9] <= '9';
}

/* A few links are an administrator's additions beside a bundle; the authorities of the world are more than that. */
static bool is_hashed_dir(const char *path)
{
	_cleanup_(closedirp) DIR *d = opendir(path);
	unsigned n = 0;

	for (struct dirent *e; d && n < 20 && (e = readdir(d));)
		n += is_hash_link(e->d_name);
	return n >= 20;
}

/* The directory first: certificates are then read when needed, and a whole bundle costs a megabyte for good. */
static int probe_authorities(char **ret_file, char **ret_path)
{
	static const char *const directories[] = {
		"/etc/ssl/certs",
		"/etc/pki/tls/certs",
		"/etc/pki/ca-trust/extracted/pem/directory-hash",
	};
	static const char *const bundles[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/ssl/cert.pem",
	};

	for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
		if (is_hashed_dir(directories[i]))
			return str_set(ret_path, directories[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bundles); i++)
		if (access(bundles[i], R_OK) == 0)
			return str_set(ret_file, bundles[i]);
	return 0; /* curl's own default remains, and TLS fails by name if it is nothing */
}

static int set_authorities(struct http *h, const char *given, struct error *err)
{
	struct stat st;

	if (!given)
		return probe_authorities(&h->ca_file, &h->ca_path) < 0 ? error_oom(err) : 0;
	if (stat(given, &st) < 0 || access(given, R_OK) < 0)
		return error_errno(err, -errno, "cannot read the certificate authorities in %s", given);
	if (str_set(S_ISDIR(st.st_mode) ? &h->ca_path : &h->ca_file, given) < 0)
		return error_oom(err);
	return 0;
}

static int set_no_proxy(struct http *h, const char *const *suffixes, struct error *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_HTTP_HEADERS);

	(void)buf_puts(&b, "169.254.169.254,168.63.129.16,localhost,127.0.0.1,::1,[::1]");
	for (const char *const *p = suffixes; p && *p; p++)
		(void)buf_printf(&b, ",%s", *p);
	if (buf_ok(&b) == -EFBIG)
		return error_set(err, ERROR_USER, -EFBIG, "the list of hosts that need no proxy is too long");
	h->no_proxy = buf_take(&b);
	return h->no_proxy ? 0 : error_oom(err);
}

static int set_connect_to(struct http *h, const char *list, struct error *err)
{
	_cleanup_free_ char *copy = list ? strdup(list) : NULL;
	char *rest = copy;

	if (list && !copy)
		return error_oom(err);
	for (char *one; (one = strsep(&rest, ","));) {
		struct curl_slist *l;

		if (!*one)
			continue;
		l = curl_slist_append(h->connect_to, one);
		if (!l)
			return error_oom(err);
		h->connect_to = l;
	}
	return 0;
}

static void options_done(struct http *h)
{
	erase_and_free(h->proxy); /* may hold a password */
	free(h->no_proxy);
	free(h->ca_file);
	free(h->ca_path);
	curl_slist_free_all(h->connect_to);
}

int http_configure(struct http *h, const struct http_options *o, struct error *err)
{
	static const struct http_options defaults;
	struct http made = { 0 }; /* only its options */
	int r;

	if (!o)
		o = &defaults;
	r = o->local_only ? 0 : set_authorities(&made, o->ca_file, err);
	if (r == 0)
		r = set_no_proxy(&made, o->no_proxy, err);
	if (r == 0)
		r = set_connect_to(&made, o->connect_to, err);
	if (r == 0 && !str_empty(o->proxy) && str_set(&made.proxy, o->proxy) < 0)
		r = error_oom(err);
	if (r < 0) {
		options_done(&made);
		return r;
	}
	if (curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
			      o->host_connections ? (long)o->host_connections : DEFAULT_HOST_CONNECTIONS) != CURLM_OK) {
		options_done(&made);
		return error_set(err, ERROR_SYSTEM, -EINVAL, "cannot set up libcurl");
	}
	options_done(h);
	h->proxy = made.proxy;
	h->no_proxy = made.no_proxy;
	h->ca_file = made.ca_file;
	h->ca_path = made.ca_path;
	h->connect_to = made.connect_to;
	return 0;
}

int http_new(struct http **ret, struct loop *loop, const struct http_options *o, struct error *err)
{
	_cleanup_(http_freep) struct http *h = calloc(1, sizeof(*h));
	CURLMcode m = CURLM_OK;
	int r;

	if (!h)
		return error_oom(err);
	h->loop = loop;
	if (curl_global_init(o && o->local_only ? CURL_GLOBAL_NOTHING : CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return error_set(err, ERROR_SYSTEM, -EIO, "cannot initialise libcurl");
	h->global = true;
	h->multi = curl_multi_init();
	if (!h->multi)
		return error_oom(err);
	r = loop_timer_new(loop, "http-timer", on_timer, h, &h->timer);
	if (r < 0)
		return error_errno(err, r, "cannot make the HTTP client's timer");

#define SET(opt, val) (m = m != CURLM_OK ? m : curl_multi_setopt(h->multi, (opt), (val)))
	SET(CURLMOPT_SOCKETFUNCTION, want_socket);
	SET(CURLMOPT_SOCKETDATA, h);
	SET(CURLMOPT_TIMERFUNCTION, want_timer);
	SET(CURLMOPT_TIMERDATA, h);
	SET(CURLMOPT_MAX_TOTAL_CONNECTIONS, MAX_TOTAL_CONNECTIONS);
	SET(CURLMOPT_MAXCONNECTS, MAX_IDLE_CONNECTIONS);
#undef SET
	if (m != CURLM_OK)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "cannot set up libcurl: %s", curl_multi_strerror(m));
	r = http_configure(h, o, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(h);
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	assert(h->n_calls == 0); /* calls hold a pointer to their client */
	if (h->multi)
		(void)curl_multi_cleanup(h->multi);
	loop_timer_free(h->timer);
	options_done(h);
	if (h->global)
		curl_global_cleanup();
	free(h);
}

const char *http_library(void)
{
	return curl_version_info(CURLVERSION_NOW)->version;
}

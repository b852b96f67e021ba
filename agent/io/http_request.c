/* From a request to a handle that curl can run: its URL, header, body, method, route and what it may not do. */
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/http_internal.h"

#define BUFFER_SMALL  16384L
#define BUFFER_STREAM 131072L

/* Not every curl we run on opens its sockets so, and our children must not inherit them. */
static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_call *c = userdata;
	struct http_socket *s = &c->sockets[c->n_sockets % HTTP_SOCKETS];
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

	(void)purpose;
	c->phase = HTTP_CONNECTING;
	if (fd < 0 || address->addrlen > sizeof(s->to))
		return fd;
	*s = (struct http_socket){ .fd = fd, .len = address->addrlen };
	memcpy(&s->to, &address->addr, s->len);
	c->n_sockets++;
	return fd;
}

/* Whether the number is still that socket, and there is a connection. */
static bool is_connected(const struct http_socket *s)
{
	struct sockaddr_storage to = { 0 };
	socklen_t len = sizeof(to);

	return getpeername(s->fd, (struct sockaddr *)&to, &len) == 0 && len == s->len && memcmp(&to, &s->to, len) == 0;
}

/* Before the handshake. When it fails, newer curls do not tell with which address. */
static CURLcode on_tls(CURL *easy, void *context, void *userdata)
{
	struct http_call *c = userdata;

	(void)easy;
	(void)context;
	c->phase = HTTP_TLS;
	for (unsigned i = 0; i < HTTP_SOCKETS && i < c->n_sockets; i++) {
		const struct http_socket *s = &c->sockets[i];

		if (is_connected(s))
			(void)getnameinfo((const struct sockaddr *)&s->to, s->len, c->peer, sizeof(c->peer), NULL, 0,
					  NI_NUMERICHOST);
	}
	return CURLE_OK;
}

static int on_connected(void *userdata, char *peer, char *own, int peer_port, int own_port)
{
	struct http_call *c = userdata;

	(void)peer;
	(void)own;
	(void)peer_port;
	(void)own_port;
	c->phase = HTTP_WAITING;
	return CURL_PREREQFUNC_OK;
}

static bool is_literal(const char *host)
{
	return host[0] == '[' || strspn(host, "0123456789.") == strlen(host);
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

static CURLcode set_route(struct http_call *c)
{
	const struct http_setup *s = &c->http->setup;
	bool direct = !s->proxy || http_is_direct(c->host);
	CURL *e = c->easy;
	CURLcode r = CURLE_OK;

	/* "" and not NULL: with NULL curl asks the environment. */
	c->proxied = !direct && !http_is_excepted(s, c->host);
	SET(CURLOPT_PROXY, direct ? "" : s->proxy);
	SET(CURLOPT_NOPROXY, s->no_proxy);
	/* What the proxy says to CONNECT is no part of the answer. */
	if (!direct)
		SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	if (c->connect_to)
		SET(CURLOPT_CONNECT_TO, c->connect_to);
	if (s->ca_path || s->ca_file) {
		SET(CURLOPT_CAPATH, s->ca_path);
		SET(CURLOPT_CAINFO, s->ca_file);
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
		connect = usec_min(LIMIT_HTTP_CONNECT_SECONDS * USEC_PER_SEC, req->timeout_usec);
	SET(CURLOPT_PRIVATE, c);
	SET(CURLOPT_URL, req->url);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_ERRORBUFFER, c->text);
	SET(CURLOPT_TIMEOUT_MS, to_msec(req->timeout_usec));
	SET(CURLOPT_CONNECTTIMEOUT_MS, to_msec(connect));
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, c);
	SET(CURLOPT_PREREQFUNCTION, on_connected);
	SET(CURLOPT_PREREQDATA, c);
	SET(CURLOPT_WRITEFUNCTION, http_on_body);
	SET(CURLOPT_WRITEDATA, c);
	SET(CURLOPT_HEADERFUNCTION, http_on_header);
	SET(CURLOPT_HEADERDATA, c);
	SET(CURLOPT_BUFFERSIZE, c->sink ? BUFFER_STREAM : BUFFER_SMALL);
	SET(CURLOPT_USERAGENT, "EvenKeel");
	SET(CURLOPT_FOLLOWLOCATION, req->max_redirects ? 1L : 0L);
	SET(CURLOPT_MAXREDIRS, (long)req->max_redirects);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Else giving up on a name that does not resolve waits, in the loop, until the resolver gives up too. */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	/* For messages only: a curl with another TLS library says no. */
	(void)curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, on_tls);
	(void)curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, c);
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

int http_call_prepare(struct http_call *c, const struct http_request *req, struct error *err)
{
	CURLcode code;
	int r;

	r = parse_url(c, req->url, err);
	if (r == 0)
		r = add_headers(c, req, err);
	if (r == 0)
		r = copy_body(c, req, err);
	if (r < 0)
		return r;
	if (req->probe ? probe_route(c, req->probe) < 0 : copy_slist(&c->connect_to, c->http->setup.connect_to) < 0)
		return error_oom(err);
	code = configure(c, req);
	if (code != CURLE_OK)
		return error_set(err, ERROR_SYSTEM, code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL,
				 "cannot prepare a request to %s: %s", c->where, curl_easy_strerror(code));
	return 0;
}

/* What came of a call: curl's code, times and texts become our result, and a sentence that holds no secret. */
#include <errno.h>
#include <stdio.h>

#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/http_internal.h"

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

static const char *phase_of(const struct http_call *c, int result)
{
	static const char *const names[] = {
		[HTTP_RESOLVING] = "resolving", [HTTP_CONNECTING] = "connecting to", [HTTP_TLS] = "TLS with",
		[HTTP_WAITING] = "waiting for", [HTTP_RECEIVING] = "receiving from",
	};
	enum http_phase phase = c->phase;

	if (result == -EHOSTUNREACH)
		phase = HTTP_RESOLVING;
	else if (result == -EKEYREJECTED)
		phase = HTTP_TLS; /* perhaps of our own authorities, before anything else */
	else if (phase == HTTP_RESOLVING && c->literal)
		phase = HTTP_CONNECTING;
	return names[phase];
}

/* Which of its addresses it was, where a name has several; not where the URL says it, or a proxy stands between. */
static const char *address_of(const struct http_call *c)
{
	const char *ip = NULL;

	(void)curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip);
	if (str_empty(ip))
		ip = c->peer;
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
	const char *phase = phase_of(c, result), *ip = address_of(c);
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

void http_call_result(struct http_call *c, CURLcode code, struct http_response *ret)
{
	*ret = (struct http_response){
		.result = result_of(c, code),
		.body = buf_str(&c->body),
		.len = c->body.len,
		.host = c->host,
		.elapsed_usec = (usec_t)time_of(c, CURLINFO_TOTAL_TIME_T),
		.connected = c->phase > HTTP_CONNECTING,
		.address = address_of(c),
		.certificate = certificate_of(c),
		.call = c,
	};
	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &ret->status);
	if (ret->result < 0) {
		describe(c, code, ret->result);
		ret->detail = c->detail;
	}
}

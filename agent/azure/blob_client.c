/* Requests to blobs: first the right, then the request, and once more with a new token where the old one is refused. */
#include "agent/azure/blob_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/identity.h"
#include "agent/azure/service.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"
#include "agent/core/settings_common.h"
#include "agent/io/loop.h"

#define IDENTITY_ENDPOINT "http://169.254.169.254/metadata/identity"
#define STORAGE_RESOURCE  "https://storage.azure.com/"
#define TOKEN_USEC	  (3 * USEC_PER_MINUTE)
#define SIGNED_USEC	  (2 * USEC_PER_HOUR) /* longer than any request but the largest downloads, which may be resumed */
#define HEADERS_MAX	  12

struct blob_client {
	struct blob_client_options o;
	struct tokens *tokens;
};

struct blob_call {
	struct blob_client *client;
	struct blob_request req;
	char *uri;
	char **headers; /* NULL: none */
	enum blob_right right;
	char *who;
	bool fresh; /* the token has been renewed already */
	struct http_call *http;
	struct token_call *token;
	blob_done_fn done;
	void *userdata;
};

/* ---- one end ---- */

static void answer(struct blob_call *c, const struct http_response *resp, const struct error *error)
{
	const struct blob_answer a = { .http = resp, .error = error, .right = c->right, .who = c->who ? c->who : "" };

	c->done(&a, c->userdata);
}

static int get_token(struct blob_call *c, bool fresh, struct error *err);

static void on_http(const struct http_response *resp, void *userdata)
{
	struct blob_call *c = userdata;
	struct error e = ERROR_INIT;

	if (c->right == BLOB_IDENTITY && resp->status == 401 && !c->fresh) {
		c->fresh = true;
		http_call_free(TAKE_PTR(c->http));
		if (get_token(c, true, &e) < 0)
			answer(c, NULL, &e);
		return;
	}
	answer(c, resp, NULL);
}

/* ---- the request ---- */

static int on_piece(const void *data, size_t len, void *userdata)
{
	struct blob_call *c = userdata;

	return c->req.http.sink(data, len, c->userdata);
}

static int on_head(const struct http_response *resp, void *userdata)
{
	struct blob_call *c = userdata;

	return c->req.http.head(resp, c->userdata);
}

static int make_url(const struct blob_call *c, struct buf *url, struct error *err)
{
	const struct blob_client_options *o = &c->client->o;
	int r = c->right == BLOB_KEY ? blob_sign(c->uri, &o->credentials, o->permissions,
						 usec_add(loop_now_wall(o->loop), SIGNED_USEC), url, err)
				     : buf_puts(url, c->uri);

	if (r >= 0 && c->req.query)
		r = buf_printf(url, "%c%s", strchr(buf_str(url), '?') ? '&' : '?', c->req.query);
	return r == -EINVAL ? r : r < 0 ? error_errno(err, r, "cannot write the request") : 0;
}

/* Storage wants its version with a token, and with what only newer versions know. */
static int submit(struct blob_call *c, const char *token, struct error *err)
{
	_cleanup_erase_ char *authorization = token ? str_format("Authorization: Bearer %s", token) : NULL;
	_cleanup_free_ char *date = NULL;
	_cleanup_buf_ struct buf url = BUF_SECRET_INIT(2 * LIMIT_URI);
	const char *headers[HEADERS_MAX + 4] = { NULL };
	struct http_request req = c->req.http;
	char now[TIMEFMT_MAX];
	size_t n = 0;
	int r = make_url(c, &url, err);

	if (r < 0)
		return r;
	for (char *const *p = c->headers; p && *p; p++) {
		if (n == HEADERS_MAX)
			return error_set(err, ERROR_SYSTEM, -E2BIG, "too many headers for one request");
		headers[n++] = *p;
	}
	if (token) {
		date = str_format("x-ms-date: %s", timefmt_http(loop_now_wall(c->client->o.loop), now));
		if (!authorization || !date)
			return error_oom(err);
		headers[n++] = authorization;
		headers[n++] = date;
	}
	if (token || c->req.query || c->req.http.method)
		headers[n++] = "x-ms-version: 2018-03-28";
	req.url = url.data;
	req.headers = headers;
	req.secret = true;
	req.sink = req.sink ? on_piece : NULL;
	req.head = req.head ? on_head : NULL;
	return http_submit(c->client->o.http, &req, on_http, c, &c->http, err);
}

static void on_token(const char *token, const char *who, const struct error *err, void *userdata)
{
	struct blob_call *c = userdata;
	struct error e = ERROR_INIT;

	token_call_free(TAKE_PTR(c->token));
	if (str_set(&c->who, who) < 0)
		c->who = NULL;
	if (!token)
		answer(c, NULL, err);
	else if (submit(c, token, &e) < 0)
		answer(c, NULL, &e);
}

static int get_token(struct blob_call *c, bool fresh, struct error *err)
{
	const struct blob_client_options *o = &c->client->o;

	return token_get(c->client->tokens, IDENTITY_ENDPOINT, STORAGE_RESOURCE, o->credentials.identity, fresh,
			 usec_add(loop_now_boot(o->loop), TOKEN_USEC), on_token, c, &c->token, err);
}

bool blob_call_asked(const struct blob_call *c)
{
	return c->http;
}

void blob_call_free(struct blob_call *c)
{
	if (!c)
		return;
	http_call_free(c->http);
	token_call_free(c->token);
	erase_and_free(c->uri);
	strv_free(c->headers);
	free(c->who);
	free(c);
}
DEFINE_CLEANUP(struct blob_call *, blob_call_free)

int blob_submit(struct blob_client *client, const struct blob_request *req, blob_done_fn done, void *userdata,
		struct blob_call **ret, struct error *err)
{
	_cleanup_(blob_call_freep) struct blob_call *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_oom(err);
	*c = (struct blob_call){
		.client = client, .req = *req, .uri = strdup(req->uri), .done = done, .userdata = userdata
	};
	if (req->http.headers)
		c->headers = strv_copy(req->http.headers);
	if (!c->uri || (req->http.headers && !c->headers))
		return error_oom(err);
	c->right = blob_right_of(c->uri, &client->o.credentials);
	if (c->right == BLOB_IDENTITY && req->anonymous)
		c->right = BLOB_ANONYMOUS;
	r = c->right == BLOB_IDENTITY ? get_token(c, false, err) : submit(c, NULL, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}

/* ---- words ---- */

void blob_describe(const struct blob_answer *a, const char *uri, bool writing, char *out, size_t size)
{
	const struct http_response *resp = a->http;
	char word[64] = "", id[64] = "", advice[320];
	const char *code, *request;

	if (!resp) {
		(void)snprintf(out, size, "no token: %s", a->error->msg);
		return;
	}
	if (resp->result < 0) {
		(void)snprintf(out, size, "%s", resp->detail);
		return;
	}
	code = http_response_header(resp, "x-ms-error-code");
	request = http_response_header(resp, "x-ms-request-id");
	if (code)
		service_line(code, strlen(code), word, sizeof(word));
	if (request)
		service_line(request, strlen(request), id, sizeof(id));
	blob_advise(&(struct blob_refusal){ .uri = uri,
					    .right = a->right,
					    .who = a->who,
					    .writing = writing,
					    .status = resp->status,
					    .code = code },
		    advice, sizeof(advice));
	(void)snprintf(out, size, "the server says %ld%s%s%s%s%s%s%s", resp->status, word[0] ? " " : "", word,
		       id[0] ? " (request id " : "", id, id[0] ? ")" : "", advice[0] ? "; " : "", advice);
}

int blob_client_new(struct blob_client **ret, const struct blob_client_options *o, struct error *err)
{
	struct blob_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_oom(err);
	c->o = *o;
	r = tokens_new(&c->tokens, o->loop, o->http, err);
	if (r < 0) {
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void blob_client_free(struct blob_client *c)
{
	if (!c)
		return;
	tokens_free(c->tokens);
	free(c);
}

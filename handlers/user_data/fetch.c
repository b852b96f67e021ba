/* What an include names, fetched: one URL after the other, bounded, by the one HTTP client. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/io/http.h"
#include "handlers/user_data/userdata_private.h"

#define FETCH_USEC    (30 * USEC_PER_SEC)
#define MAX_REDIRECTS 3

struct userdata_fetch {
	struct handler *handler;
	userdata_fetch_fn done;
	char **urls;
	size_t n, at;
	struct buf bodies[LIMIT_USER_DATA_INCLUDES];
	struct http_call *call;
};

void userdata_fetch_free(struct userdata_fetch *f)
{
	if (!f)
		return;
	http_call_free(f->call);
	for (size_t i = 0; i < LIMIT_USER_DATA_INCLUDES; i++)
		buf_done(&f->bodies[i]);
	strv_free(f->urls);
	free(f);
}

static int next(struct userdata_fetch *f, struct error *err);

/* The one end of it: the handler has let go of it before it is told. */
static void finish(struct userdata_fetch *f, const struct error *failure)
{
	struct userdata_body bodies[LIMIT_USER_DATA_INCLUDES];
	struct handler *h = f->handler;

	for (size_t i = 0; i < f->n; i++)
		bodies[i] = (struct userdata_body){ buf_str(&f->bodies[i]), f->bodies[i].len };
	h->fetch = NULL;
	f->done(h, bodies, f->n, failure);
	userdata_fetch_free(f);
}

static void on_answer(const struct http_response *resp, void *userdata)
{
	struct userdata_fetch *f = userdata;
	struct error e = ERROR_INIT;

	/* A URL may hold a signature: the host is all that is told. */
	if (resp->result < 0)
		(void)error_set(&e, ERROR_TRANSIENT, resp->result, "include %zu from %s: %s", f->at + 1, resp->host,
				resp->detail);
	else if (resp->status < 200 || resp->status >= 300)
		(void)error_set(&e, ERROR_TRANSIENT, -EIO, "include %zu from %s: HTTP status %ld", f->at + 1,
				resp->host, resp->status);
	else if (buf_append(&f->bodies[f->at], resp->body, resp->len) < 0)
		(void)error_oom(&e);
	if (!e.msg[0] && ++f->at < f->n) {
		http_call_free(TAKE_PTR(f->call));
		if (next(f, &e) >= 0)
			return;
	}
	finish(f, e.msg[0] ? &e : NULL);
}

static int next(struct userdata_fetch *f, struct error *err)
{
	const struct http_request req = { .url = f->urls[f->at],
					  .timeout_usec = FETCH_USEC,
					  .max_body = LIMIT_USER_DATA_INCLUDE,
					  .max_redirects = MAX_REDIRECTS,
					  .secret = true };

	f->bodies[f->at] = BUF_SECRET_INIT(LIMIT_USER_DATA_INCLUDE);
	return http_submit(f->handler->host->http, &req, on_answer, f, &f->call, err);
}

int userdata_fetch_start(struct handler *h, const struct userdata_item *include, userdata_fetch_fn done,
			 struct error *err)
{
	struct userdata_fetch *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return error_oom(err);
	*f = (struct userdata_fetch){ .handler = h, .done = done };
	r = userdata_item_urls(include, &f->urls, err);
	f->n = r >= 0 ? strv_length(f->urls) : 0;
	if (r >= 0 && f->n)
		r = next(f, err);
	if (r < 0 || !f->n) {
		userdata_fetch_free(f);
		return r;
	}
	h->fetch = f;
	return 1;
}

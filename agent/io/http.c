/* libcurl's multi interface on the loop: curl says which sockets and when, sd-event watches. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/io/http_internal.h"
#include "agent/io/loop.h"

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

static void finish(struct http_call *c, CURLcode code)
{
	struct http_response resp;

	http_call_result(c, code, &resp);
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

int http_submit(struct http *h, const struct http_request *req, http_done_fn done, void *userdata,
		struct http_call **ret, struct error *err)
{
	_cleanup_(http_call_freep) struct http_call *c = NULL;
	size_t kept;
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

	r = http_call_prepare(c, req, err);
	if (r < 0)
		return r;
	if (curl_multi_add_handle(h->multi, c->easy) != CURLM_OK)
		return error_set(err, ERROR_SYSTEM, -ENOMEM, "cannot begin a request to %s", c->where);
	c->added = true;

	*ret = TAKE_PTR(c);
	return 0;
}

/* ---- the client ---- */

int http_new(struct http **ret, struct loop *loop, const struct http_options *o, struct error *err)
{
	_cleanup_(http_freep) struct http *h = calloc(1, sizeof(*h));
	CURLMcode m = CURLM_OK;
	int r;

	if (!h)
		return error_oom(err);
	h->loop = loop;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
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
	SET(CURLMOPT_MAX_TOTAL_CONNECTIONS, LIMIT_HTTP_CONNECTIONS);
	SET(CURLMOPT_MAXCONNECTS, LIMIT_HTTP_IDLE_CONNECTIONS);
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
	http_setup_done(&h->setup);
	if (h->global)
		curl_global_cleanup();
	free(h);
}

const char *http_library(void)
{
	return curl_version_info(CURLVERSION_NOW)->version;
}

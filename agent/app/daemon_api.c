/*
 * The local API on the unix socket, for root only:
 *   POST /v1/goal	look at goal.json and the files below /etc again; answers when the status has been written
 *   GET  /v1/status	what is true now
 *   POST /v1/retire	end drains by restoring, then 200; 202 while that goes on
 */
#include <errno.h>
#include <string.h>

#include "agent/app/daemon_private.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/io/listener.h"
#include "agent/io/service.h"

static void answer_error(struct listener_reply *reply, unsigned status, const char *sentence)
{
	reply->status = status;
	buf_reset(&reply->body);
	(void)buf_puts(&reply->body, "{\"error\":");
	(void)jd_quote(&reply->body, sentence, strlen(sentence));
	(void)buf_puts(&reply->body, "}\n");
}

static void answer_status(struct daemon *d, struct listener_reply *reply)
{
	if (daemon_describe(d, &reply->body) < 0)
		answer_error(reply, 500, "out of memory");
	else
		reply->status = 200;
}

static void on_goal(struct daemon *d, struct listener_reply *reply)
{
	struct error e = ERROR_INIT;

	if (daemon_load_goal(d, &e) < 0) {
		log_error("%s", e.msg);
		answer_error(reply, 500, e.msg);
		return;
	}
	answer_status(d, reply);
}

static void on_retire(struct daemon *d, struct listener_reply *reply)
{
	daemon_retire(d);
	for (size_t i = 0; i < HANDLERS; i++)
		if (handler_classes[i]->busy(d->handlers[i])) {
			reply->status = 202;
			(void)buf_puts(&reply->body, "{}\n");
			return;
		}
	answer_status(d, reply);
	daemon_leave(d);
}

static const struct {
	const char *method, *path;
	void (*answer)(struct daemon *d, struct listener_reply *reply);
} routes[] = {
	{ "POST", "/v1/goal", on_goal },
	{ "GET", "/v1/status", answer_status },
	{ "POST", "/v1/retire", on_retire },
};

static void on_request(const struct listener_request *req, struct listener_reply *reply, void *userdata)
{
	struct daemon *d = userdata;

	if (!req->local || req->peer_uid != geteuid()) {
		answer_error(reply, 403, "only root may ask");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!str_equal(req->path, routes[i].path))
			continue;
		if (str_equal(req->method, routes[i].method))
			routes[i].answer(d, reply);
		else
			answer_error(reply, 405, "another method is wanted here");
		return;
	}
	answer_error(reply, 404, "no such path");
}

int daemon_open_api(struct daemon *d, struct error *err)
{
	int fd = service_socket("api"), r;

	if (fd < 0) {
		r = listener_bind_unix(d->paths.api_socket, 0600, &fd, err);
		if (r < 0)
			return r;
	}
	return listener_new(d->loop, fd, on_request, d, &d->api, err);
}

void daemon_close_api(struct daemon *d)
{
	listener_free(d->api);
	d->api = NULL;
}

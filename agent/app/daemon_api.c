/*
 * The local API on the unix socket, for root only:
 *   POST /v1/goal	look at goal.json and the files below /etc again; answers when the status has been written
 *   GET  /v1/status	what is true now
 *   POST /v1/retire	end drains by restoring, then 200; 202 while that goes on
 *   POST /v1/drain	an operator's hold; the body is the reason, or empty
 *   POST /v1/restore	ends what operators hold; the body "force" lets go of events, too
 *   POST /v1/ack	acknowledges the event whose id is the body
 *   POST /v1/quiesce	a backup's hold; the body: for how many seconds it lasts, and within how many to be drained
 *   POST /v1/resume	ends it
 *   POST /v1/simulate	a rehearsal; the body: type, seconds of notice, seconds it lasts or "-", and "dry" for a plan only
 *   GET  /v1/scripts	what is known about scripts: agent/core/script_view.h, without the runs
 *   POST /v1/scripts/run	runs one script by hand; the body is the id of the job whose file the command has made
 *   POST /v1/pause	nothing begins but by order; the body: for how many seconds, and why; or "end"
 *   GET  /v1/machine	what the metadata service says of this VM; asks it when that is not known
 *   GET  /v1/events	what is known, planned and told about draining; ?since=N: only lines after that number
 *   GET  /v1/certificates	every certificate and secret: what is wanted, what is there, what is next
 *   POST /v1/certificates/refresh	ask the vault now; the body: a name, or empty for all
 *   GET  /v1/userdata	what is known of user data, and what has been applied; never its content
 *   POST /v1/userdata/apply, /v1/userdata/ignore	what is there now; the body: its revision, or empty
 */
#include <errno.h>
#include <string.h>

#include "agent/app/daemon_private.h"
#include "agent/app/daemon_refused.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
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

static void answer_message(struct listener_reply *reply, const char *sentence)
{
	reply->status = 200;
	(void)buf_puts(&reply->body, "{\"message\":");
	(void)jd_quote(&reply->body, sentence, strlen(sentence));
	(void)buf_puts(&reply->body, "}\n");
}

/* NULL: it does not start, and the reply says why. */
static struct handler *find_handler(const struct daemon *d, const struct handler_class *class, struct listener_reply *reply)
{
	for (size_t i = 0; i < HANDLERS; i++) {
		if (handler_classes[i] != class)
			continue;
		if (d->slots[i].class == class)
			return d->slots[i].handler;
		answer_error(reply, 503, refused_why(d->slots[i].handler));
	}
	return NULL;
}

/* The last part of the path names the order, the body is its argument. */
static void on_order(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		     struct listener_reply *reply)
{
	_cleanup_buf_ struct buf sentence = BUF_INIT(LIMIT_API_REPLY / 8);
	struct handler *h = find_handler(d, class, reply);
	struct error e = ERROR_INIT;

	if (!h)
		return;
	if (class->operate(h, strrchr(req->path, '/') + 1, req->body, &sentence, &e) < 0)
		answer_error(reply, e.cls == ERROR_USER ? 409 : 503, e.msg);
	else
		answer_message(reply, buf_str(&sentence));
}

static void on_look(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		    struct listener_reply *reply)
{
	struct handler *h = find_handler(d, class, reply);
	struct error e = ERROR_INIT;

	if (!h)
		return;
	if (class->look(h, req->query, &reply->body, &e) < 0)
		answer_error(reply, e.cls == ERROR_USER ? 400 : 503, e.msg);
	else
		reply->status = 200;
}

static void on_status(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		      struct listener_reply *reply)
{
	(void)class;
	(void)req;
	answer_status(d, reply);
}

static void on_goal(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		    struct listener_reply *reply)
{
	struct error e = ERROR_INIT;

	(void)class;
	(void)req;
	if (daemon_load_goal(d, &e) < 0) {
		log_error("the goal state cannot be taken in: %s", e.msg);
		answer_error(reply, 500, e.msg);
		return;
	}
	answer_status(d, reply);
}

static void on_retire(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		      struct listener_reply *reply)
{
	(void)class;
	(void)req;
	daemon_retire(d);
	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].class->busy(d->slots[i].handler)) {
			reply->status = 202;
			(void)buf_puts(&reply->body, "{}\n");
			return;
		}
	answer_status(d, reply);
	daemon_leave(d);
}

static void on_pause(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		     struct listener_reply *reply)
{
	_cleanup_buf_ struct buf sentence = BUF_INIT(LIMIT_API_REPLY / 8);
	struct error e = ERROR_INIT;

	(void)class;
	if (pause_operate(d->pause, req->body, &sentence, &e) < 0)
		answer_error(reply, e.cls == ERROR_USER ? 409 : 503, e.msg);
	else
		answer_message(reply, buf_str(&sentence));
}

static void on_machine(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		       struct listener_reply *reply)
{
	(void)class;
	(void)req;
	machine_facts_look(d->machine, &reply->body);
	reply->status = 200;
}

/* clang-format off */
static const struct {
	const char *method, *path;
	void (*answer)(struct daemon *d, const struct handler_class *class, const struct listener_request *req,
		       struct listener_reply *reply);
	const struct handler_class *class; /* of on_order and on_look */
} routes[] = {
	{ "POST", "/v1/goal",     on_goal,   NULL },
	{ "GET",  "/v1/status",   on_status, NULL },
	{ "POST", "/v1/retire",   on_retire, NULL },
	{ "POST", "/v1/drain",    on_order,  &drain_class },
	{ "POST", "/v1/restore",  on_order,  &drain_class },
	{ "POST", "/v1/ack",      on_order,  &drain_class },
	{ "POST", "/v1/quiesce",  on_order,  &drain_class },
	{ "POST", "/v1/resume",   on_order,  &drain_class },
	{ "POST", "/v1/simulate", on_order,  &drain_class },
	{ "POST", "/v1/pause",    on_pause,   NULL },
	{ "GET",  "/v1/machine",  on_machine, NULL },
	{ "GET",  "/v1/events",   on_look,   &drain_class },
	{ "GET",  "/v1/userdata",        on_look,  &user_data_class },
	{ "POST", "/v1/userdata/apply",  on_order, &user_data_class },
	{ "POST", "/v1/userdata/ignore", on_order, &user_data_class },
	{ "GET",  "/v1/scripts",  on_look,   &custom_script_class },
	{ "POST", "/v1/scripts/run", on_order, &custom_script_class },
	{ "GET",  "/v1/certificates",         on_look,  &key_refresh_class },
	{ "POST", "/v1/certificates/refresh", on_order, &key_refresh_class },
};
/* clang-format on */

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
			routes[i].answer(d, routes[i].class, req, reply);
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

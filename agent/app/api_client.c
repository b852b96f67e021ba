/* Asking the daemon. */
#include "agent/app/api_client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/io/local_client.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"

bool api_daemon_running(const struct paths *p)
{
	_cleanup_free_ char *path = path_join(p->run, "daemon.lock");
	_cleanup_close_ int fd = -1;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (!path)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	/* Asked, not taken: taking it, if only for a moment, could keep a daemon that starts now from its own lock. */
	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool api_permitted(const struct paths *p)
{
	_cleanup_free_ char *path = path_join(p->run, "daemon.lock");

	return !path || access(path, R_OK) == 0 || errno != EACCES;
}

#define PAUSE_USEC (200 * USEC_PER_MSEC)
#define TURN_USEC  (20 * USEC_PER_SEC) /* for one answer of several */

struct asking {
	struct loop *loop;
	struct local_call *call;
	struct loop_timer *pause;
	const struct paths *paths;
	const char *method, *target, *body;
	usec_t timeout, deadline;
	bool until_done;
	struct buf *reply;
	int result;
	char detail[160];
};

static void asking_done(struct asking *a)
{
	local_call_free(a->call);
	loop_timer_free(a->pause);
	loop_free(a->loop);
}

static void end(struct asking *a, int result, const char *detail)
{
	a->result = result;
	(void)snprintf(a->detail, sizeof(a->detail), "%.*s",
		       (int)utf8_cut(detail, strlen(detail), sizeof(a->detail) - 1), detail);
	loop_exit(a->loop, 0);
}

/* It is at it; or it hangs, and its watchdog may bring another one. Where nobody listens nobody will. */
static bool is_for_later(const struct asking *a, const struct local_answer *answer)
{
	if (!a->until_done)
		return false;
	return answer->result < 0 ? answer->result != -ECONNREFUSED && answer->result != -ENOENT : answer->status == 202;
}

static void on_done(const struct local_answer *answer, void *userdata)
{
	struct asking *a = userdata;

	if (is_for_later(a, answer) && usec_add(time_boot(), PAUSE_USEC) < a->deadline) {
		loop_timer_after(a->pause, PAUSE_USEC);
		return;
	}
	if (answer->result < 0) {
		end(a, answer->result, answer->detail);
		return;
	}
	buf_reset(a->reply);
	if (buf_append(a->reply, answer->body, answer->len) < 0)
		end(a, buf_ok(a->reply), "the answer is too long");
	else
		end(a, answer->status, "");
}

static int ask(struct asking *a, struct error *err)
{
	usec_t left = usec_max(usec_sub(a->deadline, time_boot()), 1);

	local_call_free(TAKE_PTR(a->call));
	return local_ask(a->loop,
			 &(struct local_request){
				 .socket = a->paths->api_socket,
				 .method = a->method,
				 .target = a->target,
				 .body = a->body,
				 .timeout_usec = a->until_done ? usec_min(left, TURN_USEC) : a->timeout,
				 .max_body = LIMIT_API_REPLY,
			 },
			 on_done, a, &a->call, err);
}

static void on_pause(void *userdata)
{
	struct asking *a = userdata;
	struct error e = ERROR_INIT;
	int r = ask(a, &e);

	if (r < 0)
		end(a, r, e.msg);
}

static int converse(struct asking *a, struct error *err)
{
	int r;

	a->deadline = usec_add(time_boot(), a->timeout);
	r = loop_new(&a->loop, err);
	if (r < 0)
		return r;
	r = loop_timer_new(a->loop, "api-pause", on_pause, a, &a->pause);
	if (r < 0)
		return error_errno(err, r, "cannot make a timer");
	r = ask(a, err);
	if (r < 0)
		return r;
	r = loop_run(a->loop);
	if (r < 0)
		return error_errno(err, r, "the event loop failed");
	if (a->result < 0)
		return error_set(err, ERROR_SYSTEM, a->result, "the evenkeel service does not answer on %s: %s",
				 a->paths->api_socket, a->detail);
	return a->result;
}

int api_call(const struct paths *p, const char *method, const char *path, const char *body, usec_t timeout,
	     struct buf *reply, struct error *err)
{
	_cleanup_(asking_done) struct asking a = { .paths = p,
						   .method = method,
						   .target = path,
						   .body = body,
						   .timeout = timeout,
						   .reply = reply };

	return converse(&a, err);
}

int api_refused(struct error *err, int code, const char *method, const char *path, int status, const struct buf *reply)
{
	return error_set(err, ERROR_SYSTEM, code, "the evenkeel service answered %s %s with %d: %.200s", method, path, status,
			 buf_str(reply));
}

int api_look(const struct paths *p, const char *path, usec_t timeout, const struct jd_type *type, struct buf *text, void *ret,
	     struct error *err)
{
	int r;

	buf_reset(text);
	r = api_call(p, "GET", path, NULL, timeout, text, err);
	if (r < 0)
		return r;
	if (r != 200)
		return api_refused(err, r == 403 ? -EACCES : r == 503 ? -EAGAIN : -EPROTO, "GET", path, r, text);
	return jd_decode_document(buf_str(text), text->len, "the answer", LIMIT_API_REPLY, type, ret, err);
}

int api_wait(const struct paths *p, const char *method, const char *path, usec_t timeout, struct error *err)
{
	_cleanup_buf_ struct buf reply = BUF_INIT(LIMIT_API_REPLY);
	_cleanup_(asking_done) struct asking a = { .paths = p,
						   .method = method,
						   .target = path,
						   .body = "",
						   .timeout = timeout,
						   .until_done = true,
						   .reply = &reply };
	int r = converse(&a, err);

	if (r < 0 || r == 200)
		return r < 0 ? r : 0;
	return api_refused(err, -EBUSY, method, path, r, &reply);
}

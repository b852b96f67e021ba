/* A question over a unix socket: connected, sent, and read until the service closes, within one time limit. */
#include "agent/io/local_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/ascii.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"

#define BUSY_USEC (20 * USEC_PER_MSEC) /* until a service whose backlog is full is tried again */

struct local_call {
	struct loop *loop;
	struct loop_timer *timer; /* the next try to connect, or the end of time */
	struct loop_io *io;
	int fd;
	struct sockaddr_un address;
	struct buf question, answer;
	size_t max_body;
	usec_t timeout, deadline;
	local_done_fn done;
	void *userdata;
	bool connected, calling, freed;
	char detail[160];
};

static void call_destroy(struct local_call *c)
{
	loop_io_free(c->io);
	loop_timer_free(c->timer);
	if (c->fd >= 0)
		close(c->fd);
	buf_done(&c->question);
	buf_done(&c->answer);
	free(c);
}

void local_call_free(struct local_call *c)
{
	if (!c)
		return;
	if (c->calling)
		c->freed = true;
	else
		call_destroy(c);
}

static void describe(struct local_call *c, int result)
{
	switch (result) {
	case -ENOENT:
	case -ECONNREFUSED:
		(void)snprintf(c->detail, sizeof(c->detail), "nobody listens there");
		return;
	case -ETIMEDOUT:
		(void)snprintf(c->detail, sizeof(c->detail), "no answer within %.1f s",
			       (double)c->timeout / (double)USEC_PER_SEC);
		return;
	case -EPROTO:
		(void)snprintf(c->detail, sizeof(c->detail), "what answers there does not speak HTTP");
		return;
	case -EFBIG:
		(void)snprintf(c->detail, sizeof(c->detail), "the answer is too long");
		return;
	case -EPIPE:
		(void)snprintf(c->detail, sizeof(c->detail), "the connection was closed before the answer was complete");
		return;
	default:
		(void)snprintf(c->detail, sizeof(c->detail), "%s", strerror(-result));
	}
}

/* The one end of every call; may free it. */
static void finish(struct local_call *c, const struct local_answer *answer)
{
	loop_io_free(TAKE_PTR(c->io));
	loop_timer_stop(c->timer);
	c->calling = true;
	c->done(answer, c->userdata);
	c->calling = false;
	if (c->freed)
		call_destroy(c);
}

static void fail(struct local_call *c, int result)
{
	describe(c, result);
	finish(c, &(struct local_answer){ .result = result, .body = "", .detail = c->detail });
}

/* The value of the header, or NULL; `head` ends with the blank line. */
static const char *find_header(const char *head, const char *name)
{
	for (const char *line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
		if (strncasecmp(line + 2, name, strlen(name)) == 0 && line[2 + strlen(name)] == ':')
			return line + 2 + strlen(name) + 1 + strspn(line + 2 + strlen(name) + 1, " ");
	return NULL;
}

/* The length is there to tell a whole answer from one whose sender died in the middle of it. */
static int read_answer(const struct local_call *c, struct local_answer *ret)
{
	const char *text = buf_str(&c->answer), *end = strstr(text, "\r\n\r\n"), *length;
	size_t head = end ? (size_t)(end - text) + strlen("\r\n\r\n") : 0;
	char digits[24] = "";
	uint64_t wanted;

	if (c->answer.len == 0)
		return -EPIPE;
	if (!str_starts(text, "HTTP/1.") || !end)
		return str_starts(text, "HTTP/1.") ? -EPIPE : -EPROTO;
	if (strlen(text) < strlen("HTTP/1.x 200") || !ascii_is_digit(text[9]) || !ascii_is_digit(text[10]) ||
	    !ascii_is_digit(text[11]))
		return -EPROTO;
	length = find_header(text, "Content-Length");
	if (length)
		(void)snprintf(digits, sizeof(digits), "%.*s", (int)strspn(length, "0123456789"), length);
	if (!str_to_u64(digits, UINT64_MAX, &wanted))
		return -EPROTO;
	if (c->answer.len - head < wanted)
		return -EPIPE;
	if (c->answer.len - head > c->max_body)
		return -EFBIG;
	*ret = (struct local_answer){
		.status = (text[9] - '0') * 100 + (text[10] - '0') * 10 + (text[11] - '0'),
		.body = text + head,
		.len = c->answer.len - head,
	};
	return 0;
}

static void over(struct local_call *c)
{
	struct local_answer answer;
	int r = read_answer(c, &answer);

	if (r < 0)
		fail(c, r);
	else
		finish(c, &answer);
}

/* 1: all that can be had now; 0: the end. */
static int receive(struct local_call *c)
{
	char chunk[16384];

	for (;;) {
		ssize_t n = recv(c->fd, chunk, sizeof(chunk), 0);

		if (n < 0 && errno == EINTR)
			continue;
		/* Reset: closed before it had read all. Whether it has answered is told by the length. */
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return 0;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		if (buf_append(&c->answer, chunk, (size_t)n) < 0)
			return buf_ok(&c->answer);
	}
}

/* So little is taken at once, or not at all. */
static int transmit(struct local_call *c)
{
	ssize_t n = send(c->fd, c->question.data, c->question.len, MSG_NOSIGNAL);

	/* Closed before it has read all: it may have answered nevertheless. */
	if (n < 0 && errno != EPIPE)
		return -errno;
	return n < 0 || (size_t)n == c->question.len ? 0 : -ENOBUFS;
}

static void on_readable(int fd, uint32_t events, void *userdata)
{
	struct local_call *c = userdata;
	int r = receive(c);

	(void)fd;
	(void)events;
	if (r == 0)
		over(c);
	else if (r < 0)
		fail(c, r);
}

/* 1: the service is busy; later. */
static int attach(struct local_call *c)
{
	int r;

	if (c->fd < 0)
		c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, (const struct sockaddr *)&c->address, sizeof(c->address)) < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : -errno;
	c->connected = true;
	r = transmit(c);
	return r < 0 ? r : loop_io_new(c->loop, "local-call", c->fd, EPOLLIN, on_readable, c, &c->io);
}

static void on_timer(void *userdata)
{
	struct local_call *c = userdata;
	int r = -ETIMEDOUT;

	if (!c->connected && time_boot() < c->deadline) {
		r = attach(c);
		if (r >= 0) {
			loop_timer_at(c->timer, r == 0 ? c->deadline : usec_min(usec_add(time_boot(), BUSY_USEC), c->deadline));
			return;
		}
	}
	fail(c, r);
}

static int compose(struct local_call *c, const struct local_request *req)
{
	(void)buf_printf(&c->question, "%s %s HTTP/1.0\r\n", req->method, req->target);
	if (req->body)
		(void)buf_printf(&c->question, "Content-Length: %zu\r\n", strlen(req->body));
	(void)buf_puts(&c->question, "\r\n");
	(void)buf_puts(&c->question, req->body ? req->body : "");
	return buf_ok(&c->question);
}

int local_ask(struct loop *loop, const struct local_request *req, local_done_fn done, void *userdata,
	      struct local_call **ret, struct error *err)
{
	_cleanup_(local_call_freep) struct local_call *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return error_oom(err);
	*c = (struct local_call){
		.loop = loop,
		.fd = -1,
		.address = { .sun_family = AF_UNIX },
		.question = BUF_INIT(LIMIT_LOCAL_QUESTION),
		.answer = BUF_INIT(req->max_body + LIMIT_HTTP_HEADERS),
		.max_body = req->max_body,
		.timeout = req->timeout_usec,
		.deadline = usec_add(time_boot(), req->timeout_usec),
		.done = done,
		.userdata = userdata,
	};
	if (strlen(req->socket) >= sizeof(c->address.sun_path))
		return error_set(err, ERROR_SYSTEM, -ENAMETOOLONG, "%s: the path of a socket has at most %zu bytes", req->socket,
				 sizeof(c->address.sun_path) - 1);
	memcpy(c->address.sun_path, req->socket, strlen(req->socket));
	r = compose(c, req);
	if (r < 0)
		return error_errno(err, r, "cannot ask the service on %s", req->socket);
	r = loop_timer_new(loop, "local-call", on_timer, c, &c->timer);
	if (r < 0)
		return error_errno(err, r, "cannot make a timer");
	loop_timer_after(c->timer, 0);
	*ret = TAKE_PTR(c);
	return 0;
}

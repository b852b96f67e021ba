/* Questions to the service over its socket: by a real listener, and by peers that answer wrongly, late or not at all. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/listener.h"
#include "agent/io/local_client.h"
#include "agent/io/loop.h"

#define LONG_ENOUGH (20 * USEC_PER_SEC)

struct world {
	char dir[40];
	char *path;
	struct loop *loop;
	struct listener *listener;
	struct loop_io *io;
	struct loop_timer *later;
	int fd; /* that the peer listens on */
	const char *canned;
	struct local_call *call;
	struct local_request request;
	int result, status;
	char body[256], detail[160];
	size_t len;
	unsigned answers, wanted;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	w->fd = -1;
	strcpy(w->dir, "/tmp/ek-local-XXXXXX");
	if (!mkdtemp(w->dir) || loop_new(&w->loop, NULL) < 0)
		return -1;
	w->path = str_format("%s/api.sock", w->dir);
	w->request = (struct local_request){
		.socket = w->path, .method = "GET", .target = "/", .timeout_usec = LONG_ENOUGH, .max_body = 1000
	};
	w->wanted = 1;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	int r;

	local_call_free(w->call);
	listener_free(w->listener);
	loop_io_free(w->io);
	loop_timer_free(w->later);
	if (w->fd >= 0)
		close(w->fd);
	loop_free(w->loop);
	r = fs_remove_tree(w->dir, NULL);
	free(w->path);
	free(w);
	return r;
}

static void on_answer(const struct local_answer *a, void *userdata)
{
	struct world *w = userdata;

	w->answers++;
	w->result = a->result;
	w->status = a->status;
	w->len = a->len;
	assert_int_equal(a->body[a->len], '\0');
	(void)snprintf(w->body, sizeof(w->body), "%s", a->body);
	(void)snprintf(w->detail, sizeof(w->detail), "%s", a->detail ? a->detail : "");
	if (w->answers < w->wanted) {
		local_call_free(TAKE_PTR(w->call));
		assert_int_equal(local_ask(w->loop, &w->request, on_answer, w, &w->call, NULL), 0);
		return;
	}
	loop_exit(w->loop, 0);
}

static void ask(struct world *w)
{
	local_call_free(TAKE_PTR(w->call));
	assert_int_equal(local_ask(w->loop, &w->request, on_answer, w, &w->call, NULL), 0);
	assert_int_equal(w->answers, 0);
	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->answers, w->wanted);
	w->answers = 0;
}

/* The real service. */

static void on_request(const struct listener_request *req, struct listener_reply *reply, void *userdata)
{
	(void)userdata;
	assert_true(req->local);
	if (str_equal(req->path, "/nothing"))
		return;
	reply->status = str_equal(req->method, "POST") ? 202 : 200;
	if (str_equal(req->path, "/long")) {
		for (int i = 0; i < 1500; i++)
			buf_putc(&reply->body, 'x');
		return;
	}
	buf_printf(&reply->body, "%s %s?%s [%s]", req->method, req->path, req->query, req->body);
}

static void serve(struct world *w)
{
	int fd = -1;

	assert_int_equal(listener_bind_unix(w->path, 0600, &fd, NULL), 0);
	assert_int_equal(listener_new(w->loop, fd, on_request, w, &w->listener, NULL), 0);
}

static void test_questions_are_answered(void **state)
{
	struct world *w = *state;

	serve(w);
	w->request.target = "/v1/status?full";
	ask(w);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->status, 200);
	assert_string_equal(w->body, "GET /v1/status?full []");
	assert_int_equal(w->len, strlen(w->body));

	w->request.method = "POST";
	w->request.body = "a reason, and\r\n\r\nmore";
	ask(w);
	assert_int_equal(w->status, 202);
	assert_string_equal(w->body, "POST /v1/status?full [a reason, and\r\n\r\nmore]");

	w->request.body = "";
	ask(w);
	assert_int_equal(w->status, 202);
	assert_string_equal(w->body, "POST /v1/status?full []");

	w->request.target = "/nothing";
	ask(w);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->status, 404);
}

static void test_the_callback_may_ask_again(void **state)
{
	struct world *w = *state;

	serve(w);
	w->wanted = 3;
	ask(w);
	assert_int_equal(w->status, 200);
}

static void test_an_answer_has_a_limit(void **state)
{
	struct world *w = *state;

	serve(w);
	w->request.target = "/long";
	ask(w);
	assert_int_equal(w->result, -EFBIG);
	assert_string_equal(w->detail, "the answer is too long");
	w->request.max_body = 1500;
	ask(w);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->len, 1500);
	w->request.max_body = 1499;
	ask(w);
	assert_int_equal(w->result, -EFBIG);
}

/* Peers of other kinds. */

static void bind_to(struct world *w, int backlog)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	assert_true(strlen(w->path) < sizeof(address.sun_path));
	strcpy(address.sun_path, w->path);
	w->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(w->fd >= 0);
	assert_int_equal(bind(w->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (backlog >= 0)
		assert_int_equal(listen(w->fd, backlog), 0);
}

static void on_connection(int fd, uint32_t events, void *userdata)
{
	struct world *w = userdata;
	_cleanup_close_ int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	assert_true(client >= 0);
	assert_int_equal(write(client, w->canned, strlen(w->canned)), (ssize_t)strlen(w->canned));
}

static void test_what_is_no_whole_answer(void **state)
{
	static const struct {
		const char *text;
		int result;
	} cases[] = {
		{ "", -EPIPE },
		{ "HTTP/1.1 200 OK\r\nContent-Len", -EPIPE },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour", -EPIPE },
		{ "HTTP/1.1 200 OK\r\nX: Content-Length: 4\r\n\r\nfour", -EPROTO },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nfour", -EPROTO },
		{ "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nfour", -EPROTO },
		{ "HTTP/1.1 \r\n\r\n", -EPROTO },
		{ "HTTP/1.1 2x0 OK\r\nContent-Length: 4\r\n\r\nfour", -EPROTO },
		{ "220 mail.example.com ready\r\n", -EPROTO },
		{ "HTTP/2 200\r\nContent-Length: 4\r\n\r\nfour", -EPROTO },
		{ "HTTP/1.0 503 No\r\ncontent-length:  4\r\n\r\nfour", 0 },
	};
	struct world *w = *state;

	bind_to(w, 5);
	assert_int_equal(loop_io_new(w->loop, "peer", w->fd, EPOLLIN, on_connection, w, &w->io), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		w->canned = cases[i].text;
		ask(w);
		if (w->result != cases[i].result)
			fail_msg("%s: %d, not %d", cases[i].text, w->result, cases[i].result);
		assert_int_equal(*w->detail != '\0', w->result < 0);
	}
	assert_int_equal(w->status, 503);
	assert_string_equal(w->body, "four");
}

static void test_nobody_listens(void **state)
{
	struct world *w = *state;

	ask(w);
	assert_int_equal(w->result, -ENOENT);
	assert_string_equal(w->detail, "nobody listens there");
	bind_to(w, -1);
	ask(w);
	assert_int_equal(w->result, -ECONNREFUSED);
	assert_string_equal(w->detail, "nobody listens there");
}

static void test_a_silent_peer(void **state)
{
	struct world *w = *state;

	bind_to(w, 5);
	w->request.timeout_usec = 100 * USEC_PER_MSEC;
	ask(w);
	assert_int_equal(w->result, -ETIMEDOUT);
	assert_string_equal(w->detail, "no answer within 0.1 s");
}

static void on_later(void *userdata)
{
	struct world *w = userdata;

	loop_exit(w->loop, 0);
}

static void test_a_call_that_is_freed_is_not_answered(void **state)
{
	struct world *w = *state;

	serve(w);
	assert_int_equal(loop_timer_new(w->loop, "later", on_later, w, &w->later), 0);
	assert_int_equal(local_ask(w->loop, &w->request, on_answer, w, &w->call, NULL), 0);
	local_call_free(TAKE_PTR(w->call));
	loop_timer_after(w->later, 50 * USEC_PER_MSEC);
	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->answers, 0);
}

static void on_room(void *userdata)
{
	struct world *w = userdata;
	_cleanup_close_ int first = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);

	assert_true(first >= 0);
	assert_int_equal(loop_io_new(w->loop, "peer", w->fd, EPOLLIN, on_connection, w, &w->io), 0);
}

/* Whoever asks while as many wait as the peer lets wait, waits too. */
static void test_a_busy_peer(void **state)
{
	struct world *w = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_close_ int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	bind_to(w, 0);
	strcpy(address.sun_path, w->path);
	assert_int_equal(connect(other, (struct sockaddr *)&address, sizeof(address)), 0);
	w->canned = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	w->request.timeout_usec = 60 * USEC_PER_MSEC;
	ask(w);
	assert_int_equal(w->result, -ETIMEDOUT);

	assert_int_equal(loop_timer_new(w->loop, "later", on_room, w, &w->later), 0);
	loop_timer_after(w->later, 30 * USEC_PER_MSEC);
	w->request.timeout_usec = LONG_ENOUGH;
	ask(w);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->status, 200);
}

static void test_what_cannot_be_asked(void **state)
{
	struct world *w = *state;
	char text[LIMIT_LOCAL_QUESTION + 1], path[300];
	struct error e = ERROR_INIT;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	w->request.body = text;
	assert_int_equal(local_ask(w->loop, &w->request, on_answer, w, &w->call, &e), -EFBIG);
	assert_non_null(strstr(e.msg, w->path));
	w->request.body = NULL;
	memset(path, '/', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	w->request.socket = path;
	assert_int_equal(local_ask(w->loop, &w->request, on_answer, w, &w->call, &e), -ENAMETOOLONG);
	assert_null(w->call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_questions_are_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_callback_may_ask_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_answer_has_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_no_whole_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_listens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_silent_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_call_that_is_freed_is_not_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_busy_peer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_cannot_be_asked, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

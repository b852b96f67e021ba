/* HTTP on TCP and unix sockets: requests, limits, peers, sockets that are taken. The clients are children. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/listener.h"
#include "agent/io/loop.h"

struct world {
	char dir[40];
	char *path;
	struct loop *loop;
	struct listener *listener;
	struct loop_io *io;
	unsigned port;
	int client, kept; /* the socket, as a service manager keeps it */
	struct buf got;
	unsigned requests;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	strcpy(w->dir, "/tmp/ek-listener-XXXXXX");
	if (!mkdtemp(w->dir) || loop_new(&w->loop, NULL) < 0)
		return -1;
	w->path = str_format("%s/api.sock", w->dir);
	w->got = BUF_INIT(4 << 20);
	w->client = w->kept = -1;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	int r;

	listener_free(w->listener);
	if (w->kept >= 0)
		close(w->kept);
	loop_io_free(w->io);
	if (w->client >= 0)
		close(w->client);
	loop_free(w->loop);
	buf_done(&w->got);
	r = fs_remove_tree(w->dir, NULL);
	free(w->path);
	free(w);
	return r;
}

static void on_request(const struct listener_request *req, struct listener_reply *reply, void *userdata)
{
	struct world *w = userdata;

	w->requests++;
	if (str_equal(req->path, "/nothing"))
		return;
	reply->status = 200;
	if (str_equal(req->path, "/huge")) {
		for (size_t n = 0; n <= LIMIT_API_REPLY; n += 64)
			(void)buf_puts(&reply->body, "0123456789012345678901234567890123456789012345678901234567890123");
		return;
	}
	if (str_equal(req->path, "/big")) {
		for (size_t n = 0; n < LIMIT_API_REPLY; n += 64)
			(void)buf_puts(&reply->body, "0123456789012345678901234567890123456789012345678901234567890123");
		return;
	}
	reply->content_type = "text/plain";
	(void)buf_printf(&reply->body, "method=%s path=%s query=%s body=%zu:%.20s local=%d uid=%d\n", req->method, req->path,
			 req->query, req->body_len, req->body, req->local, (int)req->peer_uid);
}

static void listen_tcp(struct world *w)
{
	struct sockaddr_in a = { 0 };
	socklen_t len = sizeof(a);
	int fd = -1;

	assert_int_equal(listener_bind_tcp("127.0.0.1:0", &fd, NULL), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	w->port = ntohs(a.sin_port);
	w->kept = dup(fd);
	assert_int_equal(listener_new(w->loop, fd, on_request, w, &w->listener, NULL), 0);
}

static void listen_unix(struct world *w)
{
	int fd = -1;

	assert_int_equal(listener_bind_unix(w->path, 0600, &fd, NULL), 0);
	assert_int_equal(listener_new(w->loop, fd, on_request, w, &w->listener, NULL), 0);
}

static int connect_tcp(struct world *w)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)w->port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int connect_unix(struct world *w)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path, w->path, strlen(w->path));
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

/* Until the server closes. */
static void on_readable(int fd, uint32_t events, void *userdata)
{
	struct world *w = userdata;
	char chunk[65536];
	ssize_t n = read(fd, chunk, sizeof(chunk));

	(void)events;
	if (n > 0)
		assert_int_equal(buf_append(&w->got, chunk, (size_t)n), 0);
	else
		loop_exit(w->loop, 0);
}

static const char *talk(struct world *w, int fd, const char *text, size_t len)
{
	buf_reset(&w->got);
	w->client = fd;
	assert_int_equal(fs_write_all(fd, text, len), 0);
	assert_int_equal(loop_io_new(w->loop, "client", fd, EPOLLIN, on_readable, w, &w->io), 0);
	assert_int_equal(loop_run(w->loop), 0);
	loop_io_free(TAKE_PTR(w->io));
	close(w->client);
	w->client = -1;
	return buf_str(&w->got);
}

#define ask(w, fd, text) talk((w), (fd), (text), strlen(text))
#define CLOSE "Host: x\r\nConnection: close\r\n"

static void test_tcp(void **state)
{
	struct world *w = *state;
	const char *s;

	listen_tcp(w);
	s = ask(w, connect_tcp(w), "GET /ready?a=%20b&c HTTP/1.1\r\n" CLOSE "\r\n");
	assert_true(str_starts(s, "HTTP/1.1 200 "));
	assert_non_null(strstr(s, "Content-Type: text/plain\r\n"));
	assert_non_null(strstr(s, "method=GET path=/ready query=a=%20b&c body=0: local=0 uid=-1\n"));
	s = ask(w, connect_tcp(w), "GET /nothing HTTP/1.1\r\n" CLOSE "\r\n");
	assert_true(str_starts(s, "HTTP/1.1 404 "));
	assert_non_null(strstr(s, "Content-Type: application/json\r\n"));
	s = ask(w, connect_tcp(w), "POST /x HTTP/1.1\r\n" CLOSE "Content-Length: 5\r\n\r\nhello");
	assert_non_null(strstr(s, "method=POST path=/x query= body=5:hello"));
	s = ask(w, connect_tcp(w), "POST /x HTTP/1.1\r\n" CLOSE "Content-Length: 0\r\n\r\n");
	assert_non_null(strstr(s, "body=0:"));
	s = ask(w, connect_tcp(w), "POST /x HTTP/1.1\r\n" CLOSE "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
	assert_non_null(strstr(s, "body=5:abcde"));
	/* Two on one connection. */
	s = ask(w, connect_tcp(w), "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\n" CLOSE "\r\n");
	assert_non_null(strstr(s, "path=/1"));
	assert_non_null(strstr(s, "path=/2"));
	assert_int_equal(w->requests, 7);
	s = ask(w, connect_tcp(w), "GARBAGE\r\n\r\n");
	assert_null(strstr(s, "200 OK"));
	assert_int_equal(w->requests, 7);
}

static void test_limits(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1 << 20);
	struct world *w = *state;
	const char *s;

	listen_tcp(w);
	for (size_t extra = 0; extra < 2; extra++) {
		buf_reset(&b);
		(void)buf_printf(&b, "POST /x HTTP/1.1\r\n" CLOSE "Content-Length: %zu\r\n\r\n", LIMIT_LISTENER_REQUEST + extra);
		for (size_t i = 0; i < LIMIT_LISTENER_REQUEST + extra; i++)
			(void)buf_putc(&b, 'b');
		assert_int_equal(buf_ok(&b), 0);
		s = talk(w, connect_tcp(w), b.data, b.len);
		if (!extra)
			assert_non_null(strstr(s, "body=65536:bbb"));
		else
			assert_true(str_starts(s, "HTTP/1.1 413 "));
	}
	/* A header that does not fit. */
	buf_reset(&b);
	(void)buf_puts(&b, "GET /x HTTP/1.1\r\nX: ");
	for (int i = 0; i < 30000; i++)
		(void)buf_putc(&b, 'h');
	(void)buf_puts(&b, "\r\n" CLOSE "\r\n");
	w->requests = 0;
	(void)talk(w, connect_tcp(w), b.data, b.len);
	assert_int_equal(w->requests, 0);

	/* An answer of exactly the limit, and a larger one. */
	s = ask(w, connect_tcp(w), "GET /big HTTP/1.1\r\n" CLOSE "\r\n");
	assert_true(str_starts(s, "HTTP/1.1 200 "));
	assert_true(w->got.len > LIMIT_API_REPLY);
	s = ask(w, connect_tcp(w), "GET /huge HTTP/1.1\r\n" CLOSE "\r\n");
	assert_true(str_starts(s, "HTTP/1.1 500 "));
}

/* More connections than are served at once: those that say nothing do not keep the server from its loop. */
static void test_many_connections(void **state)
{
	int idle[LIMIT_LISTENER_CONNECTIONS + 5];
	struct world *w = *state;

	listen_tcp(w);
	assert_non_null(strstr(ask(w, connect_tcp(w), "GET /1 HTTP/1.1\r\n" CLOSE "\r\n"), "path=/1"));
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		idle[i] = connect_tcp(w);
	for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
		close(idle[i]);
	assert_non_null(strstr(ask(w, connect_tcp(w), "GET /2 HTTP/1.1\r\n" CLOSE "\r\n"), "path=/2"));
}

static void stop_loop(void *userdata)
{
	struct world *w = userdata;

	loop_exit(w->loop, 0);
}

/* The end of a process: who was accepted a moment ago is answered, who comes then is not refused, a silent one costs little. */
static void test_the_last_are_answered(void **state)
{
	static const char request[] = "GET /last HTTP/1.1\r\n" CLOSE "\r\n";
	struct loop_timer *timer = NULL;
	struct world *w = *state;
	int accepted, silent, late;
	char text[4096] = "";
	usec_t began;

	listen_tcp(w);
	accepted = connect_tcp(w);
	silent = connect_tcp(w);
	assert_int_equal(loop_timer_new(w->loop, "stop", stop_loop, w, &timer), 0);
	loop_timer_after(timer, 50 * USEC_PER_MSEC);
	assert_int_equal(loop_run(w->loop), 0);
	loop_timer_free(timer);
	assert_int_equal(fs_write_all(accepted, request, sizeof(request) - 1), 0);
	began = time_boot();
	listener_finish(w->listener);
	assert_true(time_boot() - began < 5 * USEC_PER_SEC);
	late = connect_tcp(w);
	listener_free(TAKE_PTR(w->listener));
	assert_true(read(accepted, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "path=/last"));
	assert_int_equal(w->requests, 1);
	close(accepted);
	close(silent);
	close(late);
}

static void test_unix(void **state)
{
	_cleanup_free_ char *mine = str_format("local=1 uid=%d", (int)getuid());
	struct world *w = *state;
	struct stat st;
	int fd = -1;

	umask(022);
	listen_unix(w);
	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_non_null(strstr(ask(w, connect_unix(w), "GET /v1/status HTTP/1.1\r\n" CLOSE "\r\n"), mine));
	assert_int_equal(umask(022), 022);

	/* A stale socket is replaced, anything else is not. */
	assert_int_equal(listener_bind_unix(w->path, 0666, &fd, NULL), 0);
	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	close(fd);
	fd = -1;
	assert_int_equal(unlink(w->path), 0);
	assert_int_equal(fs_write(w->path, "precious", 8, 0600, 0, NULL), 0);
	assert_int_equal(listener_bind_unix(w->path, 0600, &fd, NULL), -EADDRINUSE);
	assert_int_equal(fd, -1);
}

static void test_other_user(void **state)
{
	struct world *w = *state;
	int fds[2], status, fd = -1;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(w->dir, 0755), 0);
	assert_int_equal(listener_bind_unix(w->path, 0666, &fd, NULL), 0);
	assert_int_equal(listener_new(w->loop, fd, on_request, w, &w->listener, NULL), 0);
	/* The peer is who connected, not who uses the connection. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		static const char text[] = "GET /who HTTP/1.1\r\n" CLOSE "\r\n";
		char got[2000];
		size_t len = 0;
		ssize_t n;

		if (setuid(12345) < 0)
			_exit(1);
		fd = connect_unix(w);
		if (write(fd, text, strlen(text)) < 0)
			_exit(2);
		while ((n = read(fd, got + len, sizeof(got) - len)) > 0)
			len += (size_t)n;
		if (write(fds[1], got, len) < 0)
			_exit(3);
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(loop_io_new(w->loop, "child", fds[0], EPOLLIN, on_readable, w, &w->io), 0);
	assert_int_equal(loop_run(w->loop), 0);
	loop_io_free(TAKE_PTR(w->io));
	close(fds[0]);
	assert_non_null(strstr(buf_str(&w->got), "uid=12345"));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_bind(void **state)
{
	static const char *const bad[] = { "",	    "8008",	  ":8008",	 "localhost", "localhost:", "localhost:99999",
					   "::1:80", "[::1]:x", "name.example:80", "[]:80",	  "1.2.3:a" };
	_cleanup_free_ char *taken = NULL, *loop6 = NULL;
	struct world *w = *state;
	struct error err;
	int fd = -1;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(listener_bind_tcp(bad[i], &fd, &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i]));
		assert_int_equal(fd, -1);
	}
	listen_tcp(w);
	taken = str_format("localhost:%u", w->port);
	assert_int_equal(listener_bind_tcp(taken, &fd, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, taken));
	assert_non_null(strstr(err.msg, "ss -ltnp"));
	assert_int_equal(listener_bind_tcp("192.0.2.1:80", &fd, &err), -EADDRNOTAVAIL);
	loop6 = strdup("[::1]:0");
	if (listener_bind_tcp(loop6, &fd, &err) == 0) /* unless the machine has no IPv6 */
		close(fd);
	else
		assert_true(err.code == -EADDRNOTAVAIL || err.code == -EAFNOSUPPORT);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tcp),	 TEST(test_limits),	TEST(test_many_connections),
		TEST(test_the_last_are_answered),
		TEST(test_unix), TEST(test_other_user), TEST(test_bind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

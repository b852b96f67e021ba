/* The HTTP client against a server with good and bad manners (tests/support/http_server.py). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"
#include "tests/support/http_server.h"

struct world {
	struct loop *loop;
	struct http *http;
	struct http_call *call, *other;
	struct loop_timer *end;
	int calls, want;
	int result;
	long status;
	struct buf body;
	char detail[800], host[100], header[100];
	struct buf certificate;
	bool no_header;
	bool free_in_callback, submit_again;
	size_t sunk;
	int sink_result;
	int heads, head_result; /* calls of the head's callback, and what it gives back */
	long head_status;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	if (!w || loop_new(&w->loop, NULL) < 0 || http_new(&w->http, w->loop, NULL, NULL) < 0)
		return -1;
	w->body = BUF_INIT(1 << 20);
	w->certificate = BUF_INIT(1 << 20);
	w->want = 1;
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	http_call_free(w->call);
	http_call_free(w->other);
	http_free(w->http);
	loop_timer_free(w->end);
	loop_free(w->loop);
	buf_done(&w->body);
	buf_done(&w->certificate);
	free(w);
	return 0;
}

static void on_done(const struct http_response *resp, void *userdata);

static int submit(struct world *w, const char *url, struct http_call **ret)
{
	struct http_request req = { .url = url, .timeout_usec = 3 * USEC_PER_SEC, .max_body = 1 << 20 };

	return http_submit(w->http, &req, on_done, w, ret, NULL);
}

static char *url_of(const char *path)
{
	return str_format("http://127.0.0.1:%u%s", server.port, path);
}

static void on_done(const struct http_response *resp, void *userdata)
{
	struct world *w = userdata;
	const char *h = http_response_header(resp, "x-THING");

	w->calls++;
	w->result = resp->result;
	w->status = resp->status;
	buf_reset(&w->body);
	assert_int_equal(buf_append(&w->body, resp->body, resp->len), 0);
	buf_reset(&w->certificate);
	if (resp->certificate)
		assert_int_equal(buf_puts(&w->certificate, resp->certificate), 0);
	assert_int_equal(resp->body[resp->len], '\0');
	assert_true((resp->result < 0) == (resp->detail != NULL));
	(void)snprintf(w->detail, sizeof(w->detail), "%s", resp->detail ? resp->detail : "");
	(void)snprintf(w->host, sizeof(w->host), "%s", resp->host);
	w->no_header = !h;
	(void)snprintf(w->header, sizeof(w->header), "%s", h ? h : "");
	if (w->free_in_callback) {
		http_call_free(TAKE_PTR(w->call));
		assert_int_equal(resp->body[resp->len], '\0'); /* what resp points to lasts */
		assert_non_null(resp->host);
	}
	if (w->submit_again) {
		_cleanup_free_ char *url = url_of("/hello");

		w->submit_again = false;
		assert_int_equal(submit(w, url, &w->other), 0);
	}
	if (w->calls == w->want)
		loop_exit(w->loop, 0);
}

/* Runs one request to its end; what came of it stands in `w`. */
static void run(struct world *w, const struct http_request *req)
{
	struct error err = ERROR_INIT;
	struct http_call *c = NULL;

	w->calls = 0;
	assert_int_equal(http_submit(w->http, req, on_done, w, &c, &err), 0);
	assert_int_equal(w->calls, 0);
	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->calls, 1);
	http_call_free(c);
}

static void get(struct world *w, const char *path)
{
	_cleanup_free_ char *url = url_of(path);

	run(w, &(struct http_request){ .url = url, .timeout_usec = 3 * USEC_PER_SEC, .max_body = 1 << 20 });
}

static void test_answers(void **state)
{
	static const struct {
		const char *path;
		size_t max;
		usec_t timeout;
		unsigned redirects;
		int result;
		long status;
		size_t len;
		const char *detail;
	} cases[] = {
		{ "/hello", 100, 2000000, 0, 0, 200, 5, NULL },
		{ "/hello?sig=abc", 5, 2000000, 0, 0, 200, 5, NULL },
		{ "/hello", 4, 2000000, 0, -EFBIG, 200, 0, "too large" },
		{ "/missing", 100, 2000000, 0, 0, 404, 2, NULL },
		{ "/big", 1000, 2000000, 0, -EFBIG, 200, 0, "too large" },
		{ "/hang", 100, 200000, 0, -ETIMEDOUT, 0, 0, "waiting for 127.0.0.1:" },
		{ "/hang-body", 100, 200000, 0, -ETIMEDOUT, 200, 4, "receiving from 127.0.0.1:" },
		{ "/redirect", 100, 2000000, 0, 0, 302, 5, NULL },
		{ "/redirect", 100, 2000000, 1, 0, 200, 5, NULL },
		{ "/loop", 100, 2000000, 3, -ELOOP, 302, 0, "redirects" },
		{ "/to-file", 100, 2000000, 3, -EPROTONOSUPPORT, 302, 0, "not allowed" },
		{ "/cut?secret=1", 100, 2000000, 0, -EIO, 200, 9, "receiving from" },
		{ "/garbage", 100, 2000000, 0, -EPROTO, 0, 0, "not HTTP" },
		{ "/nothing", 100, 2000000, 0, -EIO, 0, 0, "waiting for" },
		{ "/flood", 100, 2000000, 0, -EFBIG, 200, 0, "too large" },
		{ "/many-headers", 100, 2000000, 0, 0, 200, 2, NULL },
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *url = url_of(cases[i].path);
		struct http_request req = { .url = url,
					    .timeout_usec = cases[i].timeout,
					    .max_body = cases[i].max,
					    .max_redirects = cases[i].redirects };

		run(w, &req);
		print_message("%-14s %4d %3ld %4zu %s\n", cases[i].path, w->result, w->status, w->body.len, w->detail);
		assert_int_equal(w->result, cases[i].result);
		assert_int_equal(w->status, cases[i].status);
		if (w->result != -EFBIG)
			assert_int_equal(w->body.len, cases[i].len);
		assert_string_equal(w->host, "127.0.0.1");
		if (cases[i].detail)
			assert_non_null(strstr(w->detail, cases[i].detail));
		assert_null(strstr(w->detail, "secret"));
	}
}

static void test_header(void **state)
{
	struct world *w = *state;

	get(w, "/hello");
	assert_string_equal(w->header, "one"); /* the first, without blanks */
	get(w, "/missing");
	assert_true(w->no_header);
}

static void test_methods(void **state)
{
	static const char *const headers[] = { "Metadata: true", "Content-Type: application/json", NULL };
	_cleanup_free_ char *url = url_of("/echo");
	struct world *w = *state;
	struct http_request req = { .url = url, .timeout_usec = 3 * USEC_PER_SEC, .max_body = 10000, .headers = headers };

	run(w, &req);
	assert_true(str_starts(buf_str(&w->body), "GET /echo\n"));
	assert_non_null(strstr(buf_str(&w->body), "Metadata: true"));

	req.body = "{\"a\":1}";
	req.body_len = 7;
	req.secret = true;
	run(w, &req);
	assert_true(str_starts(buf_str(&w->body), "POST /echo\n"));
	assert_non_null(strstr(buf_str(&w->body), "Content-Type: application/json"));
	assert_true(str_ends(buf_str(&w->body), "{\"a\":1}"));

	req.method = "PUT";
	req.headers = NULL;
	run(w, &req);
	assert_true(str_starts(buf_str(&w->body), "PUT /echo\n"));
	assert_null(strstr(buf_str(&w->body), "Content-Type"));
	assert_null(strstr(buf_str(&w->body), "Expect"));
	assert_true(str_ends(buf_str(&w->body), "{\"a\":1}"));

	req.body = NULL;
	req.method = "DELETE";
	run(w, &req);
	assert_true(str_starts(buf_str(&w->body), "DELETE /echo\n"));
	req.method = "POST";
	run(w, &req);
	assert_non_null(strstr(buf_str(&w->body), "Content-Length: 0"));
	req.method = "HEAD";
	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->body.len, 0);
}

static void test_refused(void **state)
{
	static const struct {
		const char *url, *header, *say;
	} cases[] = {
		{ "file:///etc/passwd", NULL, "URL" },
		{ "ftp://host/file", NULL, "ftp" },
		{ "", NULL, "URL" },
		{ "http://", NULL, "URL" },
		{ "http://a b/?secret", NULL, "URL" },
		{ "http://host/\n", NULL, "URL" },
		{ "http://host/", "X: secret\r\nY: b", "header X" },
		{ "http://host/", "no colon", "header no colon" },
	};
	struct world *w = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *const headers[] = { cases[i].header, NULL };
		struct http_request req = {
			.url = cases[i].url, .headers = headers, .timeout_usec = USEC_PER_SEC, .max_body = 10
		};
		struct http_call *c = NULL;
		struct error err = ERROR_INIT;

		assert_int_equal(http_submit(w->http, &req, on_done, w, &c, &err), -EINVAL);
		assert_null(c);
		assert_non_null(strstr(err.msg, cases[i].say));
		assert_null(strstr(err.msg, "secret"));
	}
	assert_int_equal(submit(w, "http://host/", &w->call), 0);
	http_call_free(TAKE_PTR(w->call));
	assert_int_equal(
		http_submit(w->http, &(struct http_request){ .url = "http://host/", .max_body = 1 }, on_done, w, &w->call, NULL),
		-EINVAL);
}

static void test_connection_errors(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_close_ int closed = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int first = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_free_ char *refused = NULL, *unheard = NULL, *silent = NULL;
	struct world *w = *state;
	socklen_t len = sizeof(a);
	struct http_request req = { .timeout_usec = 3 * USEC_PER_SEC, .max_body = 100 };

	/* A port that is ours but not listening, so nobody else can be there. */
	assert_int_equal(bind(closed, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(closed, (struct sockaddr *)&a, &len), 0);
	refused = str_format("http://127.0.0.1:%u/?sig=secret", ntohs(a.sin_port));
	req.url = refused;
	run(w, &req);
	print_message("%s\n", w->detail);
	assert_int_equal(w->result, -ECONNREFUSED);
	assert_int_equal(w->status, 0);
	assert_true(str_starts(w->detail, "connecting to 127.0.0.1:"));
	assert_non_null(strstr(w->detail, "refused"));
	assert_null(strstr(w->detail, "secret"));

	/* A backlog of one nobody accepts from: there is a connection, but never TLS. Then it is full, and the next
	 * SYN gets no answer. */
	a.sin_port = 0;
	assert_int_equal(bind(deaf, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(deaf, 1), 0);
	assert_int_equal(getsockname(deaf, (struct sockaddr *)&a, &len), 0);
	assert_int_equal(connect(first, (struct sockaddr *)&a, sizeof(a)), 0);
	silent = str_format("https://127.0.0.1:%u/", ntohs(a.sin_port));
	req.url = silent;
	req.connect_timeout_usec = 300 * USEC_PER_MSEC;
	run(w, &req);
	print_message("%s\n", w->detail);
	assert_int_equal(w->result, -ETIMEDOUT);
	assert_true(str_starts(w->detail, "TLS with 127.0.0.1:"));
	unheard = str_format("http://127.0.0.1:%u/", ntohs(a.sin_port));
	req.url = unheard;
	req.connect_timeout_usec = 300 * USEC_PER_MSEC;
	run(w, &req);
	print_message("%s\n", w->detail);
	assert_int_equal(w->result, -ETIMEDOUT);
	assert_true(str_starts(w->detail, "connecting to 127.0.0.1:"));
	assert_non_null(strstr(w->detail, "timed out after 0.3 s"));

	/* A label of more than 63 characters is refused by the resolver itself: no name server is asked. */
	req.url = "http://no-such-name-0123456789-0123456789-0123456789-0123456789-0123456789.invalid/";
	req.connect_timeout_usec = 0;
	run(w, &req);
	print_message("%s\n", w->detail);
	assert_int_equal(w->result, -EHOSTUNREACH);
	assert_true(str_starts(w->detail, "resolving no-such-name-"));
}

static void test_keep_alive(void **state)
{
	_cleanup_free_ char *first = NULL;
	struct world *w = *state;

	get(w, "/port");
	first = strdup(buf_str(&w->body));
	for (int i = 0; i < 3; i++) {
		get(w, "/port");
		assert_string_equal(buf_str(&w->body), first);
	}
}

static void test_cancel(void **state)
{
	_cleanup_free_ char *url = url_of("/slow-hello"), *fast = url_of("/hello");
	struct world *w = *state;

	/* Before it began, and in the callback of another that ends first. */
	assert_int_equal(submit(w, url, &w->call), 0);
	http_call_free(TAKE_PTR(w->call));
	assert_int_equal(submit(w, url, &w->other), 0);
	assert_int_equal(submit(w, fast, &w->call), 0);
	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->calls, 1);
	http_call_free(TAKE_PTR(w->other));
	http_call_free(TAKE_PTR(w->call));
	get(w, "/slow-hello"); /* nothing of the cancelled one arrives meanwhile: run() counts */
}

static void on_cancel_other(const struct http_response *resp, void *userdata)
{
	struct world *w = userdata;

	(void)resp;
	w->calls++;
	http_call_free(TAKE_PTR(w->call));
	http_call_free(TAKE_PTR(w->other));
	loop_timer_after(w->end, 300 * USEC_PER_MSEC);
}

static void on_end(void *userdata)
{
	struct world *w = userdata;

	loop_exit(w->loop, 5);
}

/* Two answers that may be in curl's queue at once: the first callback frees both calls. */
static void test_cancel_in_callback(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *url = url_of("/slow-hello");
	struct http_request req = { .url = url, .timeout_usec = 3 * USEC_PER_SEC, .max_body = 100 };

	assert_int_equal(loop_timer_new(w->loop, "end", on_end, w, &w->end), 0);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(http_submit(w->http, &req, on_cancel_other, w, &w->call, NULL), 0);
		assert_int_equal(http_submit(w->http, &req, on_cancel_other, w, &w->other, NULL), 0);
		assert_int_equal(loop_run(w->loop), 5);
		assert_int_equal(w->calls, i);
	}
}

static void test_free_and_submit_in_callback(void **state)
{
	_cleanup_free_ char *url = url_of("/hello");
	struct world *w = *state;

	w->free_in_callback = true;
	w->submit_again = true;
	w->want = 2;
	assert_int_equal(submit(w, url, &w->call), 0);
	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->calls, 2);
	assert_string_equal(buf_str(&w->body), "hello");
}

static void test_proxy(void **state)
{
	_cleanup_free_ char *proxy = str_format("http://127.0.0.1:%u", server.port);
	_cleanup_free_ char *connect_to = str_format("direct.example:80:127.0.0.1:%u", server.port);
	static const char *const suffixes[] = { "direct.example", NULL };
	struct world *w = *state;
	struct http_request req = { .timeout_usec = 3 * USEC_PER_SEC, .max_body = 10000 };

	/* The environment's proxy, where nothing listens, is not used. */
	assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(setenv("all_proxy", "http://127.0.0.1:1", 1), 0);
	assert_int_equal(http_configure(w->http, &(struct http_options){ .connect_to = connect_to }, NULL), 0);
	req.url = "http://direct.example/echo";
	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_true(str_starts(buf_str(&w->body), "GET /echo"));

	/* Nor does its exception list count: with a proxy in the settings, that one is asked. */
	assert_int_equal(setenv("no_proxy", "*", 1), 0);
	assert_int_equal(http_configure(w->http,
					&(struct http_options){
						.proxy = proxy, .no_proxy = suffixes, .connect_to = connect_to },
					NULL),
			 0);
	req.url = "http://far.example/echo";
	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_true(str_starts(buf_str(&w->body), "GET http://far.example/echo"));

	req.url = "http://direct.example/echo";
	run(w, &req);
	assert_true(str_starts(buf_str(&w->body), "GET /echo"));

	/* Loopback goes directly in all its spellings, whatever the proxy. */
	get(w, "/echo");
	assert_true(str_starts(buf_str(&w->body), "GET /echo"));
	{
		_cleanup_free_ char *a = str_format("http://2130706433:%u/echo", server.port);
		_cleanup_free_ char *b = str_format("http://localhost:%u/echo", server.port);

		req.url = a;
		run(w, &req);
		assert_true(str_starts(buf_str(&w->body), "GET /echo"));
		req.url = b;
		run(w, &req);
		assert_true(str_starts(buf_str(&w->body), "GET /echo"));
	}
	/* And the platform's addresses, which stand for the server here so that nothing leaves this machine. */
	{
		_cleanup_free_ char *platform = str_format("169.254.169.254:80:127.0.0.1:%u,168.63.129.16:80:127.0.0.1:%u",
							   server.port, server.port);

		assert_int_equal(http_configure(w->http,
						&(struct http_options){ .proxy = proxy, .connect_to = platform }, NULL),
				 0);
		req.url = "http://169.254.169.254/echo";
		run(w, &req);
		assert_true(str_starts(buf_str(&w->body), "GET /echo"));
		req.url = "http://168.63.129.16/echo";
		run(w, &req);
		assert_true(str_starts(buf_str(&w->body), "GET /echo"));
	}
	assert_int_equal(unsetenv("http_proxy") + unsetenv("all_proxy") + unsetenv("no_proxy"), 0);
}

static void test_redirect_credentials(void **state)
{
	static const char *const headers[] = { "Authorization: Bearer token", NULL };
	_cleanup_free_ char *connect_to = str_format("other.example:%u:127.0.0.1:%u", server.port, server.port);
	_cleanup_free_ char *url = url_of("/to-other-host");
	struct world *w = *state;
	struct http_request req = { .url = url,
				    .headers = headers,
				    .timeout_usec = 3 * USEC_PER_SEC,
				    .max_body = 10000,
				    .max_redirects = 2,
				    .secret = true };

	assert_int_equal(http_configure(w->http, &(struct http_options){ .connect_to = connect_to }, NULL), 0);
	run(w, &req);
	assert_int_equal(w->status, 200);
	assert_non_null(strstr(buf_str(&w->body), "Host: other.example"));
	assert_null(strstr(buf_str(&w->body), "Authorization"));
	assert_null(strstr(buf_str(&w->body), "Referer"));
}

static void test_tls(void **state)
{
	_cleanup_free_ char *connect_to = str_format("vault.example:443:127.0.0.1:%u,wrong.example:443:127.0.0.1:%u",
						     server.tls_port, server.tls_port);
	struct world *w = *state;
	struct http_options o = { .connect_to = connect_to };
	struct http_request req = { .url = "https://vault.example/hello?x=secret",
				    .timeout_usec = 3 * USEC_PER_SEC,
				    .max_body = 10000,
				    .max_redirects = 2 };
	struct error err = ERROR_INIT;

	assert_int_equal(http_configure(w->http, &o, NULL), 0);
	run(w, &req);
	print_message("%s\n", w->detail);
	assert_int_equal(w->result, -EKEYREJECTED);
	assert_true(str_starts(w->detail, "TLS with vault.example"));
	assert_null(strstr(w->detail, "secret"));

	o.ca_file = server.ca;
	assert_int_equal(http_configure(w->http, &o, NULL), 0);
	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_string_equal(buf_str(&w->body), "hello");

	req.url = "https://vault.example/to-clear";
	run(w, &req);
	assert_int_equal(w->result, -EPROTONOSUPPORT);
	req.url = "https://wrong.example/hello";
	run(w, &req);
	assert_int_equal(w->result, -EKEYREJECTED);

	/* What cannot be applied leaves the former in force. */
	o.ca_file = "/no/such/ca.pem";
	assert_int_equal(http_configure(w->http, &o, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/no/such/ca.pem"));
	req.url = "https://vault.example/hello";
	run(w, &req);
	assert_int_equal(w->result, 0);
}

/* Which certificate somebody serves, whoever vouches for it; and that nothing but TLS is spoken. */
static void test_probe(void **state)
{
	_cleanup_free_ char *endpoint = str_format("127.0.0.1:%u", server.tls_port), *plain = str_format("127.0.0.1:%u", server.port);
	_cleanup_buf_ struct buf cert = BUF_INIT(1 << 20);
	struct world *w = *state;
	struct http_options o = { .proxy = "http://127.0.0.1:1", .connect_to = "shop.example:443:127.0.0.1:1" };
	struct http_request req = { .url = "https://shop.example:443/", .timeout_usec = 3 * USEC_PER_SEC, .max_body = 1, .probe = endpoint };

	assert_int_equal(fs_read(server.ca, 1 << 20, &cert, NULL), 0);
	assert_int_equal(http_configure(w->http, &o, NULL), 0);
	for (int n = 0; n < 2; n++) {
		run(w, &req);
		assert_int_equal(w->result, 0);
		assert_string_equal(buf_str(&w->certificate), buf_str(&cert));
	}
	req.url = "https://127.0.0.1/";
	run(w, &req);
	assert_string_equal(buf_str(&w->certificate), buf_str(&cert));
	req.probe = plain;
	run(w, &req);
	assert_true(w->result < 0);
	assert_string_equal(buf_str(&w->certificate), "");
	/* A request that is none shows nothing. */
	o = (struct http_options){ .ca_file = server.ca };
	assert_int_equal(http_configure(w->http, &o, NULL), 0);
	{
		_cleanup_free_ char *hello = url_of("/hello");

		req = (struct http_request){ .url = hello, .timeout_usec = 3 * USEC_PER_SEC, .max_body = 100 };
		run(w, &req);
		assert_string_equal(buf_str(&w->body), "hello");
		assert_string_equal(buf_str(&w->certificate), "");
	}
}

static int on_piece(const void *data, size_t len, void *userdata)
{
	struct world *w = userdata;

	(void)data;
	w->sunk += len;
	return w->sink_result;
}

static void test_sink(void **state)
{
	_cleanup_free_ char *big = url_of("/big"), *error = url_of("/big-error"), *moved = url_of("/redirect");
	struct world *w = *state;
	struct http_request req = {
		.url = big, .timeout_usec = 3 * USEC_PER_SEC, .max_body = 5000, .sink = on_piece, .max_redirects = 1
	};

	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->sunk, 5000);
	assert_int_equal(w->body.len, 0);

	req.max_body = 4999;
	run(w, &req);
	assert_int_equal(w->result, -EFBIG);

	w->sink_result = -ENOSPC;
	req.max_body = 5000;
	run(w, &req);
	assert_int_equal(w->result, -ENOSPC);
	assert_non_null(strstr(w->detail, "stored"));

	w->sunk = 0;
	w->sink_result = 0;
	req.url = error;
	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->status, 500);
	assert_int_equal(w->sunk, 0);
	assert_int_equal(w->body.len, LIMIT_ERROR_BODY);

	req.url = moved;
	run(w, &req);
	assert_int_equal(w->status, 200);
	assert_int_equal(w->sunk, 5); /* "hello", not the redirect's own body */
}

static int on_head(const struct http_response *resp, void *userdata)
{
	struct world *w = userdata;

	assert_int_equal(w->sunk, 0);
	assert_int_equal(resp->result, 0);
	assert_non_null(http_response_header(resp, "content-length"));
	w->heads++;
	w->head_status = resp->status;
	return w->head_result;
}

static void test_head_before_the_body(void **state)
{
	_cleanup_free_ char *big = url_of("/big"), *error = url_of("/big-error"), *moved = url_of("/redirect");
	struct world *w = *state;
	struct http_request req = { .url = moved, .timeout_usec = 3 * USEC_PER_SEC, .max_body = 5000, .sink = on_piece,
				    .head = on_head, .max_redirects = 1 };

	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->heads, 1);
	assert_int_equal(w->head_status, 200);

	w->sunk = 0;
	w->head_result = -EBADMSG;
	req.url = big;
	run(w, &req);
	assert_int_equal(w->result, -EBADMSG);
	assert_int_equal(w->heads, 2);
	assert_int_equal(w->sunk, 0);

	req.url = error;
	run(w, &req);
	assert_int_equal(w->result, 0);
	assert_int_equal(w->heads, 2);
}

/* The other server speaks no CONNECT, so it stands for a proxy that refuses. */
static void test_proxy_that_refuses(void **state)
{
	_cleanup_free_ char *proxy = url_of("");
	struct world *w = *state;
	struct http_request req = { .url = "https://vault.example/a?sig=hunter2", .timeout_usec = 3 * USEC_PER_SEC, .max_body = 100 };

	assert_int_equal(http_configure(w->http, &(struct http_options){ .proxy = proxy }, NULL), 0);
	run(w, &req);
	assert_true(w->result < 0);
	assert_string_equal(w->detail, "the proxy refuses the way to vault.example with status 501");
	assert_int_equal(http_configure(w->http, &(struct http_options){ .proxy = "http://127.0.0.1:1" }, NULL), 0);
	run(w, &req);
	assert_int_equal(w->result, -ECONNREFUSED);
	assert_non_null(strstr(w->detail, "vault.example through the proxy failed"));
}

/* More at once than connections are allowed: they queue, and all are answered. */
static void test_many(void **state)
{
	_cleanup_free_ char *url = url_of("/slow-hello");
	struct world *w = *state;
	struct http_call *calls[20] = { 0 };

	w->want = (int)ARRAY_SIZE(calls);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		assert_int_equal(submit(w, url, &calls[i]), 0);
	assert_int_equal(loop_run(w->loop), 0);
	assert_int_equal(w->calls, (int)ARRAY_SIZE(calls));
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		http_call_free(calls[i]);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_answers),
		TEST(test_header),
		TEST(test_methods),
		TEST(test_refused),
		TEST(test_connection_errors),
		TEST(test_keep_alive),
		TEST(test_cancel),
		TEST(test_cancel_in_callback),
		TEST(test_free_and_submit_in_callback),
		TEST(test_proxy),
		TEST(test_redirect_credentials),
		TEST(test_tls),
		TEST(test_probe),
		TEST(test_sink),
		TEST(test_head_before_the_body),
		TEST(test_proxy_that_refuses),
		TEST(test_many),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}

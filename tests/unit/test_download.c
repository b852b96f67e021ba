/* The limits of downloads, at a tenth of their length, against a server with good and bad manners (http_server.py). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/app/runner_fetch.h"
#include "agent/app/runner_network.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/loop.h"
#include "tests/support/http_server.h"

/* clang-format off */
static const struct retry_rule rules[] = {
	{   0,   0, RETRY_AFTER, 10 * USEC_PER_MSEC, 20 * USEC_PER_MSEC, 0 },
	{ 200, 200, RETRY_AFTER, 10 * USEC_PER_MSEC, 20 * USEC_PER_MSEC, 0 },
	{ 500, 500, RETRY_AFTER, 10 * USEC_PER_MSEC, 20 * USEC_PER_MSEC, 0 },
	{ .from = -1 },
};
/* clang-format on */
static const struct retry_policy policy = { "download", rules, 10, USEC_PER_SEC };

struct outcome {
	int end, code;
	struct error err;
};

/* Downloads this URI as "a" into a directory of its own, in which a failure must leave nothing. */
static struct outcome download(const char *uri, const struct fetch_limits *limits)
{
	static const char job_text[] = "{\"format\":1,\"id\":\"d\",\"kind\":\"command\",\"argv\":[\"true\"],"
				       "\"downloads\":[{\"name\":\"a\",\"uri\":\"/u\",\"maxInBytes\":100000}]}";
	_cleanup_free_ char *secrets_text = str_format("{\"values\":[{\"name\":\"/u\",\"value\":\"%s\"}]}", uri);
	struct outcome o = { .err = ERROR_INIT };
	struct runner_user user = { 0 };
	char dir[] = "/tmp/ek-download-XXXXXX";
	struct job_secrets secrets = { 0 };
	struct job job = { 0 };
	struct loop *l = NULL;
	char **left = NULL;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(job_decode(job_text, strlen(job_text), &job, NULL), 0);
	assert_int_equal(job_secrets_decode(secrets_text, strlen(secrets_text), &secrets, NULL), 0);
	assert_int_equal(loop_new(&l, NULL), 0);
	o.end = runner_download(l, &job, &secrets, &user, dir, limits, &o.code, &o.err);
	if (o.end != DOWNLOADS_DONE)
		print_message("%s\n", o.err.msg);
	assert_int_equal(fs_list(dir, 10, &left, NULL), 0);
	assert_int_equal(strv_length(left), o.end == DOWNLOADS_DONE ? 1 : 0);
	assert_int_equal(fs_remove_tree(dir, NULL), 0);
	strv_free(left);
	loop_free(l);
	jd_free(&job_type, &job);
	jd_free(&job_secrets_type, &secrets);
	return o;
}

static struct outcome download_path(const char *path, const struct fetch_limits *limits)
{
	_cleanup_free_ char *uri = str_format("http://127.0.0.1:%u%s", server.port, path);

	return download(uri, limits);
}

static const struct fetch_limits quick = { .connect_usec = USEC_PER_SEC,
					   .stall_usec = 300 * USEC_PER_MSEC,
					   .total_usec = USEC_PER_MINUTE,
					   .attempts = 2,
					   .policy = &policy };

static void test_ends(void **state)
{
	static const struct {
		const char *path;
		int code;
		const char *says[2];
	} cases[] = {
		{ "/hang", CODE_TIMEOUT, { "attempt 2 of 2: waiting for an answer: nothing came for 300 ms" } },
		{ "/hang-body", CODE_TIMEOUT, { "attempt 2 of 2: receiving: nothing came for 300 ms, with 4 of 100 bytes here" } },
		{ "/cut", CODE_BODY_FAILED, { "attempt 2 of 2: receiving from 127.0.0.1:", "with 9 of 100 bytes here" } },
		{ "/nothing", CODE_DOWNLOAD_FAILED, { "attempt 2 of 2: waiting for 127.0.0.1:" } },
		{ "/garbage", CODE_DOWNLOAD_FAILED, { "the answer is not HTTP" } },
		{ "/big-error", CODE_INTERNAL, { "attempt 2 of 2: the server says 500" } },
		{ "/loop", CODE_DOWNLOAD_FAILED, { "attempt 1 of 2", "too many redirects" } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct outcome o = download_path(cases[i].path, &quick);

		assert_int_equal(o.end, DOWNLOADS_FAILED);
		assert_int_equal(o.code, cases[i].code);
		for (size_t k = 0; k < 2; k++)
			if (cases[i].says[k] && !strstr(o.err.msg, cases[i].says[k]))
				fail_msg("%s: %s", cases[i].path, o.err.msg);
	}
	assert_int_equal(download_path("/hello", &quick).end, DOWNLOADS_DONE);
}

static void test_refused(void **state)
{
	struct outcome o = download("http://127.0.0.1:1/a?sig=hunter2", &quick);

	(void)state;
	assert_int_equal(o.code, CODE_DOWNLOAD_FAILED);
	assert_non_null(strstr(o.err.msg, "cannot download a from http://127.0.0.1:1/a?[redacted]: attempt 2 of 2: "
					  "connecting to 127.0.0.1:1 failed after 0.0 s: connection refused"));
	assert_null(strstr(o.err.msg, "hunter2"));
}

/* However well each attempt begins. */
static void test_total(void **state)
{
	struct fetch_limits limits = quick;
	struct outcome o;

	(void)state;
	limits.total_usec = 400 * USEC_PER_MSEC;
	limits.stall_usec = USEC_PER_MINUTE;
	limits.attempts = 100;
	o = download_path("/hang-body", &limits);
	assert_int_equal(o.code, CODE_TIMEOUT);
	assert_non_null(strstr(o.err.msg, "it was not done after 400 ms, the limit of all attempts"));
	o = download_path("/cut", &limits);
	assert_true(o.code == CODE_BODY_FAILED || o.code == CODE_TIMEOUT);
}

static void test_no_room(void **state)
{
	struct rlimit before, small;
	struct outcome o;

	(void)state;
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 1000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	o = download_path("/big", &quick);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(o.code, CODE_INTERNAL);
	assert_non_null(strstr(o.err.msg, "attempt 1 of 2: it cannot be stored here: File too large"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ends), cmocka_unit_test(test_refused), cmocka_unit_test(test_total),
					    cmocka_unit_test(test_no_room) };

	return cmocka_run_group_tests(tests, start_server, stop_server);
}

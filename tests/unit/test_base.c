/* Errors, the bounded buffer, secrets, time arithmetic. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/error.h"
#include "agent/base/secret.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/base/time.h"

static void test_error(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(error_set(&err, ERROR_USER, -EINVAL, "bad %d", 7), -EINVAL);
	assert_int_equal(error_wrap(&err, -EBADMSG, "file %s", "x"), -EBADMSG);
	assert_string_equal(err.msg, "file x: bad 7");
	assert_int_equal(err.cls, ERROR_USER);
	assert_int_equal(err.code, -EINVAL);
	assert_int_equal(error_errno(&err, -ENOENT, "cannot open %s", "/x"), -ENOENT);
	assert_string_equal(err.msg, "cannot open /x: No such file or directory");
	assert_int_equal(err.cls, ERROR_SYSTEM);
	assert_int_equal(error_errno(&err, 0, "cannot open %s", "/x"), -EIO); /* an errno that nobody set */
	assert_int_equal(err.code, -EIO);
	assert_int_equal(error_set(NULL, ERROR_USER, 0, "%s", "x"), -EIO);
	assert_int_equal(error_oom(NULL), -ENOMEM);
	assert_int_equal(error_set(NULL, ERROR_USER, -EPERM, "%s", "x"), -EPERM);
	assert_string_equal(error_class_name(ERROR_PLATFORM), "platform");
	assert_string_equal(error_class_name((enum error_class)99), "unknown");
}

/* Whatever is cut off, what is left is UTF-8. */
static void test_error_cut(void **state)
{
	(void)state;
	for (int pad = 0; pad < 4; pad++) {
		char text[sizeof(((struct error *)0)->msg) * 2] = "";
		struct error err;

		for (int i = 0; i < pad; i++)
			strcat(text, "x");
		while (strlen(text) + 3 < sizeof(text))
			strcat(text, "\xe2\x82\xac");
		error_set(&err, ERROR_USER, -EINVAL, "%s", text);
		assert_true(utf8_valid(err.msg, strlen(err.msg)));
		assert_true(strlen(err.msg) > sizeof(err.msg) - 6);
		error_wrap(&err, -EINVAL, "%.*s", 3 - pad, "abc");
		assert_true(utf8_valid(err.msg, strlen(err.msg)));
		assert_true(strlen(err.msg) < sizeof(err.msg));
	}
}

static void test_buf(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(10);
	_cleanup_free_ char *taken = NULL;

	(void)state;
	assert_string_equal(buf_str(&b), "");
	assert_int_equal(buf_puts(&b, "12345"), 0);
	assert_int_equal(buf_printf(&b, "%d", 67890), 0);
	assert_string_equal(buf_str(&b), "1234567890");
	assert_int_equal(buf_putc(&b, 'x'), -EFBIG);
	assert_string_equal(buf_str(&b), "1234567890");
	assert_int_equal(buf_ok(&b), -EFBIG);
	buf_reset(&b);
	assert_int_equal(buf_ok(&b), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_append(&b, "a\0b", 3), 0);
	assert_int_equal(b.len, 3);
	assert_int_equal(buf_printf(&b, "%s", "12345678"), -EFBIG);
	assert_int_equal(b.len, 3);
	assert_int_equal(buf_putc(&b, 'x'), -EFBIG); /* errors stick */
	taken = buf_take(&b);
	assert_memory_equal(taken, "a\0b", 4);
	assert_null(b.data);
	assert_int_equal(b.max, 10);
	assert_int_equal(buf_putc(&b, 'y'), 0);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -EFBIG);
}

static void test_buf_fill(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(40), small = BUF_INIT(8);

	(void)state;
	assert_int_equal(buf_fill(&b, "http://{name}/{name}{nam", "{name}", "a{name}"), 0);
	assert_string_equal(buf_str(&b), "http://a{name}/a{name}{nam");
	buf_reset(&b);
	assert_int_equal(buf_fill(&b, "nothing", "{name}", "a"), 0);
	assert_int_equal(buf_fill(&b, "", "{name}", "a"), 0);
	assert_int_equal(buf_fill(&b, "{name}", "{name}", ""), 0);
	assert_string_equal(buf_str(&b), "nothing");
	assert_int_equal(buf_fill(&small, "{name}.", "{name}", "12345678"), -EFBIG);
}

static void test_buf_grows(void **state)
{
	_cleanup_buf_ struct buf b = BUF_SECRET_INIT(100000);

	(void)state;
	for (int i = 0; i < 20000; i++)
		assert_int_equal(buf_puts(&b, "12345"), 0);
	assert_int_equal(b.len, 100000);
	assert_true(b.cap <= b.max + 1);
	for (size_t i = 0; i < b.len; i++)
		assert_int_equal(b.data[i], '1' + (int)(i % 5));
	buf_reset(&b);
	for (size_t i = 0; i < 100000; i++)
		assert_int_equal(b.data[i], 0); /* a secret buffer is erased */
}

static void test_secret(void **state)
{
	_cleanup_secret_ struct secret s = {0};
	char *p = strdup("x");

	(void)state;
	assert_int_equal(secret_set(&s, "pass\0word", 9), 0);
	assert_int_equal(s.len, 9);
	assert_memory_equal(s.data, "pass\0word", 10);
	assert_int_equal(secret_set(&s, s.data, 4), 0); /* from itself */
	assert_string_equal(s.data, "pass");
	assert_int_equal(secret_set(&s, NULL, 0), 0);
	assert_string_equal(s.data, "");
	erase_and_free(p);
	erase_and_free(NULL);
}

static void test_time(void **state)
{
	(void)state;
	assert_true(usec_add(USEC_INFINITY, 1) == USEC_INFINITY);
	assert_true(usec_add(USEC_INFINITY - 1, 2) == USEC_INFINITY);
	assert_true(usec_add(1, 2) == 3);
	assert_true(usec_sub(1, 2) == 0);
	assert_true(usec_sub(USEC_INFINITY, 2) == USEC_INFINITY);
	assert_true(usec_sub(5, 2) == 3);
	assert_true(usec_from_seconds(UINT64_MAX) == USEC_INFINITY);
	assert_true(usec_from_seconds(2) == 2000000);
	assert_true(usec_min(1, 2) == 1 && usec_max(1, 2) == 2);
	assert_true(time_wall() > (usec_t)1700000000 * USEC_PER_SEC);
	assert_true(time_boot() > 0);
	assert_true(time_compare(&(struct timespec){ 5, 9 }, &(struct timespec){ 6, 1 }) < 0);
	assert_true(time_compare(&(struct timespec){ 5, 9 }, &(struct timespec){ 5, 1 }) > 0);
	assert_true(time_compare(&(struct timespec){ 5, 9 }, &(struct timespec){ 5, 10 }) < 0);
	assert_int_equal(time_compare(&(struct timespec){ 5, 9 }, &(struct timespec){ 5, 9 }), 0);
	assert_true(random_jitter() || random_jitter() || random_jitter()); /* thrice 0: not even once in 10^28 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_error),     cmocka_unit_test(test_error_cut), cmocka_unit_test(test_buf),
		cmocka_unit_test(test_buf_fill), cmocka_unit_test(test_buf_grows), cmocka_unit_test(test_secret),    cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

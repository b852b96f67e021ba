/* Records of a later version of the program: read where that is safe, refused where it is not, and the number in front. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/json_record.h"
#include "agent/core/drain_record.h"
#include "agent/core/job.h"
#include "agent/core/key_plan.h"

struct pair {
	char *word;
	int64_t number;
};

static const struct jd_type word = { .kind = JD_TEXT }, number = { .kind = JD_INTEGER };
static const struct jd_field pair_fields[] = {
	{ "word", &word, offsetof(struct pair, word), JD_OMIT_EMPTY },
	{ "number", &number, offsetof(struct pair, number), JD_OMIT_EMPTY },
	{},
};
static const struct jd_type pair_type = { .kind = JD_OBJECT, .fields = pair_fields, .size = sizeof(struct pair) };

static int decode(const char *text, unsigned format, struct pair *ret, struct error *err)
{
	return jd_decode_record(text, strlen(text), "/r.json", 1000, &pair_type, format, ret, err);
}

static void test_number_in_front(void **state)
{
	char text[] = "x";
	const struct pair full = { .word = text, .number = 7 }, empty = { 0 };
	struct pair back = { 0 };
	struct error e = ERROR_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT(1000);
	_cleanup_buf_ struct buf small = BUF_INIT(20);

	(void)state;
	assert_int_equal(buf_puts(&out, "before"), 0);
	assert_int_equal(jd_encode_record(&pair_type, 3, &full, &out), 0);
	assert_string_equal(buf_str(&out), "before{\"format\":3,\"word\":\"x\",\"number\":7}");
	buf_reset(&out);
	assert_int_equal(jd_encode_record(&pair_type, 12, &empty, &out), 0);
	assert_string_equal(buf_str(&out), "{\"format\":12}");
	assert_int_equal(jd_encode_record(&pair_type, 3, &full, &small), -EFBIG);

	assert_int_equal(decode("{\"format\":3,\"word\":\"x\",\"more\":[1]}", 3, &back, &e), 0);
	assert_string_equal(back.word, "x");
	jd_free(&pair_type, &back);
	/* as the first versions wrote it */
	assert_int_equal(decode("{\"number\":9}", 1, &back, &e), 0);
	assert_int_equal(back.number, 9);
}

static void test_later_one_is_refused(void **state)
{
	struct pair back = { 0 };
	struct error e = ERROR_INIT;

	(void)state;
	/* Even if it could be read: the words may mean something else. */
	assert_int_equal(decode("{\"format\":4,\"word\":\"x\"}", 3, &back, &e), -EPROTO);
	assert_string_equal(
		e.msg,
		"/r.json was written by a newer version of this program (format 4, this one knows 3): install that "
		"version again, or remove the file to begin anew");
	assert_null(back.word);
	assert_int_equal(decode("{\"format\":9223372036854775807,\"word\":[]}", 3, &back, &e), -EPROTO);
	/* Damage is another matter. */
	assert_int_equal(decode("{\"format\":4,", 3, &back, &e), -EBADMSG);
	assert_int_equal(decode("{\"format\":\"4\"}", 3, &back, &e), 0);
	assert_int_equal(jd_check_format("", 0, "/r", 10, 1, &e), 0);
	assert_int_equal(jd_check_format("[4]", 3, "/r", 10, 1, &e), 0);
}

static void test_each_of_ours(void **state)
{
	static const char key[] = "{\"format\":2,\"url\":\"https://v/secrets/x\"}",
			  goal[] = "{\"format\":2,\"key\":\"k\",\"sinceUsec\":1}";
	static const char drain[] = "{\"version\":2,\"host\":\"drained\"}",
			  none[] = "{\"version\":0,\"host\":\"drained\"}";
	static const char job[] = "{\"format\":2,\"id\":\"a\",\"kind\":\"command\",\"argv\":[\"true\"]}";
	struct drain_state *s = NULL;
	struct key_record r = { 0 };
	struct key_goal g = { 0 };
	struct error e = ERROR_INIT;
	struct job j = { 0 };

	(void)state;
	assert_int_equal(key_record_decode(key, sizeof(key) - 1, &r, &e), -EPROTO);
	assert_int_equal(key_goal_decode(goal, sizeof(goal) - 1, &g, &e), -EPROTO);
	assert_int_equal(drain_record_decode(drain, sizeof(drain) - 1, &s, &e), -EPROTO);
	assert_int_equal(drain_record_decode(none, sizeof(none) - 1, &s, &e), -EINVAL);
	assert_int_equal(job_decode(job, sizeof(job) - 1, &j, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "newer version"));
}

/* A script that runs on through a downgrade ends under the later version's runner. */
static void test_later_result_is_read(void **state)
{
	static const char ended[] =
		"{\"format\":2,\"id\":\"a\",\"end\":\"exited\",\"exitCode\":7,\"message\":\"m\",\"more\":{\"x\":1}}";
	static const char strange[] = "{\"format\":2,\"id\":\"a\",\"end\":\"frozen\"}";
	struct job_result r = { 0 };
	struct error e = ERROR_INIT;

	(void)state;
	assert_int_equal(job_result_decode(ended, sizeof(ended) - 1, &r, &e), 0);
	assert_int_equal(r.end, JOB_EXITED);
	assert_int_equal(r.exit_code, 7);
	assert_string_equal(r.message, "m");
	jd_free(&job_result_type, &r);
	assert_int_equal(job_result_decode(strange, sizeof(strange) - 1, &r, &e), 0);
	assert_int_equal(r.end, JOB_INTERRUPTED);
	jd_free(&job_result_type, &r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_number_in_front),
		cmocka_unit_test(test_later_one_is_refused),
		cmocka_unit_test(test_each_of_ours),
		cmocka_unit_test(test_later_result_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

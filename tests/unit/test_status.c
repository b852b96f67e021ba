/* The status model against every row of settings.md 3.1 and 3.2, the latch over all histories of three rounds, and the limits. */
#include "agent/core/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"

static struct status_model *begin(const char *sequence, const char *accepted)
{
	struct status_model *m = NULL;

	assert_int_equal(status_model_new(&m), 0);
	assert_int_equal(status_model_begin(m, sequence, accepted), 0);
	return m;
}

static void one(struct status_model *m, const struct component *c)
{
	status_round_begin(m);
	assert_int_equal(status_round_add(m, c), 0);
	status_round_end(m);
}

/* ---- top level from duties ---- */

static enum status_level expected_verdict(enum duty a, enum duty b)
{
	if (a == DUTY_FAILED || b == DUTY_FAILED)
		return STATUS_ERROR;
	return a == DUTY_OPEN || b == DUTY_OPEN ? STATUS_TRANSITIONING : STATUS_SUCCESS;
}

/* Duties decide, levels do not: every pair of duties with every pair of levels. */
static void test_duties_only(void **state)
{
	(void)state;
	for (int a = 0; a < 4; a++)
		for (int b = 0; b < 4; b++)
			for (int l = 0; l < 16; l++) {
				struct status_model *m = begin("4", "Sequence 4 accepted");
				struct component one_ = { .name = "drain", .level = (enum status_level)(l & 3),
							  .duty = (enum duty)a, .message = "x" };
				struct component two = { .name = "userData", .level = (enum status_level)(l >> 2),
							 .duty = (enum duty)b, .message = "y" };

				status_round_begin(m);
				assert_int_equal(status_round_add(m, &one_), 0);
				assert_int_equal(status_round_add(m, &two), 0);
				status_round_end(m);
				assert_int_equal(status_top(m), expected_verdict((enum duty)a, (enum duty)b));
				status_model_free(m);
			}
}

static enum status_level expected_latch(enum status_level former, enum status_level now)
{
	if (former == STATUS_SUCCESS || now == former)
		return former;
	if (former == STATUS_ERROR && now == STATUS_TRANSITIONING)
		return STATUS_ERROR;
	return now;
}

/* All histories of three verdicts. */
static void test_latch(void **state)
{
	static const enum duty duties[] = { DUTY_OPEN, DUTY_DONE, DUTY_FAILED };
	static const enum status_level verdicts[] = { STATUS_TRANSITIONING, STATUS_SUCCESS, STATUS_ERROR };

	(void)state;
	for (int h = 0; h < 27; h++) {
		struct status_model *m = begin("4", "Sequence 4 accepted");
		const int rounds[] = { h % 3, h / 3 % 3, h / 9 };
		enum status_level expected = STATUS_TRANSITIONING;

		for (int i = 0; i < 3; i++) {
			struct component c = { .name = "customScript/deploy",
					       .level = verdicts[rounds[i]],
					       .duty = duties[rounds[i]],
					       .message = "m" };

			one(m, &c);
			expected = expected_latch(expected, verdicts[rounds[i]]);
			assert_int_equal(status_top(m), expected);
			assert_int_equal(status_terminal(m), expected != STATUS_TRANSITIONING);
		}
		status_model_free(m);
	}
}

static void test_resume_keeps_the_latch(void **state)
{
	struct component open = { .name = "keyRefresh/web", .level = STATUS_TRANSITIONING, .duty = DUTY_OPEN, .message = "m" };
	struct status_model *m = begin("4", "");

	(void)state;
	assert_int_equal(status_model_resume(m, "4", STATUS_SUCCESS, "Enable succeeded: \n[stdout]\nhello"), 0);
	assert_string_equal(status_top_message(m), "Enable succeeded: \n[stdout]\nhello");
	one(m, &open);
	assert_int_equal(status_top(m), STATUS_SUCCESS);
	assert_int_equal(status_model_resume(m, "4", STATUS_ERROR, "it failed"), 0);
	one(m, &open);
	assert_int_equal(status_top(m), STATUS_ERROR);
	assert_string_equal(status_top_message(m), "it failed");
	/* A new number forgets. */
	assert_int_equal(status_model_begin(m, "5", "Sequence 5 accepted"), 0);
	one(m, &open);
	assert_int_equal(status_top(m), STATUS_TRANSITIONING);
	status_model_free(m);
}

/* ---- what is said (settings.md 3.2) ---- */

static const struct component accepted = { .name = "settings", .level = STATUS_SUCCESS, .duty = DUTY_DONE, .message = "in force" };

static const struct {
	const char *what;
	struct component c;
	enum status_level top;
	int code;
	const char *message;
} rows[] = {
	{ "nothing reported yet", { .name = "drain", .level = STATUS_SUCCESS, .message = "watching" }, STATUS_SUCCESS, 0,
	  "Sequence 4 applied." },
	{ "invalid settings",
	  { .name = "customScript/a", .level = STATUS_ERROR, .duty = DUTY_FAILED, .code = CODE_BAD_CONFIGURATION,
	    .message = "settings: drian: unknown section; did you mean \"drain\"?" },
	  STATUS_ERROR, CODE_BAD_CONFIGURATION, "settings: drian: unknown section; did you mean \"drain\"?" },
	{ "a script runs",
	  { .name = "customScript/deploy", .level = STATUS_TRANSITIONING, .duty = DUTY_OPEN, .message = "running for 12 s" },
	  STATUS_TRANSITIONING, 0, "customScript/deploy: running for 12 s" },
	{ "one script ended well",
	  { .name = "customScript/script", .level = STATUS_SUCCESS, .duty = DUTY_DONE, .message = "exit code 0",
	    .headline = "Enable succeeded: \n[stdout]\nhi\n\n[stderr]\n" },
	  STATUS_SUCCESS, 0, "Enable succeeded: \n[stdout]\nhi\n\n[stderr]\n" },
	{ "a script failed",
	  { .name = "customScript/script", .level = STATUS_ERROR, .duty = DUTY_FAILED, .code = CODE_SCRIPT_EXIT,
	    .message = "exit code 7", .headline = "Enable failed: exit code 7" },
	  STATUS_ERROR, CODE_SCRIPT_EXIT, "Enable failed: exit code 7" },
	{ "a certificate is pending",
	  { .name = "keyRefresh/web", .level = STATUS_TRANSITIONING, .duty = DUTY_OPEN, .message = "403 from the vault" },
	  STATUS_TRANSITIONING, 0, "keyRefresh/web: 403 from the vault" },
	{ "expiry nears",
	  { .name = "keyRefresh/web", .level = STATUS_WARNING, .duty = DUTY_DONE, .message = "expires in 6 days\nmore" },
	  STATUS_SUCCESS, 0, "Sequence 4 applied. 1 item needs attention: keyRefresh/web: expires in 6 days" },
	{ "degraded",
	  { .name = "drain", .level = STATUS_ERROR, .message = "shop.service does not start" }, STATUS_SUCCESS, 0,
	  "Sequence 4 applied. 1 item needs attention: drain: shop.service does not start" },
	{ "draining", { .name = "drain", .level = STATUS_TRANSITIONING, .message = "draining" }, STATUS_SUCCESS, 0,
	  "Sequence 4 applied." },
	{ "an optional script failed",
	  { .name = "customScript/x", .level = STATUS_ERROR, .message = "exit code 1" }, STATUS_SUCCESS, 0,
	  "Sequence 4 applied. 1 item needs attention: customScript/x: exit code 1" },
};

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct status_model *m = begin("4", "Sequence 4 accepted: 1 script");

		assert_string_equal(status_top_message(m), "Sequence 4 accepted: 1 script");
		status_round_begin(m);
		assert_int_equal(status_round_add(m, &accepted), 0);
		assert_int_equal(status_round_add(m, &rows[i].c), 0);
		status_round_end(m);
		if (status_top(m) != rows[i].top || !str_equal(status_top_message(m), rows[i].message) ||
		    status_top_code(m) != rows[i].code)
			fail_msg("%s: %s %d \"%s\"", rows[i].what, status_level_name(status_top(m)), status_top_code(m),
				 status_top_message(m));
		status_model_free(m);
	}
}

/* The output of a script that succeeded stays to be read when something else needs attention later. */
static void test_attention_keeps_the_output(void **state)
{
	const struct component script = { .name = "customScript/script", .level = STATUS_SUCCESS, .duty = DUTY_DONE,
					  .message = "ok", .headline = "Enable succeeded: \n[stdout]\nhi" };
	const struct component drain = { .name = "drain", .level = STATUS_ERROR, .message = "nginx.service does not start" };
	struct status_model *m = begin("4", "");

	(void)state;
	status_round_begin(m);
	assert_int_equal(status_round_add(m, &script), 0);
	assert_int_equal(status_round_add(m, &drain), 0);
	status_round_end(m);
	assert_string_equal(status_top_message(m),
			    "Sequence 4 applied. 1 item needs attention: drain: nginx.service does not start\n"
			    "Enable succeeded: \n[stdout]\nhi");
	status_model_free(m);
}

/* ---- the document ---- */

static char *document(const struct status_model *m)
{
	struct buf out = BUF_INIT(2 * LIMIT_STATUS_FILE);

	assert_int_equal(status_document(m, "EvenKeel.EvenKeelForLinux", 0, &out), 0);
	assert_true(out.len <= LIMIT_STATUS_FILE);
	return buf_take(&out);
}

static size_t count(const char *text, const char *needle)
{
	size_t n = 0;

	for (const char *at = text; (at = strstr(at, needle)); at += strlen(needle))
		n++;
	return n;
}

static void test_document(void **state)
{
	const struct component failed = { .name = "customScript/a", .level = STATUS_ERROR, .duty = DUTY_FAILED,
					  .code = CODE_TIMEOUT, .message = "timed out", .headline = "Enable failed: timed out" };
	struct status_model *m = begin("4", "");
	char *text;

	(void)state;
	one(m, &failed);
	text = document(m);
	assert_string_equal(text, "[{\"version\":1,\"timestampUTC\":\"1970-01-01T00:00:00Z\",\"status\":{"
				  "\"name\":\"EvenKeel.EvenKeelForLinux\",\"operation\":\"Enable\","
				  "\"configurationAppliedTime\":\"1970-01-01T00:00:00Z\",\"status\":\"error\",\"code\":56,"
				  "\"formattedMessage\":{\"lang\":\"en-US\",\"message\":\"Enable failed: timed out\"},"
				  "\"substatus\":[{\"name\":\"ErrorClarification\",\"status\":\"error\",\"code\":56,"
				  "\"formattedMessage\":{\"lang\":\"en-US\",\"message\":\"Enable failed: timed out\"}},"
				  "{\"name\":\"customScript/a\",\"status\":\"error\",\"code\":56,"
				  "\"formattedMessage\":{\"lang\":\"en-US\",\"message\":\"timed out\"}}]}}]");
	free(text);
	status_model_free(m);
}

/* 500 certificates and every message at its longest: the file stays within its limit, every message is there. */
static void test_limits(void **state)
{
	static char huge[20000];
	struct status_model *m = begin("4", "");
	size_t n;
	char *text;

	(void)state;
	for (size_t i = 0; i + 3 < sizeof(huge); i += 3)
		memcpy(huge + i, "\xe2\x82\xac", 3);
	status_round_begin(m);
	for (int i = 0; i < 500; i++) {
		char name[40];
		struct component c = { .name = name, .level = i % 10 ? STATUS_SUCCESS : STATUS_WARNING, .duty = DUTY_DONE,
				       .message = huge };

		(void)snprintf(name, sizeof(name), "keyRefresh/c%d", i);
		assert_int_equal(status_round_add(m, &c), 0);
	}
	for (int i = 0; i < 100; i++) {
		char name[40];
		struct component c = { .name = name, .level = STATUS_ERROR, .duty = DUTY_NONE, .message = huge };

		(void)snprintf(name, sizeof(name), "customScript/s%d", i);
		assert_int_equal(status_round_add(m, &c), 0);
	}
	status_round_end(m);
	text = document(m);
	assert_true(utf8_valid(text, strlen(text)));
	n = count(text, "\"name\":") - 1;
	assert_int_equal(n, LIMIT_STATUS_SUBSTATUS);
	assert_int_equal(count(text, "\"message\":"), n + 1);
	assert_non_null(strstr(text, "450 certificates are installed and current"));
	assert_non_null(strstr(text, "more components are not listed"));
	free(text);
	status_model_free(m);
}

/* Only a script's output may be longer than other messages, and everything gives way before the file grows too large. */
static void test_output(void **state)
{
	static char output[20001];
	const struct component script = { .name = "customScript/a", .level = STATUS_ERROR, .duty = DUTY_FAILED,
					  .code = CODE_SCRIPT_EXIT, .message = output, .has_output = true, .headline = output },
			       other = { .name = "drain", .level = STATUS_SUCCESS, .message = output };
	struct status_model *m = begin("4", "");
	char *text;

	(void)state;
	memset(output, 'x', sizeof(output) - 1);
	status_round_begin(m);
	assert_int_equal(status_round_add(m, &script), 0);
	assert_int_equal(status_round_add(m, &other), 0);
	status_round_end(m);
	text = document(m);
	assert_int_equal(count(text, output), 2);
	assert_int_equal(count(text, "[cut; the whole is in the log]"), 2); /* ErrorClarification and drain */
	free(text);
	/* Six bytes each in JSON. */
	memset(output, 1, sizeof(output) - 1);
	one(m, &script);
	free(document(m));
	status_model_free(m);
}

static void test_bad_bytes(void **state)
{
	const struct component c = { .name = "customScript/a", .level = STATUS_SUCCESS, .duty = DUTY_DONE,
				     .message = "\xff\x1b[31mred\x00", .headline = "Enable succeeded: \xc3" };
	struct status_model *m = begin("4", "");
	char *text;

	(void)state;
	one(m, &c);
	text = document(m);
	assert_true(utf8_valid(text, strlen(text)));
	assert_null(strchr(text, '\x1b'));
	free(text);
	status_model_free(m);
}

static void test_changed(void **state)
{
	struct component c = { .name = "drain", .level = STATUS_SUCCESS, .message = "watching" };
	struct status_model *m = begin("4", "");
	char first[65], second[65];

	(void)state;
	one(m, &c);
	assert_true(status_changed(m, "", first));
	one(m, &c);
	assert_false(status_changed(m, first, second));
	c.message = "drained";
	one(m, &c);
	assert_true(status_changed(m, first, second));
	status_model_free(m);
}

static void test_codes_have_meanings(void **state)
{
	(void)state;
	for (const struct code_meaning *a = status_code_table; a->name; a++) {
		assert_string_equal(status_code_meaning(a->code), a->meaning);
		for (const struct code_meaning *b = a + 1; b->name; b++)
			assert_true(a->code != b->code && !str_equal(a->name, b->name));
	}
	assert_string_equal(status_code_meaning(4711), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_duties_only),
		cmocka_unit_test(test_latch),
		cmocka_unit_test(test_resume_keeps_the_latch),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_attention_keeps_the_output),
		cmocka_unit_test(test_document),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_bad_bytes),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_codes_have_meanings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

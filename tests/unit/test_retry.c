/* The retry tables in virtual time: how often, how long, and when it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/macros.h"
#include "agent/core/retry.h"

#define SEC USEC_PER_SEC
/* A random number that leaves intervals as they are (but for a microsecond of rounding). */
#define MIDDLE (UINT32_MAX / 2 + 1)

static void near(usec_t got, usec_t wanted)
{
	if (got > wanted + 5 || got + 5 < wanted)
		fail_msg("expected about %lu us, got %lu us", (unsigned long)wanted, (unsigned long)got);
}

/* One state's whole life: failures with the same status, each after the wait that was told. */
static unsigned run(const struct retry_policy *p, int status, unsigned most, usec_t *waits, usec_t *ret_lasted)
{
	struct retry_state s = { 0 };
	usec_t now = 1000 * SEC, start = now;
	unsigned n = 0;

	while (n < most && retry_failed(p, &s, status, 0, MIDDLE, now, &waits[n]) == RETRY_AFTER)
		now += waits[n++];
	*ret_lasted = now - start;
	return n;
}

static void test_waits(void **state)
{
	static const struct {
		const struct retry_policy *policy;
		int status;
		double waits[7];
	} cases[] = {
		{ &retry_imds, 0, { 1, 2, 4, 8, 16, 30, 30 } },
		{ &retry_imds, 429, { 2, 4, 8, 16, 16, 16, 16 } },
		{ &retry_imds, 500, { 1, 2, 4, 8, 16, 30, 30 } },
		{ &retry_identity, 503, { 1, 2, 4, 8, 16, 32, 32 } },
		{ &retry_identity, 0, { 1, 2, 4, 8, 16, 32, 32 } },
		{ &retry_identity, 408, { 1, 2, 4, 8, 16, 32, 32 } },
		{ &retry_identity, 500, { 1, 2, 4, 8, 16, 32, 32 } },
		{ &retry_identity, 429, { 2, 4, 8, 16, 16, 16, 16 } },
		{ &retry_vault, 429, { 1, 2, 4, 8, 16, 16, 16 } },
		{ &retry_vault, 500, { 1, 2, 4, 8, 16, 32, 60 } },
		{ &retry_vault, 599, { 1, 2, 4, 8, 16, 32, 60 } },
		{ &retry_vault, 403, { 15, 30, 60, 120, 240, 300, 300 } },
		{ &retry_vault, 0, { 1, 2, 4, 8, 16, 32, 60 } },
		{ &retry_events, 429, { 2, 4, 8, 16, 16, 16, 16 } },
		{ &retry_events, 500, { 1, 2, 4, 4, 4, 4, 4 } },
		{ &retry_events, 0, { 1, 2, 4, 4, 4, 4, 4 } },
		{ &retry_events, 200, { 1, 2, 4, 4, 4, 4, 4 } },
		{ &retry_events, 400, { 10, 20, 40, 60, 60, 60, 60 } },
		{ &retry_work, 0, { 10, 20, 40, 80, 160, 300, 300 } },
		{ &retry_work, 418, { 10, 20, 40, 80, 160, 300, 300 } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		usec_t waits[7], lasted;

		assert_int_equal(run(cases[i].policy, cases[i].status, 7, waits, &lasted), 7);
		for (size_t n = 0; n < 7; n++)
			near(waits[n], (usec_t)(cases[i].waits[n] * (double)SEC));
	}
}

static void test_never(void **state)
{
	static const struct {
		const struct retry_policy *policy;
		int status;
	} cases[] = {
		{ &retry_imds, 400 },     { &retry_imds, 401 },     { &retry_imds, 403 },        { &retry_imds, 405 },
		{ &retry_identity, 400 }, { &retry_identity, 401 }, { &retry_identity, 403 },    { &retry_vault, 400 },
		{ &retry_vault, 401 },    { &retry_vault, 404 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		usec_t waits[1], lasted;

		assert_int_equal(run(cases[i].policy, cases[i].status, 1, waits, &lasted), 0);
	}
}

/* 410: the service updates itself, for 70 s; the last try is at the end of them. */
static void test_total(void **state)
{
	usec_t waits[100], lasted;

	(void)state;
	assert_int_equal(run(&retry_imds, 410, 100, waits, &lasted), 7);
	assert_true(lasted == 70 * SEC);
	run(&retry_identity, 410, 100, waits, &lasted);
	assert_true(lasted == 70 * SEC);
	run(&retry_identity, 404, 100, waits, &lasted);
	assert_true(lasted == 10 * SEC);
	assert_int_equal(run(&retry_events, 410, 100, waits, &lasted), 100);
}

/* The 70 s of a 410 count from the first 410, also after a long time of something else. */
static void test_total_counts_its_own(void **state)
{
	struct retry_state s = { 0 };
	usec_t wait = 0;

	(void)state;
	assert_int_equal(retry_failed(&retry_imds, &s, 503, 0, MIDDLE, 0, &wait), RETRY_AFTER);
	assert_int_equal(retry_failed(&retry_imds, &s, 410, 0, MIDDLE, 600 * SEC, &wait), RETRY_AFTER);
	assert_int_equal(retry_failed(&retry_imds, &s, 410, 0, MIDDLE, 669 * SEC, &wait), RETRY_AFTER);
	near(wait, SEC);
	assert_int_equal(retry_failed(&retry_imds, &s, 410, 0, MIDDLE, 670 * SEC, &wait), RETRY_NO);
	assert_true(s.since == 0);
	assert_int_equal(s.attempts, 4);
	retry_succeeded(&s);
	assert_int_equal(s.attempts, 0);
	assert_int_equal(retry_failed(&retry_imds, &s, 410, 0, MIDDLE, 700 * SEC, &wait), RETRY_AFTER);
	near(wait, 2 * SEC);
}

static void test_retry_after(void **state)
{
	struct retry_state s = { 0 };
	usec_t wait = 0;

	(void)state;
	assert_int_equal(retry_failed(&retry_vault, &s, 429, 7 * SEC, 0, 0, &wait), RETRY_AFTER);
	assert_true(wait == 7 * SEC);
	assert_int_equal(retry_failed(&retry_vault, &s, 429, 10 * SEC, UINT32_MAX, 0, &wait), RETRY_AFTER);
	near(wait, 12 * SEC); /* never earlier than asked */
	assert_int_equal(retry_failed(&retry_events, &s, 429, 3600 * SEC, 0, 0, &wait), RETRY_AFTER);
	assert_true(wait == 16 * SEC);
}

static void test_jitter(void **state)
{
	(void)state;
	near(retry_jitter(100 * SEC, 10, 0), 90 * SEC);
	near(retry_jitter(100 * SEC, 10, UINT32_MAX), 110 * SEC);
	near(retry_jitter(100 * SEC, 10, MIDDLE), 100 * SEC);
	assert_true(retry_jitter(100 * SEC, 0, 12345) == 100 * SEC);
	near(retry_jitter(86400 * SEC, 10, UINT32_MAX / 4), 82080 * SEC);
	assert_true(retry_jitter(USEC_INFINITY, 10, 7) == USEC_INFINITY);
	assert_true(retry_jitter(0, 10, 7) == 0);
}

static void test_parse(void **state)
{
	const usec_t now = 1445412420 * SEC; /* 2015-10-21 07:27:00 */

	(void)state;
	assert_true(retry_after_parse("120", now) == 120 * SEC);
	assert_true(retry_after_parse("0", now) == 0);
	assert_true(retry_after_parse("Wed, 21 Oct 2015 07:28:00 GMT", now) == 60 * SEC);
	assert_true(retry_after_parse("Wed, 21 Oct 2015 07:26:00 GMT", now) == 0);
	assert_true(retry_after_parse("soon", now) == 0);
	assert_true(retry_after_parse("-5", now) == 0);
	assert_true(retry_after_parse("", now) == 0);
	assert_true(retry_after_parse(NULL, now) == 0);
	assert_true(retry_after_parse("18446744073709551615", now) == USEC_INFINITY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits),       cmocka_unit_test(test_never),
		cmocka_unit_test(test_total),       cmocka_unit_test(test_total_counts_its_own),
		cmocka_unit_test(test_retry_after), cmocka_unit_test(test_jitter),
		cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

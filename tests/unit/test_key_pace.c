/* Vaults that want no requests for a while. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/key_pace.h"

#define SEC  USEC_PER_SEC
#define ONE  "https://one.vault.azure.net/secrets/"
#define TWO  "https://two.vault.azure.net/secrets/"
#define EVEN (UINT32_MAX / 2) /* no jitter around our own waits */

static void test_what_one_is_told_holds_for_all_of_the_vault(void **state)
{
	_cleanup_(key_pace_done) struct key_pace p = { .n = 0 };

	(void)state;
	assert_int_equal(key_pace_until(&p, ONE "a", 0), 0);
	assert_int_equal(key_pace_refused(&p, ONE "a", 30 * SEC, 0, 100 * SEC), 0);
	assert_int_equal(key_pace_until(&p, ONE "b", 100 * SEC), 130 * SEC);
	assert_int_equal(key_pace_until(&p, "https://ONE.vault.azure.net:443/secrets/b", 129 * SEC), 130 * SEC);
	assert_int_equal(key_pace_until(&p, ONE "b", 130 * SEC), 0);
	assert_int_equal(key_pace_until(&p, TWO "b", 100 * SEC), 0);
	assert_int_equal(key_pace_until(&p, "https://one.vault.azure.net.example/secrets/b", 100 * SEC), 0);
	/* Answers to what was asked before: a longer time counts, a shorter one and a good answer do not. */
	assert_int_equal(key_pace_refused(&p, ONE "c", 60 * SEC, 0, 101 * SEC), 0);
	assert_int_equal(key_pace_refused(&p, ONE "d", 1 * SEC, 0, 102 * SEC), 0);
	key_pace_answered(&p, ONE "e", 103 * SEC);
	assert_int_equal(key_pace_until(&p, ONE "b", 103 * SEC), 161 * SEC);
	/* Retry-After is only ever lengthened. */
	key_pace_answered(&p, ONE "e", 161 * SEC);
	assert_int_equal(key_pace_refused(&p, ONE "a", 10 * SEC, UINT32_MAX, 200 * SEC), 0);
	assert_in_range(key_pace_until(&p, ONE "a", 200 * SEC), 211 * SEC, 212 * SEC);
}

/* A date does so by a clock that is years behind. */
static void test_nobody_is_believed_who_says_years(void **state)
{
	_cleanup_(key_pace_done) struct key_pace p = { .n = 0 };

	(void)state;
	for (usec_t again = 0; again < 3; again++) {
		assert_int_equal(key_pace_refused(&p, ONE "a", 400 * USEC_PER_DAY, 0, (100 + again) * SEC), 0);
		assert_in_range(key_pace_until(&p, ONE "b", 103 * SEC), 700 * SEC, 702 * SEC);
	}
}

static void test_one_asks_first_and_waits_double(void **state)
{
	_cleanup_(key_pace_done) struct key_pace p = { .n = 0 };
	static const usec_t waits[] = { 1, 2, 4, 8, 16, 16 };
	usec_t now = 100 * SEC;

	(void)state;
	assert_false(key_pace_careful(&p, ONE "a"));
	for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
		assert_int_equal(key_pace_refused(&p, ONE "a", 0, EVEN, now), 0);
		/* Those that were on their way count once. */
		assert_int_equal(key_pace_refused(&p, ONE "b", 0, EVEN, now), 0);
		assert_in_range(key_pace_until(&p, ONE "a", now), now + waits[i] * SEC - 1, now + waits[i] * SEC);
		now = key_pace_until(&p, ONE "a", now);
		assert_true(key_pace_careful(&p, ONE "c"));
		assert_false(key_pace_careful(&p, TWO "c"));
	}
	key_pace_answered(&p, ONE "a", now);
	assert_false(key_pace_careful(&p, ONE "a"));
	assert_int_equal(key_pace_refused(&p, ONE "a", 0, EVEN, now), 0);
	assert_in_range(key_pace_until(&p, ONE "a", now), now + SEC - 1, now + SEC);
}

static void test_more_vaults_than_are_held(void **state)
{
	_cleanup_(key_pace_done) struct key_pace p = { .n = 0 };

	(void)state;
	for (int i = 0; i < KEY_VAULTS_MAX + 5; i++) {
		_cleanup_free_ char *url = str_format("https://v%d.vault.azure.net/secrets/a", i);

		assert_int_equal(key_pace_refused(&p, url, (usec_t)(10 + i) * SEC, 0, SEC), 0);
		assert_int_equal(key_pace_until(&p, url, SEC) > 0, i < KEY_VAULTS_MAX);
	}
	/* Those whose time has come make room. */
	assert_int_equal(key_pace_refused(&p, TWO "a", 10 * SEC, 0, 1000 * SEC), 0);
	assert_int_equal(key_pace_until(&p, TWO "a", 1000 * SEC), 1010 * SEC);
}

static void test_same_vault(void **state)
{
	(void)state;
	assert_true(key_pace_same(ONE "a", ONE "b"));
	assert_true(key_pace_same(ONE "a", "https://One.Vault.azure.net:443/x"));
	assert_false(key_pace_same(ONE "a", TWO "a"));
	assert_false(key_pace_same(ONE "a", "https://one.vault.azure.ne/a"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_one_is_told_holds_for_all_of_the_vault),
		cmocka_unit_test(test_nobody_is_believed_who_says_years),
		cmocka_unit_test(test_one_asks_first_and_waits_double),
		cmocka_unit_test(test_more_vaults_than_are_held),
		cmocka_unit_test(test_same_vault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

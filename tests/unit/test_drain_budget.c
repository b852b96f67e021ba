/* Shares of the time: everything fits, nothing fits, and what lies between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/macros.h"
#include "agent/core/drain_budget.h"

#define S(n) ((usec_t)((n) * 1e6))
#define MAX 6

/* Times in seconds. share < 0: skipped. */
static const struct {
	const char *what;
	double total; /* < 0: nothing presses */
	bool started, tight;
	size_t n;
	struct {
		double timeout, reserve;
		bool wait;
		double share;
	} items[MAX];
} cases[] = {
	{ "nothing presses", -1, false, false, 2, { { 30, 5, false, 30 }, { 60, 0, true, 60 } } },
	{ "just fits", 90, false, false, 2, { { 30, 5, false, 30 }, { 60, 0, true, 60 } } },
	{ "nothing to do", 0, false, false, 0, { { 0 } } },
	{ "in proportion", 45, false, false, 2, { { 30, 10, false, 18.75 }, { 60, 0, true, 26.25 } } },
	/* probeDown, run, waitForConnections, three units: 25 s notice less 3 s margin */
	{ "Preempt, 25 s", 22, false, false, 4,
	  { { 15, 0, true, 0.896739 }, { 30, 5, false, 6.494565 }, { 60, 0, true, 3.586957 }, { 90, 6, false, 11.021739 } } },
	{ "waits give way", 8, false, true, 4,
	  { { 15, 0, true, -1 }, { 30, 5, false, 3.636363 }, { 60, 0, true, -1 }, { 90, 6, false, 4.363636 } } },
	{ "a wait's own reserve gives way first", 12, false, true, 3,
	  { { 15, 4, true, -1 }, { 30, 5, false, 5 }, { 90, 6, false, 6 } } },
	{ "reserves shrink, not below 1 s", 3, false, true, 3,
	  { { 30, 5, false, 1 }, { 30, 1, false, 1 }, { 90, 10, false, 1.875 } } },
	{ "NotBefore is past", 0, false, true, 3, { { 15, 1, true, -1 }, { 30, 5, false, 1 }, { 90, 6, false, 1 } } },
	{ "past, and no reserve at all: a wait has no time", 0, false, false, 1, { { 15, 0, true, -1 } } },
	{ "has started", 0, true, true, 3, { { 15, 0, true, -1 }, { 30, 5, false, 5 }, { 30, 0, false, 1 } } },
	{ "has started, though there was time", 600, true, true, 2, { { 15, 0, true, -1 }, { 30, 5, false, 5 } } },
	{ "reserve above timeout", 4, false, false, 1, { { 2, 3, false, 3 } } },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
		struct budget_item items[MAX] = { { 0 } };
		bool tight;

		for (size_t i = 0; i < cases[c].n; i++)
			items[i] = (struct budget_item){ .timeout_usec = S(cases[c].items[i].timeout),
							 .reserve_usec = S(cases[c].items[i].reserve),
							 .wait = cases[c].items[i].wait };
		tight = drain_budget_share(cases[c].total < 0 ? USEC_INFINITY : S(cases[c].total), cases[c].started, items,
					   cases[c].n);
		if (tight != cases[c].tight)
			fail_msg("%s: tight is %d", cases[c].what, tight);
		for (size_t i = 0; i < cases[c].n; i++) {
			double share = (double)items[i].share_usec / 1e6, expected = cases[c].items[i].share;

			if (items[i].skip != (expected < 0))
				fail_msg("%s: item %zu skipped %d", cases[c].what, i, items[i].skip);
			if (expected >= 0 && (share < expected - 0.00001 || share > expected + 0.00001))
				fail_msg("%s: item %zu has %f s, expected %f", cases[c].what, i, share, expected);
		}
	}
}

/* For any numbers: shares stay within the total, within the timeouts, and above the reserves while those fit. */
static void test_properties(void **state)
{
	uint64_t x = 88172645463325252u;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct budget_item items[8] = { { 0 } };
		usec_t total, sum = 0, reserves;
		bool tight;

#define RANDOM(n) (x ^= x << 13, x ^= x >> 7, x ^= x << 17, x % (n))
		total = RANDOM(S(300));
		for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
			items[i].timeout_usec = RANDOM(S(120));
			items[i].reserve_usec = RANDOM(items[i].timeout_usec / 4 + 1);
			items[i].wait = RANDOM(3) == 0;
		}
		reserves = drain_budget_reserves(items, ARRAY_SIZE(items));
		tight = drain_budget_share(total, false, items, ARRAY_SIZE(items));
		for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
			sum += items[i].share_usec;
			assert_true(items[i].share_usec <= items[i].timeout_usec || items[i].share_usec <= BUDGET_LEAST);
			if (reserves <= total)
				assert_true(items[i].share_usec >= items[i].reserve_usec);
			assert_true(!items[i].skip || items[i].wait);
		}
		assert_true(tight == (reserves > total));
		assert_true(sum <= total || tight);
		assert_true(sum <= total + ARRAY_SIZE(items) * BUDGET_LEAST);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_cases), cmocka_unit_test(test_properties) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

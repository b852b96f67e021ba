/* Shares of the time that is left. */
#include "agent/core/drain_budget.h"

static usec_t most(const struct budget_item *i)
{
	return usec_max(i->timeout_usec, i->reserve_usec);
}

usec_t drain_budget_reserves(const struct budget_item *items, size_t n)
{
	usec_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = usec_add(sum, items[i].reserve_usec);
	return sum;
}

/* total * part / whole, rounded down, so that the sum of portions stays within the total. */
static usec_t portion(usec_t total, usec_t part, usec_t whole)
{
	return whole == 0 ? 0 : (usec_t)((unsigned __int128)total * part / whole);
}

static void give_up_waits(struct budget_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		items[i].skip = items[i].wait;
		items[i].share_usec = items[i].wait ? 0 : usec_max(items[i].reserve_usec, BUDGET_LEAST);
	}
}

bool drain_budget_share(usec_t total_usec, bool started, struct budget_item *items, size_t n)
{
	usec_t timeouts = 0, reserves = 0, wishes = 0;

	for (size_t i = 0; i < n; i++) {
		timeouts = usec_add(timeouts, most(&items[i]));
		reserves = usec_add(reserves, items[i].reserve_usec);
		wishes = usec_add(wishes, most(&items[i]) - items[i].reserve_usec);
	}

	if (started) {
		give_up_waits(items, n);
		return true;
	}
	if (timeouts <= total_usec) {
		for (size_t i = 0; i < n; i++) {
			items[i].skip = false;
			items[i].share_usec = most(&items[i]);
		}
		return false;
	}
	if (reserves <= total_usec) {
		usec_t rest = total_usec - reserves;

		for (size_t i = 0; i < n; i++) {
			items[i].share_usec = usec_add(items[i].reserve_usec,
						       portion(rest, most(&items[i]) - items[i].reserve_usec, wishes));
			items[i].skip = items[i].wait && items[i].share_usec == 0;
		}
		return false;
	}

	reserves = 0;
	for (size_t i = 0; i < n; i++)
		if (!items[i].wait)
			reserves = usec_add(reserves, items[i].reserve_usec);
	give_up_waits(items, n);
	for (size_t i = 0; i < n; i++)
		if (!items[i].wait && reserves > total_usec)
			items[i].share_usec =
				usec_max(portion(total_usec, items[i].reserve_usec, reserves), BUDGET_LEAST);
	return true;
}

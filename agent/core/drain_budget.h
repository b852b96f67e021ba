/*
 * How much time each step gets (settings.md 1.3, "Budget"). Pure arithmetic. Steps that run at the same
 * time are one item: its timeout and reserve are the longest of theirs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/time.h"

struct budget_item {
	usec_t timeout_usec; /* the most */
	usec_t reserve_usec; /* the least it needs when time is short */
	bool wait;	     /* a wait is the first thing that gives way */

	/* written by drain_budget_share() */
	bool skip;
	usec_t share_usec;
};

#define BUDGET_LEAST (1 * USEC_PER_SEC) /* no reserve shrinks below this */

/*
 * total_usec: NotBefore - now - margin, USEC_INFINITY when nothing presses.
 * started: an event has begun: waits are skipped, every other item has its reserve, total_usec does not count.
 * Sum of shares <= total, except where reserves do not fit and BUDGET_LEAST holds them up.
 * True: waits are given up, also those inside an item that is no wait itself.
 */
bool drain_budget_share(usec_t total_usec, bool started, struct budget_item *items, size_t n);

/* Does everything that must happen still fit? (What a retry or a wait may not eat.) */
usec_t drain_budget_reserves(const struct budget_item *items, size_t n);

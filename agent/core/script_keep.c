/* Which runs of scripts are kept. */
#include "agent/core/script_keep.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"

/* What runs is newer than everything. */
static usec_t when(const struct script_kept *k)
{
	return k->ended || !k->begun ? k->ended_wall : k->lost ? k->begun_wall : USEC_INFINITY;
}

static int newest_first(const void *a, const void *b)
{
	const struct script_kept *x = a, *y = b;
	usec_t tx = when(x), ty = when(y);

	if (tx != ty)
		return tx > ty ? -1 : 1;
	if (x->begun_wall != y->begun_wall)
		return x->begun_wall > y->begun_wall ? -1 : 1;
	return strcmp(y->id, x->id);
}

static bool same_script(const struct script_kept *a, const struct script_kept *b)
{
	return a->by_hand == b->by_hand && str_equal(a->name, b->name);
}

static bool is_alive(const struct script_kept *k)
{
	return k->in_use || (k->begun && !k->ended && !k->lost);
}

/* How many newer ones of the same script have ended. */
static size_t newer(const struct script_kept *items, size_t i)
{
	size_t n = 0;

	for (size_t j = 0; j < i; j++)
		n += !is_alive(&items[j]) && same_script(&items[j], &items[i]);
	return n;
}

void script_keep_plan(struct script_kept *items, size_t n, const struct script_keep_limits *limits, usec_t now_wall)
{
	uint64_t total = 0;

	if (n == 0)
		return;
	qsort(items, n, sizeof(*items), newest_first);
	for (size_t i = 0; i < n; i++) {
		struct script_kept *k = &items[i];
		size_t before = newer(items, i);

		k->remove = false;
		if (is_alive(k) || (k->wanted && before == 0 && !k->helper && !k->unwiped))
			;
		else
			k->remove = k->unwiped || (k->helper && (k->ended || k->lost)) || before >= limits->runs || usec_add(when(k), limits->age) < now_wall;
		total += k->remove ? 0 : k->bytes;
	}
	for (size_t i = n; i-- > 0 && total > limits->bytes;) {
		struct script_kept *k = &items[i];

		if (k->remove || is_alive(k) || newer(items, i) == 0)
			continue;
		k->remove = true;
		total -= k->bytes;
	}
}

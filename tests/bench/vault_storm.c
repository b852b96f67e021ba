/*
 * A scale-out in virtual time: many agents that begin in the same second, one vault that takes 4,000 requests in 10 s and
 * answers 429 beyond. What is asked when is decided by the real plan (agent/core/key_plan.h, key_pace.h, retry.h); only time,
 * network and disk are made up. Prints how the requests spread, and fails when agents stay in step.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/error.h"
#include "agent/core/key_pace.h"
#include "agent/core/key_plan.h"

#define WINDOW	 (10 * USEC_PER_SEC)
#define TAKEN	 4000 /* of a window (key-vault.md B.4); refused ones do not count */
#define INTERVAL USEC_PER_HOUR
#define HOURS	 4
#define WINDOWS	 ((size_t)(HOURS * USEC_PER_HOUR / WINDOW))
#define START	 (1000 * USEC_PER_SEC) /* of the boot clock */
#define WALL	 (UINT64_C(1795000000) * USEC_PER_SEC)
#define FETCH	 (40 * USEC_PER_MSEC)  /* an answer, and up to as much again */
#define INSTALL	 (100 * USEC_PER_MSEC) /* the job that writes the files */
#define SHARE	 100		       /* agents begin within so many milliseconds */

struct agent {
	struct key_item *items;
	struct key_pace pace;
	size_t busy, fetching;
	usec_t wake; /* the timer; USEC_INFINITY: none */
};

enum what { WAKE, ANSWER, INSTALLED };

struct event {
	usec_t at;
	uint32_t agent, item;
	enum what what;
	bool taken; /* ANSWER: by the vault */
};

struct storm {
	const char *name;
	size_t n_agents, n_items;
	bool says_when; /* 429 with Retry-After */
	bool as_it_was; /* without holding a whole vault, and without spreading the first poll */
	struct agent *agents;
	struct certificate_settings *settings;
	struct event *heap;
	size_t n_heap, cap_heap;
	uint64_t random;
	unsigned asked[WINDOWS + 2], refused[WINDOWS + 2];
	size_t n_installed;
	usec_t last_installed;
};

static uint32_t draw(struct storm *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return (uint32_t)(s->random >> 16);
}

/* ---- the heap of events ---- */

static void push(struct storm *s, struct event e)
{
	size_t i = s->n_heap++;

	if (s->n_heap > s->cap_heap) {
		s->cap_heap = s->cap_heap ? 2 * s->cap_heap : 4096;
		s->heap = realloc(s->heap, s->cap_heap * sizeof(*s->heap));
		if (!s->heap)
			abort();
	}
	for (; i > 0 && s->heap[(i - 1) / 2].at > e.at; i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = e;
}

static struct event pop(struct storm *s)
{
	struct event first = s->heap[0], last = s->heap[--s->n_heap];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= s->n_heap)
			break;
		child += child + 1 < s->n_heap && s->heap[child + 1].at < s->heap[child].at;
		if (s->heap[child].at >= last.at)
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return first;
}

/* ---- an agent, as handlers/key_refresh goes about it ---- */

static struct key_clock clock_at(struct storm *s, usec_t now)
{
	return (struct key_clock){ INTERVAL, draw(s), now, WALL + now };
}

static bool at_work(const struct key_item *i)
{
	return i->next_boot == USEC_INFINITY;
}

static void arm(struct storm *s, uint32_t a, usec_t at)
{
	struct agent *agent = &s->agents[a];

	if (at < agent->wake) {
		agent->wake = at;
		push(s, (struct event){ .at = at, .agent = a, .what = WAKE });
	}
}

static void ask(struct storm *s, uint32_t a, uint32_t k, usec_t now)
{
	size_t window = (now - START) / WINDOW;
	bool taken;

	s->agents[a].items[k].next_boot = USEC_INFINITY;
	s->agents[a].busy++;
	s->agents[a].fetching++;
	if (window > WINDOWS)
		window = WINDOWS + 1;
	taken = s->asked[window] - s->refused[window] < TAKEN;
	s->asked[window]++;
	s->refused[window] += !taken;
	push(s, (struct event){
			.at = now + FETCH + draw(s) % FETCH, .agent = a, .item = k, .what = ANSWER, .taken = taken });
}

static void look_round(struct storm *s, uint32_t a, usec_t now)
{
	struct agent *agent = &s->agents[a];
	usec_t soonest = USEC_INFINITY;

	for (uint32_t k = 0; k < s->n_items; k++) {
		struct key_item *i = &agent->items[k];
		usec_t due = usec_max(i->next_boot, key_pace_until(&agent->pace, key_url(&i->wish), now));

		if (at_work(i) || (agent->fetching > 0 && key_pace_careful(&agent->pace, key_url(&i->wish))))
			continue;
		if (due <= now && agent->busy < KEY_PARALLEL)
			ask(s, a, k, now);
		else if (agent->busy < KEY_PARALLEL)
			soonest = usec_min(soonest, due);
	}
	if (agent->busy < KEY_PARALLEL && soonest != USEC_INFINITY)
		arm(s, a, soonest);
}

/* What every vault has. */
static const struct key_found certificate = { .version = "0123456789abcdef0123456789abcdef",
					      .not_before = WALL - USEC_PER_DAY,
					      .not_after = WALL + 90 * USEC_PER_DAY,
					      .created = WALL - USEC_PER_DAY };

static void on_answer(struct storm *s, const struct event *e)
{
	struct agent *agent = &s->agents[e->agent];
	struct key_item *i = &agent->items[e->item];
	struct key_clock c = clock_at(s, e->at);
	struct error why = ERROR_INIT;
	usec_t left = WINDOW - (e->at - START) % WINDOW;
	usec_t retry_after = s->says_when ? (left + USEC_PER_SEC - 1) / USEC_PER_SEC * USEC_PER_SEC : 0;

	agent->fetching--;
	if (e->taken)
		key_pace_answered(&agent->pace, key_url(&i->wish), e->at);
	if (e->taken && key_judge(i, &certificate, false, true, c.now_wall, &why) == KEY_INSTALL) {
		push(s, (struct event){ .at = e->at + INSTALL, .agent = e->agent, .item = e->item, .what = INSTALLED });
		look_round(s, e->agent, e->at);
		return;
	}
	agent->busy--;
	if (e->taken) {
		key_kept(i, &c);
	} else {
		(void)error_set(&why, ERROR_TRANSIENT, -1, "429");
		key_fetch_failed(i, 429, retry_after, &why, &c);
		if (!s->as_it_was &&
		    key_pace_refused(&agent->pace, key_url(&i->wish), retry_after, c.random, c.now_boot) < 0)
			abort();
	}
	look_round(s, e->agent, e->at);
}

static void on_installed(struct storm *s, const struct event *e)
{
	struct agent *agent = &s->agents[e->agent];
	struct key_item *i = &agent->items[e->item];
	struct key_clock c = clock_at(s, e->at);

	agent->busy--;
	if (key_was_installed(i, &certificate, i->shape, key_url(&i->wish), "system-assigned", &c) < 0)
		abort();
	s->n_installed++;
	s->last_installed = e->at;
	look_round(s, e->agent, e->at);
}

/* ---- a run ---- */

static void begin(struct storm *s)
{
	s->random = 0x9e3779b97f4a7c15u;
	s->agents = calloc(s->n_agents, sizeof(*s->agents));
	s->settings = calloc(s->n_items, sizeof(*s->settings));
	if (!s->agents || !s->settings)
		abort();
	for (size_t k = 0; k < s->n_items; k++) {
		char url[64];

		(void)snprintf(url, sizeof(url), "https://v.vault.azure.net/secrets/web%zu", k);
		s->settings[k].url = strdup(url);
		s->settings[k].name = strdup("web");
	}
	for (uint32_t a = 0; a < s->n_agents; a++) {
		s->agents[a].items = calloc(s->n_items, sizeof(struct key_item));
		s->agents[a].wake = USEC_INFINITY;
		if (!s->agents[a].items)
			abort();
		for (size_t k = 0; k < s->n_items; k++) {
			struct key_item *i = &s->agents[a].items[k];

			i->wish.certificate = &s->settings[k];
			i->spread = s->as_it_was;
			memset(i->shape, 'a', sizeof(i->shape) - 1);
		}
		arm(s, a, START + draw(s) % (SHARE * USEC_PER_MSEC));
	}
}

static void end(struct storm *s)
{
	for (size_t a = 0; a < s->n_agents; a++) {
		for (size_t k = 0; k < s->n_items; k++)
			key_item_done(&s->agents[a].items[k]);
		key_pace_done(&s->agents[a].pace);
		free(s->agents[a].items);
	}
	for (size_t k = 0; k < s->n_items; k++) {
		free(s->settings[k].url);
		free(s->settings[k].name);
	}
	free(s->agents);
	free(s->settings);
	free(s->heap);
}

static unsigned most(const unsigned *counts, size_t from, size_t to)
{
	unsigned found = 0;

	for (size_t i = from; i < to; i++)
		found = counts[i] > found ? counts[i] : found;
	return found;
}

static unsigned long sum(const unsigned *counts, size_t from, size_t to)
{
	unsigned long total = 0;

	for (size_t i = from; i < to; i++)
		total += counts[i];
	return total;
}

/* Whether all have theirs, soon, and nobody keeps step with the others afterwards. */
static bool run(struct storm *s)
{
	size_t all = s->n_agents * s->n_items, hour = USEC_PER_HOUR / WINDOW, synced;
	double least = (double)((all - 1) / TAKEN) * 10;
	bool good;

	begin(s);
	while (s->n_heap > 0 && s->heap[0].at < START + HOURS * USEC_PER_HOUR) {
		struct event e = pop(s);

		if (e.what == ANSWER) {
			on_answer(s, &e);
		} else if (e.what == INSTALLED) {
			on_installed(s, &e);
		} else if (e.at == s->agents[e.agent].wake) {
			s->agents[e.agent].wake = USEC_INFINITY;
			look_round(s, e.agent, e.at);
		}
	}
	synced = (s->last_installed - START) / WINDOW + 1;
	printf("%-34s %7zu  %8.1f s (least %3.0f)  %7lu  %8u  %8u %8lu  %8u %8lu\n", s->name, all,
	       (double)(s->last_installed - START) / 1e6, least, sum(s->refused, 0, synced), most(s->asked, 0, synced),
	       most(s->asked, synced, 2 * hour), sum(s->refused, synced, 2 * hour), most(s->asked, 2 * hour, WINDOWS),
	       sum(s->refused, 2 * hour, WINDOWS));
	good = s->n_installed == all && (double)(s->last_installed - START) / 1e6 < 2 * least + 30 &&
	       most(s->asked, 0, synced) <= 3 * TAKEN && most(s->asked, synced, WINDOWS) <= TAKEN / 2 &&
	       sum(s->refused, synced, WINDOWS) == 0 && sum(s->asked, hour, WINDOWS) > (HOURS - 2) * all;
	end(s);
	return good || s->as_it_was;
}

int main(int argc, char **argv)
{
	/* The first ones in a moment, the others with --all: beside them, how it would be if every item went its own way. */
	struct storm storms[] = {
		{ "10 each", 1000, 10, true, false },
		{ "10 each, no Retry-After", 1000, 10, false, false },
		{ "40 each", 1000, 40, true, false },
		{ "100 each", 1000, 100, true, false },
		{ "100 each, no Retry-After", 1000, 100, false, false },
		{ "300 each", 1000, 300, true, false },
		{ "10 each, every item for itself", 1000, 10, true, true },
		{ "40 each, every item for itself", 1000, 40, true, true },
		{ "100 each, every item for itself", 1000, 100, true, true },
	};
	size_t n = argc == 2 && strcmp(argv[1], "--all") == 0 ? sizeof(storms) / sizeof(storms[0]) : 3;
	bool good = true;

	printf("1,000 agents that begin within %d ms; the vault takes %d requests in 10 s. Most of a 10 s window:\n\n",
	       SHARE, TAKEN);
	printf("%-34s %7s  %-22s  %7s  %8s  %-17s  %s\n", "certificates", "all", "first sync took", "429s", "most",
	       "first polls, 429s", "later polls, 429s");
	for (size_t i = 0; i < n; i++) {
		good = run(&storms[i]) && good;
		(void)fflush(stdout);
	}
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

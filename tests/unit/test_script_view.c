/* Which runs of scripts are kept, with made-up times and sizes; and what people are shown of them, there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/script_view.h"

#define NOW	 ((usec_t)1000 * USEC_PER_DAY)
#define ITEMS	 64
#define MIB(n)	 ((uint64_t)(n) * 1024 * 1024)
#define LIMITS() { .runs = 3, .age = 30 * USEC_PER_DAY, .bytes = MIB(1024) }

/* ---- keeping ---- */

struct kept_list {
	struct script_kept items[ITEMS];
	size_t n;
};

static struct script_kept *add(struct kept_list *l, const char *name, const char *id, double days_ago, uint64_t mib)
{
	struct script_kept *k = &l->items[l->n++];
	usec_t when = NOW - (usec_t)(days_ago * (double)USEC_PER_DAY);

	assert_true(l->n <= ITEMS);
	*k = (struct script_kept){ .id = (char *)(uintptr_t)id, .name = (char *)(uintptr_t)name, .begun = true, .ended = true,
				   .begun_wall = when - 1000, .ended_wall = when, .bytes = MIB(mib), .wanted = true };
	return k;
}

/* The ids of what is left, newest first. */
static const char *plan(struct kept_list *l, struct script_keep_limits limits)
{
	static char text[512];

	text[0] = '\0';
	script_keep_plan(l->items, l->n, &limits, NOW);
	for (size_t i = 0; i < l->n; i++)
		if (!l->items[i].remove)
			(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", *text ? " " : "", l->items[i].id);
	return text;
}

static void test_number_for_each_script(void **state)
{
	struct kept_list l = { 0 };
	struct script_keep_limits limits = LIMITS();

	(void)state;
	add(&l, "b", "b1", 2.5, 1);
	for (int i = 0; i < 5; i++)
		add(&l, "a", (const char *[]){ "a5", "a4", "a3", "a2", "a1" }[i], i, 1);
	/* The same name, run by hand, is another script. */
	add(&l, "a", "hand", 9, 1)->by_hand = true;
	assert_string_equal(plan(&l, limits), "a5 a4 a3 b1 hand");
	limits.runs = 1;
	assert_string_equal(plan(&l, limits), "a5 b1 hand");
}

static void test_age(void **state)
{
	struct kept_list l = { 0 };
	const struct script_keep_limits limits = LIMITS();

	(void)state;
	add(&l, "a", "a3", 1, 1);
	add(&l, "a", "a2", 29.9, 1);
	add(&l, "a", "a1", 30.1, 1);
	add(&l, "old", "newest", 400, 1);
	add(&l, "gone", "unwanted", 31, 1)->wanted = false;
	assert_string_equal(plan(&l, limits), "a3 a2 newest");
}

static void test_size(void **state)
{
	struct kept_list l = { 0 };
	const struct script_keep_limits limits = LIMITS();

	(void)state;
	add(&l, "a", "a2", 1, 400);
	add(&l, "b", "b2", 2, 400);
	add(&l, "a", "a1", 3, 200);
	add(&l, "b", "b1", 4, 24);
	assert_string_equal(plan(&l, limits), "a2 b2 a1 b1"); /* exactly so much */
	l.items[0].bytes++;
	assert_string_equal(plan(&l, limits), "a2 b2 a1");
	/* The newest ones are more than all may be: nothing else is left, but they are. */
	l.items[0].bytes = l.items[1].bytes = MIB(700);
	assert_string_equal(plan(&l, limits), "a2 b2");
	/* Also of what is no script of the settings, or not any more. */
	l.items[0].wanted = l.items[1].wanted = false;
	assert_string_equal(plan(&l, limits), "a2 b2");
}

static void test_what_runs_stays(void **state)
{
	struct kept_list l = { 0 };
	struct script_keep_limits limits = LIMITS();
	struct script_kept *k;

	(void)state;
	k = add(&l, "a", "running", 90, 5000);
	k->ended = false;
	k = add(&l, "a", "watched", 80, 5000);
	k->in_use = true;
	k = add(&l, "a", "not-begun", 70, 1);
	k->begun = k->ended = false;
	k->in_use = true;
	add(&l, "a", "result", 60, 1);
	k = add(&l, "a", "lost", 61, 1);
	k->ended = false;
	k->lost = true;
	/* Also the newest result: what runs has none yet. */
	assert_string_equal(plan(&l, limits), "running result not-begun watched");
	limits.runs = 1;
	assert_string_equal(plan(&l, limits), "running result not-begun watched");
}

static void test_helpers_go(void **state)
{
	struct kept_list l = { 0 };
	const struct script_keep_limits limits = LIMITS();
	struct script_kept *k;

	(void)state;
	add(&l, "reboot", "done", 0, 1)->helper = true;
	k = add(&l, "reboot", "lost", 0, 1);
	k->helper = k->lost = true;
	k->ended = false;
	k = add(&l, "reboot", "now", 0, 1);
	k->helper = true;
	k->ended = false;
	assert_string_equal(plan(&l, limits), "now");
	assert_string_equal(plan(&(struct kept_list){ 0 }, limits), "");
}

/* ---- the view ---- */

static void view_done(struct script_view *v)
{
	jd_free(&script_view_type, v);
}

static char *encoded(const struct script_view *v)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);

	assert_int_equal(jd_encode(&script_view_type, v, false, &text), 0);
	return strdup(buf_str(&text));
}

static const struct script_view *through_json(const struct script_view *v, struct script_view *back)
{
	_cleanup_free_ char *text = encoded(v), *again = NULL;
	struct error e = ERROR_INIT;

	if (jd_decode_document(text, strlen(text), "the view", LIMIT_API_REPLY, &script_view_type, back, &e) < 0)
		fail_msg("%s", e.msg);
	again = encoded(back);
	assert_string_equal(text, again);
	return back;
}

static void test_ends(void **state)
{
	static const struct {
		struct job_result result;
		const char *state, *phrase;
		int64_t exit_code, signal;
	} ends[] = {
		{ { .end = JOB_SUCCEEDED }, "succeeded", "exit code 0", 0, -1 },
		{ { .end = JOB_EXITED, .exit_code = 7 }, "failed", "exit code 7", 7, -1 },
		{ { .end = JOB_SIGNALED, .signal = 9 }, "failed", "killed by SIGKILL (9)", -1, 9 },
		{ { .end = JOB_TIMED_OUT, .duration_msec = 60000 }, "timedOut", "timed out after 60 s", -1, -1 },
		{ { .end = JOB_STOPPED }, "stopped", "stopped after 0 s", -1, -1 },
		{ { .end = JOB_NOT_STARTED }, "notStarted", "not started", -1, -1 },
		{ { .end = JOB_INTERRUPTED }, "interrupted", "interrupted", -1, -1 },
	};
	_cleanup_(view_done) struct script_view v = { .running = true }, back = { 0 };
	char sequence[] = "3";
	struct kept_list l = { 0 };
	const struct view_script *s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct script_kept *k = add(&l, "a", "cs-a-00000000-1", (double)i, 1);

		k->result = ends[i].result;
		k->sequence = sequence;
	}
	assert_int_equal(script_view_add_runs(&v, l.items, l.n, NOW), 0);
	s = through_json(&v, &back)->scripts.items;
	assert_int_equal(back.scripts.n, 1);
	assert_string_equal(s->origin, "former");
	assert_string_equal(s->state, "succeeded");
	assert_string_equal(s->sequence, "3");
	assert_int_equal(s->runs.n, ARRAY_SIZE(ends));
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		const struct view_run *run = (const struct view_run *)s->runs.items + i;

		assert_string_equal(run->state, ends[i].state);
		assert_string_equal(run->result, ends[i].phrase);
		assert_int_equal(run->exit_code, ends[i].exit_code);
		assert_int_equal(run->signal, ends[i].signal);
	}
}

static void test_what_has_no_end_yet(void **state)
{
	_cleanup_(view_done) struct script_view v = { 0 }, back = { 0 };
	struct kept_list l = { 0 };
	struct script_kept *k;
	const struct view_run *run;

	(void)state;
	k = add(&l, "a", "running", 0, 0);
	k->ended = false;
	k->begun_wall = NOW - 90 * USEC_PER_SEC;
	k = add(&l, "b", "starting", 0, 0);
	k->begun = k->ended = false;
	k = add(&l, "c", "lost", 0, 0);
	k->ended = false;
	k->lost = true;
	add(&l, "reboot", "helper", 0, 0)->helper = true;
	assert_int_equal(script_view_add_runs(&v, l.items, l.n, NOW), 0);
	(void)through_json(&v, &back);
	assert_int_equal(back.scripts.n, 3);
	run = ((const struct view_script *)back.scripts.items)[0].runs.items;
	assert_string_equal(run->state, "running");
	assert_null(run->result);
	assert_int_equal(run->duration_msec, 90000);
	run = ((const struct view_script *)back.scripts.items)[1].runs.items;
	assert_string_equal(run->state, "starting");
	assert_int_equal(run->duration_msec, -1);
	run = ((const struct view_script *)back.scripts.items)[2].runs.items;
	assert_string_equal(run->state, "interrupted");
}

static void test_what_the_plan_tells_counts_more_than_the_newest_run(void **state)
{
	_cleanup_(view_done) struct script_view v = { 0 }, back = { 0 };
	const struct script_run failed = { .name = (char[]){ "b" }, .sequence = (char[]){ "5" }, .state = SCRIPT_FAILED, .attempts = 2,
					   .message = (char[]){ "exit code 1 after 3 s" } };
	struct kept_list l = { 0 };
	const struct view_script *s;

	(void)state;
	assert_int_equal(script_view_tell(script_view_get(&v, "a", "settings"), NULL, "waiting for its turn"), 0);
	assert_int_equal(script_view_tell(script_view_get(&v, "b", "settings"), &failed, NULL), 0);
	assert_ptr_equal(script_view_get(&v, "a", "settings"), v.scripts.items);
	add(&l, "a", "cs-a-00000000-1", 1, 0)->attempt = 1;
	add(&l, "a", "hand-a-0000000000000000", 1, 0)->by_hand = true;
	assert_int_equal(script_view_add_runs(&v, l.items, l.n, NOW), 0);
	s = through_json(&v, &back)->scripts.items;
	assert_int_equal(back.scripts.n, 3);
	assert_string_equal(s[0].state, "waiting");
	assert_string_equal(s[0].detail, "waiting for its turn");
	assert_int_equal(s[0].attempts, 0);
	assert_int_equal(s[0].runs.n, 1);
	assert_string_equal(s[1].state, "failed");
	assert_string_equal(s[1].detail, "exit code 1 after 3 s");
	assert_string_equal(s[1].sequence, "5");
	assert_int_equal(s[1].attempts, 2);
	assert_non_null(s[1].runs.items); /* [], not absent: the shape is the same for all */
	assert_string_equal(s[2].origin, "byHand");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_number_for_each_script), cmocka_unit_test(test_age), cmocka_unit_test(test_size),
		cmocka_unit_test(test_what_runs_stays), cmocka_unit_test(test_helpers_go), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_what_has_no_end_yet),
		cmocka_unit_test(test_what_the_plan_tells_counts_more_than_the_newest_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The way of a renewed certificate into use: every cell, every sentence, and random histories with kills in them. */
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
#include "agent/core/key_plan.h"

#define WALL ((usec_t)1763632800 * USEC_PER_SEC)
#define MID  (UINT32_MAX / 2 + 1)
#define MUTABLE(text) ((char[]){ text })

static const struct key_candidate second = { .url = MUTABLE("u"),
					     .shape = MUTABLE("s"),
					     .version = MUTABLE("v2"),
					     .thumbprint = MUTABLE("T2"),
					     .identity = MUTABLE("me"),
					     .set = MUTABLE("set2"),
					     .not_after_usec = 7 };
static const struct activation_needs all = { true, true, true, true }, unbound = { true, false, true, true };

static void done(struct key_activation *a)
{
	struct key_record r = { .activation = *a };

	key_record_done(&r);
	*a = (struct key_activation){ 0 };
}

static enum activation_action end_step(struct key_activation *a, const struct activation_needs *n, enum activation_end end)
{
	return key_activation_ended(a, n, end, end == ACTIVATION_FAILED ? "it broke" : NULL, MID, WALL);
}

/* Begun, and led to `step` by steps that went well or, for the way back, by one that failed. */
static void lead_to(struct key_activation *a, int step)
{
	*a = (struct key_activation){ 0 };
	if (step == ACTIVATION_NONE)
		return;
	assert_int_equal(key_activation_begin(a, &second, "set1"), 0);
	while (a->step != step) {
		const struct activation_needs *n = step == ACTIVATION_TESTING || step == ACTIVATION_UNDOING ? &unbound : &all;
		bool turn = (step == ACTIVATION_UNDOING && a->step == ACTIVATION_TESTING) ||
			    (step >= ACTIVATION_REVERTING && a->step == ACTIVATION_RELOADING);

		assert_int_equal(end_step(a, n, turn ? ACTIVATION_FAILED : ACTIVATION_OK), ACTIVATION_DO);
	}
}

/* ---- every cell ---- */

static void test_every_step_and_every_end(void **state)
{
	enum { N = ACTIVATION_NONE, ST, CH, SW, TE, RE, VE, UN, RV, RI };
	static const struct {
		int next, action;
	} cells[_ACTIVATION_STEPS][_ACTIVATION_ENDS] = {
		/*           ok                        failed                    lost                      unbound */
		[N]  = { { N, ACTIVATION_IDLE },   { N, ACTIVATION_IDLE },   { N, ACTIVATION_IDLE }, { N, ACTIVATION_IDLE } },
		[ST] = { { CH, ACTIVATION_DO },	   { N, ACTIVATION_DROP },   { N, ACTIVATION_DROP }, { N, ACTIVATION_DROP } },
		[CH] = { { SW, ACTIVATION_DO },	   { UN, ACTIVATION_DO },    { CH, ACTIVATION_DO },  { SW, ACTIVATION_DO } },
		[SW] = { { RE, ACTIVATION_DO },	   { UN, ACTIVATION_DO },    { SW, ACTIVATION_DO },  { SW, ACTIVATION_DO } },
		[TE] = { { RE, ACTIVATION_DO },	   { UN, ACTIVATION_DO },    { TE, ACTIVATION_DO },  { TE, ACTIVATION_DO } },
		[RE] = { { VE, ACTIVATION_DO },	   { RV, ACTIVATION_DO },    { RE, ACTIVATION_DO },  { RE, ACTIVATION_DO } },
		[VE] = { { N, ACTIVATION_SETTLE }, { RV, ACTIVATION_DO },    { VE, ACTIVATION_DO },  { VE, ACTIVATION_DO } },
		[UN] = { { N, ACTIVATION_REJECT }, { UN, ACTIVATION_LATER }, { UN, ACTIVATION_DO },  { UN, ACTIVATION_DO } },
		[RV] = { { RI, ACTIVATION_DO },	   { RV, ACTIVATION_LATER }, { RV, ACTIVATION_DO },  { RV, ACTIVATION_DO } },
		[RI] = { { N, ACTIVATION_REJECT }, { RI, ACTIVATION_LATER }, { RI, ACTIVATION_DO },  { RI, ACTIVATION_DO } },
	};

	(void)state;
	for (int step = 0; step < _ACTIVATION_STEPS; step++)
		for (int end = 0; end < _ACTIVATION_ENDS; end++) {
			const struct activation_needs *n = step == ACTIVATION_TESTING ? &unbound : &all;
			struct key_activation a;

			lead_to(&a, step);
			assert_int_equal(end_step(&a, n, (enum activation_end)end), cells[step][end].action);
			assert_int_equal(a.step, cells[step][end].next);
			done(&a);
		}
}

static void test_the_check_is_made_before_or_after_the_switch(void **state)
{
	struct key_activation a;

	(void)state;
	lead_to(&a, ACTIVATION_CHECKING);
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_DO);
	assert_true(a.checked);
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_RELOADING);
	done(&a);

	/* Nothing could be judged before, so it is afterwards. */
	lead_to(&a, ACTIVATION_CHECKING);
	assert_int_equal(end_step(&a, &all, ACTIVATION_UNBOUND), ACTIVATION_DO);
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_TESTING);
	done(&a);

	lead_to(&a, ACTIVATION_STAGING);
	assert_int_equal(end_step(&a, &unbound, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_SWITCHING);
	assert_false(a.checked);
	done(&a);
}

static void test_what_is_not_asked_for_is_passed_over(void **state)
{
	static const struct activation_needs nothing = { 0 }, only_verify = { .verify = true };
	struct key_activation a;

	(void)state;
	lead_to(&a, ACTIVATION_STAGING);
	assert_int_equal(end_step(&a, &nothing, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_SWITCHING);
	assert_int_equal(end_step(&a, &nothing, ACTIVATION_OK), ACTIVATION_SETTLE);
	done(&a);

	lead_to(&a, ACTIVATION_SWITCHING);
	assert_int_equal(end_step(&a, &only_verify, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_VERIFYING);
	/* The way back has nothing to reload. */
	assert_int_equal(end_step(&a, &only_verify, ACTIVATION_FAILED), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_REVERTING);
	assert_int_equal(end_step(&a, &only_verify, ACTIVATION_OK), ACTIVATION_REJECT);
	done(&a);
}

static void test_a_first_install_is_told_until_it_is_heard(void **state)
{
	struct key_activation a = { 0 };
	usec_t last = 0;

	(void)state;
	key_activation_first(&a);
	for (int n = 0; n < 20; n++) {
		assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_LATER);
		assert_int_equal(a.step, ACTIVATION_RELOADING);
		assert_in_range((usec_t)a.again_usec - WALL, last, 5 * USEC_PER_MINUTE);
		last = (usec_t)a.again_usec - WALL;
		assert_null(a.rejected.version);
	}
	assert_int_equal(key_activation_resume(&a, WALL), ACTIVATION_LATER);
	assert_int_equal(key_activation_resume(&a, (usec_t)a.again_usec), ACTIVATION_DO);
	assert_int_equal(key_activation_resume(&a, WALL), ACTIVATION_LATER);
	assert_int_equal(key_activation_resume(&a, WALL - 3650 * USEC_PER_DAY), ACTIVATION_DO);
	/* No endpoint is asked: perhaps nobody serves yet. */
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_SETTLE);
	assert_int_equal(a.step, ACTIVATION_NONE);
	done(&a);
}

/* ---- what failed is not tried for ever ---- */

static void fail_once(struct key_activation *a, int at)
{
	assert_int_equal(key_activation_begin(a, &second, "set1"), 0);
	while (a->step != at)
		assert_int_equal(end_step(a, &all, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(end_step(a, &all, ACTIVATION_FAILED), ACTIVATION_DO);
	while (a->step != ACTIVATION_NONE)
		(void)end_step(a, &all, ACTIVATION_OK);
	key_activation_clear(a);
}

static void test_a_version_that_failed_waits_and_the_next_does_not(void **state)
{
	static const usec_t checks[] = { 1, 2, 4, 8, 16, 32, 60, 60 }, rollbacks[] = { 15, 30, 60, 120 };
	struct key_activation a = { 0 };

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(checks); n++) {
		fail_once(&a, ACTIVATION_CHECKING);
		assert_in_range((usec_t)a.rejected.again_usec, WALL + checks[n] * USEC_PER_MINUTE - 100000,
				WALL + checks[n] * USEC_PER_MINUTE + 100000);
		assert_false(key_activation_may(&a, "v2", WALL));
		assert_true(key_activation_may(&a, "v2", (usec_t)a.rejected.again_usec));
		assert_true(key_activation_may(&a, "v3", WALL));
		/* The clock was years ahead when it was rejected. */
		assert_true(key_activation_may(&a, "v2", WALL - 3650 * USEC_PER_DAY));
	}
	key_activation_forgive(&a);
	assert_true(key_activation_may(&a, "v2", WALL));
	assert_string_equal(a.rejected.why, "it broke");
	for (size_t n = 0; n < ARRAY_SIZE(rollbacks); n++) {
		fail_once(&a, n % 2 ? ACTIVATION_VERIFYING : ACTIVATION_RELOADING);
		assert_in_range((usec_t)a.rejected.again_usec, WALL + rollbacks[n] * USEC_PER_MINUTE - 100000,
				WALL + rollbacks[n] * USEC_PER_MINUTE + 100000);
	}
	fail_once(&a, ACTIVATION_RELOADING);
	assert_false(key_activation_may(&a, "v2", WALL + 100 * 365 * USEC_PER_DAY));
	key_activation_forgive(&a);
	assert_true(key_activation_may(&a, "v2", WALL));
	key_activation_forget_rejected(&a);
	assert_null(a.rejected.version);
	done(&a);
}

/* A reload that had not succeeded is not forgotten over a newer version, whatever becomes of that. */
static void test_what_is_owed_is_paid(void **state)
{
	struct key_activation a = { 0 };
	char **units = calloc(1, sizeof(*units));

	(void)state;
	key_activation_first(&a);
	units[0] = strdup("web.service");
	a.active = (struct jd_list){ units, 1 };
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_LATER);
	assert_true(key_activation_may_poll(&a));
	assert_int_equal(key_activation_begin(&a, &second, "set1"), 0);
	assert_true(a.owed);
	assert_int_equal(a.active.n, 1);
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_UNDOING);
	assert_false(key_activation_may_poll(&a));
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(a.step, ACTIVATION_REVIVING);
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_LATER);
	/* Once more, and now it cannot even be made. */
	assert_int_equal(key_activation_begin(&a, &second, "set1"), 0);
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_DROP);
	assert_int_equal(a.step, ACTIVATION_REVIVING);
	key_activation_clear(&a);
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_REJECT);
	assert_int_equal(a.active.n, 0);
	assert_false(a.owed);
	done(&a);
}

/* ---- the sentence ---- */

static void says(const struct key_activation *a, enum status_level level, const char *sentence)
{
	_cleanup_buf_ struct buf out = BUF_INIT(LIMIT_STATUS_MESSAGE);
	struct component c = { .level = STATUS_SUCCESS };

	key_activation_describe(a, WALL, &out, &c);
	assert_string_equal(buf_str(&out), sentence);
	assert_int_equal(c.level, level);
}

static void test_sentences(void **state)
{
	struct key_activation a = { 0 };

	(void)state;
	says(&a, STATUS_SUCCESS, "");
	lead_to(&a, ACTIVATION_CHECKING);
	says(&a, STATUS_SUCCESS, "; version v2 is being checked");
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_DO);
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_REJECT);
	key_activation_clear(&a);
	says(&a, STATUS_WARNING, "; version v2 is not put to use: it broke; next try in 1 min");
	done(&a);
	lead_to(&a, ACTIVATION_VERIFYING);
	says(&a, STATUS_SUCCESS, "; version v2 is being put to use");
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_DO);
	says(&a, STATUS_ERROR, "; version v2 was rolled back: it broke; it is being put back");
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_LATER);
	says(&a, STATUS_ERROR, "; version v2 was rolled back: it broke; going back to it has failed: it broke; next try in 2 s");
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_DO);
	assert_int_equal(end_step(&a, &all, ACTIVATION_OK), ACTIVATION_REJECT);
	key_activation_clear(&a);
	says(&a, STATUS_ERROR, "; version v2 was rolled back: it broke; next try in 15 min");
	done(&a);
	key_activation_first(&a);
	says(&a, STATUS_SUCCESS, "");
	assert_int_equal(end_step(&a, &all, ACTIVATION_FAILED), ACTIVATION_LATER);
	says(&a, STATUS_WARNING, "; not everybody has been told of it: it broke; next try in 2 s");
	done(&a);
}

/* ---- random histories: killed before and after everything that is done ---- */

/* A machine with one item: which set is in use, which one the application has loaded, and the record on its disk. */
struct world {
	struct key_record record; /* in memory */
	char *disk;		  /* of the last save */
	const char *staged, *current, *loaded;
	bool settled;
	unsigned seed;
	usec_t now;
};

static unsigned chance(struct world *w, unsigned of)
{
	w->seed = w->seed * 1103515245u + 12345u;
	return (w->seed >> 16) % of;
}

static void save(struct world *w)
{
	_cleanup_buf_ struct buf b = BUF_INIT(65536);

	assert_int_equal(key_record_encode(&w->record, &b), 0);
	free(w->disk);
	w->disk = buf_take(&b);
}

static void boot(struct world *w)
{
	struct error e = ERROR_INIT;

	key_record_done(&w->record);
	assert_int_equal(key_record_decode(w->disk, strlen(w->disk), &w->record, &e), 0);
}

/* What the step does to the machine; a kill may come before or after it. */
static bool carry_out(struct world *w, bool breaks)
{
	struct key_activation *a = &w->record.activation;
	bool well = !breaks || chance(w, 4);

	switch (a->step) {
	case ACTIVATION_STAGING:
		w->staged = well ? "set2" : w->staged;
		break;
	case ACTIVATION_CHECKING:
		assert_string_equal(w->staged, "set2");
		assert_string_equal(w->current, "set1");
		break;
	case ACTIVATION_SWITCHING:
		assert_string_equal(w->staged, "set2");
		if (well || chance(w, 2))
			w->current = "set2";
		break;
	case ACTIVATION_TESTING:
		assert_string_equal(w->current, "set2");
		break;
	case ACTIVATION_RELOADING:
		assert_string_equal(w->current, "set2");
		if (well || chance(w, 2))
			w->loaded = "set2";
		break;
	case ACTIVATION_REVIVING:
		assert_string_equal(w->current, "set1");
		if (well || chance(w, 2))
			w->loaded = "set1";
		break;
	case ACTIVATION_VERIFYING:
		assert_string_equal(w->loaded, "set2");
		break;
	case ACTIVATION_UNDOING:
	case ACTIVATION_REVERTING:
		if (well)
			w->current = "set1";
		break;
	default:
		fail();
	}
	return well;
}

static void test_killed_at_any_instant_it_is_one_or_the_other(void **state)
{
	static const struct activation_needs kinds[] = {
		{ true, true, true, true }, { true, false, true, true }, { false, true, true, false }, { true, false, true, false }
	};
	unsigned settled = 0, rejected = 0;

	(void)state;
	for (unsigned seed = 0; seed < 4000; seed++) {
		const struct activation_needs *needs = &kinds[seed % ARRAY_SIZE(kinds)];
		struct world w = { .current = "set1", .loaded = "set1", .staged = "", .seed = seed, .now = WALL };
		enum activation_action action = ACTIVATION_DROP;
		unsigned steps = 0;
		bool breaks = chance(&w, 2);

		assert_int_equal(str_set(&w.record.version, "v1"), 0);
		save(&w);
		for (;;) {
			struct key_activation *a = &w.record.activation;
			bool well;

			assert_true(steps++ < 500);
			if (action == ACTIVATION_DROP) { /* the vault still offers it */
				key_activation_clear(a);
				assert_int_equal(key_activation_begin(a, &second, "set1"), 0);
				action = ACTIVATION_DO;
			}
			if (action == ACTIVATION_SETTLE || action == ACTIVATION_REJECT)
				break;
			if (action == ACTIVATION_LATER)
				w.now = (usec_t)a->again_usec;
			save(&w); /* the intent, before anything is done */
			if (chance(&w, 6) == 0) {
				boot(&w);
				action = key_activation_resume(a, w.now);
				continue;
			}
			well = carry_out(&w, breaks && steps < 60);
			if (chance(&w, 6) == 0) {
				boot(&w);
				action = key_activation_resume(a, w.now);
				continue;
			}
			action = key_activation_ended(a, needs, well ? ACTIVATION_OK : ACTIVATION_FAILED, "it broke",
						      chance(&w, 65536), w.now);
		}
		assert_int_equal(w.record.activation.step, ACTIVATION_NONE);
		/* One or the other, and what is in use is what is on disk. */
		assert_string_equal(w.current, action == ACTIVATION_SETTLE ? "set2" : "set1");
		assert_string_equal(w.loaded, w.current);
		assert_true(action == ACTIVATION_SETTLE || w.record.activation.rejected.version);
		settled += action == ACTIVATION_SETTLE;
		rejected += action == ACTIVATION_REJECT;
		key_record_done(&w.record);
		free(w.disk);
	}
	/* Both ends have been seen often. */
	assert_true(settled > 500 && rejected > 500);
}

static void test_the_record_keeps_all_of_it(void **state)
{
	struct key_record r = { 0 }, back = { 0 };
	_cleanup_buf_ struct buf b = BUF_INIT(65536);
	struct error e = ERROR_INIT;
	char **units = calloc(1, sizeof(*units));

	(void)state;
	lead_to(&r.activation, ACTIVATION_RELOADING);
	units[0] = strdup("web.service");
	r.activation.active = (struct jd_list){ units, 1 };
	assert_int_equal(str_set(&r.activation.untold, "v1"), 0);
	assert_int_equal(end_step(&r.activation, &all, ACTIVATION_FAILED), ACTIVATION_DO);
	assert_int_equal(end_step(&r.activation, &all, ACTIVATION_FAILED), ACTIVATION_LATER);
	assert_int_equal(key_record_encode(&r, &b), 0);
	assert_int_equal(key_record_decode(buf_str(&b), b.len, &back, &e), 0);
	assert_int_equal(back.activation.step, ACTIVATION_REVERTING);
	assert_true(back.activation.checked);
	assert_string_equal(back.activation.former, "set1");
	assert_string_equal(back.activation.candidate.version, "v2");
	assert_string_equal(back.activation.candidate.set, "set2");
	assert_int_equal(back.activation.candidate.not_after_usec, 7);
	assert_string_equal(back.activation.why, "it broke");
	assert_int_equal(back.activation.tries, 1);
	assert_int_equal(back.activation.again_usec, r.activation.again_usec);
	assert_int_equal(back.activation.rejected.step, ACTIVATION_RELOADING);
	assert_string_equal(back.activation.rejected.version, "v2");
	assert_int_equal(back.activation.rejected.times, 1);
	assert_string_equal(back.activation.untold, "v1");
	assert_string_equal(((char **)back.activation.active.items)[0], "web.service");
	key_record_done(&r);
	key_record_done(&back);
}

/* A record of an earlier version of the program has none of it. */
static void test_an_earlier_record(void **state)
{
	static const char text[] = "{\"url\":\"u\",\"version\":\"v1\"}";
	struct key_record r = { 0 };
	struct error e = ERROR_INIT;

	(void)state;
	assert_int_equal(key_record_decode(text, sizeof(text) - 1, &r, &e), 0);
	assert_int_equal(r.activation.step, ACTIVATION_NONE);
	assert_int_equal(key_activation_resume(&r.activation, WALL), ACTIVATION_IDLE);
	key_record_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_step_and_every_end),
		cmocka_unit_test(test_the_check_is_made_before_or_after_the_switch),
		cmocka_unit_test(test_what_is_not_asked_for_is_passed_over),
		cmocka_unit_test(test_a_first_install_is_told_until_it_is_heard),
		cmocka_unit_test(test_a_version_that_failed_waits_and_the_next_does_not),
		cmocka_unit_test(test_what_is_owed_is_paid),
		cmocka_unit_test(test_sentences),
		cmocka_unit_test(test_killed_at_any_instant_it_is_one_or_the_other),
		cmocka_unit_test(test_the_record_keeps_all_of_it),
		cmocka_unit_test(test_an_earlier_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What people are shown of certificates: states, order, and there and back through JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/key_view.h"

#define NOW  (UINT64_C(1763632800) * USEC_PER_SEC) /* 2025-11-20 10:00:00 */
#define DAYS (int64_t)(USEC_PER_DAY)

static struct key_record record(int64_t left_days, char *error)
{
	static char version[] = "v1";

	return (struct key_record){ .version = version,
				    .not_after_usec = (int64_t)NOW + left_days * DAYS,
				    .installed_usec = (int64_t)NOW - DAYS,
				    .error = error };
}

static struct view_key *make(struct key_view *v, size_t n)
{
	v->items.items = calloc(n, sizeof(struct view_key));
	assert_non_null(v->items.items);
	v->items.n = n;
	return v->items.items;
}

static void test_states(void **state)
{
	char why[] = "403";
	const struct {
		int64_t left;
		char *error;
		bool installed, late, incomplete;
		int64_t days;
		const char *state, *level;
	} cases[] = {
		{ 40, NULL, true, false, false, -1, "installed", "success" },
		{ 40, NULL, true, false, true, -1, "installed", "warning" },
		{ 13, NULL, true, false, false, 14, "expiring", "warning" },
		{ 13, why, true, false, false, 14, "failing", "warning" },
		{ 0, NULL, true, false, false, 1, "expired", "error" },
		{ 0, why, true, false, false, -1, "expired", "error" },
		{ 40, why, true, true, false, -1, "failing", "warning" },
		{ 40, why, false, false, false, -1, "pending", "transitioning" },
		{ 40, why, false, true, false, -1, "missing", "error" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct key_record r = record(cases[i].left, cases[i].error);
		struct key_view all = { 0 };
		struct view_key *v = make(&all, 1);

		r.incomplete = cases[i].incomplete;
		assert_int_equal(key_view_set_record(v, &r, cases[i].installed, cases[i].late, cases[i].days, NOW), 0);
		assert_string_equal(v->state, cases[i].state);
		assert_string_equal(v->level, cases[i].level);
		assert_int_equal(v->days_left, cases[i].left);
		jd_free(&key_view_type, &all);
	}
}

/* As much as a settings document can ask for. */
static void test_very_many(void **state)
{
	struct key_view v = { .configured = true }, again = { 0 };
	struct view_key *all = make(&v, 600);
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	const struct key_record r = record(30, NULL);
	struct error e = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < v.items.n; i++) {
		struct acl_settings *acls = calloc(12, sizeof(*acls));
		struct view_key_file *files = calloc(6, sizeof(*files));

		assert_true(acls && files);
		all[i].acls = (struct jd_list){ acls, 12 };
		all[i].files = (struct jd_list){ files, 6 };
		for (size_t k = 0; k < 12; k++)
			assert_int_equal(str_set(&acls[k].user, "somebody") | str_set(&acls[k].group, "everybody"), 0);
		for (size_t k = 0; k < 6; k++)
			assert_int_equal(str_set(&files[k].path,
						 "/var/lib/evenkeel/certificates/certificate-name/fullchain.pem") |
						 str_set(&files[k].part, "fullchain"),
					 0);
		assert_int_equal(key_view_set_record(&all[i], &r, true, false, -1, NOW), 0);
	}
	assert_int_equal(jd_encode(&key_view_type, &v, false, &text), 0);
	assert_int_equal(key_view_decode(buf_str(&text), text.len, &again, &e), 0);
	assert_int_equal(again.items.n, 600);
	jd_free(&key_view_type, &again);
	jd_free(&key_view_type, &v);
}

static void test_order_and_json(void **state)
{
	struct key_view v = { .configured = true, .live = true }, again = { 0 };
	static const char *const names[] = { "secret", "late", "soon", "none", "also" };
	static const char *const sorted[] = { "none", "also", "soon", "late", "secret" };
	struct view_key *all = make(&v, ARRAY_SIZE(names));
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	struct error e = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct key_record r = record(i == 1 ? 90 : 5, NULL);

		assert_int_equal(str_set(&all[i].name, names[i]), 0);
		if (i == 0)
			r.not_after_usec = 0;
		if (i == 3)
			r = (struct key_record){ .error = NULL };
		assert_int_equal(key_view_set_record(&all[i], &r, i != 3, false, -1, NOW), 0);
	}
	assert_int_equal(all[0].days_left, KEY_VIEW_UNKNOWN);
	key_view_sort(&v);
	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++)
		assert_string_equal(all[i].name, sorted[i]);
	assert_int_equal(jd_encode(&key_view_type, &v, false, &text), 0);
	assert_null(strstr(buf_str(&text), "\"daysLeft\":-1"));
	assert_int_equal(key_view_decode(buf_str(&text), text.len, &again, &e), 0);
	assert_true(again.live && again.configured);
	assert_int_equal(again.items.n, ARRAY_SIZE(names));
	assert_int_equal(key_view_find(&again, "late")->days_left, 90);
	assert_int_equal(key_view_find(&again, "secret")->days_left, KEY_VIEW_UNKNOWN);
	assert_string_equal(key_view_find(&again, "soon")->not_after, "2025-11-25T10:00:00Z");
	assert_null(key_view_find(&again, "nix"));
	jd_free(&key_view_type, &again);
	jd_free(&key_view_type, &v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_very_many),
		cmocka_unit_test(test_order_and_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

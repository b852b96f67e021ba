/* Text helpers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"

#define EURO "\xe2\x82\xac"
#define BAD  UTF8_REPLACEMENT

static void test_compare(void **state)
{
	(void)state;
	assert_true(str_equal(NULL, NULL) && str_equal("a", "a"));
	assert_false(str_equal("a", NULL) || str_equal(NULL, "") || str_equal("a", "A"));
	assert_true(str_starts("abc", "ab") && str_starts("abc", "") && !str_starts("ab", "abc"));
	assert_true(str_ends("abc", "bc") && str_ends("abc", "") && !str_ends("bc", "abc"));
	assert_true(str_equal_nocase("AbC-1", "aBc-1") && str_equal_nocase(NULL, NULL));
	assert_false(str_equal_nocase("ab", "abc") || str_equal_nocase("abc", "ab") || str_equal_nocase("", NULL));
	assert_false(str_equal_nocase("[", "{")); /* 0x20 apart, but no letters */
	assert_true(str_empty(NULL) && str_empty("") && !str_empty("a"));
}

static void test_set_format(void **state)
{
	_cleanup_free_ char *s = NULL, *f = str_format("%d-%s", 7, "x");

	(void)state;
	assert_string_equal(f, "7-x");
	assert_int_equal(str_set(&s, "one"), 0);
	assert_int_equal(str_set(&s, s + 1), 0); /* from itself */
	assert_string_equal(s, "ne");
	assert_int_equal(str_set(&s, NULL), 0);
	assert_null(s);
}

static void test_number(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		bool ok;
		uint64_t value;
	} cases[] = {
		{"0", 0, true, 0},      {"0", 5, true, 0},
		{"5", 5, true, 5},      {"6", 5, false, 0},
		{"007", 7, true, 7},    {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
		{"12", 11, false, 0},   {"18446744073709551616", UINT64_MAX, false, 0},
		{"10", 10, true, 10},   {"99999999999999999999", UINT64_MAX, false, 0},
		{"", 10, false, 0},     {NULL, 10, false, 0},
		{"+1", 10, false, 0},   {"-1", 10, false, 0},
		{" 1", 10, false, 0},   {"1 ", 10, false, 0},
		{"0x1", 100, false, 0}, {"1", 0, false, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t v = 4711;

		assert_int_equal(str_to_u64(cases[i].text, cases[i].max, &v), cases[i].ok);
		assert_true(v == (cases[i].ok ? cases[i].value : 4711));
	}
}

static void test_nearest(void **state)
{
	static const char *const words[] = {"commandToExecute", "script", "timeoutInSeconds", "x", NULL};
	char longer[200];

	(void)state;
	assert_int_equal(str_nearest("comandToExecute", words), 0);
	assert_int_equal(str_nearest("COMMANDTOEXECUTE", words), 0);
	assert_int_equal(str_nearest("scrpit", words), 1);
	assert_int_equal(str_nearest("scripts", words), 1);
	assert_int_equal(str_nearest("timeout", words), -1);
	assert_int_equal(str_nearest("y", words), 3);
	assert_int_equal(str_nearest("abc", words), -1);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(str_nearest(longer, words), -1);
	assert_int_equal(str_nearest("script", (const char *const[]){"scripx", "script", NULL}), 1);
}

static void test_cut(void **state)
{
	static const char text[] = "ab" EURO "c"; /* borders at 0 1 2 5 6 */
	static const size_t cut[] = {0, 1, 2, 2, 2, 5, 6, 6};
	static const size_t tail[] = {6, 5, 5, 5, 2, 1, 0, 0};

	(void)state;
	for (size_t max = 0; max < ARRAY_SIZE(cut); max++) {
		assert_int_equal(utf8_cut(text, 6, max), cut[max]);
		assert_int_equal(utf8_tail(text, 6, max), tail[max]);
	}
	assert_int_equal(utf8_cut("\x80\x80\x80\x80\x80\x80", 6, 5), 5);
	assert_int_equal(utf8_tail("\x80\x80\x80\x80\x80\x80", 6, 5), 1);
	assert_int_equal(utf8_cut("\x80\x80", 2, 1), 1);
	assert_int_equal(utf8_cut("", 0, 0), 0);
	assert_int_equal(utf8_tail("", 0, 0), 0);
}

static void test_valid_clean(void **state)
{
	static const struct {
		const char *text, *clean;
		bool valid;
	} cases[] = {
		{"plain\n\t", "plain\n\t", true},
		{EURO "\xf0\x9f\x98\x80\xc3\xa9", EURO "\xf0\x9f\x98\x80\xc3\xa9", true},
		{"a\x01"
		 "b\x1b[0m\x7f",
		 "a" BAD "b" BAD "[0m" BAD, true},
		{"a\xc2\x85", "a" BAD, true},                 /* NEL: one control character */
		{"\xc0\x80", BAD BAD, false},                 /* overlong */
		{"\xe0\x80\x80", BAD BAD BAD, false},         /* overlong */
		{"\xf0\x80\x80\x80", BAD BAD BAD BAD, false}, /* overlong */
		{"\xed\xa0\x80", BAD BAD BAD, false},         /* surrogate */
		{"\xf4\x90\x80\x80", BAD BAD BAD BAD, false}, /* beyond Unicode */
		{"\xf5\x80\x80\x80", BAD BAD BAD BAD, false},
		{"x\xe2\x82", "x" BAD BAD, false}, /* cut off */
		{"\xe2"
		 "A",
		 BAD "A", false},
		{"\x80", BAD, false},
		{"\xff", BAD, false},
		{"", "", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *clean = utf8_clean(cases[i].text, strlen(cases[i].text));

		assert_string_equal(clean, cases[i].clean);
		assert_int_equal(utf8_valid(cases[i].text, strlen(cases[i].text)), cases[i].valid);
	}
	assert_null(utf8_clean("x", SIZE_MAX));
	{
		_cleanup_free_ char *clean = utf8_clean("a\0b", 3);

		assert_string_equal(clean, "a" BAD "b");
	}
}

static void test_strv(void **state)
{
	static const char *const v[] = {"one", "two", NULL};
	_cleanup_strv_ char **copy = strv_copy(v), **none = strv_copy(NULL);

	(void)state;
	assert_int_equal(strv_length(copy), 2);
	assert_string_equal(copy[1], "two");
	assert_ptr_not_equal(copy[1], v[1]);
	assert_null(copy[2]);
	assert_int_equal(strv_length(none), 0);
	assert_int_equal(strv_length(NULL), 0);
	strv_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compare), cmocka_unit_test(test_set_format), cmocka_unit_test(test_number),
		cmocka_unit_test(test_nearest), cmocka_unit_test(test_cut),        cmocka_unit_test(test_valid_clean),
		cmocka_unit_test(test_strv),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

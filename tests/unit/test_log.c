/* One clean line, to whom it concerns. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"

struct memory {
	struct log_sink sink; /* first */
	char text[LIMIT_LOG_LINE + 1];
	char handler[32];
	enum log_level level;
	int n;
	bool leave;
};

static void keep(struct log_sink *sink, const struct log_record *record)
{
	struct memory *m = (struct memory *)sink;

	assert_true(strlen(record->message) <= LIMIT_LOG_LINE);
	assert_true(utf8_valid(record->message, strlen(record->message)));
	strcpy(m->text, record->message);
	strcpy(m->handler, record->fields.handler ? record->fields.handler : "");
	m->level = record->level;
	m->n++;
	if (m->leave)
		log_remove_sink(sink);
	errno = EIO;
}

#define MEMORY(...) ((struct memory){.sink = {.write = keep, __VA_ARGS__}})

static void test_levels(void **state)
{
	struct memory all = MEMORY(.max_level = LOG_LEVEL_DEBUG), warn = MEMORY(.max_level = LOG_LEVEL_WARNING),
		      miles = MEMORY(.max_level = LOG_LEVEL_INFO, .milestones_only = true);

	(void)state;
	log_error("nobody listens");
	log_add_sink(&all.sink);
	log_add_sink(&warn.sink);
	log_add_sink(&miles.sink);
	log_add_sink(&warn.sink); /* once is enough */

	errno = ENOENT;
	log_error("failed: %m, %d", 7);
	assert_int_equal(errno, ENOENT);
	assert_string_equal(all.text, "failed: No such file or directory, 7");
	assert_string_equal(warn.text, all.text);
	assert_int_equal(warn.n, 1);
	assert_int_equal(miles.n, 0);
	log_debug("d");
	assert_int_equal(all.level, LOG_LEVEL_DEBUG);
	assert_int_equal(warn.n, 1);
	log_for(LOG_LEVEL_INFO, (.handler = "drain", .milestone = true), "draining %s", "E1");
	assert_string_equal(miles.text, "draining E1");
	assert_string_equal(miles.handler, "drain");
	assert_int_equal(warn.n, 1);
	log_for(LOG_LEVEL_DEBUG, (.milestone = true), "too low");
	assert_int_equal(miles.n, 1);

	all.leave = true;
	log_warning("bye");
	log_warning("gone");
	assert_string_equal(all.text, "bye");
	assert_string_equal(warn.text, "gone");
	log_remove_sink(&all.sink); /* not there: fine */
	log_remove_sink(&warn.sink);
	log_remove_sink(&miles.sink);
	log_error("nobody listens");
	assert_string_equal(warn.text, "gone");
	assert_string_equal(log_level_name(LOG_LEVEL_WARNING), "warning");
	assert_string_equal(log_level_name((enum log_level)9), "unknown");
}

static void test_clean(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"one\nError: forged", "one\\nError: forged"},
		{"last\n\n", "last"},
		{"a\tb\rc\x1b[31m\x7f", "a\\tb\\x0dc\\x1b[31m\\x7f"},
		{"nel\xc2\x85 caf\xc3\xa9 \xf0\x9f\x98\x80", "nel\\x85 caf\xc3\xa9 \xf0\x9f\x98\x80"},
		{"bad \xff\xc3(", "bad " UTF8_REPLACEMENT UTF8_REPLACEMENT "("},
		{"", ""},
	};
	struct memory m = MEMORY(.max_level = LOG_LEVEL_DEBUG);

	(void)state;
	log_add_sink(&m.sink);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		log_info("%s", cases[i].in);
		assert_string_equal(m.text, cases[i].out);
	}
	log_remove_sink(&m.sink);
}

/* Every length around the limit, for one-byte, three-byte and escaped characters. */
static void test_long(void **state)
{
	static const char *const units[] = {"x", "\xe2\x82\xac", "\n", "\xff"};
	struct memory m = MEMORY(.max_level = LOG_LEVEL_DEBUG);
	static char text[LIMIT_LOG_LINE * 4];

	(void)state;
	log_add_sink(&m.sink);
	for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
		for (size_t len = LIMIT_LOG_LINE - 8; len < LIMIT_LOG_LINE + 16; len++) {
			size_t n = strlen(units[u]), at = 0;

			while (at < len % n)
				text[at++] = 'y';
			for (; at + n <= len; at += n)
				memcpy(text + at, units[u], n);
			text[at++] = '!'; /* a trailing \n is no text */
			text[at] = '\0';
			log_info("%s", text);
			if (n == strlen("x") && u == 0)
				assert_int_equal(str_ends(m.text, "\xe2\x80\xa6"), at > LIMIT_LOG_LINE);
			if (u >= 2 || at > LIMIT_LOG_LINE) {
				assert_true(str_ends(m.text, "\xe2\x80\xa6"));
				assert_true(strlen(m.text) > LIMIT_LOG_LINE - 8);
			} else {
				assert_string_equal(m.text, text);
			}
		}
	}
	log_remove_sink(&m.sink);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

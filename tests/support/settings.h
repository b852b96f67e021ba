/* Loading settings in tests: documents as literals, what was said as text. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/fs.h"
#include "agent/base/macros.h"
#include "agent/base/str.h"
#include "agent/core/settings.h"

struct loading {
	struct settings settings;
	struct jd_report report;
	struct error err;
	int r;
};

static inline void loading_done(struct loading *l)
{
	settings_done(&l->settings);
	jd_report_done(&l->report);
}
#define _cleanup_loading_ _cleanup_(loading_done)

static inline struct settings_source source_of(enum settings_door door, const char *name, const char *public_text,
					       const char *protected_text)
{
	return (struct settings_source){
		.door = door,
		.name = name,
		.public_text = public_text,
		.public_len = public_text ? strlen(public_text) : 0,
		.protected_text = protected_text,
		.protected_len = protected_text ? strlen(protected_text) : 0,
	};
}

static inline void load_sources(struct loading *l, const struct settings_source *sources, size_t n)
{
	memset(l, 0, sizeof(*l));
	l->r = settings_load(sources, n, &l->settings, &l->report, &l->err);
	if (l->r < 0) {
		assert_true(l->report.n_errors > 0);
		assert_string_equal(l->err.msg, l->report.errors[0]);
	} else {
		assert_int_equal(l->report.n_errors, 0);
	}
}

/* Settings of the extension: public, protected (NULL: none). */
static inline void load(struct loading *l, const char *public_text, const char *protected_text)
{
	struct settings_source s = source_of(DOOR_EXTENSION, "settings", public_text, protected_text);

	load_sources(l, &s, 1);
}

static inline bool said(char *const *list, unsigned n, const char *sentence)
{
	for (unsigned i = 0; i < n; i++)
		if (str_equal(list[i], sentence))
			return true;
	print_message("not said: %s\n", sentence);
	for (unsigned i = 0; i < n; i++)
		print_message("    said: %s\n", list[i]);
	return false;
}

/* The document is refused, with this sentence as the only one. */
static inline void refused(const char *public_text, const char *protected_text, const char *sentence)
{
	_cleanup_loading_ struct loading l;

	load(&l, public_text, protected_text);
	assert_true(said(l.report.errors, l.report.n_errors, sentence));
	assert_int_equal(l.report.n_errors_found, 1);
	assert_int_equal(l.r, -EINVAL);
	assert_int_equal(l.settings.error_code, -21);
}

static inline void accepted(const char *public_text, const char *protected_text)
{
	_cleanup_loading_ struct loading l;

	load(&l, public_text, protected_text);
	if (l.r < 0)
		print_message("%s\n", l.err.msg);
	assert_int_equal(l.r, 0);
}

/* The document is accepted with this warning; NULL: with none. */
static inline void warned(const char *public_text, const char *protected_text, const char *sentence)
{
	_cleanup_loading_ struct loading l;

	load(&l, public_text, protected_text);
	assert_int_equal(l.r, 0);
	if (sentence)
		assert_true(said(l.report.warnings, l.report.n_warnings, sentence));
	else if (l.report.n_warnings > 0)
		fail_msg("not expected: %s", l.report.warnings[0]);
}

/* A document of tests/data/settings; free() it. */
static inline char *document(const char *name)
{
	const char *root = getenv("EK_TEST_SOURCE_DIR");
	struct buf b = BUF_INIT(1024UL * 1024);
	struct error err = ERROR_INIT;
	char *path = str_format("%s/tests/data/settings/%s", root ? root : ".", name);

	assert_non_null(path);
	if (fs_read(path, 1024UL * 1024, &b, &err) < 0)
		fail_msg("%s", err.msg);
	free(path);
	return buf_take(&b);
}

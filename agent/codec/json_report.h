/*
 * What was wrong with a document: at most LIMIT_SETTINGS_ERRORS errors and LIMIT_SETTINGS_WARNINGS warnings, each a
 * whole sentence with its path, none twice. Decoding fills it; rules across members add to it.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/base/limits.h"

#define JD_REPORT_SENTENCE 1024 /* bytes of one sentence; longer ones are cut at a character border */

struct jd_report {
	char *errors[LIMIT_SETTINGS_ERRORS];
	unsigned n_errors;       /* told */
	unsigned n_errors_found; /* may be more */
	char *warnings[LIMIT_SETTINGS_WARNINGS];
	unsigned n_warnings;
};

/* "SUBJECT: PATH: text"; path "" leaves it out. A sentence that is already there is not added again. */
void jd_report_error(struct jd_report *r, const char *subject, const char *path, const char *fmt, ...) _printf_(4, 5);
void jd_report_warning(struct jd_report *r, const char *subject, const char *path, const char *fmt, ...) _printf_(4, 5);
void jd_report_done(struct jd_report *r);

/* Sentences about a document, collected until they are told. */
#include "agent/codec/json_report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/macros.h"
#include "agent/base/str.h"

static bool contains(char *const *list, unsigned n, const char *sentence)
{
	for (unsigned i = 0; i < n; i++)
		if (str_equal(list[i], sentence))
			return true;
	return false;
}

/* True if it is not there yet. When memory is short the sentence is lost, the count is not. */
static bool add(char **list, unsigned *n, unsigned max, const char *subject, const char *path, const char *fmt,
		va_list ap) _printf_(6, 0);
static bool add(char **list, unsigned *n, unsigned max, const char *subject, const char *path, const char *fmt,
		va_list ap)
{
	char sentence[JD_REPORT_SENTENCE];
	size_t len, room;
	int k;

	k = snprintf(sentence, sizeof(sentence), "%s: %s%s", subject, path, *path ? ": " : "");
	len = k < 0 ? 0 : (size_t)k;
	if (len >= sizeof(sentence))
		len = sizeof(sentence) - 1;
	room = sizeof(sentence) - len;
	k = vsnprintf(sentence + len, room, fmt, ap);
	if (k < 0 || (size_t)k >= room)
		sentence[utf8_cut(sentence, sizeof(sentence) - 1, sizeof(sentence) - 2)] = '\0';
	if (contains(list, *n, sentence))
		return false;
	if (*n < max) {
		char *copy = strdup(sentence);

		if (copy)
			list[(*n)++] = copy;
	}
	return true;
}

void jd_report_error(struct jd_report *r, const char *subject, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (add(r->errors, &r->n_errors, ARRAY_SIZE(r->errors), subject, path, fmt, ap))
		r->n_errors_found++;
	va_end(ap);
}

void jd_report_warning(struct jd_report *r, const char *subject, const char *path, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)add(r->warnings, &r->n_warnings, ARRAY_SIZE(r->warnings), subject, path, fmt, ap);
	va_end(ap);
}

void jd_report_done(struct jd_report *r)
{
	for (unsigned i = 0; i < r->n_errors; i++)
		free(r->errors[i]);
	for (unsigned i = 0; i < r->n_warnings; i++)
		free(r->warnings[i]);
	*r = (struct jd_report){0};
}

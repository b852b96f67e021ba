/* Makes one clean line of a message and hands it to the sinks. */
#include "agent/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"

static struct log_sink *sinks;

void log_add_sink(struct log_sink *sink)
{
	struct log_sink **p = &sinks;

	for (; *p; p = &(*p)->next)
		if (*p == sink)
			return;
	sink->next = NULL;
	*p = sink;
}

void log_remove_sink(struct log_sink *sink)
{
	for (struct log_sink **p = &sinks; *p; p = &(*p)->next)
		if (*p == sink) {
			*p = sink->next;
			sink->next = NULL;
			return;
		}
}

static bool wants(const struct log_sink *sink, enum log_level level, bool milestone)
{
	return level <= sink->max_level && (milestone || !sink->milestones_only);
}

/* How one character appears in a line; the result is valid until the next call with the same `room`. */
static const char *shown(const char *s, size_t n, enum utf8_kind kind, char room[static 8])
{
	if (kind == UTF8_BROKEN)
		return UTF8_REPLACEMENT;
	if (kind == UTF8_PRINTABLE)
		(void)snprintf(room, 8, "%.*s", (int)n, s);
	else if (*s == '\n')
		return "\\n";
	else if (*s == '\t')
		return "\\t";
	else
		(void)snprintf(room, 8, "\\x%02x", (unsigned char)s[n - 1]);
	return room;
}

/* Control characters would forge lines and drive terminals, so they are written out. A line that does not fit
 * ends with an ellipsis. */
static void clean(const char *raw, size_t len, bool cut, char line[static LIMIT_LOG_LINE + 1])
{
	static const char ellipsis[] = "\xe2\x80\xa6";
	size_t used = 0, safe = 0; /* safe: where the ellipsis fits */

	for (size_t i = 0, n; i < len; i += n) {
		enum utf8_kind kind;
		const char *text;
		char room[8];
		size_t m;

		n = utf8_next(raw + i, len - i, &kind);
		text = shown(raw + i, n, kind, room);
		m = strlen(text);
		if (used + m > LIMIT_LOG_LINE) {
			cut = true;
			break;
		}
		memcpy(line + used, text, m);
		used += m;
		if (used + sizeof(ellipsis) - 1 <= LIMIT_LOG_LINE)
			safe = used;
	}
	line[used] = '\0';
	if (cut)
		memcpy(line + safe, ellipsis, sizeof(ellipsis));
}

void log_full(enum log_level level, const struct log_fields *fields, const char *fmt, ...)
{
	char raw[LIMIT_LOG_LINE + 1], line[LIMIT_LOG_LINE + 1];
	struct log_record record = {.level = level, .message = line};
	int saved = errno;
	bool wanted = false;
	size_t len;
	va_list ap;
	int n;

	if (fields)
		record.fields = *fields;
	for (const struct log_sink *s = sinks; s; s = s->next)
		wanted = wanted || wants(s, level, record.fields.milestone);
	if (!wanted)
		return;

	va_start(ap, fmt);
	n = vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	if (n < 0)
		(void)snprintf(raw, sizeof(raw), "a message that cannot be formatted: %s", fmt);
	len = strlen(raw);
	if (n >= (int)sizeof(raw))
		len = utf8_cut(raw, len, len - 1); /* not half a character before the ellipsis */
	else
		while (len && raw[len - 1] == '\n')
			len--;
	clean(raw, len, n >= (int)sizeof(raw), line);

	for (struct log_sink *s = sinks, *next; s; s = next) {
		next = s->next; /* a sink may remove itself */
		if (wants(s, level, record.fields.milestone))
			s->write(s, &record);
	}
	errno = saved;
}

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = {
		[LOG_LEVEL_ERROR] = "error",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_DEBUG] = "debug",
	};

	return (size_t)level < ARRAY_SIZE(names) ? names[level] : "unknown";
}

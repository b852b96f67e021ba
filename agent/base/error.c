/* Filling in and extending an error value; nothing here allocates or fails. */
#include "agent/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"

/* What was cut off must not leave half a character: messages go into JSON. */
static void trim(struct error *err, int wanted)
{
	size_t max = sizeof(err->msg) - 1;

	if (wanted > (int)max)
		err->msg[utf8_cut(err->msg, max, max - 1)] = '\0';
}

static void _printf_(4, 0) fill(struct error *err, enum error_class cls, int code, const char *fmt, va_list ap)
{
	err->cls = cls;
	err->code = error_code(code);
	trim(err, vsnprintf(err->msg, sizeof(err->msg), fmt, ap));
}

/* Appends ": TEXT" as far as it fits. */
static void append(struct error *err, const char *text)
{
	size_t n = strlen(err->msg);

	trim(err, (int)n + snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", text));
}

int (error_set)(struct error *err, enum error_class cls, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	fill(err, cls, code, fmt, ap);
	va_end(ap);
	return code;
}

int (error_wrap)(struct error *err, int code, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;

	if (!err)
		return code;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	fill(err, err->cls, err->code, fmt, ap);
	va_end(ap);
	append(err, old);
	return code;
}

int (error_errno)(struct error *err, int code, const char *fmt, ...)
{
	char text[128];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	fill(err, ERROR_SYSTEM, code, fmt, ap);
	va_end(ap);
	append(err, strerror_r(-code, text, sizeof(text)));
	return code;
}

int (error_oom)(struct error *err)
{
	return error_set(err, ERROR_SYSTEM, -ENOMEM, "out of memory");
}

const char *error_class_name(enum error_class cls)
{
	static const char *const names[] = {
		[ERROR_NONE] = "none",         [ERROR_USER] = "user",     [ERROR_TRANSIENT] = "transient",
		[ERROR_PLATFORM] = "platform", [ERROR_SYSTEM] = "system",
	};

	return (size_t)cls < ARRAY_SIZE(names) ? names[cls] : "unknown";
}

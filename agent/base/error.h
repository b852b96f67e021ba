/*
 * Errors.
 *
 * A function that can fail returns int: 0 (or >= 0 where its header says so) on success, a negative
 * errno on failure. If what failed can be told to a person, its last parameter is `struct error *err`:
 * written only on failure, never read, may be NULL. The struct is a plain value on the caller's stack;
 * there is nothing to free, and filling it cannot fail.
 *
 * The class decides retry, exit code and the words of the status; nobody matches on messages.
 */
#pragma once

#include <errno.h>

#include "agent/base/macros.h"

enum error_class {
	ERROR_NONE,
	ERROR_USER,	 /* the customer's settings or scripts are wrong; the same again will fail again */
	ERROR_TRANSIENT, /* try again later */
	ERROR_PLATFORM,	 /* the platform broke its contract, or refused us */
	ERROR_SYSTEM,	 /* this machine: disk, memory, permissions */
};

struct error {
	enum error_class cls;
	int code; /* negative errno */
	char msg[500];
};

#define ERROR_INIT ((struct error){ .cls = ERROR_NONE })

/* Sets *err and returns code, so `return error_set(err, ...)` ends a failing path in one line. */
int error_set(struct error *err, enum error_class cls, int code, const char *fmt, ...) _printf_(4, 5);

/* Prefixes "context: " to the message; keeps class and code; returns the code given. */
int error_wrap(struct error *err, int code, const char *fmt, ...) _printf_(3, 4);

/* "WHAT: strerror(-code)" as a system error; returns the code. */
int error_errno(struct error *err, int code, const char *fmt, ...) _printf_(3, 4);

int error_oom(struct error *err);

/*
 * Around the four: a failing path returns no success, whatever code it was given (an errno that nobody set). Callers
 * rely on what a callee made, and the compiler may, too.
 */
static inline int error_code(int code)
{
	return code < 0 ? code : -EIO;
}
#define error_set(...)	 error_code(error_set(__VA_ARGS__))
#define error_wrap(...)	 error_code(error_wrap(__VA_ARGS__))
#define error_errno(...) error_code(error_errno(__VA_ARGS__))
#define error_oom(err)	 error_code(error_oom(err))

const char *error_class_name(enum error_class cls);

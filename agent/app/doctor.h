/*
 * `evenkeel doctor`: checks of everything that the agent depends on, by looking and by asking as the agent itself would ask,
 * and never at Scheduled Events (the first request switches that service on). Nothing is changed.
 */
#pragma once

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/codec/json.h"

struct paths;

enum verdict { VERDICT_OK, VERDICT_NOTE, VERDICT_WARNING, VERDICT_ERROR, _VERDICT_MAX };
const char *verdict_name(enum verdict v); /* ok, note, warning, error */

struct finding {
	char *check;
	int verdict; /* enum verdict */
	char *found;
	char *advice; /* NULL: there is nothing to do */
};

/* Release with doctor_report_done(). No text holds a secret. */
struct doctor_report {
	char *version;
	int worst;		 /* enum verdict */
	struct jd_list findings; /* of struct finding, in the order of the checks */
};

/* Runs every check; those that wait do so at the same time, all together no longer than 30 s. Fails only when it cannot
 * begin, or out of memory. */
_nodiscard_ int doctor_examine(const struct paths *p, struct doctor_report *ret, struct error *err);
void doctor_report_done(struct doctor_report *r);
/* Appends the report as one JSON document. */
_nodiscard_ int doctor_encode(const struct doctor_report *r, struct buf *out);

/* The exit code that tells the worst. */
int doctor_exit_code(const struct doctor_report *r);

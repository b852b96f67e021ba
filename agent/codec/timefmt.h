/* Times as text: what the platform sends (RFC 1123, ISO 8601) and what we write (ISO 8601, UTC). */
#pragma once

#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/time.h"

/* "Mon, 19 Sep 2016 18:29:47 GMT" (the weekday is not checked: the platform's own documents get it wrong)
 * or "2026-11-20T08:00:00[.fff][Z|+00:00]", "2026-11-20 08:00:00Z"; without an offset it is UTC. -EINVAL names the
 * text. Years 1970..9999. */
_nodiscard_ int timefmt_parse(const char *text, usec_t *ret_wall, struct error *err);

#define TIMEFMT_MAX 32
/* "2026-11-20T08:00:00Z"; returns `out`. */
const char *timefmt_utc(usec_t wall, char out[static TIMEFMT_MAX]);
/* "2026-11-20T08:00:00.123456Z" */
const char *timefmt_utc_usec(usec_t wall, char out[static TIMEFMT_MAX]);
/* "Fri, 20 Nov 2026 08:00:00 GMT", as HTTP wants it. */
const char *timefmt_http(usec_t wall, char out[static TIMEFMT_MAX]);
/* "10:02:11" UTC */
const char *timefmt_clock(usec_t wall, char out[static TIMEFMT_MAX]);
/* For people: "350 ms", "12 s", "14 min", "3 h 5 min", "2 d 4 h", "forever": the largest unit and the next one. */
const char *timefmt_span(usec_t span, char out[static TIMEFMT_MAX]);

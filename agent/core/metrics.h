/*
 * What is measured, as OpenMetrics or in Prometheus' older text format (the one that node_exporter's text files and
 * promtool read). Families and their labels are one table; a series comes into being when it is first counted. Pure:
 * values come in, text goes out.
 *
 * Counters and summaries are counted when something happens and live as long as the object. Gauges are what is true at
 * the moment: metrics_begin() forgets them all, and they are put in again before each rendering.
 *
 * The number of series is limited (LIMIT_METRIC_SERIES): what comes beyond is left out, and counted in
 * evenkeel_metrics_dropped_total.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/base/macros.h"

struct metrics;

enum metric {
	METRIC_BUILD,		    /* gauge: version */
	METRIC_CPU_SECONDS,	    /* gauge here, a counter for those who read: the kernel counts it */
	METRIC_RESIDENT_BYTES,
	METRIC_START_TIME,
	METRIC_SERVING,
	METRIC_READY,
	METRIC_APPLICATION_HEALTHY,
	METRIC_PAUSED,		    /* gauge: 1 while an operator has paused us */
	METRIC_COMPONENT_PROBLEM,   /* component: 1 while its substatus is warning or error */
	METRIC_POLLS,		    /* counter: result ("200", "429", "timeout" …) */
	METRIC_POLL_SECONDS,	    /* summary */
	METRIC_EVENTS_SEEN,	    /* counter: type, source */
	METRIC_EVENTS,		    /* gauge: type, status */
	METRIC_DRAIN_PHASE,	    /* gauge: phase, 1 for the one we are in */
	METRIC_DRAINS,		    /* counter: result */
	METRIC_PHASE_SECONDS,	    /* summary: phase (draining, drained, restoring) */
	METRIC_ACKNOWLEDGEMENTS,    /* counter: result */
	METRIC_ACKNOWLEDGE_SECONDS, /* summary: drained to the platform's answer */
	METRIC_SCRIPT_RUNS,	    /* counter: script, result */
	METRIC_SCRIPT_SECONDS,	    /* summary: script */
	METRIC_CERTIFICATE_NOT_AFTER,
	METRIC_CERTIFICATE_CHECKED, /* gauge: certificate; when the vault was last asked with success */
	METRIC_CERTIFICATE_PROBLEM,
	METRIC_CERTIFICATE_INSTALLS, /* counter: certificate, result */
	METRIC_USER_DATA_REVISION,  /* gauge: revision, state */
	METRIC_USER_DATA_CHECKED,
	METRIC_NOTICES,		    /* counter: webhook, result */
	METRIC_DROPPED,		    /* counter: ours */
	_METRIC_MAX
};

_nodiscard_ int metrics_new(struct metrics **ret);
void metrics_free(struct metrics *m);

/* Labels beyond those of the family are ignored, and may be NULL; a missing one is "". */
void metrics_count(struct metrics *m, enum metric what, const char *first, const char *second);
void metrics_observe(struct metrics *m, enum metric what, double seconds, const char *first);

void metrics_begin(struct metrics *m);
/* Each series once between two begins. */
void metrics_put(struct metrics *m, enum metric what, double value, const char *first, const char *second);

enum metrics_format { METRICS_TEXT, METRICS_OPEN };
const char *metrics_content_type(enum metrics_format format);
/* Appends every family that has a series. Fails as the buffer does. */
_nodiscard_ int metrics_render(const struct metrics *m, enum metrics_format format, struct buf *out);

DEFINE_CLEANUP(struct metrics *, metrics_free)

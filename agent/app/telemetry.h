/*
 * Metrics for who watches many VMs: GET /metrics on health.metricsListen (OpenMetrics where it is asked for, else the
 * older text format), and the same as a file for node_exporter (health.metricsFile), written every 15 s. What is counted
 * is in agent/core/metrics.h; what is true at the moment is asked of the handlers for each rendering.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/core/settings.h"
#include "agent/io/listener.h"

struct daemon;
struct metrics;
struct telemetry;

_nodiscard_ int telemetry_new(struct daemon *d, struct telemetry **ret, struct error *err);
void telemetry_free(struct telemetry *t);
struct metrics *telemetry_metrics(struct telemetry *t);

void telemetry_apply(struct telemetry *t, const struct settings *s);
/* Why the file cannot be written, or NULL. */
const char *telemetry_problem(const struct telemetry *t);

/* Answers GET /metrics; also for the readiness listener, when both are to listen on the same endpoint. */
void telemetry_answer(struct telemetry *t, const struct listener_request *req, struct listener_reply *reply);

DEFINE_CLEANUP(struct telemetry *, telemetry_free)

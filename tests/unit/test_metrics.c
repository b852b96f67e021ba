/* Metrics as text: both formats to the letter, the limit, and what is forgotten when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/metrics.h"

static struct metrics *make(void)
{
	struct metrics *m = NULL;

	assert_int_equal(metrics_new(&m), 0);
	return m;
}

static void expect(const struct metrics *m, enum metrics_format format, const char *wanted)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);

	assert_int_equal(metrics_render(m, format, &text), 0);
	assert_string_equal(buf_str(&text), wanted);
}

static void test_formats(void **state)
{
	_cleanup_(metrics_freep) struct metrics *m = make();

	(void)state;
	metrics_put(m, METRIC_SERVING, 1, NULL, NULL);
	metrics_count(m, METRIC_POLLS, "200", NULL);
	metrics_count(m, METRIC_POLLS, "429", NULL);
	metrics_count(m, METRIC_POLLS, "200", NULL);
	metrics_observe(m, METRIC_PHASE_SECONDS, 1.25, "draining");
	metrics_observe(m, METRIC_PHASE_SECONDS, 2, "draining");
	expect(m, METRICS_TEXT,
	       "# HELP evenkeel_serving 1 while nothing is drained.\n"
	       "# TYPE evenkeel_serving gauge\n"
	       "evenkeel_serving 1\n"
	       "# HELP evenkeel_scheduled_events_polls_total Polls of Scheduled Events by HTTP status, or by what kept an "
	       "answer away.\n"
	       "# TYPE evenkeel_scheduled_events_polls_total counter\n"
	       "evenkeel_scheduled_events_polls_total{result=\"200\"} 2\n"
	       "evenkeel_scheduled_events_polls_total{result=\"429\"} 1\n"
	       "# HELP evenkeel_drain_phase_duration_seconds How long phases took, counted when they ended.\n"
	       "# TYPE evenkeel_drain_phase_duration_seconds summary\n"
	       "evenkeel_drain_phase_duration_seconds_sum{phase=\"draining\"} 3.250000\n"
	       "evenkeel_drain_phase_duration_seconds_count{phase=\"draining\"} 2\n");
	expect(m, METRICS_OPEN,
	       "# HELP evenkeel_serving 1 while nothing is drained.\n"
	       "# TYPE evenkeel_serving gauge\n"
	       "evenkeel_serving 1\n"
	       "# HELP evenkeel_scheduled_events_polls Polls of Scheduled Events by HTTP status, or by what kept an answer "
	       "away.\n"
	       "# TYPE evenkeel_scheduled_events_polls counter\n"
	       "evenkeel_scheduled_events_polls_total{result=\"200\"} 2\n"
	       "evenkeel_scheduled_events_polls_total{result=\"429\"} 1\n"
	       "# HELP evenkeel_drain_phase_duration_seconds How long phases took, counted when they ended.\n"
	       "# TYPE evenkeel_drain_phase_duration_seconds summary\n"
	       "# UNIT evenkeel_drain_phase_duration_seconds seconds\n"
	       "evenkeel_drain_phase_duration_seconds_sum{phase=\"draining\"} 3.250000\n"
	       "evenkeel_drain_phase_duration_seconds_count{phase=\"draining\"} 2\n"
	       "# EOF\n");
}

static void test_gauges_are_forgotten(void **state)
{
	_cleanup_(metrics_freep) struct metrics *m = make();

	(void)state;
	metrics_put(m, METRIC_SERVING, 1, NULL, NULL);
	metrics_put(m, METRIC_CPU_SECONDS, 0.5, NULL, NULL);
	metrics_count(m, METRIC_DRAINS, "clean", NULL);
	metrics_begin(m);
	expect(m, METRICS_TEXT,
	       "# HELP evenkeel_drains_total Finished drains.\n"
	       "# TYPE evenkeel_drains_total counter\n"
	       "evenkeel_drains_total{result=\"clean\"} 1\n");
}

static void test_escapes(void **state)
{
	_cleanup_(metrics_freep) struct metrics *m = make();

	(void)state;
	metrics_put(m, METRIC_COMPONENT_PROBLEM, 0, "a\"b\\c\nd", NULL);
	expect(m, METRICS_TEXT,
	       "# HELP evenkeel_component_problem 1 while the component's substatus is warning or error.\n"
	       "# TYPE evenkeel_component_problem gauge\n"
	       "evenkeel_component_problem{component=\"a\\\"b\\\\c\\nd\"} 0\n");
}

static void test_limit(void **state)
{
	_cleanup_(metrics_freep) struct metrics *m = make();
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);

	(void)state;
	for (unsigned i = 0; i < LIMIT_METRIC_SERIES + 3; i++) {
		_cleanup_free_ char *name = str_format("c%u", i);

		metrics_put(m, METRIC_CERTIFICATE_PROBLEM, i, name, NULL);
	}
	assert_int_equal(metrics_render(m, METRICS_TEXT, &text), 0);
	assert_non_null(strstr(buf_str(&text), "{certificate=\"c4095\"} 4095\n"));
	assert_null(strstr(buf_str(&text), "c4096"));
	assert_non_null(strstr(buf_str(&text), "evenkeel_metrics_dropped_total 3\n"));
	/* What was counted before goes on being counted. */
	metrics_begin(m);
	metrics_put(m, METRIC_SERVING, 1, NULL, NULL);
	buf_reset(&text);
	assert_int_equal(metrics_render(m, METRICS_TEXT, &text), 0);
	assert_non_null(strstr(buf_str(&text), "evenkeel_serving 1\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_gauges_are_forgotten),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

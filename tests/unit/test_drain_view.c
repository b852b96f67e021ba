/* What people are shown of draining, there and back through JSON; and the dry run, read like a timetable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json_report.h"
#include "agent/core/drain_trial.h"
#include "agent/core/drain_view.h"
#include "agent/core/settings.h"

#define SEC USEC_PER_SEC
#define NOW ((struct drain_now){ .wall = UINT64_C(1795000000) * SEC, .boot = 1000 * SEC }) /* 2026-11-18 11:06:40 */

#define STEPS                                                                                                          \
	"\"steps\":[{\"type\":\"probeDown\"},"                                                                         \
	"{\"type\":\"run\",\"name\":\"pause\",\"command\":[\"/p\"],\"undo\":[\"/r\"],\"timeoutInSeconds\":40},"        \
	"{\"type\":\"parallel\",\"steps\":[{\"type\":\"stopUnits\",\"name\":\"web\",\"units\":[\"a.service\"]},"       \
	"{\"type\":\"waitForConnections\",\"name\":\"idle\",\"ports\":[80],\"timeoutInSeconds\":20}]}]"

static void load(struct settings *s, const char *drain)
{
	_cleanup_free_ char *text = str_format("{\"health\":{\"listen\":\"127.0.0.1:8008\"},\"drain\":{%s}}", drain);
	struct settings_source source = {
		.door = DOOR_FILES, .name = "settings", .public_text = text, .public_len = strlen(text)
	};
	struct jd_report report = {};
	struct error err = ERROR_INIT;

	if (settings_load(&source, 1, s, &report, &err) < 0)
		fail_msg("%s", err.msg);
	jd_report_done(&report);
}

static struct drain_core *core_of(const struct settings *s)
{
	struct drain_core *core = NULL;

	assert_int_equal(drain_core_new(s->drain, false, &core), 0);
	assert_int_equal(drain_core_set_self(core, "vm1"), 0);
	assert_int_equal(drain_core_boot(core, NULL, "boot", NOW), 0);
	return core;
}

static void publish(struct drain_core *core, const char *text)
{
	struct events_document doc = {};
	struct error err = ERROR_INIT;

	if (events_parse(text, strlen(text), &doc, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(drain_core_document(core, &doc, NOW), 0);
	events_done(&doc);
}

/* As a command sees it. */
static void there_and_back(struct drain_view *v, struct drain_view *ret)
{
	_cleanup_buf_ struct buf json = BUF_INIT(LIMIT_API_REPLY);
	struct error err = ERROR_INIT;

	assert_int_equal(jd_encode(&drain_view_type, v, false, &json), 0);
	jd_free(&drain_view_type, v);
	*ret = (struct drain_view){ 0 };
	if (jd_decode_document(buf_str(&json), json.len, "view", LIMIT_API_REPLY, &drain_view_type, ret, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_view(void **state)
{
	_cleanup_(drain_core_freep) struct drain_core *core = NULL;
	struct settings s = { 0 };
	struct drain_view v, seen;
	const struct view_event *e;
	const struct view_hold *h;
	const struct view_step *steps;

	(void)state;
	load(&s, "\"leadInSeconds\":60," STEPS);
	core = core_of(&s);
	publish(core,
		"{\"DocumentIncarnation\":1,\"Events\":[{\"EventId\":\"A\",\"EventType\":\"Reboot\",\"EventStatus\":"
		"\"Scheduled\",\"NotBefore\":\"2026-11-18T11:16:40Z\",\"Resources\":[\"vm1\",\"vm2\"],\"EventSource\":"
		"\"User\",\"DurationInSeconds\":9}]}");
	assert_int_equal(drain_view_fill(core, s.drain, NOW, &v), 0);
	assert_int_equal(drain_view_add_line(&v, 7, NOW.wall, "warning", "something \"odd\""), 0);
	there_and_back(&v, &seen);
	assert_string_equal(seen.phase, "serving");
	assert_null(seen.result);
	assert_true(seen.serving && seen.configured && seen.events.n == 1 && seen.holds.n == 0);
	e = seen.events.items;
	assert_string_equal(e->state, "waiting");
	assert_string_equal(e->action, "drain");
	assert_string_equal(e->acknowledge, "whenDrained");
	assert_string_equal(e->not_before, "2026-11-18T11:16:40Z");
	assert_string_equal(e->drain_at, "2026-11-18T11:15:40Z");
	assert_true(e->shared && e->leader && !e->holds && e->duration_seconds == 9);
	/* what is planned, the parallel ones as one group */
	assert_int_equal(seen.steps.n, 4);
	steps = seen.steps.items;
	assert_string_equal(steps[1].name, "pause");
	assert_int_equal(steps[1].timeout_msec, 40000);
	assert_true(steps[2].group == steps[3].group && steps[1].group != steps[2].group);
	for (size_t i = 0; i < seen.steps.n; i++)
		assert_string_equal(steps[i].state, "planned");
	assert_string_equal(((struct view_line *)seen.lines.items)->text, "something \"odd\"");
	jd_free(&drain_view_type, &seen);

	assert_int_equal(drain_core_hold(core, HOLD_BACKUP, NULL, 90 * SEC, 300 * SEC, NOW), 0);
	assert_int_equal(drain_view_fill(core, s.drain, NOW, &v), 0);
	there_and_back(&v, &seen);
	h = seen.holds.items;
	assert_int_equal(seen.holds.n, 1);
	assert_string_equal(seen.phase, "draining");
	assert_string_equal(seen.level, "transitioning");
	assert_string_equal(h->kind, "backup");
	assert_string_equal(h->drained_by, "2026-11-18T11:08:10Z");
	assert_string_equal(h->until, "2026-11-18T11:11:40Z");
	jd_free(&drain_view_type, &seen);

	/* without a section there is nothing to plan */
	assert_int_equal(drain_core_reload(core, NULL, false, NOW), 0);
	assert_int_equal(drain_view_fill(core, NULL, NOW, &v), 0);
	assert_false(v.configured);
	jd_free(&drain_view_type, &v);
	settings_done(&s);
}

static void trial(const char *settings, const char *type, unsigned notice, int64_t duration, const char *expected)
{
	_cleanup_buf_ struct buf out = BUF_INIT(65536);
	struct settings s = { 0 };
	struct drain_trial t = { .type = type, .notice_usec = notice * SEC, .duration_seconds = duration, .now = NOW };

	load(&s, settings);
	t.drain = s.drain;
	assert_int_equal(drain_trial_run(&t, &out), 0);
	assert_string_equal(buf_str(&out), expected);
	settings_done(&s);
}

static void test_trial(void **state)
{
	(void)state;
	trial(STEPS, "Reboot", 900, -1,
	      "     0.0 s  Reboot rehearsal is scheduled, not before 11:21:40 (in 15 min), by Platform, will be drained for\n"
	      "     0.0 s  draining for Reboot rehearsal\n"
	      "     0.0 s  /ready says 503\n"
	      "     0.0 s  step probeDown-1: up to 15 s\n"
	      "    15.0 s  step pause: up to 40 s\n"
	      "    55.0 s  step web: up to 30 s\n"
	      "    55.0 s  step idle: up to 20 s\n"
	      "    85.0 s  drained for Reboot rehearsal\n"
	      "    85.0 s  acknowledged: the platform begins at once\n"
	      "    85.0 s  Reboot rehearsal: acknowledged\n"
	      "    85.0 s  Reboot rehearsal has started\n"
	      "    95.0 s  Reboot rehearsal is over\n"
	      "    95.0 s  restoring\n"
	      "    95.0 s  undo web: up to 30 s\n"
	      "   125.0 s  undo pause: up to 40 s\n"
	      "   165.0 s  /ready says 200\n"
	      "   165.0 s  restored, serving\n");
	/* The policy's own word. */
	trial(STEPS, "Freeze", 900, 5,
	      "     0.0 s  Freeze rehearsal is scheduled, not before 11:21:40 (in 15 min), by Platform, nothing is done about it\n"
	      "     0.0 s  acknowledged: the platform begins at once\n"
	      "     0.0 s  Freeze rehearsal: acknowledged\n"
	      "     0.0 s  Freeze rehearsal has started\n"
	      "     5.0 s  Freeze rehearsal is over\n");
}

/* Shares of 17 s; and with no time at all the waits are skipped. */
static void test_short_trial(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(65536), none = BUF_INIT(65536);
	struct settings s = { 0 };
	struct drain_trial t = { .type = "Preempt", .notice_usec = 20 * SEC, .duration_seconds = -1, .now = NOW };

	(void)state;
	load(&s, STEPS);
	t.drain = s.drain;
	assert_int_equal(drain_trial_run(&t, &out), 0);
	assert_null(strstr(buf_str(&out), "step pause: up to 40 s"));
	assert_non_null(strstr(buf_str(&out), "    17.0 s  drained for Preempt rehearsal\n"));
	t.notice_usec = 0;
	assert_int_equal(drain_trial_run(&t, &none), 0);
	assert_null(strstr(buf_str(&none), "step idle"));
	assert_non_null(strstr(buf_str(&none), "step pause: up to 5 s"));
	settings_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_view),
		cmocka_unit_test(test_trial),
		cmocka_unit_test(test_short_trial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

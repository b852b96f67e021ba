/*
 * Conversations with the drain core, read like transcripts: inputs on the left, the actions they must cause on the
 * right. Also what its record keeps, and that running out of memory changes nothing.
 */
#include <errno.h>
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
#include "agent/codec/timefmt.h"
#include "agent/core/drain_core.h"
#include "agent/core/drain_record.h"
#include "agent/core/drain_status.h"
#include "agent/core/settings.h"
#include "tests/support/failing.h"

#define SEC USEC_PER_SEC
#define MSEC USEC_PER_MSEC
#define START (UINT64_C(1795000000) * SEC) /* 2026-11-18 11:06:40 */

/* The rig. */

struct begun {
	char name[64];
	int64_t token;
};

struct rig {
	struct settings settings;
	struct drain_core *core;
	struct drain_now now;
	char log[4000], told[8000];
	struct begun begun[64];
	size_t n_begun;
	int64_t post, question, snapshot;
	usec_t timer;
	char *record;
	const char *active[8];
	int incarnation;
};

static void note(struct rig *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct rig *r, const char *fmt, ...)
{
	size_t n = strlen(r->log);
	va_list ap;

	if (n > 0)
		r->log[n++] = ' ';
	va_start(ap, fmt);
	vsnprintf(r->log + n, sizeof(r->log) - n, fmt, ap);
	va_end(ap);
}

static void take(struct rig *r)
{
	struct drain_action a;

	while (drain_core_next(r->core, &a)) {
		_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_RECORD);

		switch (a.kind) {
		case DRAIN_PERSIST:
			assert_int_equal(drain_record_encode(drain_core_state(r->core), &b), 0);
			free(r->record);
			r->record = buf_take(&b);
			break;
		case DRAIN_TAKE_SNAPSHOT:
			r->snapshot = a.token;
			note(r, "snapshot");
			break;
		case DRAIN_BEGIN_STEP:
			assert_true(r->n_begun < ARRAY_SIZE(r->begun));
			snprintf(r->begun[r->n_begun].name, 64, "%s", a.step->name);
			r->begun[r->n_begun++].token = a.token;
			note(r, "%s%s:%s:%llu", a.attach ? "attach-" : "", a.undo ? "undo" : "do", a.step->name,
			     (unsigned long long)(a.timeout_usec / MSEC));
			break;
		case DRAIN_SHORTEN_STEP:
			note(r, "shorten:%s:%llu", a.step->name, (unsigned long long)(a.timeout_usec / MSEC));
			break;
		case DRAIN_STOP_STEP:
			note(r, "stop:%s", a.step->name);
			break;
		case DRAIN_PUT_BACK:
			note(r, "putback:%s", a.step->name);
			break;
		case DRAIN_ACKNOWLEDGE:
			r->post = a.token;
			for (size_t i = 0; a.ids[i]; i++)
				note(r, "ack:%s", a.ids[i]);
			break;
		case DRAIN_ASK_PEERS:
			r->question = a.token;
			for (size_t i = 0; a.ids[i]; i++)
				note(r, "ask:%s", a.ids[i]);
			break;
		case DRAIN_PROBE:
			note(r, "probe%c", a.on ? '+' : '-');
			break;
		case DRAIN_TARGET:
			note(r, "target%c", a.on ? '+' : '-');
			break;
		case DRAIN_ASK_HEALTH:
			note(r, "health?");
			break;
		case DRAIN_SET_TIMER:
			r->timer = a.at_boot;
			break;
		case DRAIN_TELL:
			snprintf(r->told + strlen(r->told), sizeof(r->told) - strlen(r->told), "%s\n", a.text);
			break;
		}
		drain_action_done(&a);
	}
}

static void expect(struct rig *r, const char *log, int line)
{
	take(r);
	if (!str_equal(r->log, log))
		fail_msg("line %d:\n  got      %s\n  expected %s\n  told %s", line, r->log, log, r->told);
	r->log[0] = '\0';
}
#define EXPECT(r, log) expect((r), (log), __LINE__)
#define OK(e) assert_int_equal((e), 0)

static void rig_core(struct rig *r, struct drain_state *record, const char *boot_id)
{
	drain_core_free(r->core);
	r->core = NULL;
	r->n_begun = 0;
	OK(drain_core_new(r->settings.drain, r->settings.health && r->settings.health->application, &r->core));
	OK(drain_core_set_self(r->core, "vm1"));
	OK(drain_core_boot(r->core, record, boot_id, r->now));
}

static void rig_load(struct rig *r, const char *drain)
{
	struct jd_report report = {};
	struct error err = ERROR_INIT;
	char text[3000];
	struct settings_source source = { .door = DOOR_FILES, .name = "settings", .public_text = text };

	snprintf(text, sizeof(text), "{\"health\":{\"listen\":\"127.0.0.1:8008\"%s},\"drain\":{%s}}",
		 strstr(drain, "APP") ? ",\"application\":{\"http\":\"http://127.0.0.1/\"}" : "",
		 strstr(drain, "APP") ? drain + 3 : drain);
	source.public_len = strlen(text);
	if (settings_load(&source, 1, &r->settings, &report, &err) < 0)
		fail_msg("%s", err.msg);
	jd_report_done(&report);
}

static void rig_init(struct rig *r, const char *drain)
{
	*r = (struct rig){ .now = { START, 1000 * SEC }, .incarnation = 1, .timer = USEC_INFINITY };
	rig_load(r, drain);
	rig_core(r, NULL, "boot-1");
	EXPECT(r, "probe+ target-");
}

static void rig_done(struct rig *r)
{
	drain_core_free(r->core);
	free(r->record);
	settings_done(&r->settings);
}

/* Our process, or the machine, begins anew with what was last made durable. */
static void again(struct rig *r, const char *boot_id)
{
	struct drain_state *record = NULL;
	struct error err = ERROR_INIT;

	if (r->record && drain_record_decode(r->record, strlen(r->record), &record, &err) < 0)
		fail_msg("%s", err.msg);
	rig_core(r, record, boot_id);
}

/* "A Reboot Scheduled 600" [, …]: notice in seconds from now, "-" none; resources vm1 or what follows. */
static void document(struct rig *r, const char *events)
{
	_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_EVENTS_DOCUMENT);
	_cleanup_free_ char *copy = strdup(events);
	struct events_document doc = {};
	struct error err = ERROR_INIT;
	char *save = NULL;

	buf_printf(&b, "{\"DocumentIncarnation\":%d,\"Events\":[", r->incarnation);
	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		char id[16], type[16], status[16], notice[16], names[64] = "vm1", when[TIMEFMT_MAX] = "";
		char *names_save = NULL;

		assert_true(sscanf(p, " %15s %15s %15s %15s %63s", id, type, status, notice, names) >= 4);
		if (*notice != '-' || notice[1])
			timefmt_utc_usec(r->now.wall + (usec_t)(int64_t)(atof(notice) * 1e6), when);
		buf_printf(&b, "%s{\"EventId\":\"%s\",\"EventType\":\"%s\",\"EventStatus\":\"%s\",\"NotBefore\":\"%s\",\"Resources\":[",
			   p == copy ? "" : ",", id, type, status, when);
		for (char *n = strtok_r(names, "+", &names_save); n; n = strtok_r(NULL, "+", &names_save))
			buf_printf(&b, "%s\"%s\"", n == names ? "" : ",", n);
		buf_puts(&b, "]}");
	}
	buf_puts(&b, "]}");
	if (events_parse(b.data, b.len, &doc, &err) < 0)
		fail_msg("%s", err.msg);
	OK(drain_core_document(r->core, &doc, r->now));
	events_done(&doc);
}

/* A changed document. */
static void changed(struct rig *r, const char *events)
{
	r->incarnation++;
	document(r, events);
}

static void later(struct rig *r, double seconds)
{
	r->now.wall += (usec_t)(seconds * 1e6);
	r->now.boot += (usec_t)(seconds * 1e6);
	if (r->timer <= r->now.boot) {
		r->timer = USEC_INFINITY;
		OK(drain_core_timer(r->core, r->now));
	}
	take(r);
}

static int64_t token_of(const struct rig *r, const char *name)
{
	for (size_t i = r->n_begun; i-- > 0;)
		if (str_equal(r->begun[i].name, name))
			return r->begun[i].token;
	fail_msg("%s was never begun", name);
	return 0;
}

static void result(struct rig *r, const char *name, enum step_outcome outcome)
{
	take(r);
	OK(drain_core_step_result(r->core, token_of(r, name), outcome, outcome == STEP_OUTCOME_FAILED ? 3 : 0,
				  outcome == STEP_OUTCOME_OK ? NULL : "no luck", r->now));
	take(r);
}

static void answer(struct rig *r, enum ack_outcome outcome)
{
	take(r);
	OK(drain_core_ack_result(r->core, r->post, outcome, r->now));
}

static void snapshot(struct rig *r)
{
	take(r);
	OK(drain_core_snapshot_result(r->core, r->snapshot, (const char *const *)r->active, NULL, r->now));
	take(r);
}

static void says(struct rig *r, enum drain_level level, const char *sentence, int line)
{
	struct drain_status st;

	drain_status_get(r->core, r->now, &st);
	if (st.level != level || !str_equal(st.sentence, sentence))
		fail_msg("line %d: level %d: %s", line, (int)st.level, st.sentence);
}
#define SAYS(r, level, sentence) says((r), DRAIN_LEVEL_##level, (sentence), __LINE__)

static enum host_state host(const struct rig *r)
{
	return (enum host_state)drain_core_state(r->core)->host;
}

#define STEPS                                                                                            \
	"\"steps\":[{\"type\":\"probeDown\"},"                                                           \
	"{\"type\":\"run\",\"name\":\"pause\",\"command\":[\"/bin/p\"],\"undo\":[\"/bin/r\"],\"user\":\"root\"}," \
	"{\"type\":\"waitForConnections\",\"name\":\"idle\",\"ports\":[80]},"                            \
	"{\"type\":\"stopUnits\",\"name\":\"units\",\"units\":[\"a.service\",\"b.service\"]}]"

#define ONE "\"steps\":[{\"type\":\"run\",\"name\":\"x\",\"command\":[\"/x\"],\"undo\":[\"/y\"]}]"

/* Our clock runs ahead: no time is left by it, but the platform still has the event Scheduled. */
static void test_late(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, STEPS);
	r.active[0] = "a.service";
	changed(&r, "A Reboot Scheduled -5");
	EXPECT(&r, "snapshot");
	snapshot(&r);
	EXPECT(&r, "probe- do:pause:5000");
	later(&r, 1);
	changed(&r, "A Reboot Scheduled -6");
	EXPECT(&r, "");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "do:units:4000");
	again(&r, "boot-1");
	EXPECT(&r, "probe- target- attach-do:units:4000");
	changed(&r, "A Reboot Scheduled -7");
	result(&r, "units", STEP_OUTCOME_OK);
	EXPECT(&r, "target+ ack:A");
	SAYS(&r, SUCCESS, "drained for Reboot A");
	/* NotBefore is no limit for what it says nothing about. */
	answer(&r, ACK_OUTCOME_RETRY);
	take(&r);
	later(&r, 1);
	EXPECT(&r, "ack:A");
	answer(&r, ACK_OUTCOME_OK);
	take(&r);
	changed(&r, "A Reboot Started -");
	changed(&r, "");
	take(&r);
	assert_int_equal(host(&r), HOST_RESTORING);
	rig_done(&r);

	/* Less than the margin is no time either; and a NotBefore that is moved away gives it some. */
	rig_init(&r, STEPS);
	changed(&r, "A Preempt Scheduled 2");
	snapshot(&r);
	EXPECT(&r, "snapshot probe- do:pause:5000");
	changed(&r, "A Preempt Scheduled 900");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "do:idle:60000");
	rig_done(&r);

	/* We were away, or paused, when it became due: what must be is done all the same before it is acknowledged. */
	for (int paused = 0; paused < 2; paused++) {
		rig_init(&r, "\"leadInSeconds\":60," STEPS);
		if (paused)
			OK(drain_core_pause(r.core, true, r.now));
		document(&r, "A Reboot Scheduled 900");
		take(&r);
		r.now.wall += 905 * SEC;
		r.now.boot += 905 * SEC;
		if (paused) {
			OK(drain_core_pause(r.core, false, r.now));
			EXPECT(&r, "snapshot");
		} else {
			again(&r, "boot-1");
			EXPECT(&r, "probe+ target- snapshot");
		}
		document(&r, "A Reboot Scheduled -5");
		snapshot(&r);
		EXPECT(&r, "probe- do:pause:5000");
		result(&r, "pause", STEP_OUTCOME_OK);
		result(&r, "units", STEP_OUTCOME_OK);
		EXPECT(&r, "do:units:4000 target+ ack:A");
		rig_done(&r);
	}
}

/* Scheduled, Started, removed: the whole life. */
static void test_life(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, STEPS);
	r.active[0] = "a.service";
	SAYS(&r, SUCCESS, "watching");
	document(&r, "");
	EXPECT(&r, "");

	changed(&r, "A Reboot Scheduled 900");
	EXPECT(&r, "snapshot");
	SAYS(&r, TRANSITIONING, "draining for Reboot A");
	snapshot(&r);
	EXPECT(&r, "probe-");
	SAYS(&r, TRANSITIONING, "draining for Reboot A: probeDown-1, step 1 of 4");
	document(&r, "A Reboot Scheduled 900");
	later(&r, 14.9);
	EXPECT(&r, "");
	later(&r, 0.1);
	EXPECT(&r, "do:pause:30000");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "do:idle:60000");
	later(&r, 60);
	result(&r, "idle", STEP_OUTCOME_TIMEOUT);
	EXPECT(&r, "do:units:60000");
	result(&r, "units", STEP_OUTCOME_OK);
	EXPECT(&r, "target+ ack:A");
	SAYS(&r, SUCCESS, "drained for Reboot A");
	answer(&r, ACK_OUTCOME_OK);
	EXPECT(&r, "");
	SAYS(&r, SUCCESS, "drained for Reboot A, acknowledged 11:07:55");

	changed(&r, "A Reboot Started -");
	EXPECT(&r, "");
	assert_int_equal(drain_core_acknowledge(r.core, "A", r.now), -EALREADY);
	SAYS(&r, SUCCESS, "drained for Reboot A, acknowledged 11:07:55");
	changed(&r, "");
	EXPECT(&r, "target- undo:units:60000");
	result(&r, "units", STEP_OUTCOME_OK);
	EXPECT(&r, "undo:pause:30000");
	SAYS(&r, TRANSITIONING, "restoring: pause, step 2 of 4");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "probe+");
	assert_int_equal(host(&r), HOST_SERVING);
	SAYS(&r, SUCCESS, "watching");
	assert_non_null(strstr(r.told, "Reboot A is scheduled, not before 11:21:40 (in 15 min), will be drained for\n"));
	assert_non_null(strstr(r.told, "Reboot A is over\n"));
	rig_done(&r);
}

/* No notice: waits are skipped, the rest has its reserve; nothing is acknowledged. */
static void test_started_without_notice(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, STEPS);
	document(&r, "A Freeze Started -");
	EXPECT(&r, "snapshot");
	snapshot(&r);
	EXPECT(&r, "probe- do:pause:5000");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "do:units:4000");
	result(&r, "units", STEP_OUTCOME_TIMEOUT);
	EXPECT(&r, "target+");
	SAYS(&r, WARNING, "drained for Freeze A; step units: no luck");
	rig_done(&r);

	/* What a group is to have at least, its steps have. */
	rig_init(&r, "\"steps\":[{\"type\":\"parallel\",\"reserveInSeconds\":9,\"steps\":["
		     "{\"type\":\"run\",\"name\":\"x\",\"command\":[\"/x\"]},"
		     "{\"type\":\"http\",\"name\":\"y\",\"url\":\"http://127.0.0.1/\",\"timeoutInSeconds\":7}]}]");
	document(&r, "A Freeze Started -");
	snapshot(&r);
	EXPECT(&r, "snapshot do:x:9000 do:y:7000");
	rig_done(&r);
}

static void test_preempt(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, STEPS);
	document(&r, "A Preempt Scheduled 25");
	EXPECT(&r, "snapshot");
	snapshot(&r);
	EXPECT(&r, "probe-"); /* a wait until the load balancer has noticed, 11 s, and 4/145 of the 2 s that are left over */
	later(&r, 11);
	EXPECT(&r, "");
	later(&r, 1);
	EXPECT(&r, "do:pause:5177");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "do:idle:3103");
	/* Approved elsewhere, it starts: the wait is over, the rest is quick. */
	changed(&r, "A Preempt Started -");
	EXPECT(&r, "stop:idle");
	result(&r, "idle", STEP_OUTCOME_CANCELLED);
	EXPECT(&r, "do:units:4000");
	rig_done(&r);
}

static void test_no_time(void **state)
{
	struct rig r;

	(void)state;
	/* An earlier deadline shortens what runs; at the end it is stopped. */
	rig_init(&r, "\"marginInSeconds\":5," STEPS);
	document(&r, "A Reboot Scheduled 900");
	take(&r);
	snapshot(&r);
	later(&r, 15);
	EXPECT(&r, "snapshot probe- do:pause:30000");
	changed(&r, "A Reboot Scheduled 900, B Preempt Scheduled 20");
	EXPECT(&r, "shorten:pause:6063");
	later(&r, 15);
	EXPECT(&r, "stop:pause target+ ack:A ack:B");
	SAYS(&r, WARNING, "drained for Reboot A and Preempt B, incomplete: there was no time left for all steps; "
			  "step pause was cut short, and 2 more not begun");
	assert_non_null(strstr(r.told, "drained for Reboot A and Preempt B, not all steps: time ran out in step pause\n"));
	result(&r, "pause", STEP_OUTCOME_CANCELLED);
	EXPECT(&r, "");
	rig_done(&r);
}

/* Two steps fail; what the status names is the one that the drain went by. */
static void test_culprit(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "\"steps\":[{\"type\":\"run\",\"name\":\"x\",\"command\":[\"/x\"]},"
		     "{\"type\":\"parallel\",\"steps\":[{\"type\":\"run\",\"name\":\"y\",\"command\":[\"/y\"]},"
		     "{\"type\":\"run\",\"name\":\"z\",\"command\":[\"/z\"],\"onFailure\":\"abort\"}]},"
		     "{\"type\":\"run\",\"name\":\"late\",\"command\":[\"/l\"]}]");
	document(&r, "A Reboot Scheduled 900");
	take(&r);
	snapshot(&r);
	result(&r, "x", STEP_OUTCOME_FAILED);
	result(&r, "y", STEP_OUTCOME_FAILED);
	result(&r, "z", STEP_OUTCOME_TIMEOUT);
	EXPECT(&r, "snapshot do:x:30000 do:y:30000 do:z:30000 probe- target+");
	SAYS(&r, WARNING, "drained for Reboot A, aborted and not acknowledged; step z: no luck");
	assert_non_null(strstr(r.told, "drained for Reboot A, aborted by step z\n"));
	/* It goes on from there, and time runs out. */
	changed(&r, "A Reboot Scheduled 20, B Preempt Scheduled 20");
	EXPECT(&r, "target- do:y:8500 do:z:8500");
	r.now.wall += 17 * SEC;
	r.now.boot += 17 * SEC;
	result(&r, "y", STEP_OUTCOME_OK);
	EXPECT(&r, "stop:z target+ ack:A ack:B");
	SAYS(&r, WARNING, "drained for Reboot A and Preempt B, incomplete: there was no time left for all steps; "
			  "step z was cut short, and 1 more not begun; step x: no luck");
	result(&r, "z", STEP_OUTCOME_OK);
	EXPECT(&r, "");
	rig_done(&r);
}

/* The wall clock jumps past NotBefore while the platform still has the event Scheduled: the drain goes on by the boot clock. */
static void test_clock(void **state)
{
	struct rig r;
	usec_t end;

	(void)state;
	rig_init(&r, STEPS);
	r.active[0] = "a.service";
	changed(&r, "A Reboot Scheduled 63");
	take(&r);
	snapshot(&r);
	later(&r, 15);
	EXPECT(&r, "snapshot probe- do:pause:11382");
	r.now.wall += USEC_PER_HOUR;
	later(&r, 1);
	document(&r, "A Reboot Scheduled -3553");
	EXPECT(&r, "");
	end = r.now.boot + 44 * SEC; /* 63 s less the margin less what has passed */
	assert_int_equal(r.timer, end);

	/* Restarted: the record knows, and what the platform moves is moved by as much. */
	again(&r, "boot-1");
	EXPECT(&r, "probe- target- attach-do:pause:10382");
	assert_int_equal(r.timer, end);
	changed(&r, "A Reboot Scheduled -3543");
	EXPECT(&r, "");
	assert_int_equal(r.timer, end + 10 * SEC);
	changed(&r, "A Reboot Scheduled -3553");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "do:idle:20689");

	/* Set right: the same by the wall clock again. And then time does run out, in the ordinary way. */
	r.now.wall -= USEC_PER_HOUR;
	later(&r, 1);
	assert_int_equal(r.timer, end);
	later(&r, 42.5);
	EXPECT(&r, "");
	later(&r, 0.5);
	EXPECT(&r, "stop:idle target+ ack:A");
	/* Until it begins there is time to say so, whatever the wall clock says. */
	r.now.wall += USEC_PER_HOUR;
	answer(&r, ACK_OUTCOME_RETRY);
	take(&r);
	later(&r, 1);
	EXPECT(&r, "ack:A");
	rig_done(&r);

	/* A jump that leaves time changes the budget; and one at the wrong moment makes nothing due that has a lead. */
	rig_init(&r, STEPS);
	changed(&r, "A Reboot Scheduled 4000");
	EXPECT(&r, "");
	r.now.wall += 2 * USEC_PER_HOUR;
	document(&r, "A Reboot Scheduled -3200");
	EXPECT(&r, "");
	assert_int_equal(r.timer, r.now.boot + 2800 * SEC);
	r.now.wall -= 2 * USEC_PER_HOUR;
	r.now.wall += 3900 * SEC;
	document(&r, "A Reboot Scheduled 100");
	snapshot(&r);
	later(&r, 15);
	EXPECT(&r, "snapshot probe- do:pause:17943");

	/* After a boot it says nothing of time that the clock is past it. */
	r.now.wall += 200 * SEC;
	r.now.boot = 5 * SEC;
	again(&r, "boot-2");
	EXPECT(&r, "probe- target-");
	document(&r, "A Reboot Scheduled -115");
	EXPECT(&r, "do:pause:5000");
	rig_done(&r);
}

static void test_cancelled(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, STEPS);
	document(&r, "A Reboot Scheduled 900");
	take(&r);
	snapshot(&r);
	later(&r, 15);
	EXPECT(&r, "snapshot probe- do:pause:30000");
	changed(&r, "");
	EXPECT(&r, "stop:pause");
	/* Comes again before all is undone: from step 1, and no new snapshot. */
	changed(&r, "B Reboot Scheduled 900");
	EXPECT(&r, "");
	result(&r, "pause", STEP_OUTCOME_CANCELLED);
	later(&r, 15);
	EXPECT(&r, "do:pause:30000");
	changed(&r, "");
	result(&r, "pause", STEP_OUTCOME_OK); /* had ended before the stop came */
	EXPECT(&r, "stop:pause undo:pause:30000");
	result(&r, "pause", STEP_OUTCOME_OK);
	EXPECT(&r, "probe+");
	rig_done(&r);
}

/* Neither the order inside a document matters, nor an id that stands there twice. */
static void test_order(void **state)
{
	struct rig a, b;

	(void)state;
	rig_init(&a, ONE);
	rig_init(&b, ONE);
	document(&a, "C Freeze Scheduled 60, A Reboot Scheduled 900, B Preempt Started -");
	document(&b, "B Preempt Scheduled 30, A Reboot Scheduled 900, B Preempt Started -, C Freeze Scheduled 60");
	take(&a);
	take(&b);
	assert_string_equal(a.record, b.record);
	assert_string_equal(a.log, b.log);
	document(&b, "A Reboot Scheduled 900, C Freeze Scheduled 60, B Preempt Started -");
	b.log[0] = '\0';
	EXPECT(&b, "");
	rig_done(&a);
	rig_done(&b);
}

/* Removal needs another incarnation, or three documents in a row. */
static void test_removal(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "\"leadInSeconds\":10," STEPS);
	document(&r, "A Reboot Scheduled 900, F Reboot Scheduled 10 other");
	EXPECT(&r, "");
	SAYS(&r, SUCCESS, "watching; Reboot A not before 11:21:40");
	document(&r, "");
	document(&r, "");
	assert_int_equal(drain_core_state(r.core)->events.n, 1);
	document(&r, "A Reboot Scheduled 900");
	document(&r, "");
	document(&r, "");
	assert_int_equal(drain_core_state(r.core)->events.n, 1);
	document(&r, "");
	assert_int_equal(drain_core_state(r.core)->events.n, 0);
	/* The incarnation is only compared for being another one. */
	r.incarnation = 1;
	document(&r, "A Reboot Scheduled 900");
	r.incarnation = 0;
	document(&r, "");
	assert_int_equal(drain_core_state(r.core)->events.n, 0);
	EXPECT(&r, "");
	rig_done(&r);
}

static void test_lead(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "\"leadInSeconds\":60,\"steps\":[{\"type\":\"run\",\"name\":\"x\",\"command\":[\"/x\"]}]");
	document(&r, "A Reboot Scheduled 900");
	take(&r);
	assert_true(r.timer == r.now.boot + 840 * SEC);
	later(&r, 839);
	EXPECT(&r, "");
	/* A timer that goes off a little early is set again. */
	r.now.wall += 990 * MSEC;
	r.now.boot += 990 * MSEC;
	r.timer = USEC_INFINITY;
	OK(drain_core_timer(r.core, r.now));
	EXPECT(&r, "");
	assert_true(r.timer == r.now.boot + 10 * MSEC);
	later(&r, 0.01);
	EXPECT(&r, "snapshot");
	rig_done(&r);
}

static void test_poll_delay(void **state)
{
	struct rig r;
	usec_t most;

	(void)state;
	rig_init(&r, "\"leadInSeconds\":0");
	assert_true(drain_core_poll_delay(r.core, r.now, &most) == SEC && most == USEC_INFINITY);
	document(&r, "A Reboot Scheduled 900");
	assert_true(drain_core_poll_delay(r.core, r.now, &most) == SEC && most == 4 * SEC);
	changed(&r, "");
	later(&r, 59);
	assert_true(drain_core_poll_delay(r.core, r.now, &most) == SEC && most == 4 * SEC);
	later(&r, 2);
	assert_true(drain_core_poll_delay(r.core, r.now, &most) == SEC && most == USEC_INFINITY);
	rig_done(&r);
	/* An interval that is longer is the customer's. */
	rig_init(&r, "\"pollingIntervalInSeconds\":30");
	document(&r, "A Reboot Scheduled 900");
	assert_true(drain_core_poll_delay(r.core, r.now, &most) == 30 * SEC && most == 30 * SEC);
	rig_done(&r);
}

static void drain_one(struct rig *r)
{
	take(r);
	snapshot(r);
	result(r, "x", STEP_OUTCOME_OK);
	take(r);
}

/* A status that came later: told, kept as text, nothing done and nothing acknowledged, whatever was under way goes on. */
static void test_unknown_status(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, ONE);
	changed(&r, "A Reboot Paused 900");
	EXPECT(&r, "");
	assert_non_null(strstr(r.told, "Reboot A is \"Paused\", which this version does not know; nothing is done about that\n"));
	assert_int_equal(drain_core_acknowledge(r.core, "A", r.now), -EALREADY);
	again(&r, "boot-1");
	EXPECT(&r, "probe+ target-");
	assert_string_equal(drain_state_event(drain_core_state(r.core), 0)->status_text, "Paused");
	/* Known words later. */
	changed(&r, "A Reboot Scheduled 900");
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:30000 probe- target+ ack:A");
	answer(&r, ACK_OUTCOME_RETRY);
	r.told[0] = '\0';
	changed(&r, "A Reboot Delayed 900");
	document(&r, "A Reboot Delayed 900");
	later(&r, 5);
	EXPECT(&r, "");
	assert_string_equal(r.told, "Reboot A is \"Delayed\", which this version does not know; nothing is done about that\n");
	assert_int_equal(host(&r), HOST_DRAINED);
	changed(&r, "A Reboot Scheduled 900");
	EXPECT(&r, "ack:A");
	changed(&r, "A Reboot Started -");
	changed(&r, "A Reboot Finishing -");
	EXPECT(&r, "");
	assert_int_equal(host(&r), HOST_DRAINED);
	changed(&r, "B Freeze Odd 5");
	EXPECT(&r, "target- undo:x:30000");
	result(&r, "x", STEP_OUTCOME_OK);
	changed(&r, "B Freeze Started -");
	EXPECT(&r, "probe+ snapshot");
	rig_done(&r);
}

static void test_acknowledging(void **state)
{
	usec_t most;
	struct rig r;

	(void)state;
	rig_init(&r, ONE);
	document(&r, "A Reboot Scheduled 900, B Redeploy Scheduled 900, C Rebalance Scheduled 900");
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:30000 probe- target+ ack:A ack:B");
	answer(&r, ACK_OUTCOME_RETRY);
	later(&r, 0.49);
	EXPECT(&r, "");
	later(&r, 0.01);
	EXPECT(&r, "ack:A ack:B");
	answer(&r, ACK_OUTCOME_RETRY);
	later(&r, 0.99);
	EXPECT(&r, "");
	later(&r, 0.01);
	EXPECT(&r, "ack:A ack:B");
	for (int i = 0; i < 3; i++) {
		answer(&r, ACK_OUTCOME_RETRY);
		later(&r, 1.99);
		EXPECT(&r, "");
		later(&r, 0.01);
		EXPECT(&r, "ack:A ack:B");
	}
	/* 400: the document is read anew, once more, then no more. */
	answer(&r, ACK_OUTCOME_BAD_REQUEST);
	later(&r, 10);
	EXPECT(&r, "");
	assert_true(drain_core_poll_delay(r.core, r.now, &most) == 0);
	changed(&r, "A Reboot Scheduled 900, C Rebalance Scheduled 900, D Reboot Scheduled 900");
	EXPECT(&r, "ack:A ack:D");
	answer(&r, ACK_OUTCOME_BAD_REQUEST);
	document(&r, "A Reboot Scheduled 900, C Rebalance Scheduled 900, D Reboot Scheduled 900");
	EXPECT(&r, "ack:D");
	assert_non_null(strstr(r.told, "Reboot A: the platform refuses the acknowledgement (400)"));
	answer(&r, ACK_OUTCOME_OK);
	/* The same answer twice, and an operator who wants the unknown type to go on. */
	answer(&r, ACK_OUTCOME_RETRY);
	OK(drain_core_acknowledge(r.core, "C", r.now));
	EXPECT(&r, "ack:C");
	assert_int_equal(drain_core_acknowledge(r.core, "C", r.now), -EALREADY);
	assert_int_equal(drain_core_acknowledge(r.core, "D", r.now), -EALREADY);
	assert_int_equal(drain_core_acknowledge(r.core, "E", r.now), -ENOENT);
	/* Started: no further try. */
	answer(&r, ACK_OUTCOME_RETRY);
	changed(&r, "A Reboot Scheduled 900, C Rebalance Started -, D Reboot Scheduled 900");
	later(&r, 10);
	EXPECT(&r, "");
	rig_done(&r);
}

static void test_policy_of_acknowledging(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "\"policy\":[{\"types\":[\"Freeze\"],\"action\":\"notify\",\"acknowledge\":\"immediately\"},"
		     "{\"types\":[\"Preempt\"],\"action\":\"drain\",\"acknowledge\":\"never\"},"
		     "{\"types\":[\"Terminate\"],\"action\":\"drain\",\"acknowledge\":\"immediately\"},"
		     "{\"action\":\"drain\"}]," ONE);
	document(&r, "F Freeze Scheduled 900, G Freeze Scheduled 900 vm1+vm2, H Freeze Started -, I Freeze Scheduled 9 vm2");
	EXPECT(&r, "ack:F");
	answer(&r, ACK_OUTCOME_OK);
	changed(&r, "P Preempt Scheduled 30");
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:27000 probe- target+");
	/* Already drained: the others come at once, in one document or another. */
	changed(&r, "P Preempt Scheduled 30, R Reboot Scheduled 30, S Reboot Scheduled 30 vm1+vm2");
	EXPECT(&r, "ack:R");
	rig_done(&r);

	rig_init(&r, "\"policy\":[{\"types\":[\"Terminate\"],\"action\":\"drain\",\"acknowledge\":\"immediately\"}]," ONE);
	document(&r, "T Terminate Scheduled 900");
	EXPECT(&r, "snapshot ack:T");
	rig_done(&r);

	rig_init(&r, "\"sharedEvents\":{\"acknowledge\":\"leader\",\"peerUrl\":\"http://{name}/\"}," ONE);
	document(&r, "A Reboot Scheduled 900 vm2+vm1, B Reboot Scheduled 900 VM1+vm2+vm3");
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:30000 probe- target+ ask:vm2 ask:vm3");
	OK(drain_core_peers_result(r.core, r.question, false, r.now));
	later(&r, 1.9);
	EXPECT(&r, "");
	later(&r, 0.1);
	EXPECT(&r, "ask:vm2 ask:vm3");
	OK(drain_core_peers_result(r.core, r.question, true, r.now));
	EXPECT(&r, "ack:B");
	/* Peers of one event that never say yes do not keep those of another from being asked. */
	answer(&r, ACK_OUTCOME_OK);
	changed(&r, "C Reboot Scheduled 900 vm1+vm4, D Reboot Scheduled 900 vm1+vm5");
	EXPECT(&r, "ask:vm4");
	OK(drain_core_peers_result(r.core, r.question, false, r.now));
	EXPECT(&r, "");
	later(&r, 2);
	EXPECT(&r, "ask:vm5");
	OK(drain_core_peers_result(r.core, r.question, true, r.now));
	EXPECT(&r, "ack:D ask:vm4");
	/* The other VM leaves the event, which is ours alone then, and nobody's again. */
	changed(&r, "C Reboot Scheduled 900, D Reboot Scheduled 900 vm1+vm5");
	changed(&r, "C Reboot Scheduled 900 vm1+vm6, D Reboot Scheduled 900");
	changed(&r, "");
	assert_int_equal(drain_core_state(r.core)->events.n, 0);
	rig_done(&r);
}

static void test_failures(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "\"steps\":[{\"type\":\"run\",\"name\":\"x\",\"command\":[\"/x\"],\"onFailure\":\"abort\","
		     "\"retry\":{\"times\":1,\"delayInSeconds\":5,\"onExitCodes\":[3]}},"
		     "{\"type\":\"run\",\"name\":\"y\",\"command\":[\"/y\"],\"onFailure\":\"finish\"},"
		     "{\"type\":\"run\",\"name\":\"z\",\"command\":[\"/z\"]}]");
	document(&r, "A Reboot Scheduled 900");
	take(&r);
	snapshot(&r);
	result(&r, "x", STEP_OUTCOME_FAILED);
	EXPECT(&r, "snapshot do:x:30000");
	later(&r, 5);
	EXPECT(&r, "do:x:30000");
	result(&r, "x", STEP_OUTCOME_FAILED);
	EXPECT(&r, "probe- target+");
	SAYS(&r, WARNING, "drained for Reboot A, aborted and not acknowledged; step x: no luck");
	/* A new hold goes on from the step that failed. */
	OK(drain_core_hold(r.core, HOLD_OPERATOR, "kernel update", 0, 0, r.now));
	EXPECT(&r, "target- do:x:30000");
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "do:y:30000");
	result(&r, "y", STEP_OUTCOME_FAILED);
	EXPECT(&r, "target+ ack:A");
	SAYS(&r, WARNING, "drained for Reboot A and operator: kernel update; step y: no luck");
	rig_done(&r);
}

/* A step waits to be tried again when time becomes short: those after it have what is kept for them. */
static void test_retry_gives_way(void **state)
{
	static const struct {
		const char *document, *log;
	} cases[] = {
		{ "A Reboot Scheduled 900", "" },
		{ "A Reboot Scheduled 74", "" }, /* 60 s, two reserves of 5 s, a margin of 3 s */
		{ "A Reboot Scheduled 72", "do:y:30000" },
		{ "A Reboot Scheduled 900, P Preempt Scheduled 30", "do:y:27000" },
		{ "A Reboot Scheduled 900, F Freeze Started -", "do:y:5000" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig r;

		rig_init(&r, "\"steps\":[{\"type\":\"run\",\"name\":\"x\",\"command\":[\"/x\"],"
			     "\"retry\":{\"times\":3,\"delayInSeconds\":60}},"
			     "{\"type\":\"run\",\"name\":\"y\",\"command\":[\"/y\"]}]");
		document(&r, "A Reboot Scheduled 900");
		take(&r);
		snapshot(&r);
		result(&r, "x", STEP_OUTCOME_FAILED);
		EXPECT(&r, "snapshot do:x:30000");
		changed(&r, cases[i].document);
		EXPECT(&r, cases[i].log);
		if (!*cases[i].log) {
			later(&r, 60);
			take(&r);
			assert_string_equal(r.begun[r.n_begun - 1].name, "x");
			assert_int_equal(r.n_begun, 2);
		} else {
			assert_non_null(strstr(r.told, "step x is not tried again, for want of time: no luck"));
		}
		rig_done(&r);
	}
}

static void test_degraded(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, ONE);
	OK(drain_core_hold(r.core, HOLD_OPERATOR, NULL, 0, 0, r.now));
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:30000 probe- target+");
	assert_int_equal(drain_core_restore(r.core, false, r.now), 0);
	for (int i = 0; i < 3; i++)
		result(&r, "x", STEP_OUTCOME_FAILED);
	EXPECT(&r, "target- undo:x:30000 undo:x:30000 undo:x:30000");
	SAYS(&r, ERROR, "not restored: step x: no luck; tried again by itself, or mend it and run \"evenkeel restore --force\"");
	later(&r, 9.9);
	EXPECT(&r, "");
	later(&r, 0.1);
	for (int i = 0; i < 3; i++)
		result(&r, "x", STEP_OUTCOME_TIMEOUT);
	EXPECT(&r, "undo:x:30000 undo:x:30000 undo:x:30000");
	later(&r, 19.9);
	EXPECT(&r, "");
	/* Drained and let go again, it begins with short pauses. */
	OK(drain_core_hold(r.core, HOLD_OPERATOR, NULL, 0, 0, r.now));
	drain_one(&r);
	assert_int_equal(drain_core_restore(r.core, false, r.now), 0);
	for (int i = 0; i < 3; i++)
		result(&r, "x", STEP_OUTCOME_FAILED);
	EXPECT(&r, "snapshot do:x:30000 target+ target- undo:x:30000 undo:x:30000 undo:x:30000");
	later(&r, 10);
	for (int i = 0; i < 3; i++)
		result(&r, "x", STEP_OUTCOME_FAILED);
	EXPECT(&r, "undo:x:30000 undo:x:30000 undo:x:30000");
	/* Restarted in between: it is not forgotten. */
	again(&r, "boot-1");
	EXPECT(&r, "probe- target-");
	assert_int_equal(host(&r), HOST_DEGRADED);
	assert_int_equal(drain_core_restore(r.core, true, r.now), 0);
	EXPECT(&r, "probe+");
	assert_int_equal(host(&r), HOST_SERVING);
	rig_done(&r);
}

static void test_health(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "APP\"restoreTimeoutInSeconds\":30," ONE);
	OK(drain_core_health(r.core, true, r.now));
	OK(drain_core_hold(r.core, HOLD_BACKUP, "nightly", 0, 60 * SEC, r.now));
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:30000 probe- target+");
	/* It looked well when it was asked last: that was before it was stopped and started. */
	later(&r, 60); /* its own deadline */
	EXPECT(&r, "target- undo:x:30000");
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "health?");
	SAYS(&r, TRANSITIONING, "restoring: waiting for the application to become healthy");
	later(&r, 30);
	EXPECT(&r, "");
	assert_int_equal(host(&r), HOST_DEGRADED);
	OK(drain_core_health(r.core, false, r.now));
	EXPECT(&r, "");
	/* Healthy later, and so again when it is asked anew. */
	OK(drain_core_health(r.core, true, r.now));
	EXPECT(&r, "health?");
	assert_int_equal(host(&r), HOST_RESTORING);
	OK(drain_core_health(r.core, true, r.now));
	EXPECT(&r, "probe+");
	assert_int_equal(host(&r), HOST_SERVING);
	/* The next drain asks again. */
	OK(drain_core_hold(r.core, HOLD_OPERATOR, NULL, 0, 0, r.now));
	drain_one(&r);
	assert_int_equal(drain_core_restore(r.core, false, r.now), 0);
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "snapshot do:x:30000 probe- target+ target- undo:x:30000 health?");
	again(&r, "boot-1");
	EXPECT(&r, "probe- target- health?");
	OK(drain_core_health(r.core, true, r.now));
	EXPECT(&r, "probe+");
	rig_done(&r);
}

static void test_resume(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "\"steps\":[{\"type\":\"refuseProbe\",\"name\":\"table\",\"ports\":[80]},"
		     "{\"type\":\"run\",\"name\":\"x\",\"command\":[\"/x\"],\"undo\":[\"/y\"]}]");
	document(&r, "A Reboot Scheduled 900");
	take(&r);
	again(&r, "boot-1");
	EXPECT(&r, "snapshot probe+ target- snapshot");
	snapshot(&r);
	EXPECT(&r, "do:table:5000");
	later(&r, 1);
	again(&r, "boot-1");
	EXPECT(&r, "probe+ target- attach-do:table:4000");
	result(&r, "table", STEP_OUTCOME_OK);
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "do:x:30000 probe- target+");
	again(&r, "boot-1");
	EXPECT(&r, "probe- target+ putback:table");
	/* Not before a document has been seen, and then without its being asked for anew. */
	document(&r, "A Reboot Scheduled 900");
	EXPECT(&r, "ack:A");
	rig_done(&r);
}

static void test_boot(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, ONE);
	document(&r, "A Reboot Scheduled 900");
	drain_one(&r);
	answer(&r, ACK_OUTCOME_OK);
	EXPECT(&r, "snapshot do:x:30000 probe- target+ ack:A");
	again(&r, "boot-2");
	EXPECT(&r, "probe- target-");
	SAYS(&r, TRANSITIONING, "booted; waiting for the first answer about scheduled events");
	/* It shows as started: this boot was the event. */
	document(&r, "A Reboot Started -");
	EXPECT(&r, "target- undo:x:30000");
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "probe+");
	SAYS(&r, SUCCESS, "watching");
	document(&r, "A Reboot Started -");
	EXPECT(&r, "");

	/* A freeze is not ended by a boot: drained again, from step 1. */
	changed(&r, "B Freeze Scheduled 900");
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:30000 probe- target+ ack:B");
	again(&r, "boot-3");
	document(&r, "B Freeze Scheduled 900");
	EXPECT(&r, "probe- target- target- do:x:30000");
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "target+ ack:B");
	/* No document for 60 s: as if there were no events. */
	r.now.boot = 5 * SEC;
	again(&r, "boot-4");
	later(&r, 59.9);
	EXPECT(&r, "probe- target-");
	later(&r, 0.1);
	EXPECT(&r, "target- undo:x:30000");
	rig_done(&r);
}

/* The service answers only when the VM has long been restored: what the boot was is not drained for once more. */
static void test_boot_without_answer(void **state)
{
	static const struct {
		const char *document, *log;
	} cases[] = {
		{ "A Reboot Started -", "" },
		{ "", "" },
		{ "A Reboot Scheduled 900", "snapshot" },
		{ "A Reboot Done -", "" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig r;

		rig_init(&r, ONE);
		document(&r, "A Reboot Scheduled 900");
		drain_one(&r);
		answer(&r, ACK_OUTCOME_OK);
		EXPECT(&r, "snapshot do:x:30000 probe- target+ ack:A");
		r.now.boot = 5 * SEC;
		again(&r, "boot-2");
		EXPECT(&r, "probe- target-");
		later(&r, 60);
		EXPECT(&r, "target- undo:x:30000");
		again(&r, "boot-2");
		result(&r, "x", STEP_OUTCOME_OK);
		EXPECT(&r, "probe- target- attach-undo:x:30000 probe+");
		changed(&r, cases[i].document);
		EXPECT(&r, cases[i].log);
		/* Nor does a reload think otherwise. */
		OK(drain_core_reload(r.core, r.settings.drain, false, r.now));
		EXPECT(&r, "");
		/* Acknowledged it is, and is not again. */
		if (*cases[i].log) {
			snapshot(&r);
			result(&r, "x", STEP_OUTCOME_OK);
			EXPECT(&r, "do:x:30000 probe- target+");
		}
		rig_done(&r);
	}
}

static void test_operator(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, ONE);
	document(&r, "A Reboot Scheduled 900");
	drain_one(&r);
	answer(&r, ACK_OUTCOME_OK);
	EXPECT(&r, "snapshot do:x:30000 probe- target+ ack:A");
	OK(drain_core_hold(r.core, HOLD_OPERATOR, NULL, 0, 0, r.now));
	assert_int_equal(drain_core_hold(r.core, HOLD_REHEARSAL, NULL, 0, 0, r.now), -EBUSY);
	assert_int_equal(drain_core_restore(r.core, false, r.now), DRAIN_STILL_HELD);
	assert_int_equal(drain_core_release(r.core, HOLD_OPERATOR, r.now), -ENOENT);
	EXPECT(&r, "");
	/* Waived: and a reload does not bring it back. */
	assert_int_equal(drain_core_restore(r.core, true, r.now), 0);
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "target- undo:x:30000 probe+");
	OK(drain_core_reload(r.core, r.settings.drain, false, r.now));
	document(&r, "A Reboot Scheduled 900");
	changed(&r, "A Reboot Started -");
	EXPECT(&r, "");

	/* A rehearsal acknowledges nothing; a real event takes it over, drained as it is. */
	OK(drain_core_hold(r.core, HOLD_REHEARSAL, "Reboot", 0, 0, r.now));
	drain_one(&r);
	EXPECT(&r, "snapshot do:x:30000 probe- target+");
	changed(&r, "B Reboot Scheduled 900");
	EXPECT(&r, "ack:B");
	assert_int_equal(drain_core_state(r.core)->holds.n, 0);
	/* The section goes: everything ends in serving. */
	OK(drain_core_reload(r.core, NULL, false, r.now));
	EXPECT(&r, "target- undo:x:30000");
	result(&r, "x", STEP_OUTCOME_OK);
	EXPECT(&r, "probe+");
	assert_int_equal(drain_core_hold(r.core, HOLD_OPERATOR, NULL, 0, 0, r.now), -ENOTSUP);
	rig_done(&r);
}

/* Reloads that change the policy decide again about what does not hold yet. */
static void test_reload(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, "\"policy\":[{\"action\":\"notify\"}]," ONE);
	document(&r, "A Reboot Scheduled 900, B Reboot Started -");
	EXPECT(&r, "");
	settings_done(&r.settings);
	rig_load(&r, ONE);
	OK(drain_core_reload(r.core, r.settings.drain, false, r.now));
	EXPECT(&r, "snapshot");
	assert_int_equal(drain_state_n_holds(drain_core_state(r.core)), 2);
	rig_done(&r);
}

/* The record. */

static void test_record(void **state)
{
	static const char *const refused[] = {
		"",
		"null",
		"{}",
		"{\"version\":1}",
		"{\"version\":1,\"host\":\"gone\"}",
		"{\"version\":1,\"host\":\"drained\"}",
		"{\"version\":1,\"host\":\"serving\",\"ledger\":[{\"mark\":\"ok\"}]}",
		"{\"version\":1,\"host\":\"drained\",\"plan\":{\"steps\":[]},\"cursor\":1}",
		"{\"version\":1,\"host\":\"drained\",\"plan\":{\"steps\":[{\"type\":\"run\",\"name\":\"a\",\"group\":0}]}}",
		"{\"version\":1,\"host\":\"drained\",\"plan\":{\"steps\":[{\"type\":\"run\",\"name\":\"a\",\"group\":0}]},"
		"\"ledger\":[{\"mark\":\"begun\",\"now\":\"doing\",\"token\":1}],\"nextToken\":2}",
		"{\"version\":1,\"host\":\"draining\",\"plan\":{\"steps\":[{\"type\":\"run\",\"name\":\"a\",\"group\":0}]},"
		"\"ledger\":[{\"mark\":\"begun\",\"now\":\"doing\",\"token\":2}],\"nextToken\":2}",
		"{\"version\":1,\"host\":\"serving\",\"events\":[{\"id\":\"a\",\"type\":\"b\",\"state\":\"new\"}]}",
		"{\"version\":1,\"host\":\"serving\",\"holds\":[{\"kind\":\"operator\"},{\"kind\":\"operator\"}]}",
	};
	_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_RECORD);
	struct drain_state *s = NULL;
	struct error err = ERROR_INIT;
	struct rig r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (drain_record_decode(refused[i], strlen(refused[i]), &s, &err) >= 0)
			fail_msg("accepted: %s", refused[i]);
	assert_int_equal(drain_record_decode("{\"version\":2,\"host\":7}", 22, &s, &err), -EPROTO);
	assert_null(s);

	/* What is written is what is read. */
	rig_init(&r, STEPS);
	r.active[0] = "a.service";
	OK(drain_core_hold(r.core, HOLD_SHUTDOWN, "for a \"test\"\n", 30 * SEC, 60 * SEC, r.now));
	document(&r, "A Reboot Scheduled 900 vm1+vm2");
	take(&r);
	snapshot(&r);
	later(&r, 10);
	take(&r);
	assert_non_null(r.record);
	OK(drain_record_decode(r.record, strlen(r.record), &s, &err));
	OK(drain_record_encode(s, &b));
	assert_string_equal(buf_str(&b), r.record);
	assert_true(drain_state_had_active(s, "a.service") && !drain_state_had_active(s, "b.service"));
	drain_state_free(s);

	/* What the drain was for is known until all is undone; a program that is older passes over it. */
	later(&r, 5);
	result(&r, "pause", STEP_OUTCOME_OK);
	OK(drain_core_release(r.core, HOLD_SHUTDOWN, r.now));
	changed(&r, "");
	result(&r, "idle", STEP_OUTCOME_CANCELLED);
	again(&r, "boot-1");
	take(&r);
	assert_int_equal(host(&r), HOST_RESTORING);
	assert_int_equal(drain_core_state(r.core)->events.n, 0);
	assert_int_equal(drain_core_state(r.core)->former_events.n, 1);
	assert_string_equal(drain_state_former_event(drain_core_state(r.core), 0)->id, "A");
	assert_int_equal(drain_core_state(r.core)->former_holds.n, 1);
	assert_string_equal(drain_state_former_hold(drain_core_state(r.core), 0)->reason, "for a \"test\"\n");
	result(&r, "pause", STEP_OUTCOME_OK);
	assert_int_equal(host(&r), HOST_SERVING);
	assert_int_equal(drain_core_state(r.core)->former_events.n + drain_core_state(r.core)->former_holds.n, 0);
	assert_null(strstr(r.record, "former"));
	rig_done(&r);
}

/* The newest are kept, each once. */
static void test_former(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, ONE);
	OK(drain_core_hold(r.core, HOLD_OPERATOR, "why", 0, 0, r.now));
	drain_one(&r);
	for (int i = 0; i < 3 * LIMIT_FORMER; i++) {
		char text[64];

		snprintf(text, sizeof(text), "E%d Reboot Scheduled 900", i / 2);
		changed(&r, text);
		take(&r);
		changed(&r, "");
		take(&r);
		assert_int_equal(host(&r), HOST_DRAINED);
		assert_int_equal(drain_core_state(r.core)->former_events.n, i / 2 < LIMIT_FORMER ? i / 2 + 1 : LIMIT_FORMER);
	}
	for (int i = 0; i < LIMIT_FORMER; i++)
		assert_int_equal(atoi(drain_state_former_event(drain_core_state(r.core), (size_t)i)->id + 1), LIMIT_FORMER / 2 + i);
	rig_done(&r);
}

/* Every allocation of every input fails once: the state is the former one, and the same input then does its work. */
static void test_out_of_memory(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, STEPS);
	r.active[0] = "a.service";
	for (int input = 0; input < 10; input++) {
		_cleanup_buf_ struct buf before = BUF_INIT(LIMIT_RECORD), after = BUF_INIT(LIMIT_RECORD);
		struct events_document doc = {};
		const char *text = input < 9 ? "{\"DocumentIncarnation\":9,\"Events\":[{\"EventId\":\"A\",\"EventType\":\"Reboot\","
					       "\"EventStatus\":\"Scheduled\",\"Resources\":[\"vm1\",\"vm2\"],\"NotBefore\":\"\"}]}" :
					       "{\"DocumentIncarnation\":10,\"Events\":[]}";
		int ret = -ENOMEM;

		OK(events_parse(text, strlen(text), &doc, NULL));
		for (long n = 0; ret == -ENOMEM; n++) {
			assert_true(n < 3000);
			buf_reset(&before);
			buf_reset(&after);
			OK(drain_record_encode(drain_core_state(r.core), &before));
			count = 0;
			fail_at = n;
			switch (input) {
			case 0:
			case 9:
				ret = drain_core_document(r.core, &doc, r.now);
				break;
			case 1:
				ret = drain_core_snapshot_result(r.core, r.snapshot, (const char *const *)r.active, NULL, r.now);
				break;
			case 2:
				r.now.wall += 15 * SEC * (n == 0);
				r.now.boot += 15 * SEC * (n == 0);
				ret = drain_core_timer(r.core, r.now);
				break;
			case 3:
				ret = drain_core_step_result(r.core, token_of(&r, "pause"), STEP_OUTCOME_FAILED, 1, "bad", r.now);
				break;
			case 4:
				ret = drain_core_step_result(r.core, token_of(&r, "idle"), STEP_OUTCOME_OK, 0, NULL, r.now);
				break;
			case 5:
				ret = drain_core_step_result(r.core, token_of(&r, "units"), STEP_OUTCOME_OK, 0, NULL, r.now);
				break;
			case 6:
				ret = drain_core_acknowledge(r.core, "A", r.now);
				break;
			case 7:
				ret = drain_core_hold(r.core, HOLD_OPERATOR, "why", 0, 0, r.now);
				break;
			default:
				ret = drain_core_restore(r.core, false, r.now);
				ret = ret == DRAIN_STILL_HELD ? 0 : ret;
				break;
			}
			fail_at = -1;
			if (ret != -ENOMEM)
				break;
			OK(drain_record_encode(drain_core_state(r.core), &after));
			assert_string_equal(buf_str(&before), buf_str(&after));
		}
		OK(ret);
		events_done(&doc);
		take(&r);
	}
	assert_string_equal(r.log, "snapshot probe- do:pause:30000 do:idle:60000 do:units:60000 target+ ack:A "
				   "target- undo:units:60000");

	/* Reading the record, and going on with it. */
	for (long n = 0;; n++) {
		struct drain_state *s = NULL;
		int ret;

		count = 0;
		fail_at = n;
		ret = drain_record_decode(r.record, strlen(r.record), &s, NULL);
		fail_at = -1;
		drain_state_free(s);
		if (ret == 0)
			break;
		assert_int_equal(ret, -ENOMEM);
	}
	rig_done(&r);
}

/* A shell that never takes its actions is told so, before anything is lost. */
static void test_bounded(void **state)
{
	struct rig r;
	int ret = 0;

	(void)state;
	rig_init(&r, ONE);
	for (int i = 0; i < 5000 && ret == 0; i++)
		ret = drain_core_hold(r.core, HOLD_OPERATOR, "again", 0, 0, r.now);
	assert_int_equal(ret, -ENOBUFS);
	take(&r);
	OK(drain_core_hold(r.core, HOLD_OPERATOR, "again", 0, 0, r.now));
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_started_without_notice),
		cmocka_unit_test(test_preempt),
		cmocka_unit_test(test_no_time),
		cmocka_unit_test(test_unknown_status),
		cmocka_unit_test(test_culprit),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_removal),
		cmocka_unit_test(test_lead),
		cmocka_unit_test(test_poll_delay),
		cmocka_unit_test(test_acknowledging),
		cmocka_unit_test(test_policy_of_acknowledging),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_degraded),
		cmocka_unit_test(test_health),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_boot),
		cmocka_unit_test(test_boot_without_answer),
		cmocka_unit_test(test_retry_gives_way),
		cmocka_unit_test(test_operator),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_former),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

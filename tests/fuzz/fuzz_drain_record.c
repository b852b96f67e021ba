/*
 * The drain record: whatever is accepted is written back to the same value, and a core that begins with it, in
 * the same boot or another, lives through documents, time, results and a restore.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/core/drain_record.h"
#include "agent/core/drain_status.h"

static void check(int r)
{
	if (r < 0)
		abort();
}

/* Carries out what can be answered at once: every step goes well. */
static void live(struct drain_core *core, struct drain_now now)
{
	struct drain_action a;
	struct drain_status st;

	for (int i = 0; i < 400 && drain_core_next(core, &a); i++) {
		if (a.kind == DRAIN_BEGIN_STEP)
			check(drain_core_step_result(core, a.token, STEP_OUTCOME_OK, 0, NULL, now));
		else if (a.kind == DRAIN_STOP_STEP)
			check(drain_core_step_result(core, a.token, STEP_OUTCOME_CANCELLED, 0, "stopped", now));
		else if (a.kind == DRAIN_TAKE_SNAPSHOT)
			check(drain_core_snapshot_result(core, a.token, (const char *const[]){ "a.service", NULL }, NULL, now));
		else if (a.kind == DRAIN_ACKNOWLEDGE)
			check(drain_core_ack_result(core, a.token, ACK_OUTCOME_OK, now));
		drain_action_done(&a);
	}
	drain_status_get(core, now, &st);
}

static void begin_with(struct drain_state *s, const char *boot_id)
{
	struct policy_rule all = { .max_duration_seconds = -1, .min_notice_seconds = -1, .max_notice_seconds = -1 };
	struct drain_settings settings = { .policy = { .items = &all, .n = 1 }, .restore_timeout_seconds = 10 };
	struct drain_now now = { .wall = UINT64_C(1795000000) * USEC_PER_SEC, .boot = 1000 * USEC_PER_SEC };
	struct events_document none = { .incarnation = -5 };
	struct drain_core *core = NULL;

	check(drain_core_new(&settings, false, &core));
	check(drain_core_set_self(core, "vm1"));
	check(drain_core_boot(core, s, boot_id, now));
	live(core, now);
	for (int i = 0; i < 5; i++) {
		now.wall += 90 * USEC_PER_SEC;
		now.boot += 90 * USEC_PER_SEC;
		check(drain_core_timer(core, now));
		live(core, now);
		check(drain_core_document(core, &none, now));
		live(core, now);
	}
	check(drain_core_restore(core, true, now));
	live(core, now);
	drain_core_free(core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const boots[] = { "boot-1", "boot-2" };
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(boots); i++) {
		struct buf first = BUF_INIT(8 * LIMIT_RECORD), second = BUF_INIT(8 * LIMIT_RECORD);
		struct drain_state *s = NULL, *t = NULL;

		if (drain_record_decode((const char *)data, size, &s, &err) < 0)
			return 0;
		check(drain_record_encode(s, &first));
		/* Escapes may make it longer than what may be read. */
		if (first.len <= LIMIT_RECORD) {
			check(drain_record_decode(first.data, first.len, &t, &err));
			check(drain_record_encode(t, &second));
			if (strcmp(first.data, second.data) != 0)
				abort();
			drain_state_free(t);
		}
		buf_done(&first);
		buf_done(&second);
		begin_with(s, boots[i]);
	}
	return 0;
}

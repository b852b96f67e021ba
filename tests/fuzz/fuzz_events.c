/* The events document: parsed, then given to a core that knows its name, with time passing in between. */
#include <stdint.h>
#include <stdlib.h>

#include "agent/core/drain_core.h"
#include "agent/core/events.h"

static void take(struct drain_core *core)
{
	struct drain_action a;

	while (drain_core_next(core, &a))
		drain_action_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_rule all = { .max_duration_seconds = -1, .min_notice_seconds = -1, .max_notice_seconds = -1 };
	struct drain_settings settings = { .policy = { .items = &all, .n = 1 }, .lead_seconds = 60, .margin_seconds = 3 };
	struct drain_now now = { .wall = UINT64_C(1649715000) * USEC_PER_SEC, .boot = 1000 * USEC_PER_SEC };
	struct events_document doc = { 0 };
	struct drain_core *core = NULL;
	struct error err = ERROR_INIT;

	if (events_parse((const char *)data, size, &doc, &err) < 0)
		return 0;
	if (drain_core_new(&settings, false, &core) < 0 || drain_core_set_self(core, "WestNO_0") < 0 ||
	    drain_core_boot(core, NULL, "boot", now) < 0)
		abort();
	for (int i = 0; i < 4; i++) {
		if (drain_core_document(core, &doc, now) < 0 || drain_core_timer(core, now) < 0)
			abort();
		take(core);
		now.wall += USEC_PER_HOUR;
		now.boot += USEC_PER_HOUR;
	}
	drain_core_free(core);
	events_done(&doc);
	return 0;
}

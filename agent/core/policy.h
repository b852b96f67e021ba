/* What the customer wants done about an event: the rules of drain.policy, first match wins. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/settings_drain.h"

struct policy_question {
	const char *type;
	const char *source;	  /* NULL: not said; then no rule with a source matches */
	int64_t duration_seconds; /* -1: unknown; then no rule with maxDuration matches */
	int64_t notice_seconds;	  /* from first sight to NotBefore; 0 when past or missing */
};

struct policy_decision {
	int action;	 /* enum policy_action */
	int acknowledge; /* enum policy_acknowledge, never ACKNOWLEDGE_DEFAULT */
};

/* Always an answer: without a matching rule, and for a type this version does not know: notify, never. */
struct policy_decision policy_decide(const struct drain_settings *settings, const struct policy_question *q);

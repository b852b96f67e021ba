/* The rules of drain.policy; the ones that stand when the customer gave none come with the settings. */
#include "agent/core/policy.h"

#include "agent/base/str.h"
#include "agent/core/events.h"

static bool names_type(const struct policy_rule *rule, const char *type)
{
	char *const *types = rule->types.items;

	for (size_t i = 0; i < rule->types.n; i++)
		if (str_equal_nocase(types[i], type))
			return true;
	return rule->types.n == 0;
}

static bool matches(const struct policy_rule *rule, const struct policy_question *q)
{
	return names_type(rule, q->type) && (!rule->source || str_equal_nocase(rule->source, q->source)) &&
	       (rule->max_duration_seconds < 0 ||
		(q->duration_seconds >= 0 && q->duration_seconds <= rule->max_duration_seconds)) &&
	       (rule->min_notice_seconds < 0 || q->notice_seconds >= rule->min_notice_seconds) &&
	       (rule->max_notice_seconds < 0 || q->notice_seconds <= rule->max_notice_seconds);
}

struct policy_decision policy_decide(const struct drain_settings *settings, const struct policy_question *q)
{
	static const struct policy_decision none = { POLICY_NOTIFY, ACKNOWLEDGE_NEVER };
	const struct policy_rule *rules = settings->policy.items;

	if (event_type_of(q->type) == EVENT_OTHER)
		return none;

	for (size_t i = 0; i < settings->policy.n; i++) {
		struct policy_decision d = { rules[i].action, rules[i].acknowledge };

		if (!matches(&rules[i], q))
			continue;
		if (d.acknowledge == ACKNOWLEDGE_DEFAULT && d.action == POLICY_DRAIN)
			d.acknowledge = ACKNOWLEDGE_WHEN_DRAINED;
		/* What is not drained for has no moment to wait for. */
		else if (d.acknowledge == ACKNOWLEDGE_DEFAULT ||
			 (d.acknowledge == ACKNOWLEDGE_WHEN_DRAINED && d.action != POLICY_DRAIN))
			d.acknowledge = ACKNOWLEDGE_NEVER;
		return d;
	}
	return none;
}

/* The platform's rules for trying again, as tables, and the arithmetic over them. */
#include "agent/core/retry.h"

#include <string.h>

#include "agent/base/str.h"
#include "agent/codec/timefmt.h"

#define SEC    USEC_PER_SEC
#define MINUTE USEC_PER_MINUTE

/* user-data.md A: what is documented, and what cloud-init, Ignition and azure-init retry. 404 is also what a VM gets
 * whose data is not there yet. 410 means that the service updates itself, for at most 70 s. */
/* clang-format off */
static const struct retry_rule imds_rules[] = {
	{   0,   0, RETRY_AFTER, 1 * SEC, 30 * SEC, 0 },
	{ 200, 299, RETRY_AFTER, 1 * SEC, 30 * SEC, 0 },
	{ 404, 404, RETRY_AFTER, 1 * SEC, 16 * SEC, 5 * MINUTE },
	{ 408, 408, RETRY_AFTER, 1 * SEC, 30 * SEC, 0 },
	{ 410, 410, RETRY_AFTER, 2 * SEC, 16 * SEC, 70 * SEC },
	{ 429, 429, RETRY_AFTER, 2 * SEC, 16 * SEC, 0 },
	{ 500, 599, RETRY_AFTER, 1 * SEC, 30 * SEC, 0 },
	{ -1 },
};
const struct retry_policy retry_imds = { "imds", imds_rules, 10, 60 * SEC };

/* key-vault.md C.1. 400 is not retried here: it names a wrong identity, or one that does not exist yet, which takes minutes. */
static const struct retry_rule identity_rules[] = {
	{   0,   0, RETRY_AFTER, 1 * SEC, 32 * SEC, 0 },
	{ 200, 299, RETRY_AFTER, 1 * SEC, 32 * SEC, 0 },
	{ 404, 404, RETRY_AFTER, 1 * SEC,  4 * SEC, 10 * SEC },
	{ 408, 408, RETRY_AFTER, 1 * SEC, 32 * SEC, 0 },
	{ 410, 410, RETRY_AFTER, 2 * SEC, 16 * SEC, 70 * SEC },
	{ 429, 429, RETRY_AFTER, 2 * SEC, 16 * SEC, 0 },
	{ 500, 599, RETRY_AFTER, 1 * SEC, 32 * SEC, 0 },
	{ -1 },
};
const struct retry_policy retry_identity = { "identity", identity_rules, 10, 60 * SEC };

/* key-vault.md B.4. A role assignment takes minutes to count, so 403 is asked again, slowly. 401 has had its fresh token. */
static const struct retry_rule vault_rules[] = {
	{   0,   0, RETRY_AFTER,  1 * SEC, 60 * SEC, 0 },
	{ 200, 299, RETRY_AFTER,  1 * SEC, 60 * SEC, 0 },
	{ 403, 403, RETRY_AFTER, 15 * SEC, 5 * MINUTE, 0 },
	{ 408, 408, RETRY_AFTER,  1 * SEC, 60 * SEC, 0 },
	{ 429, 429, RETRY_AFTER,  1 * SEC, 16 * SEC, 0 },
	{ 500, 599, RETRY_AFTER,  1 * SEC, 60 * SEC, 0 },
	{ -1 },
};
const struct retry_policy retry_vault = { "vault", vault_rules, 20, 10 * MINUTE };

/* scheduled-events.md. Polls never end: what the service does not understand is asked seldom, the rest soon, since a
 * Preempt gives 30 s. A caller that knows of an event caps the wait further. */
static const struct retry_rule events_rules[] = {
	{ 408, 408, RETRY_AFTER,  1 * SEC,  4 * SEC, 0 },
	{ 410, 410, RETRY_AFTER,  2 * SEC, 16 * SEC, 0 },
	{ 429, 429, RETRY_AFTER,  2 * SEC, 16 * SEC, 0 },
	{ 300, 499, RETRY_AFTER, 10 * SEC, 60 * SEC, 0 },
	{   0, 999, RETRY_AFTER,  1 * SEC,  4 * SEC, 0 },
	{ -1 },
};
const struct retry_policy retry_events = { "scheduled events", events_rules, 10, 16 * SEC };

static const struct retry_rule work_rules[] = {
	{ 0, 999, RETRY_AFTER, 10 * SEC, 5 * MINUTE, 0 },
	{ -1 },
};
const struct retry_policy retry_work = { "work", work_rules, 10, 15 * MINUTE };

/* News that is an hour old helps nobody. What is refused for good is dropped at once. */
static const struct retry_rule webhook_rules[] = {
	{   0,   0, RETRY_AFTER, 2 * SEC, 5 * MINUTE, 60 * MINUTE },
	{ 408, 408, RETRY_AFTER, 2 * SEC, 5 * MINUTE, 60 * MINUTE },
	{ 425, 425, RETRY_AFTER, 2 * SEC, 5 * MINUTE, 60 * MINUTE },
	{ 429, 429, RETRY_AFTER, 2 * SEC, 5 * MINUTE, 60 * MINUTE },
	{ 500, 599, RETRY_AFTER, 2 * SEC, 5 * MINUTE, 60 * MINUTE },
	{ -1 },
};
const struct retry_policy retry_webhook = { "webhook", webhook_rules, 20, 10 * MINUTE };
/* clang-format on */

static const struct retry_rule *find_rule(const struct retry_policy *p, int status)
{
	for (const struct retry_rule *r = p->rules; r->from >= 0; r++)
		if (status >= r->from && status <= r->to)
			return r;
	return NULL;
}

static usec_t backoff(const struct retry_rule *rule, unsigned attempts)
{
	usec_t wait = rule->first;

	for (unsigned i = 1; i < attempts && wait < rule->most; i++)
		wait = usec_add(wait, wait);
	return usec_min(wait, rule->most);
}

/* 0 … percent of the interval, evenly. */
static usec_t share(usec_t interval, unsigned percent, uint32_t random)
{
	usec_t span = interval / 100 * percent;

	return span / UINT32_MAX * random + span % UINT32_MAX * random / UINT32_MAX;
}

usec_t retry_jitter(usec_t interval, unsigned percent, uint32_t random)
{
	if (interval > USEC_INFINITY / 4 || percent > 100)
		return interval;
	return usec_sub(usec_add(interval, share(interval, 2 * percent, random)), interval / 100 * percent);
}

enum retry_verdict retry_failed(const struct retry_policy *p, struct retry_state *s, int status, usec_t retry_after,
				uint32_t random, usec_t now_boot, usec_t *ret_wait)
{
	const struct retry_rule *rule = find_rule(p, status);
	usec_t wait, left = USEC_INFINITY;

	if (s->attempts == 0)
		s->since = now_boot;
	if (s->attempts == 0 || s->rule != rule) {
		s->rule = rule;
		s->rule_since = now_boot;
	}
	if (s->attempts < UINT32_MAX)
		s->attempts++;
	if (!rule || rule->verdict == RETRY_NO)
		return RETRY_NO;
	if (rule->total)
		left = usec_sub(rule->total, usec_sub(now_boot, s->rule_since));
	if (left == 0)
		return RETRY_NO;
	if (retry_after) {
		wait = usec_min(retry_after, p->retry_after_most);
		wait = usec_add(wait, share(wait, p->jitter_percent, random));
	} else {
		wait = retry_jitter(backoff(rule, s->attempts), p->jitter_percent, random);
	}
	*ret_wait = usec_min(wait, left);
	return RETRY_AFTER;
}

void retry_succeeded(struct retry_state *s)
{
	*s = (struct retry_state){ .attempts = 0 };
}

usec_t retry_after_parse(const char *value, usec_t now_wall)
{
	uint64_t seconds;
	usec_t when;

	if (str_empty(value))
		return 0;
	if (str_to_u64(value, UINT64_MAX, &seconds))
		return usec_from_seconds(seconds);
	if (timefmt_parse(value, &when, NULL) < 0)
		return 0;
	return usec_sub(when, now_wall);
}

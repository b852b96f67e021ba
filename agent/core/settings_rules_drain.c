/* Rules across the members of drain. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

static bool matches_type(const struct policy_rule *r, const char *type)
{
	for (size_t i = 0; i < r->types.n; i++)
		if (str_equal(((char **)r->types.items)[i], type))
			return true;
	return r->types.n == 0;
}

static bool is_conditional(const struct policy_rule *r)
{
	return r->max_duration_seconds >= 0 || r->min_notice_seconds >= 0 || r->max_notice_seconds >= 0;
}

/* Is there an event of the type, asked for by a user, that a rule acknowledges? One that takes them all hides those after it. */
static bool acknowledges_user(const struct drain_settings *d, const char *type)
{
	const struct policy_rule *r = d->policy.items;

	for (size_t i = 0; i < d->policy.n; i++) {
		if (!matches_type(&r[i], type) || (r[i].source && !str_equal(r[i].source, "User")))
			continue;
		if (r[i].acknowledge == ACKNOWLEDGE_IMMEDIATELY ||
		    (r[i].acknowledge == ACKNOWLEDGE_WHEN_DRAINED && r[i].action == POLICY_DRAIN))
			return true;
		if (!is_conditional(&r[i]))
			return false;
	}
	return false;
}

/* Restarts that a user asked for wait for our acknowledgement; nobody should find out by waiting. */
static void warn_unacknowledged(struct settings_loader *l)
{
	const struct drain_settings *d = l->settings->drain;

	if (!acknowledges_user(d, "Reboot") && !acknowledges_user(d, "Redeploy"))
		settings_warning(l, SECTION_DRAIN, "drain.policy",
				 "acknowledges no event of source User; restarts from the portal then wait up to 15 minutes");
}

/* An eviction that is acknowledged comes at once. */
static void warn_early_preempt(struct settings_loader *l)
{
	const struct policy_rule *r = l->settings->drain->policy.items;

	for (size_t i = 0; i < l->settings->drain->policy.n; i++) {
		char path[48];

		if (!matches_type(&r[i], "Preempt"))
			continue;
		if (r[i].acknowledge == ACKNOWLEDGE_IMMEDIATELY) {
			(void)snprintf(path, sizeof(path), "drain.policy[%zu]", i);
			settings_warning(
				l, SECTION_DRAIN, path,
				"a Preempt is acknowledged before the VM is drained; the eviction then comes at once");
			return;
		}
		if (!r[i].source && !is_conditional(&r[i]))
			return;
	}
}

/* The leader acknowledges when the others are drained; it must be able to ask them. */
static void warn_leader(struct settings_loader *l)
{
	if (l->settings->drain->shared_events.acknowledge == SHARED_LEADER &&
	    str_empty(l->settings->drain->shared_events.peer_url))
		settings_warning(l, SECTION_DRAIN, "drain.sharedEvents.acknowledge",
				 "\"leader\" asks the other VMs by peerUrl; without it no event that is drained for is "
				 "acknowledged");
}

/* Time for the steps is what lies between. */
static void warn_lead(struct settings_loader *l)
{
	const struct drain_settings *d = l->settings->drain;

	if (d->lead_seconds <= d->margin_seconds)
		settings_warning(l, SECTION_DRAIN, "drain.leadInSeconds",
				 "is not more than marginInSeconds, so waits are skipped and steps have no more than their reserve");
}

static void judge_policy(struct settings_loader *l)
{
	const struct policy_rule *r = l->settings->drain->policy.items;

	for (size_t i = 0; i < l->settings->drain->policy.n; i++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "drain.policy[%zu].maxNoticeInSeconds", i);
		if (r[i].max_notice_seconds >= 0 && r[i].min_notice_seconds > r[i].max_notice_seconds)
			settings_error(l, SECTION_DRAIN, path,
				       "%" PRId64 " is less than minNoticeInSeconds %" PRId64 "; no event matches",
				       r[i].max_notice_seconds, r[i].min_notice_seconds);
		(void)snprintf(path, sizeof(path), "drain.policy[%zu].acknowledge", i);
		if (r[i].acknowledge == ACKNOWLEDGE_WHEN_DRAINED && r[i].action != POLICY_DRAIN)
			settings_warning(l, SECTION_DRAIN, path,
					 "\"whenDrained\" goes with action \"drain\"; events of this rule are never "
					 "acknowledged");
	}
}

static void judge_step(struct settings_loader *l, const struct step_settings *s, const char *path)
{
	char where[128];

	if (s->type == STEP_PROBE_DOWN && !(l->settings->health && l->settings->health->listen))
		settings_error(l, SECTION_DRAIN, path, "probeDown needs health.listen, which no door sets");
	if (s->timeout_seconds > 0 && s->reserve_seconds > s->timeout_seconds) {
		(void)snprintf(where, sizeof(where), "%s.reserveInSeconds", path);
		settings_error(l, SECTION_DRAIN, where, "%" PRId64 " is more than the step's timeout of %" PRId64 " s",
			       s->reserve_seconds, s->timeout_seconds);
	}
}

/* Names are unique among all steps, those of parallel steps too: results and units are found by name. Visits every
 * step before `stop`, in order; gives the path of the one that has the name. */
static bool name_taken(const struct jd_list *steps, const char *name, const struct step_settings *stop,
		       char path[static 64])
{
	const struct step_settings *s = steps->items;

	for (size_t i = 0; i < steps->n; i++) {
		const struct step_settings *inner = s[i].steps.items;

		if (&s[i] == stop)
			return false;
		if (str_equal(s[i].name, name)) {
			(void)snprintf(path, 64, "steps[%zu]", i);
			return true;
		}
		for (size_t k = 0; k < s[i].steps.n; k++) {
			if (&inner[k] == stop)
				return false;
			if (str_equal(inner[k].name, name)) {
				(void)snprintf(path, 64, "steps[%zu].steps[%zu]", i, k);
				return true;
			}
		}
	}
	return false;
}

static void judge_steps(struct settings_loader *l, const struct jd_list *steps, const char *prefix)
{
	const struct step_settings *s = steps->items;

	for (size_t i = 0; i < steps->n; i++) {
		char path[96], where[128], other[64];

		(void)snprintf(path, sizeof(path), "%.40s.steps[%zu]", prefix, i);
		judge_step(l, &s[i], path);
		if (name_taken(&l->settings->drain->steps, s[i].name, &s[i], other)) {
			(void)snprintf(where, sizeof(where), "%s.name", path);
			settings_error(l, SECTION_DRAIN, where, "\"%s\" is already the name of %s", s[i].name, other);
		}
		if (s[i].type == STEP_PARALLEL)
			judge_steps(l, &s[i].steps, path);
	}
}

/* The plan lays parallel steps flat and keeps a record of each. */
static void judge_count(struct settings_loader *l)
{
	const struct jd_list *steps = &l->settings->drain->steps;
	const struct step_settings *s = steps->items;
	size_t n = 0;

	for (size_t i = 0; i < steps->n; i++)
		n += s[i].type == STEP_PARALLEL ? s[i].steps.n : 1;
	if (n > LIMIT_LEDGER)
		settings_error(l, SECTION_DRAIN, "drain.steps", "at most %d steps, those of parallel included, got %zu",
			       LIMIT_LEDGER, n);
}

void settings_judge_drain(struct settings_loader *l)
{
	judge_count(l);
	judge_policy(l);
	judge_steps(l, &l->settings->drain->steps, "drain");
	warn_unacknowledged(l);
	warn_early_preempt(l);
	warn_leader(l);
	warn_lead(l);
}

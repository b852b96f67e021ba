/* What others are told of draining: notices to webhooks, and counts for who watches many VMs. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/metrics.h"
#include "agent/io/loop.h"
#include "handlers/drain/drain_private.h"

static const char *const result_names[] = {
	[DRAIN_CLEAN] = "clean",
	[DRAIN_INCOMPLETE] = "incomplete",
	[DRAIN_ABORTED] = "aborted",
};

static const struct drain_event *find_event(const struct drain_state *s, const char *id)
{
	for (size_t i = 0; id && i < s->events.n; i++)
		if (str_equal(drain_state_event(s, i)->id, id))
			return drain_state_event(s, i);
	return NULL;
}

/* The steps between two milestones are for who looks on. */
void drain_notify(const struct handler *h, const struct drain_action *a)
{
	static const enum notice_kind kinds[] = {
		[TOPIC_EVENT] = NOTICE_EVENT,	  [TOPIC_DRAIN] = NOTICE_DRAIN,	    [TOPIC_ACKNOWLEDGE] = NOTICE_ACKNOWLEDGE,
		[TOPIC_RESTORE] = NOTICE_RESTORE, [TOPIC_PROBLEM] = NOTICE_PROBLEM,
	};
	const struct drain_event *e = find_event(drain_core_state(h->core), a->event_id);

	if (a->milestone || a->level <= LOG_LEVEL_WARNING)
		h->host->tell(h->host, kinds[a->topic], a->event_id, e ? e->type : NULL, a->text);
}

/* ---- counting ---- */

static void count_phase(struct handler *h, const struct drain_state *s)
{
	usec_t now = loop_now_boot(h->host->loop);

	if (s->host == h->counted_phase)
		return;
	/* What began before this process did has no beginning here. */
	if (h->phase_since_boot && h->counted_phase != HOST_SERVING)
		metrics_observe(h->host->metrics, METRIC_PHASE_SECONDS,
				(double)usec_sub(now, h->phase_since_boot) / USEC_PER_SEC, host_state_names[h->counted_phase]);
	if (s->host == HOST_DRAINED)
		metrics_count(h->host->metrics, METRIC_DRAINS, result_names[s->result], NULL);
	h->counted_phase = s->host;
	h->phase_since_boot = now;
}

/* Those that are gone are forgotten with the next list. */
static void count_events(struct handler *h, const struct drain_state *s)
{
	_cleanup_strv_ char **known = calloc(s->events.n + 1, sizeof(*known));
	char **former = h->counted_events;

	for (size_t i = 0; known && i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);

		if (!strv_contains(former, e->id))
			metrics_count(h->host->metrics, METRIC_EVENTS_SEEN, e->type, e->source ? e->source : "");
		known[i] = strdup(e->id);
		if (!known[i])
			return;
	}
	if (!known)
		return;
	h->counted_events = TAKE_PTR(known);
	strv_free(former);
}

static bool same_events(const struct handler *h, const struct drain_state *s)
{
	if (strv_length(h->counted_events) != s->events.n)
		return false;
	for (size_t i = 0; i < s->events.n; i++)
		if (!str_equal(h->counted_events[i], drain_state_event(s, i)->id))
			return false;
	return true;
}

void drain_count(struct handler *h)
{
	const struct drain_state *s = drain_core_state(h->core);

	count_phase(h, s);
	if (!same_events(h, s))
		count_events(h, s);
}

void drain_count_acknowledgement(struct handler *h, const char *result, bool final)
{
	metrics_count(h->host->metrics, METRIC_ACKNOWLEDGEMENTS, result, NULL);
	if (!final)
		return;
	if (h->ack_since_boot)
		metrics_observe(h->host->metrics, METRIC_ACKNOWLEDGE_SECONDS,
				(double)usec_sub(loop_now_boot(h->host->loop), h->ack_since_boot) / USEC_PER_SEC, NULL);
	h->ack_since_boot = 0;
}

/* ---- what is true now ---- */

static const char *status_name(int status)
{
	return status == EVENT_SCHEDULED ? "Scheduled" : status == EVENT_STARTED ? "Started" : "other";
}

/* One series for each pair of type and status. */
static void measure_events(const struct drain_state *s, struct metrics *m)
{
	for (size_t i = 0; i < s->events.n; i++) {
		const struct drain_event *e = drain_state_event(s, i);
		unsigned n = 0;
		bool first = true;

		for (size_t k = 0; k < s->events.n; k++) {
			const struct drain_event *other = drain_state_event(s, k);

			if (!str_equal(other->type, e->type) || other->status != e->status)
				continue;
			first = first && k >= i;
			n++;
		}
		if (first)
			metrics_put(m, METRIC_EVENTS, n, e->type, status_name(e->status));
	}
}

void drain_measure(const struct handler *h, struct metrics *m)
{
	const struct drain_state *s = h->core ? drain_core_state(h->core) : NULL;

	if (!s)
		return;
	for (int i = 0; host_state_names[i]; i++)
		metrics_put(m, METRIC_DRAIN_PHASE, i == s->host, host_state_names[i], NULL);
	measure_events(s, m);
}

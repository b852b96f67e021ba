/*
 * What commands and hooks of a drain are told (evenkeel-hooks(7) is the contract):
 *
 *   EVENKEEL_PHASE                drain, or restore while a step is undone
 *   EVENKEEL_STEP                 name of the step
 *   EVENKEEL_STEP_TYPE            run, hooks or waitUntil
 *   EVENKEEL_ATTEMPT              1, more when the step is tried again; 0 while it is undone
 *   EVENKEEL_TIMEOUT_IN_SECONDS   until the step is ended
 *   EVENKEEL_REASON               the event's type, or the words of who asked for the drain; may be empty
 *   EVENKEEL_REHEARSAL            1 when nothing but a rehearsal is the reason, else 0
 * and when an event is the reason, the one that is due first:
 *   EVENKEEL_EVENT_ID, _TYPE, _SOURCE, _STATUS, _DESCRIPTION, _NOT_BEFORE, _DURATION_IN_SECONDS
 *
 * Standard input is one JSON object:
 *   {"version":1,"phase":"drain",
 *    "step":{"name":"stop-web","type":"run","attempt":1,"timeoutInSeconds":30},
 *    "events":[{"id":"…","type":"Reboot","source":"Platform","status":"Scheduled","description":"…",
 *               "notBefore":"2026-11-20T10:00:00Z","durationInSeconds":-1,"shared":false,"holds":true}],
 *    "holds":[{"kind":"operator","reason":"…"}],
 *    "units":["nginx.service"]}
 * "events" names this VM; "holds" in them: is a reason for this drain. "units" were active before the first step.
 * While a step is undone, reasons are what the drain was for, as seen last, also when it is gone.
 */
#include "handlers/drain/steps_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"

#define INPUT_MAX (128 * 1024)

/* How much is told of events when it would be too much. */
enum detail { DETAIL_NO_EVENTS, DETAIL_NO_DESCRIPTIONS, DETAIL_ALL };

static const char *status_of(const struct drain_event *e)
{
	if (e->status_text)
		return e->status_text;
	return e->status == EVENT_STARTED ? "Started" : "Scheduled";
}

static const char *text_of(const char *s)
{
	return s ? s : "";
}

/* ---- what there is to tell ---- */

struct reasons {
	const struct drain_event *events[LIMIT_EVENTS + LIMIT_FORMER];
	bool holds[LIMIT_EVENTS + LIMIT_FORMER];
	size_t n_events;
	const struct drain_hold *others[2 * _HOLD_KINDS];
	size_t n_others;
};

static void add_event(struct reasons *r, const struct drain_event *e, bool holds)
{
	for (size_t i = 0; i < r->n_events; i++)
		if (str_equal(r->events[i]->id, e->id)) {
			r->holds[i] = r->holds[i] || holds;
			return;
		}
	r->events[r->n_events] = e;
	r->holds[r->n_events++] = holds;
}

static struct reasons find_reasons(const struct drain_state *state, bool undo)
{
	struct reasons r = { .n_events = 0 };

	for (size_t i = 0; i < state->events.n && i < LIMIT_EVENTS; i++)
		add_event(&r, drain_state_event(state, i),
			  event_state_holds((enum event_state)drain_state_event(state, i)->state));
	for (size_t i = 0; undo && i < state->former_events.n && i < LIMIT_FORMER; i++)
		add_event(&r, drain_state_former_event(state, i), true);
	for (size_t i = 0; i < state->holds.n && i < _HOLD_KINDS; i++)
		r.others[r.n_others++] = drain_state_hold(state, i);
	for (size_t i = 0; undo && i < state->former_holds.n && i < _HOLD_KINDS; i++)
		r.others[r.n_others++] = drain_state_former_hold(state, i);
	return r;
}

/* The event that is the reason and is due first, or NULL. */
static const struct drain_event *first_event(const struct reasons *r)
{
	const struct drain_event *first = NULL;

	for (size_t i = 0; i < r->n_events; i++) {
		const struct drain_event *e = r->events[i];

		if (r->holds[i] && (!first || (e->not_before_wall && e->not_before_wall < first->not_before_wall)))
			first = e;
	}
	return first;
}

/* ---- environment ---- */

static int add_number(struct job *spec, const char *name, int64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%lld", (long long)value);
	return job_add_variable(spec, name, text);
}

static int tell_event(struct job *spec, const struct drain_event *e)
{
	char time[TIMEFMT_MAX];
	int r;

	r = job_add_variable(spec, "EVENKEEL_EVENT_ID", e->id);
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_EVENT_TYPE", e->type);
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_EVENT_SOURCE", text_of(e->source));
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_EVENT_STATUS", status_of(e));
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_EVENT_DESCRIPTION", text_of(e->description));
	r = r < 0 ? r : add_number(spec, "EVENKEEL_EVENT_DURATION_IN_SECONDS", e->duration_seconds);
	return r < 0 ? r :
		       job_add_variable(spec, "EVENKEEL_EVENT_NOT_BEFORE",
				    e->not_before_wall ? timefmt_utc(e->not_before_wall, time) : "");
}

static int64_t attempt_of(const struct drain_action *a, const struct drain_state *state)
{
	return a->undo || a->index >= state->ledger.n ? 0 : drain_state_step(state, a->index)->attempts;
}

static int64_t seconds_of(const struct drain_action *a)
{
	return (int64_t)((a->timeout_usec + USEC_PER_SEC - 1) / USEC_PER_SEC);
}

static int tell_environment(struct job *spec, const struct drain_action *a, const struct drain_state *state,
			    const struct reasons *reasons)
{
	const struct drain_event *event = first_event(reasons);
	const struct drain_hold *hold = reasons->n_others ? reasons->others[0] : NULL;
	bool rehearsal = hold && reasons->n_others == 1 && hold->kind == HOLD_REHEARSAL && !event;
	int r;

	r = job_add_variable(spec, "EVENKEEL_PHASE", a->undo ? "restore" : "drain");
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_STEP", a->step->name);
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_STEP_TYPE", step_type_names[a->step->type]);
	r = r < 0 ? r : add_number(spec, "EVENKEEL_ATTEMPT", attempt_of(a, state));
	r = r < 0 ? r : add_number(spec, "EVENKEEL_TIMEOUT_IN_SECONDS", seconds_of(a));
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_REASON", event ? event->type : hold ? text_of(hold->reason) : "");
	r = r < 0 ? r : job_add_variable(spec, "EVENKEEL_REHEARSAL", rehearsal ? "1" : "0");
	return r < 0 || !event ? r : tell_event(spec, event);
}

/* ---- standard input ---- */

static void put_text(struct buf *b, const char *before, const char *text)
{
	(void)buf_puts(b, before);
	(void)jd_quote(b, text_of(text), strlen(text_of(text)));
}

static void put_event(struct buf *b, const struct drain_event *e, bool holds, enum detail detail)
{
	char time[TIMEFMT_MAX];

	put_text(b, "{\"id\":", e->id);
	put_text(b, ",\"type\":", e->type);
	put_text(b, ",\"source\":", e->source);
	put_text(b, ",\"status\":", status_of(e));
	put_text(b, ",\"description\":", detail == DETAIL_ALL ? e->description : "");
	put_text(b, ",\"notBefore\":", e->not_before_wall ? timefmt_utc(e->not_before_wall, time) : "");
	(void)buf_printf(b, ",\"durationInSeconds\":%lld,\"shared\":%s,\"holds\":%s}", (long long)e->duration_seconds,
			 e->shared ? "true" : "false", holds ? "true" : "false");
}

static int put_input(struct buf *b, const struct drain_action *a, const struct drain_state *state,
		     const struct reasons *reasons, enum detail detail)
{
	char *const *units = state->snapshot.items;

	put_text(b, "{\"version\":1,\"phase\":", a->undo ? "restore" : "drain");
	put_text(b, ",\"step\":{\"name\":", a->step->name);
	put_text(b, ",\"type\":", step_type_names[a->step->type]);
	(void)buf_printf(b, ",\"attempt\":%lld,\"timeoutInSeconds\":%lld},\"events\":[", (long long)attempt_of(a, state),
			 (long long)seconds_of(a));
	for (size_t i = 0; detail > DETAIL_NO_EVENTS && i < reasons->n_events; i++) {
		(void)buf_puts(b, i ? "," : "");
		put_event(b, reasons->events[i], reasons->holds[i], detail);
	}
	(void)buf_puts(b, "],\"holds\":[");
	for (size_t i = 0; i < reasons->n_others; i++) {
		const struct drain_hold *h = reasons->others[i];

		put_text(b, i ? ",{\"kind\":" : "{\"kind\":", hold_kind_names[h->kind]);
		put_text(b, ",\"reason\":", h->reason);
		(void)buf_putc(b, '}');
	}
	(void)buf_puts(b, "],\"units\":[");
	for (size_t i = 0; i < state->snapshot.n; i++)
		put_text(b, i ? "," : "", units[i]);
	(void)buf_puts(b, "]}\n");
	return buf_ok(b);
}

int steps_tell(struct job *spec, const struct drain_action *a, const struct drain_state *state)
{
	const struct reasons reasons = find_reasons(state, a->undo);
	int r = tell_environment(spec, a, state, &reasons);

	for (int detail = DETAIL_ALL; r >= 0 && detail >= DETAIL_NO_EVENTS; detail--) {
		_cleanup_buf_ struct buf b = BUF_INIT(INPUT_MAX);

		r = put_input(&b, a, state, &reasons, (enum detail)detail);
		if (r >= 0) {
			spec->input = buf_take(&b);
			return 0;
		}
		if (r == -EFBIG && detail > DETAIL_NO_EVENTS)
			r = 0;
	}
	return r;
}

/*
 * Draining: the shell around core's drain machine. It polls Scheduled Events, carries the core's actions out in their
 * order, and brings results back as inputs. Every decision is the core's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/imds.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/drain_core.h"
#include "agent/core/drain_record.h"
#include "agent/core/drain_status.h"
#include "agent/core/exit_codes.h"
#include "agent/core/retry.h"
#include "agent/io/bus.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/common/handler.h"
#include "handlers/drain/steps.h"

/* scheduled-events.md: the first answer, which switches the service on, may take 2 minutes. */
#define FIRST_ANSWER_USEC (130 * USEC_PER_SEC)
#define ANSWER_USEC	  (10 * USEC_PER_SEC)
#define NAME_AGAIN_USEC	  (5 * USEC_PER_SEC)
#define MESSAGE_MAX	  600

struct handler {
	const struct handler_host *host;
	struct drain_core *core; /* NULL before the first apply() */
	struct drain_steps *steps;
	struct record *record;
	bool named;		 /* the core knows the name of this VM */

	/* The settings in force; NULL: no section. Borrowed from the goal. */
	const struct drain_settings *settings;
	bool health_checked;
	char *api_version; /* of the settings, or what the service asked for instead */

	struct imds_call *instance, *poll, *ack;
	struct loop_timer *poll_timer, *core_timer;
	struct retry_state poll_retry, name_retry;
	int64_t ack_token;
	bool answered;	/* the service has answered once */
	char trouble[MESSAGE_MAX]; /* of the last poll, or "" */
	bool fallback_told;

	/* The snapshot being taken. */
	struct bus_call *unit_call;
	char **units, **active;
	size_t unit_at, n_active;
	int64_t snapshot_token;

	bool running_actions;
};

static void run_actions(struct handler *h);
static void poll_again(struct handler *h, usec_t after);

static struct drain_now now_of(const struct handler *h)
{
	return (struct drain_now){ .wall = loop_now_wall(h->host->loop), .boot = loop_now_boot(h->host->loop) };
}

/* After every input: what the core wants done. An input that did not get through changes nothing, so it is said and the
 * next one (a poll, a timer) brings the same again. */
static void after_input(struct handler *h, int r, const char *input)
{
	if (r == -ENOMEM || r == -ENOBUFS)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "%s could not be taken in: %s", input, strerror(-r));
	run_actions(h);
}

/* ---- the record ---- */

static void persist(struct handler *h)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = drain_record_encode(drain_core_state(h->core), &text);

	if (r < 0)
		(void)error_errno(&e, r, "cannot encode the drain record");
	else
		r = record_save(h->record, text.data, text.len, &e);
	if (r < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "%s; draining goes on, but a restart would not know of it", e.msg);
	else if (r == 1 && !h->fallback_told)
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "the drain record is kept in %s: it is lost at a reboot",
			h->host->paths->run);
	h->fallback_told = r == 1;
}

/* A record that is damaged is not a reason to stand still, but it is said: what it knew is lost. */
static int load_record(struct handler *h, struct drain_state **ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = record_load(h->record, &text, NULL, &e);

	*ret = NULL;
	if (r == -EPROTO) {
		*err = e;
		return r;
	}
	if (r == 0)
		r = drain_record_decode(buf_str(&text), text.len, ret, &e);
	if (r < 0 && r != -ENOENT)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "%s; starting without it: look for units that are still stopped",
			e.msg);
	return 0;
}

/* ---- the snapshot ---- */

static void ask_unit(struct handler *h);

/* Files in the directories of hooks steps: each file has the step's timeout, so the budget counts them. */
static void count_hooks(struct handler *h, unsigned counts[static LIMIT_LEDGER])
{
	const struct drain_plan *plan = drain_core_state(h->core)->plan;

	for (size_t i = 0; plan && i < plan->steps.n; i++) {
		const struct step_settings *s = &drain_plan_step(plan, i)->settings;
		_cleanup_free_ char *directory = NULL;
		_cleanup_strv_ char **names = NULL;
		struct error ignored;

		if (s->type != STEP_HOOKS)
			continue;
		directory = path_under_root(h->host->paths, s->directory);
		if (directory && fs_list(directory, LIMIT_HOOKS, &names, &ignored) >= 0)
			counts[i] = (unsigned)strv_length(names);
	}
}

static void snapshot_taken(struct handler *h)
{
	unsigned hooks[LIMIT_LEDGER] = { 0 };
	int r;

	count_hooks(h, hooks);
	r = drain_core_snapshot_result(h->core, h->snapshot_token, (const char *const *)h->active, hooks, now_of(h));
	strv_free(TAKE_PTR(h->units));
	strv_free(TAKE_PTR(h->active));
	after_input(h, r, "the snapshot");
}

static void on_unit_state(const struct unit_state *state, void *userdata)
{
	struct handler *h = userdata;

	bus_call_free(TAKE_PTR(h->unit_call));
	if (state->result < 0) {
		log_for(LOG_LEVEL_WARNING, (.handler = "drain", .unit = h->units[h->unit_at]), "%s; it is left alone", state->detail);
	} else if (str_equal(state->active, "active") || str_equal(state->active, "activating") ||
		   str_equal(state->active, "reloading")) {
		h->active[h->n_active] = strdup(h->units[h->unit_at]);
		h->n_active += h->active[h->n_active] != NULL;
	}
	h->unit_at++;
	ask_unit(h);
}

static void ask_unit(struct handler *h)
{
	struct error e = ERROR_INIT;

	while (h->units[h->unit_at]) {
		if (h->host->bus &&
		    unit_get_state(h->host->bus, h->units[h->unit_at], on_unit_state, h, &h->unit_call, &e) == 0)
			return;
		log_for(LOG_LEVEL_WARNING, (.handler = "drain", .unit = h->units[h->unit_at]), "%s; it is left alone",
			h->host->bus ? e.msg : "no systemd manager answers");
		h->unit_at++;
	}
	snapshot_taken(h);
}

static int list_units(struct handler *h)
{
	const struct drain_plan *plan = drain_core_state(h->core)->plan;
	size_t n = 0, most = 0;

	for (size_t i = 0; plan && i < plan->steps.n; i++)
		most += drain_plan_step(plan, i)->settings.units.n;
	h->units = calloc(most + 1, sizeof(*h->units));
	h->active = calloc(most + 1, sizeof(*h->active));
	if (!h->units || !h->active)
		return -ENOMEM;
	for (size_t i = 0; plan && i < plan->steps.n; i++) {
		const struct step_settings *s = &drain_plan_step(plan, i)->settings;
		char *const *names = s->units.items;

		for (size_t k = 0; s->type == STEP_STOP_UNITS && k < s->units.n; k++) {
			h->units[n] = strdup(names[k]);
			if (!h->units[n++])
				return -ENOMEM;
		}
	}
	return 0;
}

static void take_snapshot(struct handler *h, int64_t token)
{
	h->snapshot_token = token;
	bus_call_free(TAKE_PTR(h->unit_call));
	strv_free(TAKE_PTR(h->units));
	strv_free(TAKE_PTR(h->active));
	h->unit_at = h->n_active = 0;
	if (list_units(h) < 0) {
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "out of memory while listing units; tried again with the next poll");
		return;
	}
	ask_unit(h);
}

/* ---- acknowledging ---- */

static void on_ack(const char *body, size_t len, const struct imds_failure *failure, void *userdata)
{
	struct handler *h = userdata;
	enum ack_outcome outcome = !failure	       ? ACK_OUTCOME_OK :
				   failure->status == 400 ? ACK_OUTCOME_BAD_REQUEST :
							    ACK_OUTCOME_RETRY;
	int r;

	(void)body;
	(void)len;
	if (failure)
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "acknowledging: %s", failure->err.msg);
	imds_call_free(TAKE_PTR(h->ack));
	r = drain_core_ack_result(h->core, h->ack_token, outcome, now_of(h));
	if (outcome == ACK_OUTCOME_BAD_REQUEST)
		poll_again(h, 0); /* the document is read anew before it is tried once more */
	after_input(h, r, "the acknowledgement's answer");
}

static void acknowledge(struct handler *h, const struct drain_action *a)
{
	struct error e = ERROR_INIT;

	imds_call_free(TAKE_PTR(h->ack));
	h->ack_token = a->token;
	if (imds_acknowledge(h->host->http, h->api_version, (const char *const *)a->ids, on_ack, h, &h->ack, &e) == 0)
		return;
	log_for(LOG_LEVEL_ERROR, (.handler = "drain", .event_id = a->ids[0]), "acknowledging: %s", e.msg);
	/* Answered as a failure in transit: the core tries again at its pace. */
	after_input(h, drain_core_ack_result(h->core, a->token, ACK_OUTCOME_RETRY, now_of(h)),
		    "an acknowledgement that did not go out");
}

/* ---- the core's actions ---- */

static void tell(const struct drain_action *a)
{
	log_for(a->level, (.handler = "drain", .event_id = a->event_id, .milestone = a->milestone), "%s", a->text);
}

static void set_target(struct handler *h, bool on)
{
	struct error e = ERROR_INIT;

	/* Nobody waits for it: units of others may hang on it. */
	if (h->host->bus && bus_unit_job(h->host->bus, on ? UNIT_START : UNIT_STOP, "evenkeel-drained.target", false, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "%s", e.msg);
}

static void begin_step(struct handler *h, const struct drain_action *a)
{
	log_for(LOG_LEVEL_INFO, (.handler = "drain"), "%s %s (at most %llu ms)%s", a->undo ? "undoing" : "step", a->step->name,
		(unsigned long long)(a->timeout_usec / USEC_PER_MSEC), a->attach ? ", taken up again" : "");
	if (drain_steps_begin(h->steps, a, drain_core_state(h->core)) < 0)
		after_input(h, drain_core_step_result(h->core, a->token, STEP_OUTCOME_FAILED, 0, "out of memory", now_of(h)),
			    "a step that could not be begun");
}

/* A step that an earlier process of ours began: a command left its job, units may have been stopped in any number, a request
 * may have arrived. */
static enum step_outcome outcome_of_former(struct handler *h, int64_t token)
{
	const struct drain_state *s = drain_core_state(h->core);

	for (size_t i = 0; i < s->ledger.n; i++)
		if (drain_state_step(s, i)->token == token &&
		    !drain_steps_leaves_trace((enum step_type)drain_plan_step(s->plan, i)->settings.type))
			return STEP_OUTCOME_CANCELLED;
	return STEP_OUTCOME_NEVER_BEGUN;
}

static void stop_step(struct handler *h, int64_t token)
{
	if (drain_steps_stop(h->steps, token) == -ENOENT)
		after_input(h, drain_core_step_result(h->core, token, outcome_of_former(h, token), 0, NULL, now_of(h)),
			    "a step's end");
}

static void carry_out(struct handler *h, const struct drain_action *a)
{
	switch (a->kind) {
	case DRAIN_PERSIST:
		persist(h);
		break;
	case DRAIN_TAKE_SNAPSHOT:
		take_snapshot(h, a->token);
		break;
	case DRAIN_BEGIN_STEP:
		begin_step(h, a);
		break;
	case DRAIN_SHORTEN_STEP:
		drain_steps_shorten(h->steps, a->token, a->timeout_usec);
		break;
	case DRAIN_STOP_STEP:
		stop_step(h, a->token);
		break;
	case DRAIN_ACKNOWLEDGE:
		acknowledge(h, a);
		break;
	case DRAIN_ASK_PEERS:
		/* Refused at apply(): a document that asks for it never gets here. */
		log_for(LOG_LEVEL_ERROR, (.handler = "drain", .event_id = a->event_id), "asking peers is not built yet");
		break;
	case DRAIN_PROBE:
		h->host->set_serving(h->host, a->on);
		break;
	case DRAIN_TARGET:
		set_target(h, a->on);
		break;
	case DRAIN_SET_TIMER:
		loop_timer_at(h->core_timer, a->at_boot);
		break;
	case DRAIN_PUT_BACK:
		drain_steps_put_back(h->steps, drain_core_state(h->core));
		break;
	case DRAIN_TELL:
		tell(a);
		break;
	}
}

/* Inputs that come while actions are carried out only add to the list: one loop takes them all. */
static void run_actions(struct handler *h)
{
	struct drain_action a;

	if (h->running_actions)
		return;
	h->running_actions = true;
	while (drain_core_next(h->core, &a)) {
		carry_out(h, &a);
		drain_action_done(&a);
	}
	h->running_actions = false;
	drain_steps_tidy(h->steps, drain_core_state(h->core));
	h->host->changed(h->host);
}

static void on_step_result(void *userdata, int64_t token, enum step_outcome outcome, int exit_code, const char *detail)
{
	struct handler *h = userdata;

	after_input(h, drain_core_step_result(h->core, token, outcome, exit_code, detail, now_of(h)), "a step's result");
}

static void on_core_timer(void *userdata)
{
	struct handler *h = userdata;

	after_input(h, drain_core_timer(h->core, now_of(h)), "a timer");
}

/* ---- polling ---- */

static void poll_again(struct handler *h, usec_t after)
{
	if (h->settings)
		loop_timer_after(h->poll_timer, after);
}

/* A 400 that lists newer versions is answered by using one of them (scheduled-events.md). */
static bool fall_back(struct handler *h, const struct imds_failure *f)
{
	if (f->status != 400 || !f->newest_version[0] || str_equal(f->newest_version, h->api_version))
		return false;
	log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "Scheduled Events do not know api-version %s; using %s", h->api_version,
		f->newest_version);
	return str_set(&h->api_version, f->newest_version) == 0;
}

static void poll_failed(struct handler *h, const struct imds_failure *f)
{
	usec_t wait = 0, hint;

	drain_core_poll_failed(h->core);
	if (!str_equal(h->trouble, f->err.msg))
		log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "%s", f->err.msg);
	(void)snprintf(h->trouble, sizeof(h->trouble), "%s", f->err.msg);
	if (fall_back(h, f)) {
		poll_again(h, 0);
		return;
	}
	/* The core knows how long it may look away (4 s while an event is known); a daemon never gives up. */
	hint = drain_core_poll_delay(h->core, now_of(h));
	(void)retry_failed(&retry_events, &h->poll_retry, f->status, f->retry_after, 0, loop_now_boot(h->host->loop), &wait);
	poll_again(h, usec_max(hint, h->poll_retry.attempts > 1 && hint >= 4 * USEC_PER_SEC ? wait : hint));
}

static void on_events(const char *body, size_t len, const struct imds_failure *failure, void *userdata)
{
	struct handler *h = userdata;
	struct events_document doc = { 0 };
	struct imds_failure malformed = { 0 };
	int r;

	if (failure) {
		const struct imds_failure f = *failure;

		imds_call_free(TAKE_PTR(h->poll));
		poll_failed(h, &f);
		return;
	}
	r = events_parse(body, len, &doc, &malformed.err);
	imds_call_free(TAKE_PTR(h->poll));
	if (r < 0) {
		malformed.status = 200;
		poll_failed(h, &malformed);
		return;
	}
	if (h->trouble[0])
		log_for(LOG_LEVEL_INFO, (.handler = "drain"), "Scheduled Events answer again");
	h->trouble[0] = '\0';
	h->answered = true;
	retry_succeeded(&h->poll_retry);
	r = drain_core_document(h->core, &doc, now_of(h));
	events_done(&doc);
	after_input(h, r, "a document");
	poll_again(h, drain_core_poll_delay(h->core, now_of(h)));
}

static void on_instance(const struct imds_instance *instance, const struct imds_failure *failure, void *userdata);

static void on_poll(void *userdata)
{
	struct handler *h = userdata;
	struct error e = ERROR_INIT;
	int r;

	if (!h->settings || !h->core || h->poll || h->instance)
		return;
	if (!h->named)
		r = imds_get_instance(h->host->http, on_instance, h, &h->instance, &e);
	else
		r = imds_get_events(h->host->http, h->api_version, h->answered ? ANSWER_USEC : FIRST_ANSWER_USEC, on_events, h,
				    &h->poll, &e);
	if (r < 0) {
		(void)snprintf(h->trouble, sizeof(h->trouble), "%s", e.msg);
		poll_again(h, NAME_AGAIN_USEC);
	}
}

/* ---- the core's life ---- */

static int open_core(struct handler *h, struct error *err)
{
	_cleanup_(drain_state_freep) struct drain_state *state = NULL;
	int r = load_record(h, &state, err);

	if (r < 0)
		return r;
	if (!state)
		drain_steps_forget_all(h->steps);
	r = drain_core_new(h->settings, h->health_checked, &h->core);
	if (r >= 0) {
		r = drain_core_boot(h->core, state, h->host->boot_id, now_of(h));
		if (r >= 0)
			TAKE_PTR(state);
	}
	if (r >= 0)
		r = drain_core_health(h->core, h->host->application_healthy(h->host), now_of(h));
	if (r < 0) {
		drain_core_free(TAKE_PTR(h->core));
		return error_errno(err, r, "the drain record cannot be taken up");
	}
	run_actions(h);
	return 0;
}

static void on_instance(const struct imds_instance *instance, const struct imds_failure *failure, void *userdata)
{
	struct handler *h = userdata;
	usec_t wait = NAME_AGAIN_USEC;

	if (instance && !str_empty(instance->name) && drain_core_set_self(h->core, instance->name) == 0) {
		h->named = true;
		h->trouble[0] = '\0';
	} else {
		(void)snprintf(h->trouble, sizeof(h->trouble), "the name of this VM is not known yet: %s",
			       failure ? failure->err.msg : "the metadata service left it empty");
		if (failure &&
		    retry_failed(&retry_imds, &h->name_retry, failure->status, failure->retry_after, 0,
				 loop_now_boot(h->host->loop), &wait) != RETRY_AFTER)
			wait = NAME_AGAIN_USEC;
	}
	imds_call_free(TAKE_PTR(h->instance));
	h->host->changed(h->host);
	poll_again(h, h->named ? 0 : wait);
}

/* ---- the handler ---- */

static void drain_free(struct handler *h)
{
	if (!h)
		return;
	imds_call_free(h->instance);
	imds_call_free(h->poll);
	imds_call_free(h->ack);
	bus_call_free(h->unit_call);
	strv_free(h->units);
	strv_free(h->active);
	drain_steps_free(h->steps);
	drain_core_free(h->core);
	record_close(h->record);
	loop_timer_free(h->poll_timer);
	loop_timer_free(h->core_timer);
	free(h->api_version);
	free(h);
}

DEFINE_CLEANUP(struct handler *, drain_free)

static int drain_start(const struct handler_host *host, struct handler **ret, struct error *err)
{
	_cleanup_(drain_freep) struct handler *h = calloc(1, sizeof(*h));
	_cleanup_free_ char *path = path_join(host->paths->records, "drain");
	_cleanup_free_ char *fallback = path_join(host->paths->run, "drain");
	int r;

	if (!h || !path || !fallback)
		return error_oom(err);
	h->host = host;
	r = record_open(path, fallback, LIMIT_RECORD, DRAIN_RECORD_VERSION, &h->record, err);
	if (r >= 0)
		r = drain_steps_new(host, on_step_result, h, &h->steps, err);
	if (r < 0)
		return r;
	if (loop_timer_new(host->loop, "events-poll", on_poll, h, &h->poll_timer) < 0 ||
	    loop_timer_new(host->loop, "drain-core", on_core_timer, h, &h->core_timer) < 0)
		return error_oom(err);
	*ret = TAKE_PTR(h);
	return 0;
}

/* What a document may ask for and this version, or this machine, cannot do: told before it is needed. */
static int check_built(const struct drain_steps *steps, const struct drain_settings *s, struct error *err)
{
	int r = drain_steps_check(steps, s, err);

	if (r < 0)
		return r;
	if (s->shutdown)
		return error_set(err, ERROR_USER, -ENOTSUP, "drain.shutdown: is accepted but not carried out by this version");
	if (!str_empty(s->shared_events.peer_url))
		return error_set(err, ERROR_USER, -ENOTSUP,
				 "drain.sharedEvents.peerUrl: is accepted but not carried out by this version");
	return 0;
}

/* The core goes on with the former section while the record has something to restore, also when the section is gone. */
static int drain_apply(struct handler *h, const struct handler_goal *goal, struct error *err)
{
	struct error e = ERROR_INIT;
	int r = 0;

	if (drain_steps_settings(h->steps, goal->settings, h->core && drain_core_state(h->core)->plan) < 0)
		return error_oom(err);
	h->settings = goal->settings->drain;
	h->health_checked = goal->settings->health && goal->settings->health->application;
	if (h->settings && str_set(&h->api_version, h->settings->api_version) < 0)
		return error_oom(err);
	if (h->core)
		after_input(h, drain_core_reload(h->core, h->settings, h->health_checked, now_of(h)), "the new settings");
	else
		r = open_core(h, err);
	if (!h->settings) {
		loop_timer_stop(h->poll_timer);
		imds_call_free(TAKE_PTR(h->poll));
		h->trouble[0] = '\0';
	} else if (!h->poll && !h->instance) {
		poll_again(h, 0);
	}
	if (r >= 0 && h->settings && check_built(h->steps, h->settings, &e) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "%s", e.msg);
	return r;
}

static enum status_level level_of(enum drain_level l)
{
	static const enum status_level levels[] = {
		[DRAIN_LEVEL_SUCCESS] = STATUS_SUCCESS,
		[DRAIN_LEVEL_TRANSITIONING] = STATUS_TRANSITIONING,
		[DRAIN_LEVEL_WARNING] = STATUS_WARNING,
		[DRAIN_LEVEL_ERROR] = STATUS_ERROR,
	};

	return levels[l];
}

static int drain_report(struct handler *h, handler_report_fn add, void *userdata)
{
	struct component c = { .name = "drain", .level = STATUS_TRANSITIONING };
	struct drain_status s;
	struct error e = ERROR_INIT;
	char message[2 * MESSAGE_MAX + 16];

	if (h->core)
		drain_status_get(h->core, now_of(h), &s);
	if (!h->settings && (!h->core || s.phase == HOST_SERVING))
		return 0;
	c.message = message;
	if (h->settings && check_built(h->steps, h->settings, &e) < 0) {
		c.level = STATUS_ERROR;
		c.code = CODE_BAD_CONFIGURATION;
		(void)snprintf(message, sizeof(message), "%s%s%s", e.msg, h->core ? "; " : "", h->core ? s.sentence : "");
	} else if (!h->core || (!h->named && s.phase == HOST_SERVING)) {
		(void)snprintf(message, sizeof(message), "%s",
			       h->trouble[0] ? h->trouble : "asking the metadata service for the name of this VM");
	} else {
		c.level = level_of(s.level);
		(void)snprintf(message, sizeof(message), "%s%s%s", s.sentence, h->trouble[0] ? "; " : "", h->trouble);
		if (h->trouble[0] && c.level == STATUS_SUCCESS)
			c.level = STATUS_WARNING;
	}
	return add(userdata, &c);
}

static bool drain_busy(const struct handler *h)
{
	struct drain_status s;

	if (!h->core)
		return false;
	drain_status_get(h->core, now_of(h), &s);
	/* Degraded is as far as it gets by itself: what cannot be started is said, and nobody is kept waiting. */
	return s.phase != HOST_SERVING && s.phase != HOST_DEGRADED;
}

static void drain_health_changed(struct handler *h, bool healthy)
{
	if (h->core)
		after_input(h, drain_core_health(h->core, healthy, now_of(h)), "the application's health");
}

static void drain_retire(struct handler *h)
{
	h->settings = NULL;
	loop_timer_stop(h->poll_timer);
	imds_call_free(TAKE_PTR(h->poll));
	if (h->core)
		after_input(h, drain_core_reload(h->core, NULL, false, now_of(h)), "the retirement");
}

/* ---- orders ---- */

static int order_drain(struct handler *h, const char *reason, struct buf *reply, struct error *err)
{
	int r = drain_core_hold(h->core, HOLD_OPERATOR, str_empty(reason) ? "an operator" : reason, 0, 0, now_of(h));

	after_input(h, r, "the order to drain");
	if (r == -ENOTSUP)
		return error_set(err, ERROR_USER, r, "there is no drain section in the settings, so there are no steps to drain by");
	if (r < 0)
		return error_errno(err, r, "the order to drain");
	return buf_puts(reply, "draining; evenkeel restore ends it");
}

static int order_restore(struct handler *h, bool force, struct buf *reply, struct error *err)
{
	int r = drain_core_restore(h->core, force, now_of(h));

	after_input(h, r, "the order to restore");
	if (r < 0)
		return error_errno(err, r, "the order to restore");
	return buf_puts(reply, r == DRAIN_STILL_HELD ? "an event still holds this VM drained; evenkeel restore --force lets go of it" :
						       "restoring what was drained");
}

static int order_acknowledge(struct handler *h, const char *event_id, struct buf *reply, struct error *err)
{
	int r = drain_core_acknowledge(h->core, event_id, now_of(h));

	after_input(h, r, "the order to acknowledge");
	if (r == -ENOENT)
		return error_set(err, ERROR_USER, r, "no event \"%s\" is known; evenkeel status names those that are", event_id);
	if (r == -EALREADY)
		return error_set(err, ERROR_USER, r, "the event %s has started, or is acknowledged already", event_id);
	if (r < 0)
		return error_errno(err, r, "the order to acknowledge %s", event_id);
	return buf_printf(reply, "acknowledging %s", event_id);
}

static int drain_operate(struct handler *h, const char *order, const char *argument, struct buf *reply, struct error *err)
{
	if (!h->core)
		return error_set(err, ERROR_TRANSIENT, -EAGAIN, "draining is not set up yet; try again in a moment");
	if (str_equal(order, "drain"))
		return order_drain(h, argument, reply, err);
	if (str_equal(order, "restore"))
		return order_restore(h, str_equal(argument, "force"), reply, err);
	if (str_equal(order, "ack"))
		return order_acknowledge(h, argument, reply, err);
	return error_set(err, ERROR_USER, -EOPNOTSUPP, "no such order: %s", order);
}

const struct handler_class drain_class = {
	.name = "drain",
	.section = SECTION_DRAIN,
	.start = drain_start,
	.apply = drain_apply,
	.report = drain_report,
	.busy = drain_busy,
	.health_changed = drain_health_changed,
	.operate = drain_operate,
	.retire = drain_retire,
	.free = drain_free,
};

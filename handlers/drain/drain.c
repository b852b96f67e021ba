/*
 * Draining: the shell around core's drain machine. It brings what is watched, answered and ordered to the core as inputs, and
 * actions.c carries out what that wants done. Every decision is the core's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/azure/imds.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/drain_core.h"
#include "agent/core/drain_record.h"
#include "agent/core/drain_status.h"
#include "agent/core/exit_codes.h"
#include "agent/io/bus.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"
#include "agent/io/record.h"
#include "handlers/common/handler.h"
#include "handlers/drain/drain_private.h"
#include "handlers/drain/guard.h"
#include "handlers/drain/peers.h"
#include "handlers/drain/steps.h"
#include "handlers/drain/watch.h"

#define MESSAGE_MAX 600

struct drain_now drain_now(const struct handler *h)
{
	return (struct drain_now){ .wall = loop_now_wall(h->host->loop), .boot = loop_now_boot(h->host->loop) };
}

/* ---- what comes in ---- */

static void on_step_result(void *userdata, int64_t token, enum step_outcome outcome, int exit_code, const char *detail)
{
	struct handler *h = userdata;

	drain_after_input(h, drain_core_step_result(h->core, token, outcome, exit_code, detail, drain_now(h)),
			  "a step's result");
}

static void on_core_timer(void *userdata)
{
	struct handler *h = userdata;

	drain_after_input(h, drain_core_timer(h->core, drain_now(h)), "a timer");
}

static int on_name(void *userdata, const char *name)
{
	struct handler *h = userdata;

	return drain_core_set_self(h->core, name);
}

static void on_document(void *userdata, const struct events_document *doc)
{
	struct handler *h = userdata;

	drain_after_poll(h, drain_core_document(h->core, doc, drain_now(h)));
}

static usec_t on_pause(void *userdata, usec_t *ret_most)
{
	struct handler *h = userdata;

	return drain_core_poll_delay(h->core, drain_now(h), ret_most);
}

static const struct watch_client watch_client = {
	.name = on_name,
	.document = on_document,
	.pause = on_pause,
};

static void on_peers(void *userdata, bool drained, const char *why)
{
	struct handler *h = userdata;

	if (!drained)
		log_for(LOG_LEVEL_INFO, (.handler = "drain"), "not acknowledged yet: %s", why);
	drain_after_input(h, drain_core_peers_result(h->core, h->peers_token, drained, drain_now(h)),
			  "what other VMs say");
}

static bool has_hold(const struct handler *h, enum hold_kind kind)
{
	const struct drain_state *s = drain_core_state(h->core);

	for (size_t i = 0; i < s->holds.n; i++)
		if (drain_state_hold(s, i)->kind == (int)kind)
			return true;
	return false;
}

/* Also told when nothing is new: a record may have a hold of a shutdown that was called off while we were away. */
static void on_shutdown(void *userdata, bool preparing)
{
	struct handler *h = userdata;
	int r;

	if (!h->core || preparing == has_hold(h, HOLD_SHUTDOWN))
		return;
	/* Nobody has asked for a drain; who wants one before the shutdown orders it. */
	if (preparing && handler_paused(h->host)) {
		drain_say(h, LOG_LEVEL_WARNING, NULL, true, "the machine shuts down during a pause: it is not drained");
		guard_let_go(h->guard);
		return;
	}
	if (preparing)
		r = drain_core_hold(h->core, HOLD_SHUTDOWN, NULL, guard_delay(h->guard), 0, drain_now(h));
	else
		r = drain_core_release(h->core, HOLD_SHUTDOWN, drain_now(h));
	/* Where nothing will be drained nothing is waited for: without a section, or when the boot is not over yet. */
	if (preparing && (r < 0 || drain_core_boot_pending(h->core)))
		guard_let_go(h->guard);
	drain_after_input(h, r, preparing ? "a shutdown" : "a shutdown that was called off");
}

/* ---- the core's life ---- */

/* A record that is damaged is not a reason to stand still, but it is said: what it knew is lost. */
static int load_record(struct handler *h, struct drain_state **ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_RECORD);
	struct error e = ERROR_INIT;
	int r = record_load(h->record, &text, NULL, &e);

	*ret = NULL;
	if (r == 0)
		r = drain_record_decode(buf_str(&text), text.len, ret, &e);
	if (r == -EPROTO) {
		*err = e;
		return r;
	}
	if (r < 0 && r != -ENOENT)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"),
			"%s; starting without it: look for units that are still stopped", e.msg);
	return 0;
}

static int open_core(struct handler *h, struct error *err)
{
	_cleanup_(drain_state_freep) struct drain_state *state = TAKE_PTR(h->found);
	int r;

	if (!state)
		drain_steps_forget_all(h->steps);
	r = drain_core_new(h->settings, h->health_checked, &h->core);
	if (r >= 0)
		r = drain_core_pause(h->core, handler_paused(h->host), drain_now(h));
	if (r >= 0) {
		r = drain_core_boot(h->core, state, h->host->boot_id, drain_now(h));
		if (r >= 0)
			TAKE_PTR(state);
	}
	if (r >= 0)
		r = drain_core_health(h->core, h->host->application_healthy(h->host), drain_now(h));
	if (r < 0) {
		drain_core_free(TAKE_PTR(h->core));
		return error_errno(err, r, "the drain record cannot be taken up");
	}
	drain_run_actions(h);
	return 0;
}

/* ---- the handler ---- */

static void drain_free(struct handler *h)
{
	if (!h)
		return;
	watch_free(h->watch);
	peers_free(h->peers);
	guard_free(h->guard);
	rehearsal_close(h);
	imds_call_free(h->ack);
	drain_drop_snapshot(h);
	drain_steps_free(h->steps);
	drain_core_free(h->core);
	drain_state_free(h->found);
	record_close(h->record);
	loop_timer_free(h->core_timer);
	strv_free(h->counted_events);
	for (size_t i = 0; i < TOLD_MAX; i++)
		free(h->told[i].text);
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
		r = load_record(h, &h->found, err);
	if (r >= 0)
		r = drain_steps_new(host, on_step_result, h, &h->steps, err);
	if (r >= 0)
		r = watch_new(host, &watch_client, h, &h->watch, err);
	if (r >= 0)
		r = guard_new(host, on_shutdown, h, &h->guard, err);
	if (r < 0)
		return r;
	if (peers_new(host->http, on_peers, h, &h->peers) < 0 || rehearsal_open(h) < 0 ||
	    loop_timer_new(host->loop, "drain-core", on_core_timer, h, &h->core_timer) < 0)
		return error_oom(err);
	*ret = TAKE_PTR(h);
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
	if (h->core)
		drain_after_input(h, drain_core_reload(h->core, h->settings, h->health_checked, drain_now(h)),
				  "the new settings");
	else
		r = open_core(h, err);
	if (r < 0)
		return r;
	guard_apply(h->guard, h->settings ? h->settings->shutdown : NULL);
	if (!h->settings) {
		watch_stop(h->watch);
		peers_stop(h->peers);
	} else if (watch_start(h->watch, h->settings->api_version) < 0) {
		return error_oom(err);
	}
	if (r >= 0 && h->settings && drain_steps_check(h->host->paths, h->settings, &e) < 0)
		log_for(LOG_LEVEL_ERROR, (.handler = "drain"), "a drain would not succeed: %s", e.msg);
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
	const char *trouble = watch_trouble(h->watch);
	char message[3 * MESSAGE_MAX + 16], shutdown[MESSAGE_MAX];

	if (h->core)
		drain_status_get(h->core, drain_now(h), &s);
	if (!h->settings && (!h->core || s.phase == HOST_SERVING))
		return 0;
	c.message = message;
	if (h->settings && drain_steps_check(h->host->paths, h->settings, &e) < 0) {
		c.level = STATUS_ERROR;
		c.code = CODE_BAD_CONFIGURATION;
		(void)snprintf(message, sizeof(message), "%s%s%s", e.msg, h->core ? "; " : "",
			       h->core ? s.sentence : "");
	} else if (!h->core || (!watch_named(h->watch) && s.phase == HOST_SERVING)) {
		(void)snprintf(message, sizeof(message), "%s",
			       trouble[0] ? trouble : "asking the metadata service for the name of this VM");
	} else {
		(void)guard_trouble(h->guard, shutdown, sizeof(shutdown));
		c.level = level_of(s.level);
		(void)snprintf(message, sizeof(message), "%s%s%s%s%s", s.sentence, trouble[0] ? "; " : "", trouble,
			       shutdown[0] ? "; " : "", shutdown);
		if ((trouble[0] || shutdown[0]) && c.level == STATUS_SUCCESS)
			c.level = STATUS_WARNING;
	}
	return add(userdata, &c);
}

static bool drain_busy(const struct handler *h)
{
	struct drain_status s;

	if (!h->core)
		return false;
	drain_status_get(h->core, drain_now(h), &s);
	if (guard_busy(h->guard))
		return true;
	/* Degraded is as far as it gets by itself: what cannot be started is said, and nobody is kept waiting. */
	return s.phase != HOST_SERVING && s.phase != HOST_DEGRADED;
}

static void drain_health_changed(struct handler *h, bool healthy)
{
	if (h->core)
		drain_after_input(h, drain_core_health(h->core, healthy, drain_now(h)), "the application's health");
}

static void drain_pause_changed(struct handler *h)
{
	if (h->core)
		drain_after_input(h, drain_core_pause(h->core, handler_paused(h->host), drain_now(h)), "a pause");
}

static void drain_retire(struct handler *h)
{
	h->settings = NULL;
	watch_stop(h->watch);
	peers_stop(h->peers);
	guard_apply(h->guard, NULL);
	if (h->core)
		drain_after_input(h, drain_core_reload(h->core, NULL, false, drain_now(h)), "the retirement");
}

static int drain_check(const struct paths *paths, const struct settings *settings, struct error *err)
{
	return settings->drain ? drain_steps_check(paths, settings->drain, err) : 0;
}

const struct handler_class drain_class = {
	.name = "drain",
	.section = SECTION_DRAIN,
	.check = drain_check,
	.start = drain_start,
	.apply = drain_apply,
	.report = drain_report,
	.busy = drain_busy,
	.health_changed = drain_health_changed,
	.pause_changed = drain_pause_changed,
	.operate = drain_operate,
	.look = drain_look,
	.measure = drain_measure,
	.retire = drain_retire,
	.free = drain_free,
};

/*
 * Readiness: /ready for the load balancer's probe (503 unless serving, healthy and everything of readyAfter is done),
 * /app-health for the Application Health extension, where a drain is not ill health (else the platform replaces the VM),
 * and /drained for the other VMs of a shared event (drain.sharedEvents.peerUrl): 200 and "drained", else 503.
 * The application itself is asked over HTTP, by connecting, or by its unit's state.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/daemon_private.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/core/exit_codes.h"
#include "agent/io/bus.h"
#include "agent/io/http.h"
#include "agent/io/listener.h"
#include "agent/io/loop.h"

#define MESSAGE_MAX 600
/* While /ready waits for the application only, it is asked this often, and no longer than this. */
#define HURRY_USEC     (500 * USEC_PER_MSEC)
#define HURRY_MAX_USEC (2 * USEC_PER_MINUTE)

struct health {
	struct daemon *daemon;

	/* The application's check: one at a time. */
	struct loop_timer *next;
	struct http_call *http;
	struct bus_call *bus;
	const struct health_application *application;
	unsigned failures; /* in a row */
	bool healthy;	   /* from the first good answer until there are too many failures */
	bool asked;	   /* at least one answer */
	bool been_well;	   /* since the machine started, over restarts of the service */
	char *been_well_file;
	usec_t counted_boot; /* when the last failure was counted: one in each interval, however often it is asked */
	usec_t hurry_boot;   /* until then somebody waits for the first good answer */
	char last_failure[MESSAGE_MAX];
};

/* ---- the application ---- */

bool health_application_ok(const struct health *h)
{
	return !h->application || h->healthy;
}

/* The record of it is of this boot, or not there. */
static int read_been_well(struct health *h, struct error *err)
{
	_cleanup_buf_ struct buf boot = BUF_INIT(MACHINE_ID_MAX);

	h->been_well_file = path_join(h->daemon->paths.run, "application-well");
	if (!h->been_well_file)
		return error_oom(err);
	h->been_well = fs_read_nofollow(h->been_well_file, MACHINE_ID_MAX, &boot, NULL) >= 0 &&
		       str_equal(buf_str(&boot), h->daemon->boot_id);
	return 0;
}

static void note_been_well(struct health *h)
{
	const char *boot_id = h->daemon->boot_id;
	struct error e = ERROR_INIT;

	if (h->been_well)
		return;
	h->been_well = true;
	if (fs_write(h->been_well_file, boot_id, strlen(boot_id), 0600, FS_NO_SYNC, &e) < 0)
		log_debug("%s", e.msg);
}

static bool is_busy(const struct daemon *d, const struct handler_class *class)
{
	for (size_t i = 0; i < HANDLERS; i++)
		if (handler_classes[i] == class && d->slots[i].handler)
			return d->slots[i].class->busy(d->slots[i].handler);
	return false;
}

/* For the platform, which replaces what is unhealthy: one that we have stopped for a drain is not. One that has yet to begin,
 * because its scripts still deploy it, is neither well nor ill: the Application Health extension takes a state that is neither
 * for its own Initializing while its grace period lasts, and for Unknown, which counts as ill, afterwards. */
static const char *platform_state(const struct health *h)
{
	if (!h->application || is_busy(h->daemon, &drain_class))
		return "Healthy";
	if (!h->been_well)
		return "Initializing";
	return h->failures >= h->application->unhealthy_threshold ? "Unhealthy" : "Healthy";
}

static void tell_handlers(struct daemon *d, bool healthy)
{
	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].class->health_changed)
			d->slots[i].class->health_changed(d->slots[i].handler, healthy);
	daemon_changed(d);
}

static void settle(struct health *h, bool ok, const char *why)
{
	bool before = health_application_ok(h);
	usec_t interval = usec_from_seconds((uint64_t)h->application->interval_seconds);
	usec_t now = loop_now_boot(h->daemon->loop);

	if (ok) {
		h->failures = 0;
		note_been_well(h);
	} else if (h->failures == 0 || now >= usec_add(h->counted_boot, interval)) {
		h->failures++;
		h->counted_boot = now;
	}
	h->healthy = ok || (h->healthy && h->failures < h->application->unhealthy_threshold);
	h->asked = true;
	(void)snprintf(h->last_failure, sizeof(h->last_failure), "%s", ok ? "" : why);
	if (before != health_application_ok(h)) {
		log_for(before ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, (.handler = "health"), "the application is %s%s",
			before ? "unhealthy: " : "healthy", before ? why : "");
		tell_handlers(h->daemon, !before);
	}
	loop_timer_after(h->next, !h->healthy && now < h->hurry_boot ? usec_min(HURRY_USEC, interval) : interval);
}

static void on_http(const struct http_response *resp, void *userdata)
{
	struct health *h = userdata;
	char why[MESSAGE_MAX];
	bool ok = resp->result == 0 && resp->status >= 200 && resp->status < 400;

	if (resp->result < 0)
		(void)snprintf(why, sizeof(why), "%s: %s", h->application->http, resp->detail);
	else
		(void)snprintf(why, sizeof(why), "%s answered %ld", h->application->http, resp->status);
	settle(h, ok, why);
}

static void on_unit(const struct unit_state *state, void *userdata)
{
	struct health *h = userdata;
	char why[MESSAGE_MAX];

	if (state->result < 0)
		(void)snprintf(why, sizeof(why), "%s", state->detail);
	else
		(void)snprintf(why, sizeof(why), "%s is %s", h->application->unit, state->active);
	settle(h, state->result == 0 && str_equal(state->active, "active"), why);
}

/* A TCP check is an HTTP call that may be answered with anything: only the connection counts. */
static void on_connected(const struct http_response *resp, void *userdata)
{
	struct health *h = userdata;

	settle(h, resp->connected, resp->detail ? resp->detail : "no connection");
}

static int ask(struct health *h, struct error *err)
{
	const struct health_application *a = h->application;
	_cleanup_free_ char *url = NULL;
	usec_t timeout = usec_from_seconds((uint64_t)a->timeout_seconds);

	if (a->unit)
		return h->daemon->bus ? unit_get_state(h->daemon->bus, a->unit, on_unit, h, &h->bus, err) :
					error_set(err, ERROR_SYSTEM, -ENOTCONN, "no systemd manager answers");
	if (a->tcp)
		url = str_format("http://%s/", a->tcp);
	if (a->tcp && !url)
		return error_oom(err);
	return http_submit(h->daemon->http,
			   &(struct http_request){ .url = a->tcp ? url : a->http, .timeout_usec = timeout, .max_body = 65536 },
			   a->tcp ? on_connected : on_http, h, &h->http, err);
}

static void stop_asking(struct health *h)
{
	http_call_free(TAKE_PTR(h->http));
	bus_call_free(TAKE_PTR(h->bus));
}

static void on_next(void *userdata)
{
	struct health *h = userdata;
	struct error e = ERROR_INIT;

	stop_asking(h);
	if (h->application && ask(h, &e) < 0)
		settle(h, false, e.msg);
}

static void hurry(struct health *h)
{
	h->healthy = false;
	h->asked = false;
	h->hurry_boot = usec_add(loop_now_boot(h->daemon->loop), HURRY_MAX_USEC);
	loop_timer_after(h->next, 0);
}

void health_ask_anew(struct health *h)
{
	stop_asking(h);
	if (h->application)
		hurry(h);
}

/* ---- the listener ---- */

static const char *unready(const struct health *h, char why[static MESSAGE_MAX])
{
	const struct daemon *d = h->daemon;
	const struct health_settings *s = d->have_settings ? d->settings.health : NULL;
	static const struct handler_class *const after[] = {
		[READY_AFTER_CUSTOM_SCRIPT] = &custom_script_class,
		[READY_AFTER_KEY_REFRESH] = &key_refresh_class,
		[READY_AFTER_USER_DATA] = &user_data_class,
	};
	const int *wanted = s ? s->ready_after.items : NULL;

	if (!d->serving)
		return "drained, or on the way there";
	if (!health_application_ok(h)) {
		(void)snprintf(why, MESSAGE_MAX, "the application is unhealthy: %.300s",
			       h->asked ? h->last_failure : "not asked yet");
		return why;
	}
	for (size_t i = 0; s && i < s->ready_after.n; i++)
		for (size_t k = 0; k < HANDLERS; k++)
			if (handler_classes[k] == after[wanted[i]] && daemon_component_open(d, k)) {
				(void)snprintf(why, MESSAGE_MAX, "%s has not succeeded yet", handler_classes[k]->name);
				return why;
			}
	return NULL;
}

bool health_ready(const struct health *h)
{
	char why[MESSAGE_MAX];

	return !unready(h, why);
}

void health_describe(const struct health *h, struct buf *out)
{
	char text[MESSAGE_MAX];
	const char *why = unready(h, text);

	(void)buf_printf(out, "\"ready\":%s,", why ? "false" : "true");
	if (why) {
		(void)buf_puts(out, "\"notReady\":");
		(void)jd_quote(out, why, strlen(why));
		(void)buf_puts(out, ",");
	}
	(void)buf_printf(out, "\"application\":\"%s\"", !h->application ? "unchecked" : h->healthy ? "healthy" : h->asked ? "unhealthy" : "unknown");
}

/* Whether the metrics are asked for on the same endpoint. */
static bool metrics_here(const struct health *h)
{
	const struct health_settings *s = h->daemon->have_settings ? h->daemon->settings.health : NULL;

	return s && !str_empty(s->metrics_listen) && str_equal(s->metrics_listen, s->listen);
}

/* A rolling upgrade leaves out an instance that is in the middle of something: it would cut off a script, or upgrade
 * while the platform is at work. */
static bool skip_upgrade(const struct health *h)
{
	const struct daemon *d = h->daemon;

	return is_busy(d, &custom_script_class) || is_busy(d, &drain_class) || !d->serving;
}

/* Rich states of the Application Health extension; CustomMetrics is a text that holds JSON (user-data.md D). */
static void answer_app_health(const struct health *h, struct listener_reply *reply)
{
	reply->status = 200;
	(void)buf_printf(&reply->body,
			 "{\"ApplicationHealthState\":\"%s\",\"CustomMetrics\":\"{\\\"rollingUpgrade\\\":"
			 "{\\\"SkipUpgrade\\\":%s,\\\"PhaseOrderingNumber\\\":0}}\"}\n",
			 platform_state(h), skip_upgrade(h) ? "true" : "false");
}

static void on_request(const struct listener_request *req, struct listener_reply *reply, void *userdata)
{
	struct health *h = userdata;
	char text[MESSAGE_MAX];
	const char *why;

	if (!str_equal(req->method, "GET") && !str_equal(req->method, "HEAD")) {
		reply->status = 405;
		return;
	}
	if (str_equal(req->path, "/ready")) {
		why = unready(h, text);
		reply->status = why ? 503 : 200;
		reply->content_type = "text/plain; charset=utf-8";
		(void)buf_printf(&reply->body, "%s\n", why ? why : "ready");
	} else if (str_equal(req->path, "/drained")) {
		reply->status = h->daemon->drained ? 200 : 503;
		reply->content_type = "text/plain; charset=utf-8";
		(void)buf_puts(&reply->body, h->daemon->drained ? "drained\n" : "not drained\n");
	} else if (str_equal(req->path, "/metrics") && metrics_here(h)) {
		telemetry_answer(h->daemon->telemetry, req, reply);
	} else if (str_equal(req->path, "/app-health")) {
		answer_app_health(h, reply);
	}
}

/* ---- in and out ---- */

static bool same(const struct health_application *a, const struct health_application *b)
{
	if (!a || !b)
		return a == b;
	return str_equal(a->http, b->http) && str_equal(a->tcp, b->tcp) && str_equal(a->unit, b->unit) &&
	       a->interval_seconds == b->interval_seconds && a->timeout_seconds == b->timeout_seconds &&
	       a->unhealthy_threshold == b->unhealthy_threshold;
}

/* Every goal state of the VM brings us here: what is known of an application that stays the same stays known, else
 * /ready would say 503 each time until it has answered again. */
void health_apply(struct health *h, const struct settings *s)
{
	const struct health_settings *hs = s->health;
	const struct health_application *former = h->application;
	bool before = health_application_ok(h);

	h->application = hs ? hs->application : NULL;
	if (!same(former, h->application)) {
		stop_asking(h);
		loop_timer_stop(h->next);
		h->failures = 0;
		h->healthy = h->asked = false;
		if (h->application)
			hurry(h);
		if (before != health_application_ok(h))
			tell_handlers(h->daemon, !before);
	}
}

int health_report(struct health *h, handler_report_fn add, void *userdata)
{
	const struct health_settings *s = h->daemon->have_settings ? h->daemon->settings.health : NULL;
	const char *problem = endpoints_problem(h->daemon->endpoints, ENDPOINT_READINESS);
	const char *address = endpoints_address(h->daemon->endpoints, ENDPOINT_READINESS);
	char text[MESSAGE_MAX], message[MESSAGE_MAX + 200];
	struct component c = { .name = "health", .level = STATUS_SUCCESS, .duty = DUTY_DONE, .message = message };
	const char *why;

	if (!s)
		return 0;
	why = unready(h, text);
	if (problem) {
		c.level = STATUS_ERROR;
		c.duty = DUTY_FAILED;
		c.code = CODE_BAD_CONFIGURATION;
		(void)snprintf(message, sizeof(message), "%s", problem);
	} else if (endpoints_problem(h->daemon->endpoints, ENDPOINT_METRICS)) {
		c.level = STATUS_ERROR;
		c.code = CODE_BAD_CONFIGURATION;
		(void)snprintf(message, sizeof(message), "metricsListen: %s", endpoints_problem(h->daemon->endpoints, ENDPOINT_METRICS));
	} else if (telemetry_problem(h->daemon->telemetry)) {
		c.level = STATUS_ERROR;
		c.code = CODE_BAD_CONFIGURATION;
		(void)snprintf(message, sizeof(message), "%s", telemetry_problem(h->daemon->telemetry));
	} else if (why) {
		/* A drain is not ill health; what it is about, its own component says. */
		c.level = h->daemon->serving ? STATUS_WARNING : STATUS_SUCCESS;
		(void)snprintf(message, sizeof(message), "not ready: %s", why);
	} else {
		(void)snprintf(message, sizeof(message), "ready%s%s", address ? ", answering on " : "",
			       address ? address : "");
	}
	return add(userdata, &c);
}

int health_new(struct daemon *d, struct health **ret, struct error *err)
{
	_cleanup_(health_freep) struct health *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return error_oom(err);
	h->daemon = d;
	r = read_been_well(h, err);
	if (r < 0)
		return r;
	endpoints_answer(d->endpoints, ENDPOINT_READINESS, on_request, h);
	r = loop_timer_new(d->loop, "application-health", on_next, h, &h->next);
	if (r < 0)
		return error_errno(err, r, "cannot make a timer");
	*ret = TAKE_PTR(h);
	return 0;
}

void health_free(struct health *h)
{
	if (!h)
		return;
	stop_asking(h);
	loop_timer_free(h->next);
	free(h->been_well_file);
	free(h);
}

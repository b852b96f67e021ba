/* Gathering, serving and writing metrics. */
#include "agent/app/telemetry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/app/daemon_private.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/metrics.h"
#include "agent/io/loop.h"
#include "generated/version.h"

#define FILE_USEC   (15 * USEC_PER_SEC)
#define PROBLEM_MAX 800
/* The daemon's unit may write only where it must. */
#define SANDBOX_HINT                                                                                                   \
	"; the service may write below /var/lib/evenkeel, /var/lib/prometheus/node-exporter and /var/lib/node_exporter " \
	"(made before it starts), elsewhere with ReadWritePaths= in a drop-in of evenkeel.service"

struct telemetry {
	struct daemon *daemon;
	struct metrics *metrics;
	char *file;
	struct loop_timer *timer;
	usec_t started_wall;
	char file_problem[PROBLEM_MAX];
};

struct metrics *telemetry_metrics(struct telemetry *t)
{
	return t->metrics;
}

/* ---- what is true now ---- */

static double seconds_of(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static double resident_bytes(void)
{
	_cleanup_buf_ struct buf text = BUF_INIT(256);
	struct error ignored;
	unsigned long pages = 0;

	if (fs_read("/proc/self/statm", 256, &text, &ignored) < 0 || sscanf(buf_str(&text), "%*u %lu", &pages) != 1)
		return 0;
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void put(struct telemetry *t, enum metric what, double value)
{
	metrics_put(t->metrics, what, value, NULL, NULL);
}

static int put_problem(void *userdata, const struct component *c)
{
	bool problem = c->level == STATUS_WARNING || c->level == STATUS_ERROR;

	metrics_put(userdata, METRIC_COMPONENT_PROBLEM, problem, c->name, NULL);
	return 0;
}

/* -ENOMEM only: then some are missing this time. */
static int gather_components(struct telemetry *t)
{
	struct daemon *d = t->daemon;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < HANDLERS; i++)
		r = d->slots[i].class->report(d->slots[i].handler, put_problem, t->metrics);
	if (r >= 0 && d->settings_component.name)
		r = put_problem(t->metrics, &d->settings_component);
	if (r >= 0)
		r = health_report(d->health, put_problem, t->metrics);
	if (r >= 0)
		r = pause_report(d->pause, put_problem, t->metrics);
	return r < 0 ? r : notifier_report(d->notifier, put_problem, t->metrics);
}

static int gather(struct telemetry *t)
{
	const struct daemon *d = t->daemon;
	struct rusage usage = { 0 };

	metrics_begin(t->metrics);
	metrics_put(t->metrics, METRIC_BUILD, 1, EK_VERSION, NULL);
	(void)getrusage(RUSAGE_SELF, &usage);
	put(t, METRIC_CPU_SECONDS, seconds_of(&usage.ru_utime) + seconds_of(&usage.ru_stime));
	put(t, METRIC_RESIDENT_BYTES, resident_bytes());
	put(t, METRIC_START_TIME, (double)(t->started_wall / USEC_PER_SEC));
	put(t, METRIC_SERVING, t->daemon->serving);
	put(t, METRIC_READY, health_ready(t->daemon->health));
	put(t, METRIC_PAUSED, pause_is_on(t->daemon->pause));
	put(t, METRIC_APPLICATION_HEALTHY, health_application_ok(t->daemon->health));
	for (size_t i = 0; i < HANDLERS; i++)
		if (d->slots[i].class->measure)
			d->slots[i].class->measure(d->slots[i].handler, t->metrics);
	return gather_components(t);
}

/* ---- the listener ---- */

void telemetry_answer(struct telemetry *t, const struct listener_request *req, struct listener_reply *reply)
{
	enum metrics_format format = strstr(req->accept, "application/openmetrics-text") ? METRICS_OPEN : METRICS_TEXT;

	reply->status = 200;
	reply->content_type = metrics_content_type(format);
	if (gather(t) < 0 || metrics_render(t->metrics, format, &reply->body) < 0) {
		buf_reset(&reply->body);
		reply->status = 500;
	}
}

static void on_request(const struct listener_request *req, struct listener_reply *reply, void *userdata)
{
	if (!str_equal(req->method, "GET") && !str_equal(req->method, "HEAD"))
		reply->status = 405;
	else if (str_equal(req->path, "/metrics"))
		telemetry_answer(userdata, req, reply);
}

/* ---- the file ---- */

static void on_timer(void *userdata)
{
	struct telemetry *t = userdata;
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_API_REPLY);
	struct error e = ERROR_INIT;
	bool before = t->file_problem[0];
	int r;

	r = gather(t);
	if (r >= 0)
		r = metrics_render(t->metrics, METRICS_TEXT, &text);
	if (r >= 0)
		r = fs_write(t->file, text.data, text.len, 0644, FS_NO_SYNC, &e);
	(void)snprintf(t->file_problem, sizeof(t->file_problem), r < 0 ? "metricsFile: %s%s" : "%s%s",
		       r >= 0 ? "" : e.msg[0] ? e.msg : "out of memory", r == -EROFS ? SANDBOX_HINT : "");
	if (before != (r < 0))
		daemon_changed(t->daemon);
	loop_timer_after(t->timer, FILE_USEC);
}

/* ---- in and out ---- */

void telemetry_apply(struct telemetry *t, const struct settings *s)
{
	const struct health_settings *h = s->health;
	const char *file = h && !str_empty(h->metrics_file) ? h->metrics_file : NULL;

	free(t->file);
	t->file = file ? path_under_root(&t->daemon->paths, file) : NULL;
	t->file_problem[0] = '\0';
	/* At once: what does not work is known before the first status is told. */
	if (t->file)
		on_timer(t);
	else
		loop_timer_stop(t->timer);
}

const char *telemetry_problem(const struct telemetry *t)
{
	return t->file_problem[0] ? t->file_problem : NULL;
}

int telemetry_new(struct daemon *d, struct telemetry **ret, struct error *err)
{
	_cleanup_(telemetry_freep) struct telemetry *t = calloc(1, sizeof(*t));
	int r;

	if (!t || metrics_new(&t->metrics) < 0)
		return error_oom(err);
	t->daemon = d;
	endpoints_answer(d->endpoints, ENDPOINT_METRICS, on_request, t);
	t->started_wall = loop_now_wall(d->loop);
	r = loop_timer_new(d->loop, "metrics-file", on_timer, t, &t->timer);
	if (r < 0)
		return error_errno(err, r, "cannot make a timer");
	*ret = TAKE_PTR(t);
	return 0;
}

void telemetry_free(struct telemetry *t)
{
	if (!t)
		return;
	loop_timer_free(t->timer);
	metrics_free(t->metrics);
	free(t->file);
	free(t);
}

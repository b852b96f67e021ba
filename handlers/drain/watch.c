/* Polling Scheduled Events by the platform's rules. */
#include "handlers/drain/watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "agent/azure/imds.h"
#include "agent/base/cleanup.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/core/events.h"
#include "agent/core/metrics.h"
#include "agent/core/retry.h"
#include "agent/io/loop.h"

/* scheduled-events.md: the first answer, which switches the service on, may take 2 minutes. */
#define FIRST_ANSWER_USEC (130 * USEC_PER_SEC)
#define ANSWER_USEC	  (10 * USEC_PER_SEC)
#define PATIENT_AFTER	  5 /* failures in a row */
#define NAME_AGAIN_USEC	  (5 * USEC_PER_SEC)
/* So many answers in a row are believed to be unchanged; then the document is asked for as a whole. */
#define UNCHANGED_MAX 30
#define TROUBLE_MAX   600

struct watch {
	const struct handler_host *host;
	struct watch_client client;
	void *userdata;

	char *api_version; /* NULL: stopped */
	bool named;
	struct imds_call *call; /* the one under way: for the name, then for documents */
	bool again;		/* as soon as it is answered */
	bool answering;		/* inside of a callback: what comes next is decided after it */
	usec_t asked_boot;	/* for documents, last */
	struct loop_timer *timer;
	struct retry_state retry;
	bool fell_back; /* to another api-version, and nothing has come of it yet */
	bool answered; /* the service has answered once */
	char trouble[TROUBLE_MAX];

	/* The last good document, and what it is asked for by. */
	struct events_document last;
	char *etag;
	unsigned unchanged; /* answers in a row */
};

static uint32_t random_number(void)
{
	uint32_t n = 0;

	(void)!getrandom(&n, sizeof(n), GRND_NONBLOCK);
	return n;
}

static void again_after(struct watch *w, usec_t after)
{
	if (w->api_version)
		loop_timer_after(w->timer, w->again ? 0 : after);
	w->again = false;
}

static void note_trouble(struct watch *w, const char *text)
{
	if (str_equal(w->trouble, text))
		return;
	log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "%s", text);
	(void)snprintf(w->trouble, sizeof(w->trouble), "%s", text);
	w->host->changed(w->host);
}

static void forget_document(struct watch *w)
{
	events_done(&w->last);
	free(TAKE_PTR(w->etag));
	w->unchanged = 0;
}

/* ---- documents ---- */

/* A 400 that lists newer versions is answered by using one of them (scheduled-events.md). */
static bool fall_back(struct watch *w, const struct imds_failure *f)
{
	/* A service that refuses each of its versions in turn is asked no faster than another that refuses. */
	if (w->fell_back || f->status != 400 || !f->newest_version[0] || str_equal(f->newest_version, w->api_version))
		return false;
	log_for(LOG_LEVEL_WARNING, (.handler = "drain"), "Scheduled Events do not know api-version %s; using %s",
		w->api_version, f->newest_version);
	forget_document(w);
	w->fell_back = true;
	return str_set(&w->api_version, f->newest_version) == 0;
}

/* By what came of it: the HTTP status, "malformed" for an answer that cannot be used, or "no answer". */
static void count_poll(struct watch *w, int status)
{
	char result[32] = "no answer";

	if (status == 200)
		(void)snprintf(result, sizeof(result), "malformed");
	else if (status > 0)
		(void)snprintf(result, sizeof(result), "%d", status);
	metrics_count(w->host->metrics, METRIC_POLLS, result, NULL);
}

static void failed(struct watch *w, const struct imds_failure *f)
{
	usec_t most = USEC_INFINITY, pause, wait = 0;

	count_poll(w, f->status);
	note_trouble(w, f->err.msg);
	if (fall_back(w, f)) {
		again_after(w, 0);
		return;
	}
	w->fell_back = false;
	/* A daemon never gives up, and while an event is known it does not look away for long, whoever asks it to. */
	(void)retry_failed(&retry_events, &w->retry, f->status, f->retry_after, random_number(),
			   loop_now_boot(w->host->loop), &wait);
	pause = w->client.pause(w->userdata, &most);
	again_after(w, usec_max(pause, usec_min(wait, most)));
}

/* Takes the document over. */
static void succeeded(struct watch *w)
{
	usec_t most;

	if (w->trouble[0]) {
		log_for(LOG_LEVEL_INFO, (.handler = "drain"), "Scheduled Events answer again");
		w->host->changed(w->host);
	}
	w->trouble[0] = '\0';
	w->fell_back = false;
	w->answered = true;
	retry_succeeded(&w->retry);
	w->answering = true;
	w->client.document(w->userdata, &w->last);
	w->answering = false;
	again_after(w, w->client.pause(w->userdata, &most));
}

static void malformed(struct watch *w, const struct error *err)
{
	failed(w, &(struct imds_failure){ .status = 200, .err = *err });
}

static void on_events(const struct imds_events *events, const struct imds_failure *failure, void *userdata)
{
	struct watch *w = userdata;
	struct events_document doc = { 0 };
	struct imds_failure f = failure ? *failure : (struct imds_failure){ 0 };
	bool unchanged = events && events->unchanged;
	int r = 0;

	if (events && !unchanged) {
		r = events_parse(events->body, events->len, &doc, &f.err);
		if (r >= 0 && str_set(&w->etag, events->etag) < 0)
			free(TAKE_PTR(w->etag));
	}
	imds_call_free(TAKE_PTR(w->call));
	if (failure) {
		failed(w, &f);
	} else if (r < 0) {
		malformed(w, &f.err);
	} else {
		metrics_count(w->host->metrics, METRIC_POLLS, unchanged ? "304" : "200", NULL);
		metrics_observe(w->host->metrics, METRIC_POLL_SECONDS,
				(double)usec_sub(loop_now_boot(w->host->loop), w->asked_boot) / USEC_PER_SEC, NULL);
		w->unchanged = unchanged ? w->unchanged + 1 : 0;
		if (!unchanged) {
			events_done(&w->last);
			w->last = doc;
		}
		succeeded(w);
	}
}

/* ---- the name ---- */

static void on_instance(const struct imds_instance *instance, const struct imds_failure *failure, void *userdata)
{
	struct watch *w = userdata;
	usec_t wait = NAME_AGAIN_USEC;

	if (instance && !str_empty(instance->name) && w->client.name(w->userdata, instance->name) >= 0) {
		w->named = true;
		w->trouble[0] = '\0';
		retry_succeeded(&w->retry);
	} else {
		(void)snprintf(w->trouble, sizeof(w->trouble), "the name of this VM is not known yet: %s",
			       failure ? failure->err.msg : "the metadata service left it empty");
		if (failure && retry_failed(&retry_imds, &w->retry, failure->status, failure->retry_after,
					    random_number(), loop_now_boot(w->host->loop), &wait) != RETRY_AFTER)
			wait = NAME_AGAIN_USEC;
	}
	imds_call_free(TAKE_PTR(w->call));
	w->host->changed(w->host);
	again_after(w, w->named ? 0 : wait);
}

/* ---- asking ---- */

/* The service may have been switched off meanwhile, for want of requests: then its answer takes as long as the first one.
 * That is thought of when there is nothing to be missed. */
static usec_t patience(const struct watch *w)
{
	usec_t most;

	(void)w->client.pause(w->userdata, &most);
	return w->answered && (w->retry.attempts < PATIENT_AFTER || most != USEC_INFINITY) ? ANSWER_USEC
											   : FIRST_ANSWER_USEC;
}

static void on_timer(void *userdata)
{
	struct watch *w = userdata;
	const char *etag = w->unchanged < UNCHANGED_MAX ? w->etag : NULL;
	struct error e = ERROR_INIT;
	int r;

	if (!w->api_version || w->call)
		return;
	if (!w->named) {
		r = imds_get_instance(w->host->http, on_instance, w, &w->call, &e);
	} else {
		w->asked_boot = loop_now_boot(w->host->loop);
		r = imds_get_events(w->host->http, w->api_version, etag, patience(w), on_events, w, &w->call, &e);
	}
	if (r < 0) {
		note_trouble(w, e.msg);
		again_after(w, NAME_AGAIN_USEC);
	}
}

void watch_now(struct watch *w)
{
	if (w->call || w->answering)
		w->again = true;
	else
		again_after(w, 0);
}

int watch_start(struct watch *w, const char *api_version)
{
	if (!str_equal(w->api_version, api_version)) {
		if (str_set(&w->api_version, api_version) < 0)
			return -ENOMEM;
		forget_document(w);
	}
	if (!w->call)
		again_after(w, 0);
	return 0;
}

void watch_stop(struct watch *w)
{
	loop_timer_stop(w->timer);
	imds_call_free(TAKE_PTR(w->call));
	free(TAKE_PTR(w->api_version));
	forget_document(w);
	w->trouble[0] = '\0';
	w->again = w->answered = false;
}

const char *watch_api_version(const struct watch *w)
{
	return w->api_version;
}

bool watch_named(const struct watch *w)
{
	return w->named;
}

const char *watch_trouble(const struct watch *w)
{
	return w->trouble;
}

int watch_new(const struct handler_host *host, const struct watch_client *client, void *userdata, struct watch **ret,
	      struct error *err)
{
	_cleanup_(watch_freep) struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return error_oom(err);
	w->host = host;
	w->client = *client;
	w->userdata = userdata;
	if (loop_timer_new(host->loop, "events-poll", on_timer, w, &w->timer) < 0)
		return error_oom(err);
	*ret = TAKE_PTR(w);
	return 0;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	watch_stop(w);
	loop_timer_free(w->timer);
	free(w);
}

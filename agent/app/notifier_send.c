/* Sends notices: one request at a time for each webhook, signed, retried; and finds out what this VM is called. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/app/notifier_private.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/core/metrics.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"

#define TIMEOUT	   (15 * USEC_PER_SEC)
#define ANSWER_MAX 4096
#define AGAIN	   (60 * USEC_PER_SEC)
#define WHO_AGAIN  (60 * USEC_PER_SEC)

static void ended(struct delivery *d, const char *how)
{
	struct notifier *n = d->notifier;

	metrics_count(n->metrics, METRIC_NOTICES, webhook(n, d->at)->name, how);
	queue_drop_first(queue_at(n, d->at));
	d->retry = (struct retry_state){ .attempts = 0 };
	notifier_save(n);
	notifier_deliver(d);
}

static void refused(struct delivery *d, const struct http_response *resp)
{
	const struct webhook_settings *w = webhook(d->notifier, d->at);
	usec_t now_boot = loop_now_boot(d->notifier->loop), wait;
	const char *after = http_response_header(resp, "Retry-After");
	bool first = !d->problem[0];
	enum retry_verdict verdict =
		retry_failed(&retry_webhook, &d->retry, (int)resp->status,
			     after ? retry_after_parse(after, loop_now_wall(d->notifier->loop)) : 0, random_jitter(),
			     now_boot, &wait);

	/* The path of a webhook is as good as a password: only the host is named. */
	if (resp->result < 0)
		(void)snprintf(d->problem, sizeof(d->problem), "webhook %s: %s", w->name, resp->detail);
	else
		(void)snprintf(d->problem, sizeof(d->problem), "webhook %s: %s answered %ld%s", w->name, resp->host,
			       resp->status, verdict == RETRY_NO ? "; check its url" : "");
	if (first)
		log_for(LOG_LEVEL_WARNING, (.handler = NOTIFIER_HANDLER), "%s%s", d->problem,
			verdict == RETRY_NO ? "" : "; it is tried again");
	if (verdict == RETRY_NO)
		ended(d, "failed");
	else
		loop_timer_after(d->timer, wait);
}

static void on_answer(const struct http_response *resp, void *userdata)
{
	struct delivery *d = userdata;
	_cleanup_(http_call_freep) _unused_ struct http_call *call = TAKE_PTR(d->call);

	if (resp->result < 0 || resp->status < 200 || resp->status > 299) {
		refused(d, resp);
		return;
	}
	if (d->problem[0])
		log_for(LOG_LEVEL_INFO, (.handler = NOTIFIER_HANDLER), "webhook %s takes notices again",
			webhook(d->notifier, d->at)->name);
	d->problem[0] = '\0';
	queue_at(d->notifier, d->at)->lost = 0;
	ended(d, "sent");
}

static void sender_of(const struct notifier *n, struct notice_sender *ret)
{
	*ret = (struct notice_sender){ .vm_name = str_empty(n->instance.name) ? n->host : n->instance.name,
				       .vm_id = n->instance.vm_id,
				       .resource_id = n->instance.resource_id,
				       .scale_set = n->instance.scale_set };
}

/* The notice as it is sent: with what it should know of those that are gone. */
static int body_of(const struct notifier *n, const struct queue *q, int format, struct buf *body, const char **ret_type)
{
	struct notice first = ((const struct notice *)q->notices.items)[0];
	_cleanup_free_ char *with_loss = NULL;
	struct notice_sender from;

	if (q->lost > 0) {
		with_loss = str_format("%s (%lld earlier notices were dropped)", first.message, (long long)q->lost);
		if (!with_loss)
			return -ENOMEM;
		first.message = with_loss;
	}
	sender_of(n, &from);
	return notice_render(&first, format, &from, body, ret_type);
}

static int submit(struct delivery *d, struct error *err)
{
	struct notifier *n = d->notifier;
	const struct webhook_settings *w = webhook(n, d->at);
	_cleanup_buf_ struct buf body = BUF_INIT(LIMIT_NOTICE), signature = BUF_INIT(128);
	const char *key = settings_value(n->settings, SECTION_NOTIFY, &w->hmac_key), *type = NULL;
	char seconds[32], stamp[64], kind[128], sign[160];
	const char *headers[] = { kind, stamp, key ? sign : NULL, NULL };
	int r = body_of(n, queue_at(n, d->at), w->format, &body, &type);

	(void)snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long)(loop_now_wall(n->loop) / USEC_PER_SEC));
	if (r >= 0 && key)
		r = notice_sign(key, seconds, buf_str(&body), body.len, &signature);
	if (r < 0)
		return error_errno(err, r, "webhook %s: cannot make the message", w->name);
	(void)snprintf(kind, sizeof(kind), "Content-Type: %s", type);
	(void)snprintf(stamp, sizeof(stamp), "X-EvenKeel-Timestamp: %s", seconds);
	(void)snprintf(sign, sizeof(sign), "X-EvenKeel-Signature: %s", buf_str(&signature));
	return http_submit(n->http,
			   &(struct http_request){ .method = "POST",
						   .url = settings_value(n->settings, SECTION_NOTIFY, &w->url),
						   .headers = headers,
						   .body = body.data,
						   .body_len = body.len,
						   .timeout_usec = TIMEOUT,
						   .max_body = ANSWER_MAX,
						   .secret = true },
			   on_answer, d, &d->call, err);
}

void notifier_deliver(void *delivery)
{
	struct delivery *d = delivery;
	struct error e = ERROR_INIT;
	int r;

	if (d->call || !d->notifier->settings || queue_at(d->notifier, d->at)->notices.n == 0)
		return;
	r = submit(d, &e);
	if (r >= 0)
		return;
	(void)snprintf(d->problem, sizeof(d->problem), "%s", e.msg);
	log_for(LOG_LEVEL_WARNING, (.handler = NOTIFIER_HANDLER), "%s", e.msg);
	if (r == -EFBIG)
		ended(d, "failed");
	else
		loop_timer_after(d->timer, AGAIN);
}

/* ---- who we are ---- */

static void on_instance(const struct imds_instance *instance, const struct imds_failure *failure, void *userdata)
{
	struct notifier *n = userdata;
	_cleanup_(imds_call_freep) _unused_ struct imds_call *call = TAKE_PTR(n->asking);
	struct imds_instance copy = { 0 };

	(void)failure;
	if (!instance)
		return; /* asked again with a later notice; until then the host's name serves */
	if (str_set(&copy.name, instance->name) < 0 || str_set(&copy.vm_id, instance->vm_id) < 0 ||
	    str_set(&copy.resource_id, instance->resource_id) < 0 ||
	    str_set(&copy.scale_set, instance->scale_set) < 0) {
		imds_instance_done(&copy);
		return;
	}
	imds_instance_done(&n->instance);
	n->instance = copy;
}

void notifier_ask_who(struct notifier *n)
{
	usec_t now = loop_now_boot(n->loop);
	struct error e = ERROR_INIT;

	if (n->asking || n->instance.name || (n->asked_boot && usec_sub(now, n->asked_boot) < WHO_AGAIN))
		return;
	n->asked_boot = now;
	if (imds_get_instance(n->http, on_instance, n, &n->asking, &e) < 0)
		log_for(LOG_LEVEL_DEBUG, (.handler = NOTIFIER_HANDLER), "%s", e.msg);
}

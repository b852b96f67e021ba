/* Queues of notices and their delivery. */
#include "agent/app/notifier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "agent/azure/imds.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/random.h"
#include "agent/base/str.h"
#include "agent/codec/json_record.h"
#include "agent/codec/timefmt.h"
#include "agent/core/metrics.h"
#include "agent/core/retry.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"

#define HANDLER	     "notify"
#define FORMAT	     1 /* agent/codec/json_record.h */
#define TIMEOUT	     (15 * USEC_PER_SEC)
#define ANSWER_MAX   4096
#define WEBHOOKS_MAX 8
#define QUEUES_MAX   (WEBHOOKS_MAX * LIMIT_NOTICES * LIMIT_NOTICE)
#define PROBLEM_MAX  600
#define TROUBLES_MAX 256
#define AGAIN	     (60 * USEC_PER_SEC)
#define WHO_AGAIN    (60 * USEC_PER_SEC)

/* ---- what is kept below /run ---- */

struct queue {
	char *name;	       /* of the webhook */
	struct jd_list notices; /* of struct notice, the oldest first */
	int64_t lost;
};

/* A component that has been told of as a problem. */
struct trouble {
	char *component;
	bool seen; /* in this round */
};

struct queues {
	int64_t number; /* of the last notice */
	struct jd_list queues;
	struct jd_list troubles; /* of struct trouble */
};

static const struct jd_type q_text = { .kind = JD_TEXT };
static const struct jd_type q_number = { .kind = JD_INTEGER };
static const struct jd_type q_notices = { .kind = JD_LIST, .max = LIMIT_NOTICES, .element = &notice_type };

/* clang-format off */
static const struct jd_field queue_fields[] = {
	{ "name",    &q_text,    offsetof(struct queue, name),    JD_REQUIRED },
	{ "notices", &q_notices, offsetof(struct queue, notices), 0 },
	{ "lost",    &q_number,  offsetof(struct queue, lost),    0 },
	{ NULL },
};
static const struct jd_type queue_type = { .kind = JD_OBJECT, .fields = queue_fields, .size = sizeof(struct queue) };
static const struct jd_type q_queues = { .kind = JD_LIST, .max = WEBHOOKS_MAX, .element = &queue_type };

static const struct jd_field trouble_fields[] = {
	{ "component", &q_text, offsetof(struct trouble, component), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type trouble_type = { .kind = JD_OBJECT, .fields = trouble_fields, .size = sizeof(struct trouble) };
static const struct jd_type q_troubles = { .kind = JD_LIST, .max = TROUBLES_MAX, .element = &trouble_type };

static const struct jd_field queues_fields[] = {
	{ "number", &q_number, offsetof(struct queues, number), 0 },
	{ "queues", &q_queues, offsetof(struct queues, queues), 0 },
	{ "troubles", &q_troubles, offsetof(struct queues, troubles), 0 },
	{ NULL },
};
/* clang-format on */
static const struct jd_type queues_type = { .kind = JD_OBJECT, .fields = queues_fields, .size = sizeof(struct queues) };

/* ---- one webhook at work ---- */

struct delivery {
	struct notifier *notifier;
	size_t at; /* of its queue and its settings */
	struct http_call *call;
	struct loop_timer *timer;
	struct retry_state retry;
	char problem[PROBLEM_MAX]; /* "" when the last notice was taken */
};

struct notifier {
	struct loop *loop;
	struct http *http;
	struct metrics *metrics;
	const struct settings *settings; /* NULL: no section */
	char *path;
	bool refused; /* what is there is a later version's: it stays */
	struct queues kept; /* as many queues as webhooks, in their order */
	struct delivery deliveries[WEBHOOKS_MAX];
	struct imds_call *asking;
	struct imds_instance instance;
	usec_t asked_boot;
	char host[65];
};

static const struct webhook_settings *webhook(const struct notifier *n, size_t at)
{
	return (const struct webhook_settings *)n->settings->notify->webhooks.items + at;
}

static struct queue *queue_at(const struct notifier *n, size_t at)
{
	return (struct queue *)n->kept.queues.items + at;
}

static void save(struct notifier *n)
{
	_cleanup_buf_ struct buf text = BUF_INIT(QUEUES_MAX);
	struct error e = ERROR_INIT;
	int r;

	if (n->refused)
		return;
	r = jd_encode_record(&queues_type, FORMAT, &n->kept, &text);
	if (r >= 0)
		r = fs_write(n->path, text.data, text.len, 0600, FS_NO_SYNC, &e);
	if (r < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "notices that wait would be lost with a restart: %s",
			e.msg[0] ? e.msg : "out of memory");
}

static void load(struct notifier *n)
{
	_cleanup_buf_ struct buf text = BUF_INIT(QUEUES_MAX);
	struct error e = ERROR_INIT;
	int r = fs_read_nofollow(n->path, QUEUES_MAX, &text, &e);

	if (r >= 0)
		r = jd_decode_record(buf_str(&text), text.len, n->path, QUEUES_MAX, &queues_type, FORMAT, &n->kept, &e);
	n->refused = r == -EPROTO;
	if (n->refused)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s; notices that wait are not kept over a restart", e.msg);
	else if (r < 0 && r != -ENOENT)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s; the notices that waited are lost", e.msg);
}

/* ---- delivering ---- */

static void deliver(struct delivery *d);

static void drop_first(struct queue *q)
{
	struct notice *all = q->notices.items;

	jd_free(&notice_type, &all[0]);
	memmove(all, all + 1, (q->notices.n - 1) * sizeof(*all));
	q->notices.n--;
}

static void ended(struct delivery *d, const char *how)
{
	struct notifier *n = d->notifier;

	metrics_count(n->metrics, METRIC_NOTICES, webhook(n, d->at)->name, how);
	drop_first(queue_at(n, d->at));
	d->retry = (struct retry_state){ .attempts = 0 };
	save(n);
	deliver(d);
}

static void refused(struct delivery *d, const struct http_response *resp)
{
	const struct webhook_settings *w = webhook(d->notifier, d->at);
	usec_t now_boot = loop_now_boot(d->notifier->loop), wait;
	const char *after = http_response_header(resp, "Retry-After");
	bool first = !d->problem[0];
	enum retry_verdict verdict =
		retry_failed(&retry_webhook, &d->retry, (int)resp->status,
			     after ? retry_after_parse(after, loop_now_wall(d->notifier->loop)) : 0, random_jitter(), now_boot,
			     &wait);

	/* The path of a webhook is as good as a password: only the host is named. */
	if (resp->result < 0)
		(void)snprintf(d->problem, sizeof(d->problem), "webhook %s: %s", w->name, resp->detail);
	else
		(void)snprintf(d->problem, sizeof(d->problem), "webhook %s: %s answered %ld%s", w->name, resp->host,
			       resp->status, verdict == RETRY_NO ? "; check its url" : "");
	if (first)
		log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s%s", d->problem,
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
		log_for(LOG_LEVEL_INFO, (.handler = HANDLER), "webhook %s takes notices again",
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

	(void)snprintf(seconds, sizeof(seconds), "%llu",
		       (unsigned long long)(loop_now_wall(n->loop) / USEC_PER_SEC));
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

static void deliver(struct delivery *d)
{
	struct error e = ERROR_INIT;
	int r;

	if (d->call || !d->notifier->settings || queue_at(d->notifier, d->at)->notices.n == 0)
		return;
	r = submit(d, &e);
	if (r >= 0)
		return;
	(void)snprintf(d->problem, sizeof(d->problem), "%s", e.msg);
	log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "%s", e.msg);
	if (r == -EFBIG)
		ended(d, "failed");
	else
		loop_timer_after(d->timer, AGAIN);
}

static void on_timer(void *userdata)
{
	deliver(userdata);
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
	    str_set(&copy.resource_id, instance->resource_id) < 0 || str_set(&copy.scale_set, instance->scale_set) < 0) {
		imds_instance_done(&copy);
		return;
	}
	imds_instance_done(&n->instance);
	n->instance = copy;
}

static void ask_who(struct notifier *n)
{
	usec_t now = loop_now_boot(n->loop);
	struct error e = ERROR_INIT;

	if (n->asking || n->instance.name || (n->asked_boot && usec_sub(now, n->asked_boot) < WHO_AGAIN))
		return;
	n->asked_boot = now;
	if (imds_get_instance(n->http, on_instance, n, &n->asking, &e) < 0)
		log_for(LOG_LEVEL_DEBUG, (.handler = HANDLER), "%s", e.msg);
}

/* ---- telling ---- */

static int copy_notice(const struct notice *from, struct notice *to)
{
	*to = (struct notice){ .number = from->number, .kind = from->kind, .problem = from->problem, .wall_usec = from->wall_usec };
	if (str_set(&to->subject, from->subject) < 0 || str_set(&to->message, from->message) < 0 ||
	    str_set(&to->event_type, from->event_type) < 0) {
		jd_free(&notice_type, to);
		return -ENOMEM;
	}
	return 0;
}

static int enqueue(struct queue *q, const struct notice *n)
{
	struct notice copy, *all;

	if (copy_notice(n, &copy) < 0)
		return -ENOMEM;
	if (q->notices.n == LIMIT_NOTICES) {
		drop_first(q);
		q->lost++;
	}
	all = reallocarray(q->notices.items, q->notices.n + 1, sizeof(*all));
	if (!all) {
		jd_free(&notice_type, &copy);
		return -ENOMEM;
	}
	q->notices.items = all;
	all[q->notices.n++] = copy;
	return 0;
}

void notifier_tell(struct notifier *n, enum notice_kind kind, bool problem, const char *subject, const char *event_type,
		   const char *message)
{
	_cleanup_free_ char *s = subject ? strdup(subject) : NULL, *t = event_type ? strdup(event_type) : NULL;
	_cleanup_free_ char *m = strdup(message);
	struct notice notice = { .kind = (int)kind, .problem = problem, .subject = s, .event_type = t, .message = m,
				 .wall_usec = (int64_t)loop_now_wall(n->loop) };
	bool any = false;

	if (!n->settings || !m)
		return;
	notice.number = ++n->kept.number;
	for (size_t i = 0; i < n->kept.queues.n; i++) {
		if (!notice_wanted(webhook(n, i), &notice))
			continue;
		any = true;
		if (enqueue(queue_at(n, i), &notice) < 0)
			log_for(LOG_LEVEL_WARNING, (.handler = HANDLER), "out of memory: webhook %s is not told: %s",
				webhook(n, i)->name, message);
	}
	if (!any)
		return;
	save(n);
	ask_who(n);
	/* From the loop: whoever tells something goes on first. One that waits for its retry goes on waiting. */
	for (size_t i = 0; i < n->kept.queues.n; i++)
		if (!n->deliveries[i].call && loop_timer_due(n->deliveries[i].timer) == USEC_INFINITY)
			loop_timer_after(n->deliveries[i].timer, 0);
}

/* ---- problems of components ---- */

static struct trouble *find_trouble(const struct notifier *n, const char *component)
{
	struct trouble *t = n->kept.troubles.items;

	for (size_t i = 0; i < n->kept.troubles.n; i++)
		if (str_equal(t[i].component, component))
			return &t[i];
	return NULL;
}

static void forget_trouble(struct notifier *n, struct trouble *t)
{
	struct trouble *all = n->kept.troubles.items;
	size_t at = (size_t)(t - all);

	jd_free(&trouble_type, t);
	memmove(t, t + 1, (n->kept.troubles.n - at - 1) * sizeof(*t));
	n->kept.troubles.n--;
}

static int note_trouble(struct notifier *n, const char *component)
{
	struct jd_list *l = &n->kept.troubles;
	struct trouble *all = l->n < TROUBLES_MAX ? reallocarray(l->items, l->n + 1, sizeof(*all)) : NULL;

	if (!all)
		return -ENOMEM;
	l->items = all;
	all[l->n] = (struct trouble){ .seen = true };
	if (str_set(&all[l->n].component, component) < 0)
		return -ENOMEM;
	l->n++;
	return 0;
}

void notifier_round_begin(struct notifier *n)
{
	struct trouble *t = n->kept.troubles.items;

	for (size_t i = 0; i < n->kept.troubles.n; i++)
		t[i].seen = false;
}

static void tell_of(struct notifier *n, const struct component *c, bool problem)
{
	_cleanup_free_ char *text = NULL;
	size_t line = strcspn(c->message, "\n");

	text = str_format("%s: %.*s", c->name, (int)(line < PROBLEM_MAX ? line : PROBLEM_MAX), c->message);
	if (text)
		notifier_tell(n, NOTICE_PROBLEM, problem, c->name, NULL, text);
}

/* What is under way is neither well nor a problem: nothing changes until it has ended. */
void notifier_component(struct notifier *n, const struct component *c)
{
	bool problem = c->level == STATUS_WARNING || c->level == STATUS_ERROR;
	struct trouble *t = n->settings ? find_trouble(n, c->name) : NULL;

	if (!n->settings)
		return;
	if (t)
		t->seen = true;
	if (problem && !t && note_trouble(n, c->name) >= 0)
		tell_of(n, c, true);
	if (c->level == STATUS_SUCCESS && t) {
		forget_trouble(n, t);
		tell_of(n, c, false);
	}
}

void notifier_round_end(struct notifier *n)
{
	for (size_t i = n->kept.troubles.n; n->settings && i-- > 0;) {
		struct trouble *t = (struct trouble *)n->kept.troubles.items + i;

		if (!t->seen)
			forget_trouble(n, t);
	}
}

/* ---- settings ---- */

static void stop_all(struct notifier *n)
{
	for (size_t i = 0; i < WEBHOOKS_MAX; i++) {
		struct delivery *d = &n->deliveries[i];

		http_call_free(TAKE_PTR(d->call));
		loop_timer_stop(d->timer);
		d->retry = (struct retry_state){ .attempts = 0 };
		d->problem[0] = '\0';
	}
}

/* The queue of that name moves over, or is a new one. */
static int take_queue(struct queues *from, const char *name, struct queue *ret)
{
	struct queue *q = from->queues.items;

	for (size_t i = 0; i < from->queues.n; i++)
		if (str_equal(q[i].name, name)) {
			*ret = q[i];
			q[i] = (struct queue){ 0 };
			return 0;
		}
	*ret = (struct queue){ 0 };
	return str_set(&ret->name, name);
}

static void adopt(struct notifier *n, const struct settings *s)
{
	size_t wanted = s && s->notify ? s->notify->webhooks.n : 0;
	struct queues former = n->kept;
	struct queue *queues = calloc(WEBHOOKS_MAX, sizeof(*queues));

	n->settings = NULL;
	n->kept = (struct queues){ .number = former.number, .troubles = former.troubles };
	former.troubles = (struct jd_list){ 0 };
	if (queues) {
		n->kept.queues.items = queues;
		for (size_t i = 0; i < wanted && i < WEBHOOKS_MAX; i++) {
			const struct webhook_settings *w = (const struct webhook_settings *)s->notify->webhooks.items + i;

			if (take_queue(&former, w->name, &queues[i]) < 0)
				break;
			n->kept.queues.n++;
		}
		n->settings = wanted > 0 ? s : NULL;
	}
	jd_free(&queues_type, &former);
}

void notifier_apply(struct notifier *n, const struct settings *s)
{
	bool was = n->settings || n->kept.queues.n;

	stop_all(n);
	adopt(n, s);
	if (!n->settings && !was)
		return;
	save(n);
	for (size_t i = 0; n->settings && i < n->kept.queues.n; i++)
		loop_timer_after(n->deliveries[i].timer, 0);
}

/* ---- telling about itself ---- */

int notifier_report(const struct notifier *n, notifier_report_fn add, void *userdata)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_MESSAGE);
	struct component c = { .name = "notify", .level = STATUS_SUCCESS };
	size_t waiting = 0;

	if (!n->settings)
		return 0;
	for (size_t i = 0; i < n->kept.queues.n; i++) {
		waiting += queue_at(n, i)->notices.n;
		if (!n->deliveries[i].problem[0])
			continue;
		c.level = STATUS_WARNING;
		(void)buf_printf(&text, "%s%s", text.len ? "; " : "", n->deliveries[i].problem);
	}
	if (text.len == 0)
		(void)buf_printf(&text, "%zu webhook%s", n->kept.queues.n, n->kept.queues.n == 1 ? "" : "s");
	else
		(void)buf_printf(&text, "; %zu notice%s waiting", waiting, waiting == 1 ? " is" : "s are");
	c.message = buf_str(&text);
	return add(userdata, &c);
}

/* ---- in and out ---- */

int notifier_new(struct notifier **ret, struct loop *loop, struct http *http, struct metrics *metrics,
		 const struct paths *paths, struct error *err)
{
	_cleanup_(notifier_freep) struct notifier *n = calloc(1, sizeof(*n));
	struct utsname u;

	if (!n)
		return error_oom(err);
	n->loop = loop;
	n->http = http;
	n->metrics = metrics;
	n->path = path_join(paths->run, "notices.json");
	if (!n->path)
		return error_oom(err);
	if (uname(&u) == 0)
		(void)snprintf(n->host, sizeof(n->host), "%s", u.nodename);
	for (size_t i = 0; i < WEBHOOKS_MAX; i++) {
		int r;

		n->deliveries[i].notifier = n;
		n->deliveries[i].at = i;
		r = loop_timer_new(loop, "webhook", on_timer, &n->deliveries[i], &n->deliveries[i].timer);
		if (r < 0)
			return error_errno(err, r, "cannot make a timer");
	}
	load(n);
	*ret = TAKE_PTR(n);
	return 0;
}

void notifier_free(struct notifier *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < WEBHOOKS_MAX; i++) {
		http_call_free(n->deliveries[i].call);
		loop_timer_free(n->deliveries[i].timer);
	}
	imds_call_free(n->asking);
	imds_instance_done(&n->instance);
	jd_free(&queues_type, &n->kept);
	free(n->path);
	free(n);
}

/* Who is told of what: notices go into the queues of the webhooks that want them, and what components say becomes notices. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "agent/app/notifier_private.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/io/http.h"
#include "agent/io/loop.h"
#include "agent/io/paths.h"

void notifier_save(struct notifier *n)
{
	struct error e = ERROR_INIT;

	if (!n->refused && queues_save(n->path, &n->kept, &e) < 0)
		log_for(LOG_LEVEL_WARNING, (.handler = NOTIFIER_HANDLER),
			"notices that wait would be lost with a restart: %s", e.msg);
}

static void load(struct notifier *n)
{
	struct error e = ERROR_INIT;
	int r = queues_load(n->path, &n->kept, &e);

	n->refused = r == -EPROTO;
	if (n->refused)
		log_for(LOG_LEVEL_WARNING, (.handler = NOTIFIER_HANDLER),
			"%s; notices that wait are not kept over a restart", e.msg);
	else if (r < 0 && r != -ENOENT)
		log_for(LOG_LEVEL_WARNING, (.handler = NOTIFIER_HANDLER), "%s; the notices that waited are lost",
			e.msg);
}

/* ---- telling ---- */

void notifier_tell(struct notifier *n, enum notice_kind kind, bool problem, const char *subject, const char *event_type,
		   const char *message)
{
	_cleanup_free_ char *s = subject ? strdup(subject) : NULL, *t = event_type ? strdup(event_type) : NULL;
	_cleanup_free_ char *m = strdup(message);
	struct notice notice = { .kind = (int)kind,
				 .problem = problem,
				 .subject = s,
				 .event_type = t,
				 .message = m,
				 .wall_usec = (int64_t)loop_now_wall(n->loop) };
	bool any = false;

	if (!n->settings || !m)
		return;
	notice.number = ++n->kept.number;
	for (size_t i = 0; i < n->kept.queues.n; i++) {
		if (!notice_wanted(webhook(n, i), &notice))
			continue;
		any = true;
		if (queue_add(queue_at(n, i), &notice) < 0)
			log_for(LOG_LEVEL_WARNING, (.handler = NOTIFIER_HANDLER),
				"out of memory: webhook %s is not told: %s", webhook(n, i)->name, message);
	}
	if (!any)
		return;
	notifier_save(n);
	notifier_ask_who(n);
	/* From the loop: whoever tells something goes on first. One that waits for its retry goes on waiting. */
	for (size_t i = 0; i < n->kept.queues.n; i++)
		if (!n->deliveries[i].call && loop_timer_due(n->deliveries[i].timer) == USEC_INFINITY)
			loop_timer_after(n->deliveries[i].timer, 0);
}

/* ---- problems of components ---- */

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
	struct trouble *t = n->settings ? troubles_find(&n->kept, c->name) : NULL;

	if (!n->settings)
		return;
	if (t)
		t->seen = true;
	if (problem && !t && troubles_add(&n->kept, c->name) >= 0)
		tell_of(n, c, true);
	if (c->level == STATUS_SUCCESS && t) {
		troubles_forget(&n->kept, t);
		tell_of(n, c, false);
	}
}

void notifier_round_end(struct notifier *n)
{
	for (size_t i = n->kept.troubles.n; n->settings && i-- > 0;) {
		struct trouble *t = (struct trouble *)n->kept.troubles.items + i;

		if (!t->seen)
			troubles_forget(&n->kept, t);
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
			const struct webhook_settings *w =
				(const struct webhook_settings *)s->notify->webhooks.items + i;

			if (queues_take(&former, w->name, &queues[i]) < 0)
				break;
			n->kept.queues.n++;
		}
		n->settings = wanted > 0 ? s : NULL;
	}
	queues_done(&former);
}

void notifier_apply(struct notifier *n, const struct settings *s)
{
	bool was = n->settings || n->kept.queues.n;

	stop_all(n);
	adopt(n, s);
	if (!n->settings && !was)
		return;
	notifier_save(n);
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
		r = loop_timer_new(loop, "webhook", notifier_deliver, &n->deliveries[i], &n->deliveries[i].timer);
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
	queues_done(&n->kept);
	free(n->path);
	free(n);
}

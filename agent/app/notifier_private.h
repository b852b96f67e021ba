/* The parts of the notifier, for its own files only: who is told (notifier.c), and how a notice is sent (notifier_send.c). */
#pragma once

#include "agent/app/notice_queues.h"
#include "agent/app/notifier.h"
#include "agent/azure/imds.h"
#include "agent/core/retry.h"

struct http_call;
struct loop_timer;

#define NOTIFIER_HANDLER "notify"
#define PROBLEM_MAX	 600

/* One webhook at work. */
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

static inline const struct webhook_settings *webhook(const struct notifier *n, size_t at)
{
	return (const struct webhook_settings *)n->settings->notify->webhooks.items + at;
}

static inline struct queue *queue_at(const struct notifier *n, size_t at)
{
	return (struct queue *)n->kept.queues.items + at;
}

/* notifier.c: keeps the queues; a failure is logged. */
void notifier_save(struct notifier *n);

/* notifier_send.c: sends the first notice of the delivery's queue, unless one is under way. */
void notifier_deliver(void *delivery);
/* Asks the metadata service who we are, until it has answered; until then the host's name serves. */
void notifier_ask_who(struct notifier *n);

/*
 * What waits for webhooks and what has been told of, kept below /run so that a restart of the daemon loses and repeats
 * nothing: one queue a webhook, the oldest notice first, and the components that are known to be in trouble. A queue holds
 * LIMIT_NOTICES; the oldest goes, and `lost` counts it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"
#include "agent/codec/json.h"
#include "agent/core/notice.h"

#define WEBHOOKS_MAX 8

struct queue {
	char *name;		/* of the webhook */
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

/* Reads what was kept; -ENOENT: nothing; -EPROTO: of a later version. */
_nodiscard_ int queues_load(const char *path, struct queues *ret, struct error *err);
_nodiscard_ int queues_save(const char *path, const struct queues *q, struct error *err);
void queues_done(struct queues *q);

/* The queue of that name moves over, or is a new one. */
_nodiscard_ int queues_take(struct queues *from, const char *name, struct queue *ret);

/* Copies. -ENOMEM */
_nodiscard_ int queue_add(struct queue *q, const struct notice *n);
/* There is one. */
void queue_drop_first(struct queue *q);

/* NULL: not known to be in trouble. */
struct trouble *troubles_find(const struct queues *q, const char *component);
/* -ENOMEM, also when there are too many. */
_nodiscard_ int troubles_add(struct queues *q, const char *component);
void troubles_forget(struct queues *q, struct trouble *t);

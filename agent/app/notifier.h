/*
 * Sends notices to the webhooks of the settings: one queue for each, one request at a time, retried for an hour, never
 * waited for by anybody. What waits is kept below /run, so a restart of the daemon loses nothing; a notice may come
 * twice then, and its number tells. A queue holds LIMIT_NOTICES; the oldest goes, and the next one says how many went.
 *
 * Each request carries X-EvenKeel-Timestamp, and with a key X-EvenKeel-Signature (agent/core/notice.h).
 */
#pragma once

#include "agent/base/error.h"
#include "agent/core/notice.h"
#include "agent/core/settings.h"
#include "agent/core/status.h"

struct http;
struct loop;
struct metrics;
struct notifier;
struct paths;

_nodiscard_ int notifier_new(struct notifier **ret, struct loop *loop, struct http *http, struct metrics *metrics,
			     const struct paths *paths, struct error *err);
void notifier_free(struct notifier *n);

/* The settings are borrowed until the next call. NULL, or no section: nothing is told any more. */
void notifier_apply(struct notifier *n, const struct settings *s);

/* `subject` and `event_type` may be NULL. Copies; never fails: what cannot be kept is logged. */
void notifier_tell(struct notifier *n, enum notice_kind kind, bool problem, const char *subject, const char *event_type,
		   const char *message);

/*
 * What components say becomes notices of kind "problem": one when a component begins to be warning or error, one when it
 * is well again. Between begin and end every component is shown once; what is not has gone. What has been told is kept,
 * so that a restart repeats nothing.
 */
void notifier_round_begin(struct notifier *n);
void notifier_component(struct notifier *n, const struct component *c);
void notifier_round_end(struct notifier *n);

/* The component "notify": success, or warning with what the webhooks that do not take notices answer. Nothing without
 * the section. */
typedef int (*notifier_report_fn)(void *userdata, const struct component *c);
_nodiscard_ int notifier_report(const struct notifier *n, notifier_report_fn add, void *userdata);

DEFINE_CLEANUP(struct notifier *, notifier_free)

/*
 * The Scheduled Events document: one answer of the metadata service as a value. Pure: bytes in, a value out.
 *
 * Obeys "Scheduled Events for Linux VMs": Description, EventSource and DurationInSeconds came with later API
 * versions and may be missing; NotBefore is blank once an event has started; types that are added later are
 * kept as text. A document that breaks its own contract is refused whole: the caller takes it for no answer.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/time.h"
#include "agent/codec/json.h"

enum event_status { EVENT_SCHEDULED, EVENT_STARTED, EVENT_STATUS_OTHER };
/* EVENT_OTHER: a type this version does not know; it is told about and never drained for. */
enum event_type { EVENT_FREEZE, EVENT_REBOOT, EVENT_REDEPLOY, EVENT_PREEMPT, EVENT_TERMINATE, EVENT_OTHER };

struct event {
	char *id;   /* as the platform wrote it: compared byte by byte */
	char *type; /* text; event_type_of() tells what it is */
	char *resource_type;
	struct jd_list resources; /* of char * */
	char *not_before_text;
	char *source;
	char *description;
	int64_t duration_seconds; /* 0: no interruption, -1: unknown or not said */

	char *status_text;
	int status;	   /* enum event_status; a word we do not know is neither */
	usec_t not_before; /* wall time; 0: blank, missing or not a time */
};

struct events_document {
	int64_t incarnation;   /* compare with != only: the platform resets it */
	struct jd_list events; /* of struct event */
};

/* 0, or what jd_decode_document() returns; *ret is written on success only. Release with events_done(). */
_nodiscard_ int events_parse(const char *text, size_t len, struct events_document *ret, struct error *err);
void events_done(struct events_document *doc);

enum event_type event_type_of(const char *type);

/* Is `self` among the names? Without regard to case, nor to the "_" that API version 2017-03-01 put before
 * names. `ret_first` (may be NULL): it is the first of them. An empty list names nobody. */
bool event_names(const struct event *e, const char *self, bool *ret_first);

/*
 * One thing worth telling somebody: which webhooks want it, and how it reads in each of their formats
 * (settings.md 1.2 "notify"). Pure: who sends it, and when, is agent/app/notifier.h.
 *
 * A notice never holds a secret; texts are cut so that every format stays within LIMIT_NOTICE.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"

struct webhook_settings;

/* In the order of the words of notify.webhooks[].on. */
enum notice_kind {
	NOTICE_EVENT,	    /* a scheduled event was seen, has changed or has ended */
	NOTICE_DRAIN,	    /* draining, drained */
	NOTICE_ACKNOWLEDGE, /* the platform was told, or an operator is asked to */
	NOTICE_RESTORE,	    /* restoring, restored */
	NOTICE_SCRIPT,	    /* a custom script ended */
	NOTICE_CERTIFICATE, /* installed, renewed, about to expire */
	NOTICE_USER_DATA,   /* changed, applied */
	NOTICE_PROBLEM,	    /* something needs a person, whatever it is about */
	_NOTICE_MAX
};
const char *notice_kind_name(enum notice_kind k); /* "drain" … */

struct notice {
	int64_t number;	   /* counts up; with the VM's id it names the notice */
	int kind;	   /* enum notice_kind */
	bool problem;	   /* wanted by "problem", too; shown as such */
	char *subject;	   /* what it is about: an event's id, a script, a certificate; or NULL */
	char *message;	   /* a whole sentence */
	char *event_type;  /* of a scheduled event, or NULL */
	int64_t wall_usec; /* when */
};
extern const struct jd_type notice_type; /* released with jd_free() */

/* The VM as it is named to those who are told. Any of them may be NULL. */
struct notice_sender {
	const char *vm_name;	 /* as the platform calls it, else the host name */
	const char *vm_id;
	const char *resource_id; /* /subscriptions/… */
	const char *scale_set;
};

bool notice_wanted(const struct webhook_settings *w, const struct notice *n);

/* Appends the body in the webhook's format; *ret_content_type is a literal. Fails as the buffer does.
 *   json         {"kind","time","number","problem","subject","eventType","message","vm":{"name","id","resourceId","scaleSet"}}
 *   cloudEvents  CloudEvents 1.0, structured mode: type "evenkeel.KIND", source the resource id, data as above
 *   slack        {"text": …}
 *   teams        a message with an adaptive card, as a workflow's webhook takes it */
_nodiscard_ int notice_render(const struct notice *n, int format, const struct notice_sender *from, struct buf *out,
			      const char **ret_content_type);

/* Appends "sha256=HEX" over TIMESTAMP "." BODY: what X-EvenKeel-Signature holds. */
_nodiscard_ int notice_sign(const char *key, const char *timestamp, const char *body, size_t len, struct buf *out);

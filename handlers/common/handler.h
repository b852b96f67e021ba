/*
 * What a handler is to the daemon, and what the daemon is to a handler. Handlers carry out core's plans; they never
 * include each other. All calls come from the loop, one at a time.
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"
#include "agent/core/notice.h"
#include "agent/core/settings.h"
#include "agent/core/status.h"

struct buf;
struct bus;
struct http;
struct jobs;
struct loop;
struct metrics;
struct paths;
struct tokens;

/* A settings part of user data. */
struct handler_document {
	const char *name; /* "user data, part 3" */
	const char *text;
};

/* What the daemon offers. Outlives every handler; the texts do not change. */
struct handler_host {
	struct loop *loop;
	struct http *http;
	struct bus *bus; /* NULL: no systemd manager answers */
	struct jobs *jobs;
	struct tokens *tokens;
	struct metrics *metrics; /* to count in */
	const struct paths *paths;
	const char *machine_id, *boot_id;

	/* MUST be called when what report() would say has changed; the status is written soon afterwards. */
	void (*changed)(const struct handler_host *host);
	/* Whether health.application answers well, or is not asked for. */
	bool (*application_healthy)(const struct handler_host *host);
	/* Asks it anew, at once and often until it is well: health_changed() tells the first good answer. */
	void (*ask_application)(const struct handler_host *host);
	/* Whether every certificate and secret of the goal state has been installed once (customScript.waitFor). */
	bool (*certificates_ready)(const struct handler_host *host);
	/* The readiness answer: the drain handler says whether the host serves. */
	void (*set_serving)(const struct handler_host *host, bool serving);
	/* What /drained answers to the other VMs of a shared event. */
	void (*set_drained)(const struct handler_host *host, bool drained);
	/* Where the Azure agent leaves what it has for us; NULL without an extension. */
	const char *(*config_folder)(const struct handler_host *host);
	/* Tells who is to be told (notify.webhooks), some time later. `subject` (an event's id, a script's name …) and
	 * `event_type` may be NULL. That something is a problem is told by the daemon, from what report() says. */
	void (*tell)(const struct handler_host *host, enum notice_kind kind, const char *subject, const char *event_type,
		     const char *message);
	/* Whether an operator has paused us: nothing begins but what an operator orders, what runs goes on. NULL: never;
	 * ask by handler_paused(). pause_changed() tells when it changes. */
	bool (*paused)(const struct handler_host *host);
	/* The settings parts of this revision of user data, all of them, in the place of those before (door 2). They are judged
	 * together with the settings of the other doors; when they are refused nothing changes and the error says why. When they
	 * are taken, every handler's apply() has been called on return: only from a timer of the handler's own. */
	int (*offer_settings)(const struct handler_host *host, const char *revision, const struct handler_document *documents,
			      size_t n, struct error *err);
	void *daemon;
};

static inline bool handler_paused(const struct handler_host *host)
{
	return host->paused && host->paused(host);
}

/* The goal state in force. Valid during apply() and until the next apply() or free(). */
struct handler_goal {
	const struct settings *settings;
	const char *sequence; /* as text; "" without an extension */
	const char *key;      /* installation, sequence and hash of the settings: equal means nothing new is due */
	/* Why settings that user data has brought before are no longer in force, or NULL. */
	const char *user_data_refused;
};

typedef int (*handler_report_fn)(void *userdata, const struct component *c);

struct handler;

struct handler_class {
	const char *name; /* customScript */
	enum settings_section section;

	/* Whether this machine can do what valid settings ask for; NULL: it can. For who validates; apply() tells it, too. */
	int (*check)(const struct paths *paths, const struct settings *settings, struct error *err);
	/* Loads what is durable and resumes what was going on. Settings come with the first apply(). */
	int (*start)(const struct handler_host *host, struct handler **ret, struct error *err);
	/* Goes over to these settings: what did not change MUST be left alone. The section may be absent: the handler
	 * then ends what it does in good order. An error is told as the settings component's. */
	int (*apply)(struct handler *h, const struct handler_goal *goal, struct error *err);
	/* Tells every component of this handler (none when its section is absent and nothing is left of it). */
	int (*report)(struct handler *h, handler_report_fn add, void *userdata);
	/* Puts the gauges of what is true now (agent/core/metrics.h); NULL: has none. */
	void (*measure)(const struct handler *h, struct metrics *m);
	/* Whether something must still end before the program may stop for good (`enable` without a manager, uninstall). */
	bool (*busy)(const struct handler *h);
	/* The application's health (health.application) has changed; NULL: does not care. */
	void (*health_changed)(struct handler *h, bool healthy);
	/* A pause has begun or ended (host->paused()): what was kept back is looked at anew. NULL: begins nothing by itself. */
	void (*pause_changed)(struct handler *h);
	/* An operator's order over the local API; NULL: takes none. What is done about it is told in one sentence in `reply`;
	 * an order that is refused is an error of class user. */
	int (*operate)(struct handler *h, const char *order, const char *argument, struct buf *reply, struct error *err);
	/* What is known, for those who look on, as one JSON document; NULL: nothing. `query`: "since=N", or "". */
	int (*look)(struct handler *h, const char *query, struct buf *json, struct error *err);
	/* SIGHUP, `systemctl reload`: what is asked for from time to time is asked for now; NULL: nothing is. */
	void (*poll)(struct handler *h);
	/* Uninstall: undo what is ours on the machine (end drains by restoring); busy() turns false when done. */
	void (*retire)(struct handler *h);
	/* The loop goes on without it: running jobs run on. */
	void (*free)(struct handler *h);
};

extern const struct handler_class custom_script_class, key_refresh_class, drain_class, user_data_class;

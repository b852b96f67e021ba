/* The parts of the daemon, for its own files only: goal state, status, local API, health. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "agent/app/daemon.h"
#include "agent/app/daemon_machine.h"
#include "agent/app/daemon_pause.h"
#include "agent/app/deployment.h"
#include "agent/app/endpoints.h"
#include "agent/app/goal_request.h"
#include "agent/app/notifier.h"
#include "agent/app/telemetry.h"
#include "agent/base/error.h"
#include "agent/core/settings.h"
#include "agent/core/status.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"
#include "handlers/common/handler.h"

#define HANDLERS 4

/* One handler: of its own class, or the stand-in of one that does not start (daemon_refused.h). */
struct handler_slot {
	const struct handler_class *class;
	struct handler *handler; /* NULL until it is started */
};

struct daemon {
	struct daemon_options options;
	struct paths paths;
	char machine_id[MACHINE_ID_MAX], boot_id[MACHINE_ID_MAX];
	struct loop *loop;
	struct bus *bus;
	struct http *http;
	struct executor *executor;
	struct jobs *jobs;
	struct tokens *tokens;
	struct handler_host host;
	struct handler_slot slots[HANDLERS]; /* in the order of handler_classes */
	int lock_fd;

	/* The goal state: what was asked for, and what is in force. */
	struct deployment_store *deployments;
	struct goal_request goal;
	bool have_goal;
	struct settings settings;
	bool have_settings;
	char *key; /* of what is in force */
	char *files_key; /* of the files below /etc, whoever else says something */
	char *user_key; /* of the settings that user data has brought, or NULL */
	bool user_settings_lost; /* those cannot be read, until user data brings them again */
	char *user_data_refused; /* why they are not in force, or NULL */
	struct jd_report report;
	struct component settings_component;
	char *settings_message;
	struct loop_timer *again; /* certificate or key missing */
	usec_t undecidable_since;

	/* The status. */
	struct status_model *model;
	struct loop_timer *status_timer;
	char status_digest[65];
	char *status_file; /* FOLDER/SEQUENCE it was written for */
	struct {
		ino_t ino;
		struct timespec mtime;
	} status_left; /* how we have left it: `enable` writes there when we do not answer */
	bool status_trouble; /* it could not be written the last time */
	bool status_due;
	usec_t status_told; /* when it was made last */

	/* What others ask. */
	struct listener *api;
	struct endpoints *endpoints;
	struct health *health;
	struct telemetry *telemetry;
	struct notifier *notifier;
	struct pause *pause;
	struct machine_facts *machine;
	bool serving, drained;

	bool retiring;
	usec_t homeless_since; /* since when no handler directory is left */
	struct loop_timer *housekeeping;
	struct log_file *log;
};

extern const struct handler_class *const handler_classes[HANDLERS];

/* daemon_goal.c: reads goal.json, decides, goes over to what it wants. Errors are told in the status; only what stops the
 * daemon is returned. */
_nodiscard_ int daemon_load_goal(struct daemon *d, struct error *err);

/* daemon_settings.c */
struct user_settings;
/* The settings of this goal state and what the files and user data add; the report is made anew. `offered`: instead of the
 * settings that user data has brought before, which may be refused; NULL: these, which are passed over then. */
_nodiscard_ int daemon_load_documents(struct daemon *d, const struct goal_request *g, const struct user_settings *offered,
				      struct settings *s, char **ret_key, struct error *err);
/* Goes over to `s` and takes it. */
_nodiscard_ int daemon_put_in_force(struct daemon *d, struct settings *s, struct error *err);
/* What the component "settings" says: something, every sentence of the report or why, what is in force and its warnings. */
void daemon_say_settings(struct daemon *d, enum status_level level, enum duty duty, int code, const char *message);
void daemon_say_rejected(struct daemon *d, const struct error *why, int code);
void daemon_say_accepted(struct daemon *d);

/* daemon_user_data.c: the settings parts of user data instead of those before; see struct handler_host. */
_nodiscard_ int daemon_offer_settings(struct daemon *d, const char *revision, const struct handler_document *documents, size_t n,
				      struct error *err);

/* daemon_status.c */
void daemon_changed(struct daemon *d);	     /* soon */
void daemon_write_status(struct daemon *d);  /* now, if anything changed */
/* Appends what `evenkeel status` and the local API show. */
_nodiscard_ int daemon_describe(struct daemon *d, struct buf *out);
/* Whether a handler still has a duty that is open or failed. */
bool daemon_component_open(const struct daemon *d, size_t handler);
bool daemon_idle(const struct daemon *d);    /* no open duty, no busy handler */

/* daemon_api.c */
_nodiscard_ int daemon_open_api(struct daemon *d, struct error *err);
void daemon_close_api(struct daemon *d);

/* daemon.c */
void daemon_retire(struct daemon *d);
/* Retired: a manager stops the service, and where there is none it ends by itself. */
void daemon_leave(struct daemon *d);

/* health.c: /ready and /app-health, and the application's own health. */
struct health;
_nodiscard_ int health_new(struct daemon *d, struct health **ret, struct error *err);
void health_apply(struct health *h, const struct settings *s);
_nodiscard_ int health_report(struct health *h, handler_report_fn add, void *userdata);
bool health_application_ok(const struct health *h);
bool health_ready(const struct health *h); /* what /ready says */
/* Appends "ready", "notReady" and "application" as members of a JSON object. */
void health_describe(const struct health *h, struct buf *out);
/* What was known of the application counts no more; handlers are told when it is healthy. */
void health_ask_anew(struct health *h);
void health_free(struct health *h);

DEFINE_CLEANUP(struct health *, health_free)

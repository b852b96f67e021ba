/* A job's transient unit, as it is watched. For executor_unit*.c only. */
#pragma once

#include "agent/io/bus_internal.h"
#include "agent/io/executor_internal.h"

#define UNIT_PREFIX "evenkeel-job-"

struct unit_watch {
	struct executor_job *job;
	char unit[160];
	sd_bus_slot *match, *query, *start;
	sd_bus_message *request; /* until the start is answered */
	unsigned name_tries;	 /* left; only after a release */
	struct loop_timer *retry, *send_later;
	char *start_job;  /* until it ended */
	bool asked_again; /* something changed while a query was under way */
	bool seen;	  /* loaded at least once, or started by us */
	bool kill_all;	  /* the time to stop was over before the start was answered */
	char job_result[16]; /* of our start job, when it was not "done" */
	char result[32], detail[400];
};

/* executor_unit_watch.c */
/* `send_later` is the timer's, for a start that has to wait. On failure the watch is there, too. */
_nodiscard_ int unit_watch_new(struct executor_job *job, void (*send_later)(void *userdata), struct unit_watch **ret);
void unit_watch_free(struct unit_watch *w);
/* Asks for changes of the unit to be told, also after a connection was lost. */
int unit_watch_add_match(struct unit_watch *w);
/* Asks how the unit is, and judges that: the job may end. */
void unit_watch_query(struct unit_watch *w);
/* Ends the job: nothing ran. May free the watch. */
void unit_watch_fail_start(struct unit_watch *w, const char *why);

/* executor_units.c */
/* SIGTERM to the runner; with `all` SIGKILL to everything. Sent when there is a process. */
void unit_watch_kill(struct unit_watch *w, bool all);

/* executor_unit_properties.c: what StartTransientUnit says of the unit */
_nodiscard_ int unit_append_properties(sd_bus_message *m, const struct executor *e, const char *id,
				       const struct executor_request *req);

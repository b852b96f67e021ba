/* Settings of draining (settings.md 1.2 "drain" and 1.3). */
#pragma once

#include "agent/codec/json.h"
#include "agent/core/settings_script.h" /* struct retry_settings */

enum policy_action { POLICY_DRAIN, POLICY_NOTIFY, POLICY_IGNORE };
/* ACKNOWLEDGE_DEFAULT is gone after loading: whenDrained with drain, else never. */
enum policy_acknowledge {
	ACKNOWLEDGE_DEFAULT = -1,
	ACKNOWLEDGE_WHEN_DRAINED,
	ACKNOWLEDGE_IMMEDIATELY,
	ACKNOWLEDGE_NEVER
};

struct policy_rule {
	struct jd_list types;         /* of char *; empty: all */
	char *source;                 /* "Platform" | "User" | NULL */
	int64_t max_duration_seconds; /* -1: absent */
	int64_t min_notice_seconds;   /* -1: absent */
	int64_t max_notice_seconds;   /* -1: absent */
	int action;
	int acknowledge;
};

enum step_type {
	STEP_PROBE_DOWN,
	STEP_REFUSE_PROBE,
	STEP_RUN,
	STEP_HOOKS,
	STEP_HTTP,
	STEP_WAIT_FOR_CONNECTIONS,
	STEP_WAIT_UNTIL,
	STEP_STOP_UNITS,
	STEP_PARALLEL,
};

enum on_failure { ON_FAILURE_CONTINUE, ON_FAILURE_FINISH, ON_FAILURE_ABORT };

struct http_step {
	char *method; /* never NULL after loading */
	struct jd_secretable url;
	struct jd_list headers; /* of struct script_variable */
	char *body;
	struct jd_list expect; /* of int64_t */
};

struct step_settings {
	int type;   /* enum step_type */
	char *name; /* never NULL after loading: default type and position, "run-2", in parallel "run-2.1" */
	/* After loading never 0, but for probeDown without one: the type's default, for parallel the longest of its
	 * steps. stopUnits: for each unit; hooks: for each file. */
	int64_t timeout_seconds;
	int64_t reserve_seconds; /* after loading never -1: the type's default; stopUnits: for each unit */
	struct retry_settings retry;
	int on_failure;

	int64_t wait_seconds;          /* probeDown; after loading never -1: computed from health.loadBalancerProbe */
	struct jd_list ports;          /* refuseProbe, waitForConnections: of int64_t */
	int ports_word;                /* waitForConnections: 0 is "fromLoadBalancer", -1 a list */
	bool ports_from_load_balancer; /* the same, after loading */
	struct jd_list command;        /* run, waitUntil: of char * */
	struct jd_list undo_command;   /* run */
	char *user;
	char *directory, *undo_directory; /* hooks */
	struct http_step http;
	struct http_step *http_undo;
	int64_t at_most;
	int64_t interval_seconds;
	struct jd_list units; /* stopUnits: of char * */
	struct jd_list steps; /* parallel: of struct step_settings */
};

enum shared_acknowledge { SHARED_NEVER, SHARED_LEADER, SHARED_ALWAYS };

struct shutdown_settings {
	int64_t max_delay_seconds;
};

struct drain_settings {
	int64_t polling_interval_seconds;
	char *api_version;
	int64_t lead_seconds;
	int64_t margin_seconds;
	struct jd_list policy; /* of struct policy_rule; the default rules when absent */
	struct jd_list steps;  /* of struct step_settings; the default steps when absent */
	int64_t restore_timeout_seconds;
	bool restore_when_rebooted;
	struct {
		int acknowledge; /* enum shared_acknowledge */
		char *peer_url;
	} shared_events;
	struct shutdown_settings *shutdown; /* NULL: no inhibitor */
};

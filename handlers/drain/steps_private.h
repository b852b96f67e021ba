/*
 * What the parts of doing steps share: one step under way, and how steps of each type begin and are stopped. steps.c keeps
 * the list, deadlines and answers; every type has a file of its own.
 */
#pragma once

#include "agent/azure/imds.h"
#include "agent/base/limits.h"
#include "agent/core/job.h"
#include "agent/io/loop.h"
#include "handlers/common/jobs.h"
#include "handlers/drain/steps.h"

struct bus_call;
struct http_call;
struct doing;

#define DETAIL_MAX   400
#define EXPECTED_MAX 16 /* statuses that a request may name; the settings take no more */
/* A stopped command has this long to end well before its whole cgroup is killed. */
#define STOP_GRACE_USEC (2 * USEC_PER_SEC)

struct step_kind {
	/* Whatever cannot be begun ends as failed. `a` and `state` are good during the call only. */
	void (*begin)(struct doing *d, const struct drain_action *a, const struct drain_state *state);
	/* d->stopping has been set: step_end_stopped() now, or when what runs has ended. */
	void (*stop)(struct doing *d);
	/* When d->again fires, unless the step is being stopped. */
	void (*again)(struct doing *d);
	void (*shortened)(struct doing *d); /* d->deadline_boot has come nearer; NULL: that is all */
};
extern const struct step_kind step_job, step_units, step_http, step_wait_until, step_wait_for_connections, step_refuse_probe;

/* One step under way. */
struct doing {
	struct doing *next;
	struct drain_steps *steps;
	const struct step_kind *kind;
	int64_t token;
	int type; /* enum step_type */
	bool undo, stopping, timed_out;
	bool ended; /* only the answer is still to go out */
	enum step_outcome outcome;
	int exit_code;
	char detail[DETAIL_MAX];
	char seen[160]; /* of a wait: what it has seen last, for when its time is up */
	struct loop_timer *deadline;
	usec_t deadline_boot;
	struct loop_timer *again; /* waits: when to look again; stopUnits: when the next one must have its turn */

	/* commands, hooks, waitUntil, refuseProbe */
	struct jobs_handle *handle;
	char *job;
	struct job *spec; /* to begin it again when it was lost */
	bool may_be_lost; /* taken up from an earlier process of ours */

	/* stopUnits */
	char **units; /* in the order of work */
	size_t at;
	usec_t each_usec, reserve_usec;
	struct bus_call *call;

	/* http */
	struct http_call *request;
	int64_t expected[EXPECTED_MAX];
	size_t n_expected;

	/* waitUntil */
	usec_t interval_usec, asked_boot;
	int64_t round;

	/* waitForConnections */
	uint16_t ports[LIMIT_PORTS];
	size_t n_ports;
	bool wants_ports; /* the load balancer's, which are asked for */
	uint64_t at_most;
};

struct kept_secret {
	char *name, *value;
};

struct drain_steps {
	const struct handler_host *host;
	drain_steps_result_fn result;
	void *userdata;
	struct doing *first;

	/* Values that steps refer to, see drain_steps_settings(). */
	struct kept_secret *secrets;
	size_t n_secrets;

	/* waitForConnections: ports of the load balancer. */
	struct {
		struct imds_call *call;
		struct imds_backends ports; /* n is 0 before the first answer */
		usec_t told_boot;
	} balancer;

	/* refuseProbe: our table as a whole, beyond single steps. */
	struct {
		char *marker;
		bool there; /* a table of ours may be in force */
		struct jobs_handle *handle;
		struct job *spec;
		usec_t again_boot; /* not before, after a failure */
	} table;
};

/* The one way a step ends; the first end counts. detail is copied. */
void step_end(struct doing *d, enum step_outcome outcome, int exit_code, const char *detail);
void step_end_failed(struct doing *d, const struct error *e);
/* Stopped, by its deadline or by the core. */
void step_end_stopped(struct doing *d);

/* steps_job.c: a job named "drain-TOKEN"; `input` NULL: nothing. */
void spec_free(struct job *spec);
DEFINE_CLEANUP(struct job *, spec_free)
_nodiscard_ int spec_new(const char *id, const char *title, usec_t timeout, struct job **ret, struct error *err);
_nodiscard_ int spec_argv(struct job *spec, char *const *argv, size_t n);
_nodiscard_ int step_job_start(struct doing *d, jobs_done_fn done, struct error *err);
/* The id of the job that this token has left, or NULL (also when out of memory). */
char *step_job_find(const struct drain_steps *s, int64_t token);
void step_job_forget(struct doing *d);
/* A job is stopped, and its callback ends the step. */
void step_job_stop(struct doing *d);
/* How the step ends when the job has ended. */
void step_job_end(struct doing *d, const struct job_result *r);
void step_job_take_up(struct doing *d, const char *id);

/* steps_tell.c: what commands and hooks are told, in their environment and on their standard input. */
_nodiscard_ int steps_tell(struct job *spec, const struct drain_action *a, const struct drain_state *state);

/* steps_http.c: the value a secretable stands for, or NULL with an error. */
const char *steps_value(const struct drain_steps *s, const struct jd_secretable *v, const char *what, struct error *err);
void steps_secrets_done(struct drain_steps *s);

/* steps_probe.c: where nft is, or NULL with an error that says what to do. */
char *steps_find_nft(const struct paths *paths, struct error *err);
/* As what it is run: nothing of the customer's is in it, and it needs nothing of root's power but CAP_NET_ADMIN. */
struct jobs_request spec_of_nft(const struct job *spec);
_nodiscard_ int steps_table_init(struct drain_steps *s);
void steps_table_done(struct drain_steps *s);

/* steps_connections.c: asks in advance, so that the ports are known when time is short. */
void steps_balancer_ask(struct drain_steps *s);

/*
 * What `evenkeel status` shows: one value, gathered from the service and from its files, that is --json as it is and the
 * screen for people. The table in status_view.c is the shape that evenkeel(1) promises. Times are texts (ISO 8601, UTC),
 * absent ones NULL; release with jd_free(&status_view_type, v).
 */
#pragma once

#include <stdio.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/core/drain_view.h"

struct paths;

struct view_machine {
	char *name, *vm_id, *size, *scale_set, *location, *resource_id; /* as the metadata service has said */
	char *host_name;
	char *problem; /* why it has not said it */
	bool asking;
};

struct view_owner { /* whose service it is */
	char *kind; /* extension, vm-application, package */
	char *version;
};

struct view_pause {
	char *since, *until, *reason;
	int64_t remaining_seconds;
};

struct view_certificate {
	char *name, *state; /* as evenkeel certs says */
	char *version, *thumbprint, *not_after, *installed_at;
	char *error; /* what is wrong; NULL: nothing */
};

struct view_last { /* the newest run of a script */
	char *name, *origin, *state, *result, *job, *started_at, *ended_at;
	int64_t duration_msec; /* -1: unknown */
};

struct view_user_data {
	char *revision; /* SHA-256 */
	char *seen_at, *confirmed_at, *removed_at;
	int64_t size_bytes;
};

struct status_view {
	bool running; /* the service; else this is what its files tell */
	char *version, *sequence;
	bool serving, ready;
	char *not_ready;
	char *application; /* healthy, unhealthy, unknown, unchecked */
	char *status;	   /* JSON: the document of N.status, as it is or would be now; NULL: none */
	struct view_machine machine;
	struct view_owner owner;
	struct view_pause *pause;
	struct drain_view drain;
	struct jd_list certificates;	  /* of struct view_certificate, the next to expire first */
	struct jd_list scripts;		  /* of struct view_last, the newest first */
	struct view_user_data *user_data; /* NULL: none was ever seen */
};

extern const struct jd_type status_view_type, view_pause_type, view_machine_type;

/* status_gather.c: everything that service or files tell. `running` says which of them; who does not answer is an error.
 * Asks the service to find out what VM this is, and waits for that for a second. */
_nodiscard_ int status_gather(const struct paths *p, bool running, struct status_view *ret, struct error *err);

/* status_screen.c: one screen. `columns` 0: no terminal, nothing is cut. */
_nodiscard_ int status_print(const struct status_view *v, unsigned columns, usec_t now_wall, FILE *out,
			     struct error *err);

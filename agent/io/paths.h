/*
 * Where things are (design.md 3), under one root: "" in life, a directory of its own in tests and
 * rehearsals (EVENKEEL_ROOT). Nothing else in the program builds such a path.
 */
#pragma once

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct paths {
	char *root;	    /* "" or an absolute directory without trailing "/" */
	char *state;	    /* /var/lib/evenkeel */
	char *records;	    /* /var/lib/evenkeel/state */
	char *jobs;	    /* /var/lib/evenkeel/jobs */
	char *certificates; /* /var/lib/evenkeel/certificates */
	char *run;	    /* /run/evenkeel */
	char *run_jobs;	    /* /run/evenkeel/jobs */
	char *api_socket;   /* /run/evenkeel/api.sock */
	char *etc;	    /* /etc/evenkeel */
	char *log_default;  /* /var/log/azure/PUBLISHER.TYPE */
	char *libexec;	    /* /usr/local/libexec/evenkeel */
	char *bin_link;	    /* /usr/local/bin/evenkeel */
	char *systemd;	    /* /etc/systemd */
	char *units;	    /* /etc/systemd/system */
	char *logind;	    /* /etc/systemd/logind.conf.d */
	char *console;	    /* /dev/console */
	char *waagent;	    /* /var/lib/waagent */
};

#define LOGIND_DROPIN "50-evenkeel.conf" /* ours, in `logind`, while drain.shutdown needs it */

/* root NULL: from the environment (EVENKEEL_ROOT), else "". */
_nodiscard_ int paths_init(struct paths *p, const char *root, struct error *err);
void paths_done(struct paths *p);

/* DIR/NAME on the heap, NULL on out of memory. */
char *path_join(const char *dir, const char *name);
/* The directory that holds what this names, on the heap: "/a" of "/a/b", "/" of "/a" and of "/", "." of "a". No path of
 * ours ends in a slash. NULL on out of memory. */
char *path_parent(const char *path);
/* The root in front of an absolute path of the settings or of the platform, unless it is there already. */
char *path_under_root(const struct paths *p, const char *absolute);
/* The directory of a job: below the state, or below /run if its job.json stands there, because the disk could not take it. */
char *path_of_job(const struct paths *p, const char *id);

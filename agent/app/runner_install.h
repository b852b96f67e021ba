/*
 * The parts of JOB_INSTALL and JOB_REMOVE, for their own files only: runner_install.c judges the directory,
 * runner_directory.c makes it, runner_file.c makes one file as it is to be, runner_set.c installs files as a set.
 */
#pragma once

#include <sys/types.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"
#include "agent/core/job.h"

struct paths;

/* ---- runner_directory.c ---- */

/* mkdir -p, 0755; what was made has the labels that SELinux's policy has for it. That these could not be given is no failure:
 * *ret_notice tells it, on the heap, else it stays as it is. */
_nodiscard_ int directory_make(const struct paths *p, const char *path, char **ret_notice, struct error *err);

/* ---- runner_file.c ---- */

struct ownership {
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

_nodiscard_ int file_ownership(const struct job_file *f, struct ownership *ret, struct error *err);
/* A new file at `path`: owner, group, mode and access list are right before anybody can see it under its name. */
_nodiscard_ int file_make(const char *path, const struct job_file *f, const struct job_secrets *secrets,
			  struct error *err);

/* ---- runner_set.c ---- */

/*
 * DIRECTORY/versions/VERSION/NAME, DIRECTORY/current -> versions/VERSION, DIRECTORY/NAME -> current/NAME. A reader sees the
 * old set or the new one, never half of each.
 */
_nodiscard_ int set_install(const struct job *job, const struct job_secrets *secrets, const char *directory,
			    struct error *err);
_nodiscard_ int set_remove(const struct job *job, const char *directory, struct error *err);
/* Whether a set is installed there. */
bool set_is_there(const char *directory);

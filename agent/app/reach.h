/*
 * Whether a user may read a file: what the kernel would answer to a process of that user, worked out from modes, owners and
 * POSIX access lists of the file and of every directory on the way, so that nobody has to become that user to ask.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/base/error.h"

struct acl_entry; /* runner.h */
struct stat;

#define REACH_GROUPS_MAX 1024

#define REACH_NOBODY ((uid_t)-2) /* who is in a group and is nobody otherwise */

/* Who asks: release with reach_who_done(). */
struct reach_who {
	uid_t uid;
	gid_t *groups; /* the primary one and all others */
	size_t n_groups;
};

/* A user as it would log in; -ENOENT: there is none. */
_nodiscard_ int reach_user(const char *user, struct reach_who *ret, struct error *err);
/* Somebody who is in this group and is nobody otherwise. */
_nodiscard_ int reach_group(const char *group, struct reach_who *ret, struct error *err);
void reach_who_done(struct reach_who *w);

/* What the kernel would decide (acl(5)) about one file with this access list; `wanted`: ACL_READ, ACL_SEARCH. */
bool reach_granted(const struct reach_who *w, const struct stat *st, const struct acl_entry *entries, size_t n,
		   unsigned wanted);

/* Follows links. 0: may read it. -EACCES: *err names the directory or file that keeps the user out, with its mode. Other
 * errors: it cannot be looked at. `name`: of the user or group, for the message. */
_nodiscard_ int reach_check(const struct reach_who *w, const char *name, const char *path, struct error *err);

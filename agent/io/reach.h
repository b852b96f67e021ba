/*
 * Whether a user may read a file: what the kernel would answer to a process of that user, worked out from modes, owners and
 * POSIX access lists of the file and of every directory on the way, so that nobody has to become that user to ask.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agent/base/error.h"

#define REACH_GROUPS_MAX 1024

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

/* Follows links. 0: may read it. -EACCES: *err names the directory or file that keeps the user out, with its mode. Other
 * errors: it cannot be looked at. `name`: of the user or group, for the message. */
_nodiscard_ int reach_check(const struct reach_who *w, const char *name, const char *path, struct error *err);

/* ---- access lists ---- */

enum reach_tag {
	REACH_USER_OBJ = 1,
	REACH_USER = 2,
	REACH_GROUP_OBJ = 4,
	REACH_GROUP = 8,
	REACH_MASK = 0x10,
	REACH_OTHER = 0x20
};

struct reach_entry {
	unsigned tag, permissions; /* read 4, write 2, execute 1 */
	uid_t id;		   /* of REACH_USER and REACH_GROUP */
};

/* The access list of a file, following links; without one, what its mode says. Heap, free() it. */
_nodiscard_ int reach_list(const char *path, struct reach_entry **ret, size_t *ret_n, struct error *err);

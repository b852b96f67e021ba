/*
 * SELinux, as far as files of ours need it: its mode, the type of a file's label, and the labels that the policy has for
 * paths, which restorecon(8) gives: it knows the policy and the administrator's own rules. What is made in a directory has
 * the directory's type, and renamed within it keeps that, so only what begins a type of its own is labelled.
 */
#pragma once

#include <stddef.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"
#include "agent/base/time.h"

struct paths;

#define SELINUX_TYPE_MAX     128
#define SELINUX_PATHS_MAX    40 /* of one call */
#define SELINUX_RELABEL_USEC (10 * USEC_PER_SEC)

enum selinux_mode { SELINUX_OFF, SELINUX_PERMISSIVE, SELINUX_ENFORCING };
enum selinux_mode selinux_mode(const struct paths *p);
const char *selinux_mode_name(enum selinux_mode m); /* off permissive enforcing */

/* The third word of its label, as bin_t; of a link itself. -ENODATA: it has no label. */
_nodiscard_ int selinux_type(const char *path, char ret[static SELINUX_TYPE_MAX], struct error *err);

/* Gives each of the paths that is there, not what is below it, the label that the policy has for it. Blocks for `limit` at
 * most, then kills restorecon. 0 also where SELinux is off: nothing is started there. -ENOENT: no restorecon; -ETIMEDOUT;
 * -EIO: it has failed, with its own words. */
_nodiscard_ int selinux_relabel(const struct paths *p, const char *const *paths, size_t n, usec_t limit,
				struct error *err);

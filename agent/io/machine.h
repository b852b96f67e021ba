/* Which machine and which boot this is. */
#pragma once

#include "agent/base/error.h"
#include "agent/base/macros.h"

struct paths;

#define MACHINE_ID_MAX 64
/* The DMI product UUID as the kernel shows it (lower case), else /etc/machine-id; what a cloned disk does not carry
 * along in the first case. -ENOENT when neither is there. */
_nodiscard_ int machine_identity(const struct paths *p, char ret[static MACHINE_ID_MAX], struct error *err);
/* /proc/sys/kernel/random/boot_id (below the root if a file is there, for tests). */
_nodiscard_ int machine_boot_id(const struct paths *p, char ret[static MACHINE_ID_MAX], struct error *err);

/*
 * A machine that becomes an image: what belongs to this one VM goes, what every VM made of the image shall have stays (program,
 * units, /etc/evenkeel).
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"

struct bus;
struct paths;

/* -EBUSY, with nothing changed: something is drained, a job runs, or a daemon runs that no manager can stop. NULL in `bus`: no
 * manager answers. Idempotent. */
_nodiscard_ int generalize_check(const struct paths *p, struct error *err);
/* Stops the service and removes identity, records, secrets, logs and certificates. `all`: the files below /etc/evenkeel, too, and
 * the program, unless a package owns it. Goes on past failures; the first is returned. */
_nodiscard_ int generalize(const struct paths *p, struct bus *bus, bool all, struct error *err);

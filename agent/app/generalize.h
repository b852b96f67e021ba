/*
 * A machine that becomes an image: what belongs to this one VM goes, what every VM made of the image shall have stays (program,
 * units, /etc/evenkeel).
 */
#pragma once

#include <stdbool.h>

#include "agent/base/error.h"

struct bus;
struct paths;

/* 0 when nothing stands against it: -EBUSY when something is drained or a job runs, -EPROTO when a record of a later version would
 * tell. Changes nothing. */
_nodiscard_ int generalize_check(const struct paths *p, struct error *err);

/* Checks, stops the service and removes identity, records, secrets, logs and certificates. `bus` NULL: no manager answers; then a
 * daemon that runs is -EBUSY, too. `all`: the files below /etc/evenkeel as well, and the program, unless a package owns it.
 * Goes on past failures; the first is returned. Idempotent. */
_nodiscard_ int generalize(const struct paths *p, struct bus *bus, bool all, struct error *err);

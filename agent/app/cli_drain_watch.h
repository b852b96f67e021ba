/* Looking on while the daemon drains: its view (agent/core/drain_view.h), asked for again and again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/error.h"
#include "agent/base/macros.h"
#include "agent/base/time.h"
#include "agent/core/drain_view.h"

struct buf;
struct paths;

#define DRAIN_LOOK_USEC (200 * USEC_PER_MSEC) /* from one look to the next */

/* One look, with the lines after number `since`. `text` is the document itself. */
_nodiscard_ int drain_look_once(const struct paths *p, int64_t since, struct buf *text, struct drain_view *ret,
				struct error *err);
void drain_view_done(struct drain_view *v);

/* The number of the last line before an order is given. An exit code. */
_nodiscard_ int drain_told_so_far(const struct paths *p, int64_t *ret);

/* Whether what is waited for has come: *ret_code is the verb's exit code then. */
typedef bool (*drain_until_fn)(const struct drain_view *v, int *ret_code);
/* Prints what is told until then, or until the time is up: -1. */
_nodiscard_ int drain_watch(const struct paths *p, const char *verb, int64_t since, usec_t within,
			    drain_until_fn until);

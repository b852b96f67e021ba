/* Reading the journal: only what a person needs when the service does not come up. */
#pragma once

#include "agent/base/buf.h"

/* Appends the newest message that the unit itself wrote, one line. -ENOENT: none, or no journal. */
_nodiscard_ int journal_last_line(const char *unit, struct buf *out);

/* Appends what the unit and systemd wrote about it last, oldest first: "SECONDS PRIORITY MESSAGE", at most
 * `lines`. -ENOENT: nothing, or no journal. */
_nodiscard_ int journal_tail(const char *unit, size_t lines, struct buf *out);

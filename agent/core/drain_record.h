/* The durable form of draining: JSON by one table, with a version. */
#pragma once

#include "agent/core/drain_state.h"

#define DRAIN_RECORD_VERSION 1

/* Appends; the buffer's maximum is LIMIT_RECORD. -ENOMEM, -EFBIG. */
_nodiscard_ int drain_record_encode(const struct drain_state *s, struct buf *out);

/* The state, judged: what a record of ours cannot say is refused. -EBADMSG, -EINVAL broken; -EPROTO written
 * by a later version; -E2BIG, -ENOMEM. */
_nodiscard_ int drain_record_decode(const char *text, size_t len, struct drain_state **ret, struct error *err);

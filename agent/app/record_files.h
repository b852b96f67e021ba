/* What the handlers' records tell while the service does not run. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/base/macros.h"

struct buf;
struct drain_view;
struct paths;

/* Appends the newest document of the record of that name. -ENOENT: there is none; else as record_open() and record_load()
 * say. */
_nodiscard_ int record_files_read(const struct paths *p, const char *name, size_t max, uint32_t version, struct buf *text);

/* -ENOENT: nothing has ever been drained or watched; -EBADMSG, -EPROTO: no record that can be read. Release with
 * jd_free(&drain_view_type, ret). */
_nodiscard_ int record_files_drain(const struct paths *p, struct drain_view *ret);

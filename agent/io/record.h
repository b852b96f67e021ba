/*
 * A durable record: one small document that is always whole. Two preallocated slots in one file, written in
 * turn with fdatasync, each with generation, format version, length and checksum: no temporary file and no new block
 * is needed, so a full disk does not stop a save; a torn write leaves the other slot. If the state directory cannot
 * be written at all, the record goes to the fallback below /run, and the newer of both counts at load.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct record;

/* Opens or makes `path` with two slots for documents of at most `max` bytes (0600). `version` is this program's format of
 * the document; a record written by a newer program is refused at load (-EPROTO) and never overwritten.
 * `fallback` may be NULL. Not an error: neither place is writable (saves then fail). */
_nodiscard_ int record_open(const char *path, const char *fallback, size_t max, uint32_t version, struct record **ret,
			    struct error *err);
void record_close(struct record *r);

/* Appends the newest whole document. -ENOENT: nothing was ever saved; -EBADMSG: both slots are damaged (the file
 * is kept aside as NAME.damaged); -EPROTO: a newer format. `ret_version` may be NULL. */
_nodiscard_ int record_load(struct record *r, struct buf *ret, uint32_t *ret_version, struct error *err);

/* Durable when it returns 0; 1 when only the fallback took it (lost at a reboot; the caller says so). */
_nodiscard_ int record_save(struct record *r, const void *data, size_t len, struct error *err);

/* For who only looks on: appends the newest whole document of the file, changing nothing. -ENOENT, -EBADMSG as above. */
_nodiscard_ int record_peek(const char *path, struct buf *ret);

DEFINE_CLEANUP(struct record *, record_close)

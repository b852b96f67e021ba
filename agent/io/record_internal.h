/*
 * The files that hold a record. For record*.c only.
 *
 * A slot is a header and the document; a write overwrites the older slot, so the newest whole document is never
 * touched. On disk, little endian:
 *
 *	0  magic "EKrecord"     8  generation     16  size of a slot = offset of the second
 *	24 format version       28 length         32  checksum over all of the above and the document
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

#define RECORD_BLOCK	    4096U
#define RECORD_SLOT_MAX	    (64U * 1024 * 1024)
#define RECORD_HEADER_BYTES 40U

enum slot_state { SLOT_BLANK, SLOT_GOOD, SLOT_DAMAGED };

struct slot {
	enum slot_state state;
	uint64_t generation;
	uint32_t version, length;
};

/* One file that may hold the record, and what was found in it. */
struct place {
	char *path;
	int fd; /* -1: could not be opened */
	bool writable;
	size_t slot_size;
	struct slot slots[2];
};

/* Opens what is there, for reading alone if need be; makes it only when asked to. */
int place_open(struct place *p, size_t slot_size, bool make);
void place_close(struct place *p);
/* Looks at what is open. The slots' size may be another program version's. */
void place_scan(struct place *p, size_t slot_size);
/* Index of the newest good slot, or -1. */
int place_newest(const struct place *p);
/* The first save writes both slots, so one damaged and one blank slot mean that it never came to its end. */
bool place_is_damaged(const struct place *p);
/* Reads the newest slot anew and appends its document. What it says is not "good" when that has failed. */
struct slot place_read(const struct place *p, struct buf *ret);
_nodiscard_ int place_write(struct place *p, uint64_t generation, uint32_t version, const void *data, size_t len);
/* Deleted or replaced under us: what is written there would be lost with our file descriptor. */
bool place_is_still_there(const struct place *p);
/* Makes room for larger slots. If there is no space for that now, the old file serves as long as it can. */
void place_grow(struct place *p, size_t slot_size);
/* A damaged file is renamed, for whoever looks into it later; the next save begins a new one. */
void place_keep_aside(struct place *p);

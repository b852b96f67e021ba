/* A tar archive (POSIX ustar) of regular files, made in a buffer. */
#pragma once

#include <stdint.h>

#include "agent/base/buf.h"

#define TAR_NAME_MAX 99

/* Appends a file of root's. `mtime` in seconds since 1970. -ENAMETOOLONG, -EFBIG as the buffer says. */
_nodiscard_ int tar_add(struct buf *out, const char *name, unsigned mode, uint64_t mtime, const void *data, size_t len);
/* The two empty blocks that end an archive. */
_nodiscard_ int tar_end(struct buf *out);

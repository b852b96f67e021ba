/*
 * Files: bounded reads, one atomic write, directories, trees removed without following links.
 * Every function takes a path; paths under our seams come from struct paths (agent/io/paths.h).
 * Errors name the path. A crash in the middle of a write may leave a name that begins with
 * FS_TEMPORARY_PREFIX; fs_list() does not show those, fs_remove_tree() removes them like everything else.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

#define FS_TEMPORARY_PREFIX ".evenkeel-tmp-"

/* Appends the whole regular file to *ret. -EFBIG when it is larger than `max` (or the buffer allows),
 * -ENOENT when missing, -EISDIR/-EINVAL when it is not a regular file. Never blocks on a FIFO. */
_nodiscard_ int fs_read(const char *path, size_t max, struct buf *ret, struct error *err);
/* The same without following a symbolic link in the last component. */
_nodiscard_ int fs_read_nofollow(const char *path, size_t max, struct buf *ret, struct error *err);

enum fs_write_flags {
	FS_REPLACE = 0,
	FS_KEEP = 1 << 0,    /* do not replace what is there: -EEXIST */
	FS_NO_SYNC = 1 << 1, /* atomic for readers, but not durable: for what is written anew anyway */
};

/* The one way to write a file: temporary name in the same directory (O_EXCL, mode from the first byte),
 * write, fsync, rename (or link with FS_KEEP), fsync the directory. On failure nothing is left behind
 * and the old file is untouched; only when the last step fails is the new file there, perhaps not for good. */
_nodiscard_ int fs_write(const char *path, const void *data, size_t len, mode_t mode, unsigned flags,
			 struct error *err);

/* mkdir -p; only directories made here get the mode (exactly, whatever the umask). */
_nodiscard_ int fs_mkdirs(const char *path, mode_t mode, struct error *err);

/* 0 also when it was not there. */
_nodiscard_ int fs_unlink(const char *path, struct error *err);
/* Removes the tree, never following links, never crossing into another file system or a mount point (-EXDEV), at
 * most LIMIT_TREE_DEPTH deep (-ELOOP); goes on after an error and tells the first. 0 when absent. */
_nodiscard_ int fs_remove_tree(const char *path, struct error *err);
/* What the tree takes on its disk, itself included: directories and files of this file system, links not followed. Looks at
 * no more than `max` entries (what is beyond them does not count). 0 when absent or not to be read. */
uint64_t fs_tree_bytes(const char *path, size_t max);
/* Atomically makes `path` a symbolic link to `target`, replacing a link that is there; -EEXIST for anything else. */
_nodiscard_ int fs_symlink(const char *target, const char *path, struct error *err);
/* Copies a file's bytes atomically (fs_write semantics), streaming. */
_nodiscard_ int fs_copy(const char *from, const char *to, mode_t mode, struct error *err);
_nodiscard_ int fs_fsync_dir(const char *path, struct error *err);

/* Both follow links. */
bool fs_exists(const char *path);
bool fs_is_dir(const char *path);

/* Names in a directory, sorted by byte, without "." and ".."; at most `max` (-E2BIG). strv_free(). */
_nodiscard_ int fs_list(const char *path, size_t max, char ***ret, struct error *err);

/* Full write to a file descriptor, retried on EINTR and short writes. */
_nodiscard_ int fs_write_all(int fd, const void *data, size_t len);

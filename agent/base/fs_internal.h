/* What the files of agent/base/fs.h share. */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "agent/base/fs.h"

/* read() that goes on after a signal; a negative errno on failure. */
ssize_t fs_read_some(int fd, void *data, size_t len);
/* Opens a regular file for reading; 0, -EISDIR, -EINVAL for what is none, or a negative errno. */
_nodiscard_ int fs_open_regular(const char *path, int flags, int *ret_fd, struct stat *ret_st);
/* Opens the directory of `path` and finds the name in it, so that all steps that follow mean the same directory. */
_nodiscard_ int fs_open_parent(const char *path, int *ret_dir, const char **ret_name);

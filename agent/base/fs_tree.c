/* Directory trees, removed or measured without following links or leaving their file system. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs_internal.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

/* Bind mounts of the same file system have the same device, so the kernel is asked for mount points too where it
 * can tell (5.8). */
static bool is_mount_point(int fd)
{
#ifdef STATX_ATTR_MOUNT_ROOT
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &sx) == 0)
		return sx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
#endif
	(void)fd;
	return false;
}

static int remove_below(int dir, const char *name, dev_t device, unsigned depth);

/* Removes as much as possible; the first error is the one told. Takes fd. */
static int empty_directory(int fd, dev_t device, unsigned depth)
{
	_cleanup_(closedirp) DIR *d = fdopendir(fd);
	const struct dirent *e;
	int result = 0;

	if (!d) {
		result = -errno;
		close(fd);
		return result;
	}
	for (;;) {
		int r;

		errno = 0;
		e = readdir(d);
		if (!e)
			return result ? result : -errno;
		if (str_equal(e->d_name, ".") || str_equal(e->d_name, ".."))
			continue;
		r = remove_below(dirfd(d), e->d_name, device, depth);
		if (result == 0)
			result = r;
	}
}

static int remove_below(int dir, const char *name, dev_t device, unsigned depth)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	/* unlink() first: it never follows links, and says when the name is a directory. */
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	r = -errno;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno == ENOTDIR ? r : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != device || is_mount_point(fd))
		return -EXDEV;
	if (depth >= LIMIT_TREE_DEPTH)
		return -ELOOP;
	r = empty_directory(TAKE_FD(fd), device, depth + 1);
	if (r < 0)
		return r;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int fs_remove_tree(const char *path, struct error *err)
{
	_cleanup_close_ int dir = -1;
	const char *name;
	struct stat st;
	int r;

	r = fs_open_parent(path, &dir, &name);
	if (r == -ENOENT)
		return 0;
	if (r == 0 && fstat(dir, &st) < 0)
		r = -errno;
	if (r == 0)
		r = remove_below(dir, name, st.st_dev, 0);
	return r < 0 ? error_errno(err, r, "cannot remove %s and what is below it", path) : 0;
}

#define BLOCK_BYTES 512 /* of st_blocks, whatever the file system's are */

struct sum {
	uint64_t bytes;
	size_t left;
	dev_t device;
};

static void add_below(int dir, const char *name, struct sum *sum, unsigned depth)
{
	_cleanup_(closedirp) DIR *d = NULL;
	const struct dirent *e;
	struct stat st;
	int fd;

	if (sum->left == 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != sum->device)
		return;
	sum->left--;
	sum->bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
	if (!S_ISDIR(st.st_mode) || depth >= LIMIT_TREE_DEPTH)
		return;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		closep(&fd);
		return;
	}
	while ((e = readdir(d)))
		if (!str_equal(e->d_name, ".") && !str_equal(e->d_name, ".."))
			add_below(dirfd(d), e->d_name, sum, depth + 1);
}

uint64_t fs_tree_bytes(const char *path, size_t max)
{
	struct sum sum = { .left = max };
	struct stat st;

	if (lstat(path, &st) < 0)
		return 0;
	sum.device = st.st_dev;
	add_below(AT_FDCWD, path, &sum, 0);
	return sum.bytes;
}

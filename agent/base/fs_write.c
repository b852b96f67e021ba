/* The one atomic write: under a temporary name, made durable, then renamed; copies and links in the same way. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs_internal.h"
#include "agent/base/str.h"

#define COPY_CHUNK	65536
#define TEMPORARY_TRIES 16

/* A name beside the target, gone again with temporary_done() unless it was committed. */
struct temporary {
	int dir;
	int fd;
	const char *target; /* name in dir */
	char name[sizeof(FS_TEMPORARY_PREFIX) + 16];
	bool made;
};

#define TEMPORARY_INIT ((struct temporary){.dir = -1, .fd = -1})

static void temporary_done(struct temporary *t)
{
	if (t->made)
		(void)unlinkat(t->dir, t->name, 0);
	closep(&t->fd);
	closep(&t->dir);
}

#define _cleanup_temporary_ _cleanup_(temporary_done)

/* Makes a file, or with `link_to` a symbolic link. */
static int temporary_make(struct temporary *t, const char *path, const char *link_to)
{
	int r = fs_open_parent(path, &t->dir, &t->target);

	if (r < 0)
		return r;
	for (int i = 0; i < TEMPORARY_TRIES && !t->made; i++) {
		uint64_t random;

		if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
			random = ((uint64_t)getpid() << 32) + (uint64_t)i; /* early boot: O_EXCL still decides */
		(void)snprintf(t->name, sizeof(t->name), FS_TEMPORARY_PREFIX "%016" PRIx64, random);
		if (link_to)
			r = symlinkat(link_to, t->dir, t->name);
		else
			r = t->fd = openat(t->dir, t->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (r >= 0)
			t->made = true;
		else if (errno != EEXIST)
			return -errno;
	}
	return t->made ? 0 : -EEXIST;
}

static int temporary_create(struct temporary *t, const char *path, mode_t mode)
{
	int r = temporary_make(t, path, NULL);

	if (r < 0)
		return r;
	return fchmod(t->fd, mode) < 0 ? -errno : 0;
}

static int temporary_commit(struct temporary *t, unsigned flags)
{
	bool sync = !(flags & FS_NO_SYNC);

	if (t->fd >= 0) {
		if (sync && fsync(t->fd) < 0)
			return -errno;
		if (close(TAKE_FD(t->fd)) < 0)
			return -errno;
	}
	if (flags & FS_KEEP) {
		/* link() refuses to replace, on every kernel; the temporary name goes with temporary_done(). */
		if (linkat(t->dir, t->name, t->dir, t->target, 0) < 0)
			return -errno;
	} else {
		if (renameat(t->dir, t->name, t->dir, t->target) < 0)
			return -errno;
		t->made = false;
	}
	return sync && fsync(t->dir) < 0 ? -errno : 0;
}

int fs_write(const char *path, const void *data, size_t len, mode_t mode, unsigned flags, struct error *err)
{
	_cleanup_temporary_ struct temporary t = TEMPORARY_INIT;
	int r;

	r = temporary_create(&t, path, mode);
	if (r == 0)
		r = fs_write_all(t.fd, data, len);
	if (r == 0)
		r = temporary_commit(&t, flags);
	return r < 0 ? error_errno(err, r, "cannot write %s", path) : 0;
}

int fs_copy(const char *from, const char *to, mode_t mode, struct error *err)
{
	_cleanup_temporary_ struct temporary t = TEMPORARY_INIT;
	_cleanup_free_ char *chunk = malloc(COPY_CHUNK);
	_cleanup_close_ int fd = -1;
	struct stat st;
	ssize_t n;
	int r;

	if (!chunk)
		return error_oom(err);
	r = fs_open_regular(from, 0, &fd, &st);
	if (r < 0)
		return error_errno(err, r, "cannot copy %s", from);
	r = temporary_create(&t, to, mode);
	while (r == 0 && (n = fs_read_some(fd, chunk, COPY_CHUNK)) != 0)
		r = n < 0 ? (int)n : fs_write_all(t.fd, chunk, (size_t)n);
	if (r == 0)
		r = temporary_commit(&t, FS_REPLACE);
	return r < 0 ? error_errno(err, r, "cannot copy %s to %s", from, to) : 0;
}

int fs_symlink(const char *target, const char *path, struct error *err)
{
	_cleanup_temporary_ struct temporary t = TEMPORARY_INIT;
	struct stat st;
	int r;

	r = temporary_make(&t, path, target);
	if (r == 0 && fstatat(t.dir, t.target, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(st.st_mode))
		r = -EEXIST;
	if (r == 0)
		r = temporary_commit(&t, FS_REPLACE);
	return r < 0 ? error_errno(err, r, "cannot make the symbolic link %s", path) : 0;
}

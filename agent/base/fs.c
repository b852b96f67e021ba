/* Files: bounded reads, the one atomic write, trees removed without following links. */
#include "agent/base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

#define COPY_CHUNK      65536
#define READ_CHUNK      4096
#define TEMPORARY_TRIES 16

static ssize_t read_retry(int fd, void *data, size_t len)
{
	ssize_t n;

	do
		n = read(fd, data, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int fs_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* O_NONBLOCK so that a FIFO put in a file's place cannot hold us; it has no effect on regular files. */
static int open_regular(const char *path, int flags, int *ret_fd, struct stat *ret_st)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);

	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_st) < 0)
		return -errno;
	if (S_ISDIR(ret_st->st_mode))
		return -EISDIR;
	if (!S_ISREG(ret_st->st_mode))
		return -EINVAL;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* The size is only a hint: /proc says 0, and a file may grow meanwhile. Where the hint or the limit is reached a
 * single byte tells whether there is more, so that a file of exactly the limit needs no larger buffer. */
static int read_whole(int fd, size_t hint, size_t limit, struct buf *out)
{
	size_t got = 0;

	if (hint > limit)
		return -EFBIG;
	for (;;) {
		bool probing = got == hint || got == limit;
		size_t want = got < hint ? hint - got : READ_CHUNK;
		char probe;
		ssize_t n;
		int r;

		if (want > limit - got)
			want = limit - got;
		if (probing) {
			n = read_retry(fd, &probe, 1);
			if (n > 0 && got == limit)
				return -EFBIG;
			r = n > 0 ? buf_append(out, &probe, 1) : 0;
		} else {
			r = buf_reserve(out, want);
			n = r < 0 ? 0 : read_retry(fd, out->data + out->len, want);
			if (n > 0) {
				out->len += (size_t)n;
				buf_terminate(out);
			}
		}
		if (r < 0)
			return r;
		if (n <= 0)
			return (int)n;
		got += (size_t)n;
	}
}

static int read_flags(const char *path, int flags, size_t max, struct buf *out, struct error *err)
{
	_cleanup_close_ int fd = -1;
	size_t before = out->len;
	size_t room = out->max - before;
	struct stat st;
	int r;

	r = open_regular(path, flags, &fd, &st);
	if (r < 0)
		return error_errno(err, r, "cannot read %s", path);
	if (room > max)
		room = max;
	r = read_whole(fd, (uintmax_t)st.st_size > SIZE_MAX ? SIZE_MAX : (size_t)st.st_size, room, out);
	if (r == 0)
		return 0;
	out->len = before;
	buf_terminate(out);
	if (r == -EFBIG)
		return error_set(err, ERROR_SYSTEM, r, "cannot read %s: it is larger than %zu bytes", path, room);
	return error_errno(err, r, "cannot read %s", path);
}

int fs_read(const char *path, size_t max, struct buf *ret, struct error *err)
{
	return read_flags(path, 0, max, ret, err);
}

int fs_read_nofollow(const char *path, size_t max, struct buf *ret, struct error *err)
{
	return read_flags(path, O_NOFOLLOW, max, ret, err);
}

/* Opens the directory of `path` and finds the name in it, so that all steps that follow mean the same directory. */
static int open_parent(const char *path, int *ret_dir, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char dir[PATH_MAX] = ".";
	int fd;

	if (!*name || str_equal(name, ".") || str_equal(name, ".."))
		return -EINVAL;
	if (slash) {
		size_t n = slash == path ? 1 : (size_t)(slash - path);

		if (n >= sizeof(dir))
			return -ENAMETOOLONG;
		memcpy(dir, path, n);
		dir[n] = '\0';
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_dir = fd;
	*ret_name = name;
	return 0;
}

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
	int r = open_parent(path, &t->dir, &t->target);

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
	r = open_regular(from, 0, &fd, &st);
	if (r < 0)
		return error_errno(err, r, "cannot copy %s", from);
	r = temporary_create(&t, to, mode);
	while (r == 0 && (n = read_retry(fd, chunk, COPY_CHUNK)) != 0)
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

int fs_fsync_dir(const char *path, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return error_errno(err, -errno, "cannot write the directory %s to disk", path);
	return 0;
}

/* mkdir() obeys the umask, so the mode is set on what was made, and only on that. */
static int make_one(const char *path, mode_t mode)
{
	_cleanup_close_ int fd = -1;

	if (mkdir(path, mode & 0700) < 0) {
		int r = -errno;

		if (fs_is_dir(path))
			return 0;
		return r == -EEXIST ? -ENOTDIR : r;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, mode) < 0)
		return -errno;
	return 0;
}

int fs_mkdirs(const char *path, mode_t mode, struct error *err)
{
	char prefix[PATH_MAX];
	size_t n = strlen(path);
	int r = n == 0 ? -EINVAL : n >= sizeof(prefix) ? -ENAMETOOLONG : 0;

	for (size_t i = 1; r == 0 && i <= n; i++) {
		if ((path[i] != '/' && path[i]) || path[i - 1] == '/')
			continue;
		memcpy(prefix, path, i);
		prefix[i] = '\0';
		r = make_one(prefix, mode);
	}
	return r < 0 ? error_errno(err, r, "cannot make the directory %s", path) : 0;
}

int fs_unlink(const char *path, struct error *err)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return error_errno(err, -errno, "cannot remove %s", path);
	return 0;
}

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

	r = open_parent(path, &dir, &name);
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

bool fs_exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

bool fs_is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds a copy of `name`; `cap` counts the room without the final NULL. */
static int add_name(char ***v, size_t *n, size_t *cap, const char *name)
{
	if (*n == *cap) {
		size_t larger = *cap ? *cap * 2 : 16;
		char **p = reallocarray(*v, larger + 1, sizeof(*p));

		if (!p)
			return -ENOMEM;
		*v = p;
		*cap = larger;
	}
	(*v)[*n] = strdup(name);
	if (!(*v)[*n])
		return -ENOMEM;
	(*v)[++*n] = NULL;
	return 0;
}

int fs_list(const char *path, size_t max, char ***ret, struct error *err)
{
	_cleanup_(closedirp) DIR *d = opendir(path);
	_cleanup_strv_ char **v = NULL;
	size_t n = 0, cap = 0;
	int r = 0;

	if (!d)
		return error_errno(err, -errno, "cannot list %s", path);
	v = calloc(1, sizeof(*v));
	if (!v)
		return error_oom(err);
	while (r == 0) {
		const struct dirent *e;

		errno = 0;
		e = readdir(d);
		if (!e && errno)
			return error_errno(err, -errno, "cannot list %s", path);
		if (!e)
			break;
		if (str_equal(e->d_name, ".") || str_equal(e->d_name, "..") ||
		    str_starts(e->d_name, FS_TEMPORARY_PREFIX))
			continue;
		if (n == max)
			return error_set(err, ERROR_SYSTEM, -E2BIG, "%s has more than %zu entries", path, max);
		r = add_name(&v, &n, &cap, e->d_name);
	}
	if (r < 0)
		return error_oom(err);
	qsort(v, n, sizeof(*v), by_bytes);
	*ret = TAKE_PTR(v);
	return 0;
}

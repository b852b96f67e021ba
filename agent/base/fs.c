/* Files: bounded reads, directories made and listed. */
#include "agent/base/fs_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

#define READ_CHUNK 4096

ssize_t fs_read_some(int fd, void *data, size_t len)
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
int fs_open_regular(const char *path, int flags, int *ret_fd, struct stat *ret_st)
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
			n = fs_read_some(fd, &probe, 1);
			if (n > 0 && got == limit)
				return -EFBIG;
			r = n > 0 ? buf_append(out, &probe, 1) : 0;
		} else {
			r = buf_reserve(out, want);
			n = r < 0 ? 0 : fs_read_some(fd, out->data + out->len, want);
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

	r = fs_open_regular(path, flags, &fd, &st);
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

int fs_open_parent(const char *path, int *ret_dir, const char **ret_name)
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

/* Captured output: counted without end, kept up to a maximum with the middle left out, its tail in memory. */
#include "agent/app/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"

#define CHUNK 65536
/* What is drained at the end: more than a pipe holds, less than a survivor could write for ever. */
#define DRAIN_MAX (4 * 1024 * 1024)

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- the ring ---- */

static void ring_push(struct capture *c, const char *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		size_t room = sizeof(c->ring) - c->ring_at;
		size_t n = len - done < room ? len - done : room;

		memcpy(c->ring + c->ring_at, data + done, n);
		c->ring_at = (c->ring_at + n) % sizeof(c->ring);
		done += n;
	}
	c->ring_used = c->ring_used + len < sizeof(c->ring) ? c->ring_used + len : sizeof(c->ring);
}

/* Copies the last n bytes, n at most ring_used. */
static void ring_last(const struct capture *c, size_t n, char *to)
{
	size_t from = (c->ring_at + sizeof(c->ring) - n) % sizeof(c->ring);
	size_t first = sizeof(c->ring) - from < n ? sizeof(c->ring) - from : n;

	memcpy(to, c->ring + from, first);
	memcpy(to + first, c->ring, n - first);
}

/* ---- the file ---- */

static void file_fail(struct capture *c, int error)
{
	c->file_failed = true;
	c->file_error = error;
}

static void file_append(struct capture *c, const char *data, size_t len)
{
	int r;

	if (c->file_failed || len == 0)
		return;
	r = fs_write_all(c->file_fd, data, len);
	if (r < 0) {
		/* What part of it has arrived does not matter: nothing follows. */
		file_fail(c, r);
		return;
	}
	c->file_size += len;
}

/* The first half of the maximum stays; of the rest only the last quarter, so that the file's end is always what came
 * last and the copying is paid for by as many new bytes. */
static void file_compact(struct capture *c)
{
	size_t keep = c->max / 4 < c->ring_used ? (size_t)(c->max / 4) : c->ring_used;
	char *last = malloc(keep + 1);
	char mark[96];
	int n;

	if (!last) {
		file_fail(c, -ENOMEM);
		return;
	}
	ring_last(c, keep, last);
	n = snprintf(mark, sizeof(mark), "\n[evenkeel: %" PRIu64 " bytes left out here]\n", c->produced - c->max / 2 - keep);
	if (ftruncate(c->file_fd, (off_t)(c->max / 2)) < 0 || lseek(c->file_fd, 0, SEEK_END) < 0) {
		file_fail(c, -errno);
	} else {
		c->file_size = c->max / 2;
		file_append(c, mark, (size_t)n);
		c->tail_at = c->file_size;
		c->tail_from = c->produced - keep;
		file_append(c, last, keep);
	}
	free(last);
}

/* ---- reading it again ---- */

static size_t at_most(size_t max, uint64_t there)
{
	return there < max ? (size_t)there : max;
}

static ssize_t file_read(const struct capture *c, uint64_t at, void *to, size_t n)
{
	ssize_t k = pread(c->file_fd, to, n, (off_t)at);

	return k < 0 ? -errno : k == 0 ? -EIO : k;
}

ssize_t capture_read(const struct capture *c, uint64_t *offset, void *to, size_t max)
{
	uint64_t head = c->tail_at ? c->max / 2 : c->file_size;
	uint64_t tail_end = c->tail_at ? c->tail_from + (c->file_size - c->tail_at) : head;
	uint64_t ring = c->produced - c->ring_used;
	char last[CAPTURE_RING];
	size_t n;

	if (*offset < head)
		return file_read(c, *offset, to, at_most(max, head - *offset));
	if (*offset < tail_end) {
		if (*offset < c->tail_from)
			*offset = c->tail_from;
		return file_read(c, c->tail_at + (*offset - c->tail_from), to, at_most(max, tail_end - *offset));
	}
	if (*offset >= c->produced)
		return 0;
	/* The file takes no more. */
	if (*offset < ring)
		*offset = ring;
	n = at_most(max, c->produced - *offset);
	ring_last(c, (size_t)(c->produced - *offset), last);
	memcpy(to, last, n);
	return (ssize_t)n;
}

static void take(struct capture *c, const char *data, size_t len)
{
	/* Slices so small that one always fits after a compaction. */
	size_t slice_max = c->max / 8 < CHUNK ? (size_t)(c->max / 8) : CHUNK;

	while (len) {
		size_t n = len < slice_max ? len : slice_max;

		if (!c->file_failed && c->file_size + n > c->max)
			file_compact(c);
		file_append(c, data, n);
		ring_push(c, data, n);
		c->produced += n;
		data += n;
		len -= n;
	}
}

/* ---- the pipe ---- */

/* One read: > 0 bytes taken, 0 end, -EAGAIN nothing there. */
static ssize_t take_once(struct capture *c)
{
	char chunk[CHUNK];
	ssize_t n;

	do
		n = read(c->read_fd, chunk, sizeof(chunk));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take(c, chunk, (size_t)n);
	return n;
}

static void on_readable(int fd, uint32_t events, void *userdata)
{
	struct capture *c = userdata;
	ssize_t n = take_once(c);

	(void)fd;
	(void)events;
	if (n > 0 || n == -EAGAIN)
		return;
	loop_io_free(c->io);
	c->io = NULL;
	close_fd(&c->read_fd);
}

int capture_open(struct capture *c, struct loop *l, const char *path, uint64_t max, struct error *err)
{
	int fds[2], r;

	c->max = max;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, -errno, "cannot make a pipe");
	c->read_fd = fds[0];
	c->write_fd = fds[1];
	if (fcntl(c->read_fd, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(err, -errno, "cannot set up a pipe");
	c->file_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->file_fd < 0)
		file_fail(c, -errno); /* a full disk: the job is done all the same */
	r = loop_io_new(l, "output", c->read_fd, EPOLLIN, on_readable, c, &c->io);
	return r < 0 ? error_errno(err, r, "cannot watch a pipe") : 0;
}

int capture_drain(struct capture *c)
{
	size_t total = 0;

	close_fd(&c->write_fd);
	while (c->read_fd >= 0 && total < DRAIN_MAX) {
		ssize_t n = take_once(c);

		if (n == -EAGAIN)
			return -EAGAIN;
		if (n <= 0) {
			loop_io_free(c->io);
			c->io = NULL;
			close_fd(&c->read_fd);
			return 0;
		}
		total += (size_t)n;
	}
	return c->read_fd >= 0 ? -EAGAIN : 0;
}

char *capture_tail(const struct capture *c, size_t max)
{
	/* Some bytes more, so that the cut finds the border of a character. */
	size_t n = max + 4 < c->ring_used ? max + 4 : c->ring_used;
	char *last = malloc(n + 1), *clean;
	size_t from;

	if (!last)
		return NULL;
	ring_last(c, n, last);
	from = utf8_tail(last, n, max);
	clean = utf8_clean(last + from, n - from);
	free(last);
	return clean;
}

void capture_close(struct capture *c)
{
	loop_io_free(c->io);
	c->io = NULL;
	close_fd(&c->read_fd);
	close_fd(&c->write_fd);
	close_fd(&c->file_fd);
}

void capture_pump(struct capture *out, struct capture *err)
{
	struct capture *both[2] = { out, err };

	while (out->read_fd >= 0 || err->read_fd >= 0) {
		struct pollfd p[2] = { { .fd = out->read_fd, .events = POLLIN }, { .fd = err->read_fd, .events = POLLIN } };

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		for (size_t i = 0; i < 2; i++) {
			ssize_t n = p[i].revents ? take_once(both[i]) : -EAGAIN;

			if (n <= 0 && n != -EAGAIN)
				close_fd(&both[i]->read_fd);
		}
	}
}

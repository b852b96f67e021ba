/*
 * The two-slot record. A slot is a header and the document; a save overwrites the older slot, so the newest whole
 * document is never touched. On disk, little endian:
 *
 *	0  magic "EKrecord"     8  generation     16  size of a slot = offset of the second
 *	24 format version       28 length         32  checksum over all of the above and the document
 */
#include "agent/io/record.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"

#define BLOCK	      4096U
#define SLOT_SIZE_MAX (64U * 1024 * 1024)

struct slot_header {
	char magic[8];
	uint64_t generation, slot_size;
	uint32_t version, length;
	uint64_t checksum;
};

static const char magic[8] = { 'E', 'K', 'r', 'e', 'c', 'o', 'r', 'd' };

enum slot_state { SLOT_BLANK, SLOT_GOOD, SLOT_DAMAGED };

struct slot {
	enum slot_state state;
	uint64_t generation;
	uint32_t version, length;
};

/* One file that may hold the record. */
struct place {
	char *path;
	int fd; /* -1: could not be opened */
	bool writable;
	size_t slot_size;
	struct slot slots[2];
};

struct record {
	struct place main, fallback; /* fallback.path may be NULL */
	size_t slot_size;	   /* what this program wants */
	size_t max;
	uint32_t version;
	uint64_t generation;	   /* the newest seen or written */
	const struct place *newer; /* written by a newer program, so not ours to write; else NULL */
};

/* FNV-1a: against torn and rotten blocks, not against people, who could write a whole record as well. */
static uint64_t checksum(uint64_t h, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3ULL;
	return h;
}

static uint64_t slot_checksum(const struct slot_header *h, const void *data, size_t len)
{
	return checksum(checksum(0xcbf29ce484222325ULL, h, offsetof(struct slot_header, checksum)), data, len);
}

static int pread_all(int fd, void *data, size_t len, size_t offset)
{
	char *p = data;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		offset += (size_t)n;
	}
	return 0;
}

/* ---- reading ---- */

static bool is_zero(const void *data, size_t len)
{
	const char *p = data;

	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

/* A slot that ends before its header was never written: files grow only when they are made. */
static struct slot read_slot(int fd, size_t offset, size_t slot_size, struct buf *ret_data)
{
	struct slot damaged = { .state = SLOT_DAMAGED }, s;
	_cleanup_free_ char *data = NULL;
	struct slot_header h;
	int r = pread_all(fd, &h, sizeof(h), offset);

	if (r == -ENODATA || (r == 0 && is_zero(&h, sizeof(h))))
		return (struct slot){ .state = SLOT_BLANK };
	s = (struct slot){
		.state = SLOT_GOOD,
		.generation = le64toh(h.generation),
		.version = le32toh(h.version),
		.length = le32toh(h.length),
	};
	if (r < 0 || memcmp(h.magic, magic, sizeof(magic)) != 0 || le64toh(h.slot_size) != slot_size ||
	    s.length > slot_size - sizeof(h))
		return damaged;
	data = malloc(s.length + 1U);
	if (!data || pread_all(fd, data, s.length, offset + sizeof(h)) < 0 ||
	    le64toh(h.checksum) != slot_checksum(&h, data, s.length))
		return damaged;
	if (ret_data && buf_append(ret_data, data, s.length) < 0)
		return damaged;
	return s;
}

static bool plausible(uint64_t slot_size)
{
	return slot_size && slot_size % BLOCK == 0 && slot_size <= SLOT_SIZE_MAX;
}

/* The slots' size may be another program version's: the first header tells, or the second one does where it is found. */
static void scan(struct place *p, size_t wanted)
{
	size_t candidates[3] = { 0, wanted, 0 };
	struct slot_header h;
	struct stat st;

	p->slot_size = wanted;
	p->slots[0] = p->slots[1] = (struct slot){ .state = SLOT_BLANK };
	if (p->fd < 0)
		return;
	if (pread_all(p->fd, &h, sizeof(h), 0) == 0 && memcmp(h.magic, magic, sizeof(magic)) == 0 &&
	    plausible(le64toh(h.slot_size)))
		candidates[0] = (size_t)le64toh(h.slot_size);
	if (fstat(p->fd, &st) == 0 && plausible((uint64_t)st.st_size / 2))
		candidates[2] = (size_t)st.st_size / 2;

	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
		size_t size = candidates[i];
		struct slot a, b;

		if (!size)
			continue;
		a = read_slot(p->fd, 0, size, NULL);
		b = read_slot(p->fd, size, size, NULL);
		if (a.state == SLOT_GOOD || b.state == SLOT_GOOD || size == wanted) {
			p->slot_size = size;
			p->slots[0] = a;
			p->slots[1] = b;
		}
		if (a.state == SLOT_GOOD || b.state == SLOT_GOOD)
			return;
	}
}

/* Index of the newest good slot, or -1. */
static int newest(const struct place *p)
{
	bool a = p->slots[0].state == SLOT_GOOD, b = p->slots[1].state == SLOT_GOOD;

	if (a && b)
		return p->slots[1].generation > p->slots[0].generation;
	return a ? 0 : b ? 1 : -1;
}

/* The first save writes both slots, so one damaged and one blank slot mean that it never came to its end. */
static bool is_damaged(const struct place *p)
{
	return p->slots[0].state == SLOT_DAMAGED && p->slots[1].state == SLOT_DAMAGED;
}

/* ---- places ---- */

static void place_close(struct place *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->writable = false;
}

static int sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = NULL;

	if (!slash)
		return fs_fsync_dir(".", NULL);
	dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	return dir ? fs_fsync_dir(dir, NULL) : -ENOMEM;
}

/* A new file whose blocks are all there, so that no later save needs another. */
static int make_file(const char *path, size_t slot_size, int *ret_fd)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = -posix_fallocate(fd, 0, (off_t)(2 * slot_size));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		r = sync_parent(path);
	if (r < 0) {
		(void)unlink(path);
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int open_file(const char *path, int flags, int *ret_fd)
{
	_cleanup_close_ int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Opens what is there, for reading alone if need be; makes it only when asked to. */
static int place_open(struct place *p, size_t slot_size, bool make)
{
	int fd = -1, r;

	place_close(p);
	r = open_file(p->path, O_RDWR, &fd);
	p->writable = r == 0;
	/* One that was cut short, or copied without its holes, gets its blocks back; if it cannot, saves still try. */
	if (r == 0)
		(void)posix_fallocate(fd, 0, (off_t)(2 * slot_size));
	if (r == -ENOENT && make) {
		r = make_file(p->path, slot_size, &fd);
		p->writable = r == 0;
	} else if (r < 0 && r != -ENOENT && open_file(p->path, O_RDONLY, &fd) == 0) {
		p->fd = fd;
		scan(p, slot_size);
		return r;
	}
	p->fd = fd;
	scan(p, slot_size);
	return r;
}

/* Deleted or replaced under us: what is written there would be lost with our file descriptor. */
static bool is_still_there(const struct place *p)
{
	struct stat here, there;

	return p->fd >= 0 && fstat(p->fd, &here) == 0 && lstat(p->path, &there) == 0 && here.st_dev == there.st_dev &&
	       here.st_ino == there.st_ino;
}

static int write_slot(struct place *p, int index, uint64_t generation, uint32_t version, const void *data, size_t len)
{
	_cleanup_free_ char *image = NULL;
	struct slot_header h = {
		.generation = htole64(generation),
		.slot_size = htole64(p->slot_size),
		.version = htole32(version),
		.length = htole32((uint32_t)len),
	};
	int r;

	if (len > p->slot_size - sizeof(h))
		return -EFBIG;
	memcpy(h.magic, magic, sizeof(magic));
	h.checksum = htole64(slot_checksum(&h, data, len));
	image = malloc(sizeof(h) + len);
	if (!image)
		return -ENOMEM;
	memcpy(image, &h, sizeof(h));
	if (len)
		memcpy(image + sizeof(h), data, len);
	/* Until it is known to be on disk the slot counts as nothing, so that the next save takes it again. */
	p->slots[index] = (struct slot){ .state = SLOT_DAMAGED };
	if (lseek(p->fd, (off_t)((size_t)index * p->slot_size), SEEK_SET) < 0)
		return -errno;
	r = fs_write_all(p->fd, image, sizeof(h) + len);
	if (r == 0 && fdatasync(p->fd) < 0)
		r = -errno;
	if (r < 0)
		return r;
	p->slots[index] = (struct slot){
		.state = SLOT_GOOD, .generation = generation, .version = version, .length = (uint32_t)len
	};
	return 0;
}

static int place_write(struct place *p, uint64_t generation, uint32_t version, const void *data, size_t len)
{
	int last = newest(p), r;

	r = write_slot(p, last == 0, generation, version, data, len);
	if (r == 0 && last < 0)
		r = write_slot(p, 0, generation, version, data, len);
	return r;
}

static int place_save(struct record *r, struct place *p, const void *data, size_t len)
{
	int q = 0;

	if (!p->writable || !is_still_there(p))
		q = place_open(p, r->slot_size, true);
	return q < 0 ? q : place_write(p, r->generation, r->version, data, len);
}

/* This program's documents may be larger than those its predecessor made room for. If there is no space for that
 * now, the old file serves as long as it can. */
static void place_grow(struct record *r, struct place *p)
{
	_cleanup_free_ char *path = str_format("%s.new", p->path);
	_cleanup_buf_ struct buf b = BUF_INIT(p->slot_size);
	struct place grown = { .path = path, .fd = -1, .slot_size = r->slot_size };
	int last = newest(p);
	struct slot s;

	if (!path || last < 0 || p->slot_size >= r->slot_size || !p->writable)
		return;
	s = read_slot(p->fd, (size_t)last * p->slot_size, p->slot_size, &b);
	if (s.state != SLOT_GOOD)
		return;
	(void)unlink(path);
	if (make_file(path, r->slot_size, &grown.fd) < 0)
		return;
	if (place_write(&grown, s.generation, s.version, buf_str(&b), b.len) == 0 && rename(path, p->path) == 0) {
		(void)sync_parent(p->path);
		(void)place_open(p, r->slot_size, false);
	} else {
		(void)unlink(path);
	}
	place_close(&grown);
}

/* ---- the record ---- */

/* Of equal generations the durable one counts. */
static struct place *newest_place(struct record *r)
{
	int a = newest(&r->main), b = newest(&r->fallback);

	if (a < 0)
		return b < 0 ? NULL : &r->fallback;
	if (b < 0 || r->main.slots[a].generation >= r->fallback.slots[b].generation)
		return &r->main;
	return &r->fallback;
}

static void take_stock(struct record *r)
{
	const struct place *p = newest_place(r);
	const struct slot *last;

	r->newer = NULL;
	if (!p)
		return;
	last = &p->slots[newest(p)];
	if (last->generation > r->generation)
		r->generation = last->generation;
	if (last->version > r->version)
		r->newer = p;
}

static int refuse_newer(const struct record *r, struct error *err)
{
	return error_set(err, ERROR_SYSTEM, -EPROTO,
			 "%s was written by a newer version of this program (format %u, this one knows %u): install that "
			 "version again, or remove the file to begin anew",
			 r->newer->path, r->newer->slots[newest(r->newer)].version, r->version);
}

int record_open(const char *path, const char *fallback, size_t max, uint32_t version, struct record **ret,
		struct error *err)
{
	_cleanup_(record_closep) struct record *r = NULL;

	if (!max || max > SLOT_SIZE_MAX / 2)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "cannot make a record of %zu bytes in %s", max, path);
	r = calloc(1, sizeof(*r));
	if (!r)
		return error_oom(err);
	r->main.fd = r->fallback.fd = -1;
	r->max = max;
	r->version = version;
	r->slot_size = (sizeof(struct slot_header) + max + BLOCK - 1) / BLOCK * BLOCK;
	if (str_set(&r->main.path, path) < 0 || str_set(&r->fallback.path, fallback) < 0)
		return error_oom(err);

	(void)place_open(&r->main, r->slot_size, true);
	if (r->fallback.path)
		(void)place_open(&r->fallback, r->slot_size, false);
	take_stock(r);
	if (!r->newer)
		place_grow(r, &r->main);
	*ret = TAKE_PTR(r);
	return 0;
}

void record_close(struct record *r)
{
	if (!r)
		return;
	place_close(&r->main);
	place_close(&r->fallback);
	free(r->main.path);
	free(r->fallback.path);
	free(r);
}

/* For whoever looks into it later; the next save begins a new file. */
static void keep_aside(struct place *p)
{
	_cleanup_free_ char *aside = str_format("%s.damaged", p->path);

	if (!aside || !is_damaged(p) || rename(p->path, aside) < 0)
		return;
	(void)sync_parent(p->path);
	place_close(p);
	p->slots[0] = p->slots[1] = (struct slot){ .state = SLOT_BLANK };
}

int record_load(struct record *r, struct buf *ret, uint32_t *ret_version, struct error *err)
{
	bool damaged;
	struct place *p;
	struct slot s;
	size_t before = ret->len;

	(void)place_open(&r->main, r->slot_size, true);
	if (r->fallback.path)
		(void)place_open(&r->fallback, r->slot_size, false);
	take_stock(r);
	p = newest_place(r);
	damaged = is_damaged(&r->main) || is_damaged(&r->fallback);
	keep_aside(&r->main);
	if (r->fallback.path)
		keep_aside(&r->fallback);
	if (!p && damaged)
		return error_set(err, ERROR_SYSTEM, -EBADMSG, "%s is damaged and was kept as %s.damaged", r->main.path,
				 r->main.path);
	if (!p)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "nothing was saved in %s yet", r->main.path);
	if (r->newer)
		return refuse_newer(r, err);

	s = read_slot(p->fd, newest(p) ? p->slot_size : 0, p->slot_size, ret);
	if (s.state != SLOT_GOOD) {
		ret->len = before;
		buf_terminate(ret);
		return error_set(err, ERROR_SYSTEM, buf_ok(ret) < 0 ? buf_ok(ret) : -EIO, "cannot read %s", p->path);
	}
	if (ret_version)
		*ret_version = s.version;
	return 0;
}

int record_save(struct record *r, const void *data, size_t len, struct error *err)
{
	struct error first, second;
	int q, f;

	if (r->newer)
		return refuse_newer(r, err);
	if (len > r->max)
		return error_set(err, ERROR_SYSTEM, -EFBIG, "cannot save %s: %zu bytes, at most %zu fit", r->main.path, len,
				 r->max);
	r->generation++;
	q = place_save(r, &r->main, data, len);
	if (q == 0)
		return 0;
	(void)error_errno(&first, q, "cannot save %s", r->main.path);
	if (!r->fallback.path)
		return error_set(err, ERROR_SYSTEM, q, "%s", first.msg);
	f = place_save(r, &r->fallback, data, len);
	if (f == 0)
		return 1;
	(void)error_errno(&second, f, "nor %s", r->fallback.path);
	return error_set(err, ERROR_SYSTEM, q, "%s; %s", first.msg, second.msg);
}

int record_peek(const char *path, struct buf *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct place p = { .fd = fd };
	struct slot s;
	int which;

	if (fd < 0)
		return -errno;
	scan(&p, BLOCK);
	which = newest(&p);
	if (which < 0)
		return is_damaged(&p) ? -EBADMSG : -ENOENT;
	s = read_slot(fd, which ? p.slot_size : 0, p.slot_size, ret);
	return s.state == SLOT_GOOD ? 0 : -EBADMSG; /* written again meanwhile, or it does not fit */
}

/* One file of a record: its two slots found, read and written, its blocks kept ready. */
#include "agent/io/record_internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"

struct slot_header {
	char magic[8];
	uint64_t generation, slot_size;
	uint32_t version, length;
	uint64_t checksum;
};

_Static_assert(sizeof(struct slot_header) == RECORD_HEADER_BYTES, "what is on disk");

static const char magic[8] = { 'E', 'K', 'r', 'e', 'c', 'o', 'r', 'd' };

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

struct slot place_read(const struct place *p, struct buf *ret)
{
	int which = place_newest(p);

	return read_slot(p->fd, which > 0 ? p->slot_size : 0, p->slot_size, ret);
}

static bool plausible(uint64_t slot_size)
{
	return slot_size && slot_size % RECORD_BLOCK == 0 && slot_size <= RECORD_SLOT_MAX;
}

/* The first header tells, or the second one does where it is found. */
void place_scan(struct place *p, size_t wanted)
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

int place_newest(const struct place *p)
{
	bool a = p->slots[0].state == SLOT_GOOD, b = p->slots[1].state == SLOT_GOOD;

	if (a && b)
		return p->slots[1].generation > p->slots[0].generation;
	return a ? 0 : b ? 1 : -1;
}

bool place_is_damaged(const struct place *p)
{
	return p->slots[0].state == SLOT_DAMAGED && p->slots[1].state == SLOT_DAMAGED;
}

void place_close(struct place *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->writable = false;
}

static int sync_parent(const char *path)
{
	_cleanup_free_ char *dir = path_parent(path);

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

int place_open(struct place *p, size_t slot_size, bool make)
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
		place_scan(p, slot_size);
		return r;
	}
	p->fd = fd;
	place_scan(p, slot_size);
	return r;
}

bool place_is_still_there(const struct place *p)
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

int place_write(struct place *p, uint64_t generation, uint32_t version, const void *data, size_t len)
{
	int last = place_newest(p), r;

	r = write_slot(p, last == 0, generation, version, data, len);
	if (r == 0 && last < 0)
		r = write_slot(p, 0, generation, version, data, len);
	return r;
}

/* This program's documents may be larger than those its predecessor made room for. */
void place_grow(struct place *p, size_t slot_size)
{
	_cleanup_free_ char *path = str_format("%s.new", p->path);
	_cleanup_buf_ struct buf b = BUF_INIT(p->slot_size);
	struct place grown = { .path = path, .fd = -1, .slot_size = slot_size };
	struct slot s;

	if (!path || place_newest(p) < 0 || p->slot_size >= slot_size || !p->writable)
		return;
	s = place_read(p, &b);
	if (s.state != SLOT_GOOD)
		return;
	(void)unlink(path);
	if (make_file(path, slot_size, &grown.fd) < 0)
		return;
	if (place_write(&grown, s.generation, s.version, buf_str(&b), b.len) == 0 && rename(path, p->path) == 0) {
		(void)sync_parent(p->path);
		(void)place_open(p, slot_size, false);
	} else {
		(void)unlink(path);
	}
	place_close(&grown);
}

void place_keep_aside(struct place *p)
{
	_cleanup_free_ char *aside = str_format("%s.damaged", p->path);

	if (!aside || !place_is_damaged(p) || rename(p->path, aside) < 0)
		return;
	(void)sync_parent(p->path);
	place_close(p);
	p->slots[0] = p->slots[1] = (struct slot){ .state = SLOT_BLANK };
}

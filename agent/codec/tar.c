/* ustar: a header of 512 bytes, then the file filled up to the next block. */
#include "agent/codec/tar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 512

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
		version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};

static const char zeros[2 * BLOCK];

/* Numbers are octal texts, the last byte NUL. */
static void put_number(char *field, size_t size, uint64_t n)
{
	(void)snprintf(field, size, "%0*llo", (int)size - 1, (unsigned long long)n);
}

int tar_add(struct buf *out, const char *name, unsigned mode, uint64_t mtime, const void *data, size_t len)
{
	struct header h = { .type = '0', .magic = "ustar", .version = { '0', '0' }, .user = "root", .group = "root" };
	const unsigned char *bytes = (const unsigned char *)&h;
	unsigned sum = 0;
	int r;

	_Static_assert(sizeof(h) == BLOCK, "a header is a block");
	if (strlen(name) > TAR_NAME_MAX)
		return -ENAMETOOLONG;
	(void)snprintf(h.name, sizeof(h.name), "%s", name);
	put_number(h.mode, sizeof(h.mode), mode);
	put_number(h.uid, sizeof(h.uid), 0);
	put_number(h.gid, sizeof(h.gid), 0);
	put_number(h.size, sizeof(h.size), len);
	put_number(h.mtime, sizeof(h.mtime), mtime);
	/* The sum is made with blanks in its own place. */
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += bytes[i];
	put_number(h.checksum, sizeof(h.checksum) - 1, sum);
	r = buf_append(out, &h, sizeof(h));
	if (r >= 0 && len)
		r = buf_append(out, data, len);
	if (r >= 0 && len % BLOCK)
		r = buf_append(out, zeros, BLOCK - len % BLOCK);
	return r < 0 ? r : 0;
}

int tar_end(struct buf *out)
{
	int r = buf_append(out, zeros, sizeof(zeros));

	return r < 0 ? r : 0;
}

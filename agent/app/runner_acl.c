/* Access lists as bytes of an extended attribute: little endian, sorted by tag, then by id. No library is needed for it. */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "agent/app/runner.h"
#include "agent/base/cleanup.h"

#define ACL_VERSION 2u

static int compare_entries(const void *a, const void *b)
{
	const struct acl_entry *x = a, *y = b;

	if (x->tag != y->tag)
		return x->tag < y->tag ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void put_le(unsigned char *p, uint32_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get_le(const unsigned char *p, size_t bytes)
{
	uint32_t v = 0;

	for (size_t i = bytes; i > 0; i--)
		v = v << 8 | p[i - 1];
	return v;
}

size_t acl_encode(struct acl_entry *entries, size_t n, unsigned char *raw)
{
	size_t kept = 0;

	qsort(entries, n, sizeof(*entries), compare_entries);
	put_le(raw, ACL_VERSION, 4);
	for (size_t i = 0; i < n; i++) {
		unsigned char *p = raw + 4 + 8 * kept;

		/* What is named twice is there once, or the kernel refuses the whole. */
		if (i && compare_entries(&entries[i - 1], &entries[i]) == 0)
			continue;
		put_le(p, entries[i].tag, 2);
		put_le(p + 2, entries[i].permissions, 2);
		put_le(p + 4, entries[i].id, 4);
		kept++;
	}
	return 4 + 8 * kept;
}

int acl_read(const char *path, mode_t mode, struct acl_entry *entries, size_t *ret_n)
{
	_cleanup_free_ unsigned char *raw = malloc(ACL_RAW_MAX);
	ssize_t len = raw ? getxattr(path, ACL_XATTR, raw, ACL_RAW_MAX) : -1;

	if (!raw)
		return -ENOMEM;
	if (len < 0 && errno != ENODATA && errno != EOPNOTSUPP)
		return -errno;
	if (len < 0) {
		entries[0] = (struct acl_entry){ ACL_USER_OBJ, mode >> 6 & 7u, ACL_NO_ID };
		entries[1] = (struct acl_entry){ ACL_GROUP_OBJ, mode >> 3 & 7u, ACL_NO_ID };
		entries[2] = (struct acl_entry){ ACL_OTHER, mode & 7u, ACL_NO_ID };
		*ret_n = 3;
		return 0;
	}
	if (len < 4 || len % 8 != 4 || get_le(raw, 4) != ACL_VERSION)
		return -EBADMSG;
	*ret_n = (size_t)(len - 4) / 8;
	for (size_t i = 0; i < *ret_n; i++) {
		const unsigned char *p = raw + 4 + 8 * i;

		entries[i] = (struct acl_entry){ get_le(p, 2), get_le(p + 2, 2), get_le(p + 4, 4) };
	}
	return 0;
}

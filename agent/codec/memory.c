/* OpenSSL's heap, erased when it is given back. */
#include "agent/codec/memory.h"

#include <errno.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t n, _unused_ const char *file, _unused_ int line)
{
	return malloc(n);
}

static void release(void *p, _unused_ const char *file, _unused_ int line)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

/* realloc() may move the bytes and leave the old ones. OpenSSL never asks for 0 bytes. */
static void *reallocate(void *p, size_t n, const char *file, int line)
{
	size_t had = p ? malloc_usable_size(p) : 0;
	void *q;

	if (p && n <= had)
		return p;
	q = malloc(n);
	if (q && p) {
		memcpy(q, p, had);
		release(p, file, line);
	}
	return q;
}

int memory_erase_freed(void)
{
	return CRYPTO_set_mem_functions(allocate, reallocate, release) == 1 ? 0 : -EBUSY;
}

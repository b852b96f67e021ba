/*
 * A secret value: bytes that are erased when released. Never printed, logged or put into argv; the
 * only readers are codecs, request bodies and headers, and the environment of the script it is for.
 */
#pragma once

#include <stddef.h>

#include "agent/base/macros.h"

struct secret {
	char *data; /* NUL-terminated, NULL when empty */
	size_t len;
};

/* Copies. -ENOMEM only. Replaces (and erases) what was there. */
_nodiscard_ int secret_set(struct secret *s, const void *data, size_t len);
void secret_done(struct secret *s);

/* Erases and frees a NUL-terminated heap string; NULL is fine. */
void erase_and_free(char *p);

static inline _unused_ void erase_and_freep(char **p)
{
	erase_and_free(*p);
	*p = NULL;
}

#define _cleanup_secret_ _cleanup_(secret_done)
#define _cleanup_erase_	 _cleanup_(erase_and_freep)

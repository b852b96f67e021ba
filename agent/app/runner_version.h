/*
 * Which version of a file an answer is of: what must be the same for two answers to be put together. For the runner's files
 * only.
 */
#pragma once

#include <stdint.h>

#include "agent/base/limits.h"

struct http_response;

#define VERSION_UNKNOWN UINT64_MAX

struct version {
	char etag[LIMIT_ETAG]; /* with its quotes; "": none that is strong, so nothing can be put behind it */
	uint64_t total;	       /* bytes, or VERSION_UNKNOWN */
};
extern const struct version version_none;

/* Of an answer with a whole file. */
struct version version_of(const struct http_response *resp);
/* NULL when a 206 goes on at byte `received` of this version (and may tell its total), else what is wrong with it. */
const char *version_check_part(struct version *v, const struct http_response *resp, uint64_t received);

/*
 * One append blob that grows: made when it is absent, continued at its end when it is there. Every block names the position
 * it is for (x-ms-blob-condition-appendpos), so that a block whose answer was lost is neither doubled nor left out. What
 * passes is tried again until the blob is freed; only what cannot pass ends it.
 *
 * Of a blob that was there before and may not be read (a signature without "r") the end is learnt from the first block:
 * only that one may be doubled by a lost answer.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/base/error.h"

struct append_blob;
struct blob_client;
struct loop;

#define APPEND_BLOCK_MAX (4UL * 1024 * 1024) /* the service's, with the version that is asked for */

/* `result` 0: appended. Else the blob takes no more, and `err` says why. */
typedef void (*append_fn)(int result, const struct error *err, void *userdata);

_nodiscard_ int append_blob_new(struct append_blob **ret, struct loop *loop, struct blob_client *client,
				const char *uri, struct error *err);
void append_blob_free(struct append_blob *b);
DEFINE_CLEANUP(struct append_blob *, append_blob_free)

/* One at a time; 1..APPEND_BLOCK_MAX bytes, borrowed until the callback, which runs once, from the loop, and may append
 * again but not free the blob. */
void append_blob_put(struct append_blob *b, const void *data, size_t len, append_fn done, void *userdata);
/* If it waits before another try: now. */
void append_blob_hurry(struct append_blob *b);
/* Why the present block is not there yet, or "". */
const char *append_blob_trouble(const struct append_blob *b);
/* How many blocks it has, as far as known; the service takes 50,000. */
uint64_t append_blob_blocks(const struct append_blob *b);

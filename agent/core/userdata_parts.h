/*
 * The parts of user data: gzip opened, MIME messages and archives taken apart, each part with its type and what it is for
 * us. In the order in which they stand. It is also a document (userdata_parts_type), so that what is being applied
 * survives a restart exactly as it was planned, fetched includes too. Pure and bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"
#include "agent/codec/json.h"

#define USERDATA_SETTINGS_TYPE "application/vnd.evenkeel+json"

enum userdata_kind {
	USERDATA_KIND_SHELLSCRIPT, /* the first four as enum userdata_part */
	USERDATA_KIND_BOOTHOOK,
	USERDATA_KIND_INCLUDE,
	USERDATA_KIND_SETTINGS,
	USERDATA_KIND_CLOUD_CONFIG, /* left to cloud-init */
	USERDATA_KIND_OTHER,	    /* not supported */
	_USERDATA_KIND_MAX
};

struct userdata_item {
	char *type; /* "text/x-shellscript" */
	char *name; /* as the part names itself, cleaned, or "part-001" */
	int kind;
	int64_t size;
	char *content; /* base64; of scripts as they are to be run; NULL where nobody needs it */
	char *problem; /* why this part cannot be used, or NULL: a phrase */
	int64_t depth; /* of includes that led here */
};

struct userdata_parts {
	char *sha256;	      /* of the whole */
	char *content;	      /* base64 of the whole; NULL unless the caller keeps it */
	struct jd_list items; /* of struct userdata_item */
};
extern const struct jd_type userdata_parts_type; /* released with jd_free() */

/* From the bytes; `sha256` is theirs. Parts that cannot be read stand there with their problem. -EBADMSG: nothing at all can
 * be made of them, as cloud-init cannot; -E2BIG; -ENOMEM. */
_nodiscard_ int userdata_parts_make(const void *data, size_t len, const char *sha256, struct userdata_parts *ret,
				    struct error *err);
void userdata_parts_done(struct userdata_parts *p);

/* Appends the decoded content of a part. */
_nodiscard_ int userdata_item_content(const struct userdata_item *i, struct buf *out, struct error *err);
/* The URLs of an include, in order: strv_free(). -EINVAL: one that is neither http nor https; -E2BIG: too many. */
_nodiscard_ int userdata_item_urls(const struct userdata_item *i, char ***ret, struct error *err);
/* The include at `index` is replaced by the parts of what its URLs have answered, in order; each may hold includes again, up
 * to LIMIT_USER_DATA_INCLUDE_DEPTH. On failure nothing has changed. */
struct userdata_body {
	const char *data;
	size_t len;
};
_nodiscard_ int userdata_parts_include(struct userdata_parts *p, size_t index, const struct userdata_body *bodies,
				       size_t n, struct error *err);

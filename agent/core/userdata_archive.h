/*
 * #cloud-config-archive: a list of texts, or of maps with "content", "type" and "filename". It is YAML; read here is what
 * such lists are made of: block style, plain, quoted and literal or folded texts, comments; or JSON. Anchors, tags and
 * other flow style are refused with the line that has them, never guessed at. Pure and bounded.
 */
#pragma once

#include <stddef.h>

#include "agent/base/error.h"

struct userdata_archive_entry {
	char *type, *filename, *content; /* NULL: not given */
	size_t len;			 /* of content */
};

struct userdata_archive {
	struct userdata_archive_entry *entries;
	size_t n;
};

/* -EBADMSG: not such a list; -EOPNOTSUPP: YAML of a kind that is not read here; both name the line. -E2BIG, -ENOMEM. */
_nodiscard_ int userdata_archive_read(const char *text, size_t len, struct userdata_archive *ret, struct error *err);
void userdata_archive_done(struct userdata_archive *a);

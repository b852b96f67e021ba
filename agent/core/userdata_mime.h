/*
 * MIME messages as user data: headers, nested multiparts, every transfer encoding. Read as Python's email package reads
 * them (RFC 2045, 2046, and what it makes of texts that break the rules), since that is what cloud-init does with them;
 * a part of another type than cloud-init sees would be run by one and not by the other. Pure and bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct userdata_mime_part {
	const char *type;     /* "text/x-shellscript": lower case, never empty */
	const char *filename; /* as the part names itself, or NULL */
	const char *content;  /* decoded by its Content-Transfer-Encoding */
	size_t len;
	bool encoded; /* not merely as it stood in the message */
};

/* For every part that is no multipart, in order. What is given is valid during the call. Negative: ends the walk. */
typedef int (*userdata_mime_fn)(const struct userdata_mime_part *part, void *userdata);

/* -E2BIG: nested too deep, or too many parts; what the callback returned; -ENOMEM. */
_nodiscard_ int userdata_mime_walk(const char *text, size_t len, userdata_mime_fn fn, void *userdata,
				   struct error *err);

/* Appends what the transfer encoding (any case; NULL, 7bit, 8bit, binary: as it is) makes of the text. Damaged base64 is
 * read as far as it goes; as Python does. */
_nodiscard_ int userdata_mime_decode(const char *encoding, const char *text, size_t len, struct buf *out);

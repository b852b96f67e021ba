/* URIs as the settings allow them (RFC 3986): http and https, no user, password or fragment. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/buf.h"
#include "agent/base/error.h"

struct uri {
	bool https;
	char *host;  /* lower case, IPv6 without brackets */
	bool ipv6;
	unsigned port; /* 0: the scheme's */
	char *path;  /* raw, begins with "/" */
	char *query; /* raw, without "?"; NULL when absent */
};

/* -EINVAL says what is wrong, never quoting the query. Release with uri_done(). */
_nodiscard_ int uri_parse(const char *text, struct uri *ret, struct error *err);
void uri_done(struct uri *u);

/* Appends with every byte outside unreserved percent-encoded. */
_nodiscard_ int uri_encode(const char *text, size_t len, struct buf *out);
/* Appends percent-decoded bytes; -EINVAL for a broken escape, or NUL in either form. */
_nodiscard_ int uri_decode(const char *text, size_t len, struct buf *out);

/* Appends the URI for people: the query's values are replaced ("sig=…&se=…" becomes "?[redacted]"), and of one that
 * came from a secret also the path, unless it is signed: then the signature is what is secret in it. Any
 * text is accepted; what is no URI is given back as "[not a URI]". The only way a URI gets into a message. */
int uri_redact(const char *text, bool secret, struct buf *out);

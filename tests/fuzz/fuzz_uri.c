/* URIs: what is redacted shows no query and is a URI again; what is decoded encodes and decodes to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/codec/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf shown = BUF_INIT(20000), plain = BUF_INIT(1 << 20), coded = BUF_INIT(3 << 20),
				 again = BUF_INIT(1 << 20);
	_cleanup_free_ char *text = strndup((const char *)data, size);
	struct error err;
	struct uri u = {0};

	if (!text)
		return 0;
	if (uri_redact(text, false, &shown) < 0)
		abort();
	if (uri_parse(text, &u, &err) == 0) {
		const char *q = strchr(buf_str(&shown), '?');

		if (!u.host || u.path[0] != '/' || u.port > 65535 || !q != !u.query ||
		    (q && strcmp(q, "?[redacted]") != 0))
			abort();
		uri_done(&u);
	} else if (strcmp(buf_str(&shown), "[not a URI]") != 0) {
		abort();
	}
	if (uri_decode((const char *)data, size, &plain) == 0 &&
	    (uri_encode(buf_str(&plain), plain.len, &coded) < 0 || uri_decode(buf_str(&coded), coded.len, &again) < 0 ||
	     again.len != plain.len || memcmp(buf_str(&again), buf_str(&plain), plain.len) != 0))
		abort();
	return 0;
}

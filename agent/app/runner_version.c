/* What answers say of the file that they are of. */
#include "agent/app/runner_version.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/io/http.h"

const struct version version_none = { .total = VERSION_UNKNOWN };

/* Only a strong tag says that two pieces are of the same bytes (RFC 9110 8.8.3). */
static const char *strong_tag(const struct http_response *resp)
{
	const char *tag = http_response_header(resp, "ETag");

	return tag && tag[0] == '"' && strlen(tag) < LIMIT_ETAG ? tag : "";
}

struct version version_of(const struct http_response *resp)
{
	const char *length = http_response_header(resp, "Content-Length");
	struct version v = version_none;

	/* Length and parts are of what is sent, not of what it is decoded to. */
	if (http_response_header(resp, "Content-Encoding"))
		return v;
	(void)(length && str_to_u64(length, INT64_MAX, &v.total));
	(void)snprintf(v.etag, sizeof(v.etag), "%s", strong_tag(resp));
	return v;
}

static bool take_number(const char **p, uint64_t *ret)
{
	size_t n = strspn(*p, "0123456789");
	char digits[24];

	if (n >= sizeof(digits))
		return false;
	memcpy(digits, *p, n);
	digits[n] = '\0';
	*p += n;
	return str_to_u64(digits, INT64_MAX, ret);
}

static bool take_literal(const char **p, const char *what)
{
	if (!str_starts(*p, what))
		return false;
	*p += strlen(what);
	return true;
}

/* "bytes 100-199/200", or "bytes 100-199" and a star for a total that the server does not know. */
static bool parse_range(const char *p, uint64_t *ret_first, uint64_t *ret_last, uint64_t *ret_total)
{
	if (!take_literal(&p, "bytes ") || !take_number(&p, ret_first) || !take_literal(&p, "-") ||
	    !take_number(&p, ret_last) || !take_literal(&p, "/"))
		return false;
	return (take_literal(&p, "*") || take_number(&p, ret_total)) && !*p;
}

/* It must begin where we stopped, in a file as long as before. */
const char *version_check_part(struct version *v, const struct http_response *resp, uint64_t received)
{
	const char *text = http_response_header(resp, "Content-Range"), *tag = strong_tag(resp);
	uint64_t first, last, total = VERSION_UNKNOWN;

	if (!text)
		return "it gives a part (206) without saying which";
	if (!parse_range(text, &first, &last, &total))
		return "its Content-Range cannot be read";
	if (first != received || last < first || (total != VERSION_UNKNOWN && last >= total))
		return "it gives another part (206) than was asked for";
	if ((v->total != VERSION_UNKNOWN && total != VERSION_UNKNOWN && total != v->total) ||
	    (*tag && !str_equal(tag, v->etag)))
		return "it gives a part (206) of another version of the file";
	if (v->total == VERSION_UNKNOWN)
		v->total = total;
	return NULL;
}

/* URIs as the settings allow them, and the only way one gets into a message. */
#include "agent/codec/uri.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/ascii.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"

static bool is_unreserved(char c)
{
	return ascii_is_alnum(c) || (c && strchr("-._~", c));
}

static int hex_value(char c)
{
	if (ascii_is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_escape(const char *p)
{
	return p[0] == '%' && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0;
}

static int refuse(struct error *err, const char *why)
{
	return error_set(err, ERROR_USER, -EINVAL, "not a usable URI: %s", why);
}

static int check_bytes(const char *text, struct error *err)
{
	for (const char *p = text; *p; p++) {
		if (*p == '#')
			return refuse(err, "it has a fragment (\"#\")");
		if (is_unreserved(*p) || strchr(":/?[]@!$&'()*+,;=", *p) || is_escape(p))
			continue;
		if (*p == '%')
			return error_set(err, ERROR_USER, -EINVAL,
					 "not a usable URI: broken percent escape at offset %zu", (size_t)(p - text));
		return error_set(err, ERROR_USER, -EINVAL,
				 "not a usable URI: the byte at offset %zu must be percent-encoded",
				 (size_t)(p - text));
	}
	return 0;
}

/* Resolvers read "127.1" and "0x7f000001" as addresses, so a host whose last label could be a number must be an
 * address in its usual form: then what a host is compared with is what is connected to. */
static bool valid_host(const char *host)
{
	const char *label = host;
	struct in_addr address;
	bool numeric;

	if (!*host || strlen(host) > 253)
		return false;
	for (const char *p = host;; p++) {
		if (*p == '.' || !*p) {
			if (p == label || p - label > 63 || *label == '-' || p[-1] == '-')
				return false;
			if (!*p)
				break;
			label = p + 1;
		} else if (!ascii_is_alnum(*p) && *p != '-' && *p != '_') {
			return false;
		}
	}
	numeric = label[strspn(label, "0123456789")] == '\0' ||
		  (label[0] == '0' && label[1] == 'x' && label[2 + strspn(label + 2, "0123456789abcdef")] == '\0');
	return !numeric || inet_pton(AF_INET, host, &address) == 1;
}

static int set_host(struct uri *u, const char *host, size_t len, struct error *err)
{
	u->ipv6 = len >= 2 && host[0] == '[' && host[len - 1] == ']';
	u->host = u->ipv6 ? strndup(host + 1, len - 2) : strndup(host, len);
	if (!u->host)
		return error_oom(err);
	for (char *p = u->host; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	if (u->ipv6) {
		struct in6_addr address;

		if (inet_pton(AF_INET6, u->host, &address) != 1)
			return refuse(err, "what is in brackets is not an IPv6 address");
	} else if (!valid_host(u->host)) {
		return refuse(err, "the host is not valid");
	}
	return 0;
}

static int set_authority(struct uri *u, const char *text, size_t len, struct error *err)
{
	size_t host = len;

	if (memchr(text, '@', len))
		return refuse(err, "it has a user or password (\"@\")");
	while (host && ascii_is_digit(text[host - 1]))
		host--;
	if (host && text[host - 1] == ':') {
		char port[8] = "";
		uint64_t number;

		if (len - host < sizeof(port))
			memcpy(port, text + host, len - host);
		if (!str_to_u64(port, 65535, &number) || number == 0)
			return refuse(err, "the port is not a number from 1 to 65535");
		u->port = (unsigned)number;
		len = host - 1;
	}
	return set_host(u, text, len, err);
}

void uri_done(struct uri *u)
{
	free(u->host);
	erase_and_free(u->path);
	erase_and_free(u->query); /* may be a shared access signature */
	*u = (struct uri){0};
}

int uri_parse(const char *text, struct uri *ret, struct error *err)
{
	_cleanup_(uri_done) struct uri u = {0};
	const char *authority, *path, *query;
	size_t path_len;
	int r;

	if (strnlen(text, LIMIT_URI + 1) > LIMIT_URI)
		return error_set(err, ERROR_USER, -EINVAL, "not a usable URI: it is longer than %lu bytes", LIMIT_URI);
	if (strncasecmp(text, "https://", 8) == 0)
		u.https = true;
	else if (strncasecmp(text, "http://", 7) != 0)
		return refuse(err, "it does not begin with \"https://\" or \"http://\"");
	r = check_bytes(text, err);
	if (r < 0)
		return r;
	authority = text + (u.https ? 8 : 7);
	path = authority + strcspn(authority, "/?");
	query = strchr(path, '?');
	path_len = query ? (size_t)(query - path) : strlen(path);
	r = set_authority(&u, authority, (size_t)(path - authority), err);
	if (r < 0)
		return r;
	u.path = path_len ? strndup(path, path_len) : strdup("/");
	if (query)
		u.query = strdup(query + 1);
	if (!u.path || (query && !u.query))
		return error_oom(err);
	*ret = u;
	u = (struct uri){0};
	return 0;
}

int uri_encode(const char *text, size_t len, struct buf *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t size = 0;
	char *to;
	int r;

	for (size_t i = 0; i < len; i++)
		size += is_unreserved(text[i]) ? 1 : 3;
	r = buf_reserve(out, size);
	if (r < 0)
		return r;
	to = out->data + out->len;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (is_unreserved(text[i])) {
			*to++ = text[i];
		} else {
			*to++ = '%';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		}
	}
	out->len += size;
	buf_terminate(out);
	return 0;
}

int uri_decode(const char *text, size_t len, struct buf *out)
{
	size_t size = 0;
	char *to;
	int r;

	for (size_t i = 0; i < len; i++, size++) {
		if (text[i] == '\0')
			return -EINVAL;
		if (text[i] != '%')
			continue;
		if (len - i < 3 || !is_escape(text + i) || (text[i + 1] == '0' && text[i + 2] == '0'))
			return -EINVAL;
		i += 2;
	}
	r = buf_reserve(out, size);
	if (r < 0)
		return r;
	to = out->data + out->len;
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '%') {
			*to++ = text[i];
			continue;
		}
		*to++ = (char)(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
		i += 2;
	}
	out->len += size;
	buf_terminate(out);
	return 0;
}

static bool is_signed(const char *query)
{
	return query && (str_starts(query, "sig=") || strstr(query, "&sig="));
}

int uri_redact(const char *text, bool secret, struct buf *out)
{
	_cleanup_(uri_done) struct uri u = {0};
	int r;

	r = uri_parse(text, &u, NULL);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return buf_puts(out, "[not a URI]");
	(void)buf_puts(out, u.https ? "https://" : "http://");
	(void)buf_printf(out, u.ipv6 ? "[%s]" : "%s", u.host);
	if (u.port)
		(void)buf_printf(out, ":%u", u.port);
	if (secret && !is_signed(u.query))
		(void)buf_puts(out, "/[redacted]");
	else
		(void)buf_printf(out, "%s%s", u.path, u.query ? "?[redacted]" : "");
	return buf_ok(out);
}

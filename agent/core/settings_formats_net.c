/* Leaves of the tables: URLs and addresses, each with where it may lead, and what a request is made of. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/codec/uri.h"
#include "agent/core/settings_formats_internal.h"
#include "agent/core/settings_tables.h"

/* What is wrong with a URI is told without the URI: its query may hold a signature. */
static int check_uri(const char *text, struct uri *ret, struct error *err)
{
	struct error why = ERROR_INIT;
	int r = uri_parse(text, ret, &why);

	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0)
		return error_set(err, ERROR_USER, -EINVAL, "expected an http or https URL: %s", why.msg);
	return 0;
}

static int check_http(const char *text, struct error *err)
{
	struct uri u = { 0 };
	int r;

	if (!*text)
		return 0;
	r = check_uri(text, &u, err);
	uri_done(&u);
	return r;
}

/* A peer's URL names the peer as {name}. */
static int check_peer_url(const char *text, struct error *err)
{
	const char *name = strstr(text, "{name}");
	_cleanup_free_ char *whole = NULL;

	if (!*text)
		return 0;
	if (!name)
		return format_wrong(err, "an http URL in which {name} stands for the other VM", text);
	whole = str_format("%.*sname%s", (int)(name - text), text, name + strlen("{name}"));
	return whole ? check_http(whole, err) : error_oom(err);
}

static bool is_ipv4(const char *text)
{
	struct in_addr address;

	return inet_pton(AF_INET, text, &address) == 1;
}

static bool is_ipv6(const char *text)
{
	struct in6_addr address;

	return inet_pton(AF_INET6, text, &address) == 1;
}

int check_identity_endpoint(const char *text, struct error *err)
{
	struct uri u = { 0 };
	bool local;
	int r;

	if (!*text)
		return 0;
	r = check_uri(text, &u, err);
	if (r < 0)
		return r;
	local = str_equal(u.host, "localhost") || str_equal(u.host, "::1") ||
		(is_ipv4(u.host) && (str_starts(u.host, "169.254.") || str_starts(u.host, "127."))) ||
		(u.ipv6 && str_starts(u.host, "fe80:"));
	if (!local || u.query)
		r = error_set(err, ERROR_USER, -EINVAL,
			      "expected an address of this machine or 169.254.0.0/16 (tokens come from nowhere else), "
			      "got the host \"%.64s\"%s",
			      u.host, u.query ? " and a query" : "");
	uri_done(&u);
	return r;
}

static bool is_vault_name(const char *text, size_t len)
{
	if (len < 1 || len > 127)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!ascii_is_alnum(text[i]) && text[i] != '-')
			return false;
	return true;
}

/* key-vault.md B: only https, port 443, /secrets/NAME or /secrets/NAME/VERSION; the token goes to no other place. */
static int judge_vault_uri(const struct uri *u, struct error *err)
{
	const char *name, *version;
	size_t name_len, version_len;

	if (!u->https || (u->port != 0 && u->port != 443))
		return error_set(err, ERROR_USER, -EINVAL, "expected an https URL on port 443 of a vault");
	if (u->query)
		return error_set(err, ERROR_USER, -EINVAL, "expected the URL of a secret without a query");
	if (u->ipv6 || is_ipv4(u->host) || !strchr(u->host, '.') || *u->host == '.')
		return error_set(err, ERROR_USER, -EINVAL, "expected the host name of a vault, got \"%.64s\"", u->host);
	if (strstr(u->host, ".managedhsm."))
		return error_set(err, ERROR_USER, -EINVAL,
				 "a managed HSM has keys only; certificates and secrets need a vault");
	if (str_starts(u->path, "/certificates/") || str_starts(u->path, "/keys/"))
		return error_set(
			err, ERROR_USER, -EINVAL,
			"expected https://VAULT/secrets/NAME, got \"%.64s\"; a certificate is read as the secret "
			"of its name, only that has the private key",
			u->path);
	if (!str_starts(u->path, "/secrets/"))
		return error_set(err, ERROR_USER, -EINVAL,
				 "expected https://VAULT/secrets/NAME, got the path \"%.64s\"", u->path);
	name = u->path + strlen("/secrets/");
	name_len = strcspn(name, "/");
	version = name[name_len] ? name + name_len + 1 : "";
	version_len = strcspn(version, "/");
	if (!is_vault_name(name, name_len) || version[version_len] ||
	    (version_len > 0 && (version_len != 32 || !is_vault_name(version, version_len))))
		return error_set(err, ERROR_USER, -EINVAL,
				 "expected https://VAULT/secrets/NAME or …/NAME/VERSION (32 characters), got the path "
				 "\"%.64s\"",
				 u->path);
	return 0;
}

static int check_vault_url(const char *text, struct error *err)
{
	struct uri u = { 0 };
	int r;

	if (!*text)
		return 0;
	r = check_uri(text, &u, err);
	if (r < 0)
		return r;
	r = judge_vault_uri(&u, err);
	uri_done(&u);
	return r;
}

static int check_vault_suffix(const char *text, struct error *err)
{
	if (*text != '.' || strlen(text) < 4 || strlen(text) > 253 || !format_only(text, ".-") || strstr(text, "..") ||
	    !strchr(text + 1, '.'))
		return format_wrong(err, "a DNS suffix that begins with \".\", e.g. \".vault.azure.net\"", text);
	return 0;
}

/* A proxy's URL may hold a user and a password. */
static int check_proxy(const char *text, struct error *err)
{
	const char *rest, *at;
	_cleanup_free_ char *without = NULL;

	if (!*text)
		return 0;
	rest = strstr(text, "://");
	if (!rest || format_has_control(text))
		return error_set(err, ERROR_USER, -EINVAL, "expected http://HOST:PORT of a proxy");
	rest += 3;
	at = strchr(rest, '@');
	if (at && strcspn(rest, "/") > (size_t)(at - rest)) {
		without = str_format("%.*s%s", (int)(rest - text), text, at + 1);
		if (!without)
			return error_oom(err);
		return check_http(without, err);
	}
	return check_http(text, err);
}

#define ENDPOINT_WHAT "ADDRESS:PORT with an IPv4 address, an IPv6 address in brackets or \"localhost\""

static int check_endpoint(const char *text, struct error *err)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;
	size_t len;
	bool good;

	if (!*text)
		return 0;
	len = colon ? (size_t)(colon - text) : 0;
	if (len == 0 || len >= sizeof(host) || !str_to_u64(colon + 1, 65535, &port) || port == 0)
		return format_wrong(err, ENDPOINT_WHAT, text);
	memcpy(host, text, len);
	host[len] = '\0';
	if (*host == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		good = is_ipv6(host + 1);
	} else {
		good = is_ipv4(host) || str_equal(host, "localhost");
	}
	return good ? 0 : format_wrong(err, ENDPOINT_WHAT, text);
}

static int check_host_name(const char *text, struct error *err)
{
	if (strlen(text) > 253 || !format_only(text, ".-_*") || *text == '.' || *text == '-')
		return format_wrong(err, "a host name", text);
	return 0;
}

static int check_header(const char *text, struct error *err)
{
	if (!*text || strlen(text) > 128 || !format_only(text, "!#$%&'*+-.^_`|~"))
		return format_wrong(err, "the name of an HTTP header", text);
	return 0;
}

/* One line: a line break in a header would begin another header. */
static int check_header_value(const char *text, struct error *err)
{
	if (format_has_control(text))
		return error_set(err, ERROR_USER, -EINVAL, "expected a text without control characters");
	return 0;
}

static int check_api_version(const char *text, struct error *err)
{
	for (size_t i = 0; i < 10; i++)
		if (i == 4 || i == 7 ? text[i] != '-' : !ascii_is_digit(text[i]))
			return format_wrong(err, "an API version, e.g. \"2020-07-01\"", text);
	return text[10] ? format_wrong(err, "an API version, e.g. \"2020-07-01\"", text) : 0;
}

static int check_method(const char *text, struct error *err)
{
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(text) || strlen(text) > 16)
		return format_wrong(err, "an HTTP method in capitals", text);
	return 0;
}

#define HTTP_PATTERN "^https?://"

const struct jd_type st_http_or_none = { .kind = JD_TEXT, .max = 8192, .check = check_http };
const struct jd_type st_http_secretable = {
	.kind = JD_SECRETABLE,
	.min = 1,
	.max = 8192,
	.check = check_http,
	.pattern = HTTP_PATTERN,
	.what = "an http or https URL",
};
const struct jd_type st_http_secretable_or_none = {
	.kind = JD_SECRETABLE,
	.max = 8192,
	.check = check_http,
	.what = "an http or https URL",
};
const struct jd_type st_peer_url = { .kind = JD_TEXT, .max = 8192, .check = check_peer_url };
const struct jd_type st_identity_endpoint = {
	.kind = JD_TEXT,
	.min = 1,
	.max = 1024,
	.check = check_identity_endpoint,
	.pattern = HTTP_PATTERN,
};
const struct jd_type st_vault_url = {
	.kind = JD_TEXT,
	.min = 1,
	.max = 1024,
	.check = check_vault_url,
	.pattern = "^https://[^/]+/secrets/[0-9A-Za-z-]+(/[0-9A-Za-z]*)?$",
};
const struct jd_type st_vault_suffix = {
	.kind = JD_TEXT, .min = 1, .check = check_vault_suffix, .pattern = "^\\..+\\..+$"
};
const struct jd_type st_proxy = {
	.kind = JD_SECRETABLE, .max = 4096, .check = check_proxy, .what = "the URL of a proxy"
};
const struct jd_type st_endpoint = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_endpoint,
	.pattern = "^(\\[[0-9a-fA-F:.]+\\]|[0-9.]+|localhost):[0-9]+$",
};
const struct jd_type st_endpoint_or_none = { .kind = JD_TEXT, .check = check_endpoint };
const struct jd_type st_host_name = { .kind = JD_TEXT, .check = check_host_name };
const struct jd_type st_port = { .kind = JD_INTEGER, .min = 1, .max = 65535 };
const struct jd_type st_api_version = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_api_version,
	.pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
};
const struct jd_type st_method = { .kind = JD_TEXT, .check = check_method };
const struct jd_type st_headers = {
	.kind = JD_MAP,
	.max = 32,
	.size = sizeof(struct script_variable),
	.value_offset = offsetof(struct script_variable, value),
	.element =
		&(const struct jd_type){
			.kind = JD_SECRETABLE, .max = 8192, .check = check_header_value, .what = "a text on one line" },
	.check = check_header,
};

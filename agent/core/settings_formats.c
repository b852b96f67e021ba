/*
 * The leaves of the tables: what a name, a path, a URL … is, and how to say what is wrong with one.
 * Formats are those of settings.md 1.1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/gzip.h"
#include "agent/codec/uri.h"
#include "agent/core/settings_tables.h"

#define SHOWN_MAX 48
#define AGENT_DIR "/var/lib/waagent"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_alnum(char c)
{
	return is_alpha(c) || is_digit(c);
}

static bool is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

/* True if every character is a letter, a digit or one of `also`. */
static bool only(const char *text, const char *also)
{
	for (; *text; text++)
		if (!is_alnum(*text) && !strchr(also, *text))
			return false;
	return true;
}

static bool has_control(const char *text)
{
	for (; *text; text++)
		if (is_control(*text))
			return true;
	return false;
}

/* A value of public settings in a message: cut, on one line. */
static const char *shown(const char *text, char out[static SHOWN_MAX + 4])
{
	size_t len = strlen(text);
	size_t cut = utf8_cut(text, len, SHOWN_MAX);

	memcpy(out, text, cut);
	strcpy(out + cut, cut < len ? "…" : "");
	for (char *p = out; *p; p++)
		if (is_control(*p))
			*p = '?';
	return out;
}

static int wrong(struct error *err, const char *what, const char *text)
{
	char value[SHOWN_MAX + 4];

	return error_set(err, ERROR_USER, -EINVAL, "expected %s, got \"%s\"", what, shown(text, value));
}

#define NAME_WHAT "a name of 1 to 63 letters, digits, \".\", \"_\" and \"-\" that begins with a letter or digit"

static int check_name(const char *text, struct error *err)
{
	if (!*text)
		return 0;
	if (!is_alnum(*text) || strlen(text) > 63 || !only(text, "._-"))
		return wrong(err, NAME_WHAT, text);
	return 0;
}

/* Of a map: an empty key is no name either. */
static int check_secret_name(const char *text, struct error *err)
{
	return *text ? check_name(text, err) : wrong(err, NAME_WHAT, text);
}

static int check_unit(const char *text, struct error *err)
{
	static const char *const suffixes[] = {".service",   ".socket", ".target", ".timer", ".path",   ".mount",
					       ".automount", ".swap",   ".slice",  ".scope", ".device", NULL};
	bool suffixed = false;

	if (!*text)
		return 0;
	for (size_t i = 0; suffixes[i]; i++)
		suffixed = suffixed || (str_ends(text, suffixes[i]) && strlen(text) > strlen(suffixes[i]));
	if (!suffixed || strlen(text) > 255 || !only(text, ":-_.\\@") || *text == '.' || *text == '@')
		return wrong(err, "a systemd unit name with its suffix, e.g. \"nginx.service\"", text);
	if (strstr(text, "@."))
		return wrong(err, "a unit, not a template: give the instance, e.g. \"worker@1.service\"", text);
	return 0;
}

static int check_path(const char *text, struct error *err)
{
	static const char *const forbidden[] = {"/proc", "/sys", "/dev", "/run/evenkeel"};
	_cleanup_buf_ struct buf plain = BUF_INIT(4097);
	char value[SHOWN_MAX + 4];

	if (!*text)
		return 0;
	if (*text != '/' || strlen(text) > 4096 || has_control(text))
		return wrong(err, "an absolute path", text);
	for (const char *p = text; *p;) {
		size_t len = strcspn(p += strspn(p, "/"), "/");

		if (len == 2 && p[0] == '.' && p[1] == '.')
			return wrong(err, "a path without \"..\"", text);
		if (len > 0 && !(len == 1 && *p == '.')) {
			buf_putc(&plain, '/');
			buf_append(&plain, p, len);
		}
		p += len;
	}
	if (buf_ok(&plain) < 0)
		return error_oom(err);
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
		size_t len = strlen(forbidden[i]);

		if (str_starts(buf_str(&plain), forbidden[i]) && (plain.data[len] == '/' || plain.data[len] == '\0'))
			return error_set(err, ERROR_USER, -EINVAL,
					 "\"%s\" cannot be used; choose a path that is not below %s",
					 shown(text, value), forbidden[i]);
	}
	/* The agent takes every entry there with a "-" in its name for an extension and deletes it. */
	if (str_starts(buf_str(&plain), AGENT_DIR "/")) {
		const char *entry = plain.data + strlen(AGENT_DIR "/");
		size_t len = strcspn(entry, "/");

		if (memchr(entry, '-', len))
			return error_set(err, ERROR_USER, -EINVAL,
					 "the Azure agent deletes \"" AGENT_DIR
					 "/%.*s\"; choose a directory outside " AGENT_DIR,
					 (int)utf8_cut(entry, len, 128), entry);
	}
	return 0;
}

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
	struct uri u = {0};
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
		return wrong(err, "an http URL in which {name} stands for the other VM", text);
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
	struct uri u = {0};
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
		if (!is_alnum(text[i]) && text[i] != '-')
			return false;
	return true;
}

/* key-vault.md B: only https, port 443, /secrets/NAME or /secrets/NAME/VERSION; the token goes to no other place. */
static int check_vault_url(const char *text, struct error *err)
{
	struct uri u = {0};
	const char *name, *version;
	size_t name_len, version_len;
	int r;

	if (!*text)
		return 0;
	r = check_uri(text, &u, err);
	if (r < 0)
		return r;
	r = -EINVAL;
	name = u.path + strlen("/secrets/");
	if (!u.https || (u.port != 0 && u.port != 443)) {
		error_set(err, ERROR_USER, r, "expected an https URL on port 443 of a vault");
		goto out;
	}
	if (u.query) {
		error_set(err, ERROR_USER, r, "expected the URL of a secret without a query");
		goto out;
	}
	if (u.ipv6 || is_ipv4(u.host) || !strchr(u.host, '.') || *u.host == '.') {
		error_set(err, ERROR_USER, r, "expected the host name of a vault, got \"%.64s\"", u.host);
		goto out;
	}
	if (strstr(u.host, ".managedhsm.")) {
		error_set(err, ERROR_USER, r, "a managed HSM has keys only; certificates and secrets need a vault");
		goto out;
	}
	if (str_starts(u.path, "/certificates/") || str_starts(u.path, "/keys/")) {
		error_set(err, ERROR_USER, r,
			  "expected https://VAULT/secrets/NAME, got \"%.64s\"; a certificate is read as the secret "
			  "of its name, only that has the private key",
			  u.path);
		goto out;
	}
	if (!str_starts(u.path, "/secrets/")) {
		error_set(err, ERROR_USER, r, "expected https://VAULT/secrets/NAME, got the path \"%.64s\"", u.path);
		goto out;
	}
	name_len = strcspn(name, "/");
	version = name[name_len] ? name + name_len + 1 : "";
	version_len = strcspn(version, "/");
	if (!is_vault_name(name, name_len) || version[version_len] ||
	    (version_len > 0 && (version_len != 32 || !is_vault_name(version, version_len)))) {
		error_set(
			err, ERROR_USER, r,
			"expected https://VAULT/secrets/NAME or …/NAME/VERSION (32 characters), got the path \"%.64s\"",
			u.path);
		goto out;
	}
	r = 0;
out:
	uri_done(&u);
	return r;
}

static int check_vault_suffix(const char *text, struct error *err)
{
	if (*text != '.' || strlen(text) < 4 || strlen(text) > 253 || !only(text, ".-") || strstr(text, "..") ||
	    !strchr(text + 1, '.'))
		return wrong(err, "a DNS suffix that begins with \".\", e.g. \".vault.azure.net\"", text);
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
	if (!rest || has_control(text))
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
		return wrong(err, ENDPOINT_WHAT, text);
	memcpy(host, text, len);
	host[len] = '\0';
	if (*host == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		good = is_ipv6(host + 1);
	} else {
		good = is_ipv4(host) || str_equal(host, "localhost");
	}
	return good ? 0 : wrong(err, ENDPOINT_WHAT, text);
}

bool settings_is_resource_id(const char *text)
{
	/* /subscriptions/S/resourceGroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME */
	static const char *const words[] = {
		"subscriptions",          NULL, "resourceGroups", NULL, "providers", "Microsoft.ManagedIdentity",
		"userAssignedIdentities", NULL};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		char part[128];
		size_t len;

		if (*text++ != '/')
			return false;
		len = strcspn(text, "/");
		if (len == 0 || len >= sizeof(part))
			return false;
		memcpy(part, text, len);
		part[len] = '\0';
		if (has_control(part) || (words[i] && !str_equal_nocase(part, words[i])))
			return false;
		text += len;
	}
	return *text == '\0';
}

int check_guid(const char *text, struct error *err)
{
	if (!*text)
		return 0;
	if (str_starts(text, "/subscriptions/") || str_starts(text, "/Subscriptions/"))
		return error_set(err, ERROR_USER, -EINVAL, "expected a GUID, got an ARM id; use resourceId");
	for (size_t i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !is_hex(text[i]))
			return wrong(err, "a GUID", text);
	}
	return text[36] ? wrong(err, "a GUID", text) : 0;
}

static int check_resource_id(const char *text, struct error *err)
{
	if (!*text || settings_is_resource_id(text))
		return 0;
	return wrong(err,
		     "the ARM id of a user-assigned identity "
		     "(/subscriptions/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME)",
		     text);
}

static int check_mode(const char *text, struct error *err)
{
	const char *digits = *text == '0' && strlen(text) == 4 ? text + 1 : text;

	if (strlen(digits) != 3 || strspn(digits, "01234567") != 3)
		return wrong(err, "a mode of three octal digits, e.g. \"0640\"", text);
	return 0;
}

static bool is_account(const char *text, size_t len)
{
	if (len == 0 || len > 255 || *text == '-' || *text == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (is_control(text[i]) || strchr(" /:,\"'", text[i]))
			return false;
	return true;
}

static int check_account(const char *text, struct error *err)
{
	if (!*text || is_account(text, strlen(text)))
		return 0;
	return wrong(err, "the name or number of a user or group", text);
}

static int check_user_and_group(const char *text, struct error *err)
{
	size_t user = strcspn(text, ":");

	if (!is_account(text, user) || (text[user] && !is_account(text + user + 1, strlen(text + user + 1))))
		return wrong(err, "USER or USER:GROUP", text);
	return 0;
}

static int check_sha256(const char *text, struct error *err)
{
	size_t len = strspn(text, "0123456789abcdefABCDEF");

	if (len != 64 || text[64])
		return wrong(err, "SHA-256 as 64 hexadecimal digits", text);
	return 0;
}

static int check_base64(const char *text, struct error *err)
{
	_cleanup_buf_ struct buf out = BUF_SECRET_INIT(LIMIT_SCRIPT_ENCODED);
	struct error why = ERROR_INIT;
	int r;

	if (!*text)
		return 0;
	r = base64_decode(text, strlen(text), true, &out, &why);
	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0)
		return error_set(err, ERROR_USER, -EINVAL, "expected %s", why.msg);
	return 0;
}

/* A script in base64, which may be gzip: what cannot be unpacked is told before anything is downloaded. */
int check_script(const char *text, struct error *err)
{
	_cleanup_buf_ struct buf packed = BUF_SECRET_INIT(LIMIT_SCRIPT_ENCODED);
	_cleanup_buf_ struct buf plain = BUF_SECRET_INIT(LIMIT_SCRIPT_DECODED);
	int r = check_base64(text, err);

	if (r < 0 || !*text)
		return r;
	r = base64_decode(text, strlen(text), true, &packed, err);
	if (r < 0)
		return r;
	if (!gzip_detect(buf_str(&packed), packed.len))
		return 0;
	r = gzip_inflate(packed.data, packed.len, &plain, NULL);
	if (r == -ENOMEM)
		return error_oom(err);
	if (r == -EFBIG)
		return error_set(err, ERROR_USER, -EINVAL, "expected a script of at most %lu bytes once unpacked",
				 LIMIT_SCRIPT_DECODED);
	if (r < 0)
		return error_set(err, ERROR_USER, -EINVAL, "expected a whole gzip; this one is cut off or damaged");
	return 0;
}

static int check_storage_account_name(const char *text, struct error *err)
{
	size_t len = strlen(text);

	if (len > 0 && (len < 3 || len > 24 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789") != len))
		return wrong(err, "3 to 24 lower-case letters and digits", text);
	return 0;
}

static int check_file_name(const char *text, struct error *err)
{
	if (strchr(text, '/') || has_control(text) || strlen(text) > 255 || str_equal(text, ".") ||
	    str_equal(text, ".."))
		return wrong(err, "a plain file name", text);
	return 0;
}

int check_relative_file_name(const char *text, struct error *err)
{
	if (strlen(text) > 1024 || has_control(text) || *text == '/' || str_ends(text, "/"))
		return wrong(err, "a file name relative to the run's directory", text);
	for (const char *p = text; *p;) {
		size_t len = strcspn(p, "/");

		if (len == 0 || len > 255 || (len == 1 && *p == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return wrong(err, "a file name relative to the run's directory, without \".\" and \"..\"",
				     text);
		p += len;
		p += *p == '/';
	}
	if (str_equal(text, "stdout") || str_equal(text, "stderr"))
		return error_set(err, ERROR_USER, -EINVAL,
				 "\"%s\" is where the script's output goes; give another name", text);
	return 0;
}

static int check_host_name(const char *text, struct error *err)
{
	if (strlen(text) > 253 || !only(text, ".-_*") || *text == '.' || *text == '-')
		return wrong(err, "a host name", text);
	return 0;
}

static int check_variable(const char *text, struct error *err)
{
	if (!(is_alpha(*text) || *text == '_') || strlen(text) > 128 || !only(text, "_"))
		return wrong(err, "the name of an environment variable (letters, digits, \"_\")", text);
	return 0;
}

static int check_header(const char *text, struct error *err)
{
	if (!*text || strlen(text) > 128 || !only(text, "!#$%&'*+-.^_`|~"))
		return wrong(err, "the name of an HTTP header", text);
	return 0;
}

/* One line: a line break in a header would begin another header. */
static int check_header_value(const char *text, struct error *err)
{
	if (has_control(text))
		return error_set(err, ERROR_USER, -EINVAL, "expected a text without control characters");
	return 0;
}

static int check_api_version(const char *text, struct error *err)
{
	for (size_t i = 0; i < 10; i++)
		if (i == 4 || i == 7 ? text[i] != '-' : !is_digit(text[i]))
			return wrong(err, "an API version, e.g. \"2020-07-01\"", text);
	return text[10] ? wrong(err, "an API version, e.g. \"2020-07-01\"", text) : 0;
}

static int check_method(const char *text, struct error *err)
{
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(text) || strlen(text) > 16)
		return wrong(err, "an HTTP method in capitals", text);
	return 0;
}

static int check_word(const char *const *words, const char *text, struct error *err)
{
	_cleanup_buf_ struct buf list = BUF_INIT(256);
	char value[SHOWN_MAX + 4];
	int near;

	for (size_t i = 0; words[i]; i++) {
		if (str_equal(words[i], text))
			return 0;
		buf_printf(&list, "%s\"%s\"", i ? ", " : "", words[i]);
	}
	near = str_nearest(text, words);
	if (near >= 0)
		return error_set(err, ERROR_USER, -EINVAL, "expected one of %s, got \"%s\"; did you mean \"%s\"?",
				 buf_str(&list), shown(text, value), words[near]);
	return error_set(err, ERROR_USER, -EINVAL, "expected one of %s, got \"%s\"", buf_str(&list),
			 shown(text, value));
}

static int check_event_type(const char *text, struct error *err)
{
	static const char *const words[] = {"Freeze", "Reboot", "Redeploy", "Preempt", "Terminate", NULL};

	return check_word(words, text, err);
}

static int check_event_source(const char *text, struct error *err)
{
	static const char *const words[] = {"Platform", "User", NULL};

	return check_word(words, text, err);
}

/* What a settings part of user data may ever set: never what decides about user data itself. */
static int check_settable_section(const char *text, struct error *err)
{
	const char *words[_SECTION_MAX] = {NULL};
	size_t n = 0;

	for (int s = 0; s < _SECTION_MAX; s++)
		if (s != SECTION_USER_DATA)
			words[n++] = settings_section_name((enum settings_section)s);
	words[n] = NULL;
	return check_word(words, text, err);
}

#define NAME_PATTERN "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
#define PATH_PATTERN "^/"
#define HTTP_PATTERN "^https?://"

const struct jd_type st_boolean = {.kind = JD_BOOLEAN};
const struct jd_type st_name = {.kind = JD_TEXT, .min = 1, .check = check_name, .pattern = NAME_PATTERN};
const struct jd_type st_name_or_none = {.kind = JD_TEXT, .check = check_name};
const struct jd_type st_unit = {.kind = JD_TEXT, .min = 1, .check = check_unit, .pattern = "^[A-Za-z0-9:_.\\\\@-]+$"};
const struct jd_type st_unit_or_none = {.kind = JD_TEXT, .check = check_unit};
const struct jd_type st_path = {.kind = JD_TEXT, .min = 1, .check = check_path, .pattern = PATH_PATTERN};
const struct jd_type st_path_or_none = {.kind = JD_TEXT, .check = check_path};
const struct jd_type st_http_or_none = {.kind = JD_TEXT, .max = 8192, .check = check_http};
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
const struct jd_type st_peer_url = {.kind = JD_TEXT, .max = 8192, .check = check_peer_url};
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
	.kind = JD_TEXT, .min = 1, .check = check_vault_suffix, .pattern = "^\\..+\\..+$"};
const struct jd_type st_proxy = {
	.kind = JD_SECRETABLE, .max = 4096, .check = check_proxy, .what = "the URL of a proxy"};
const struct jd_type st_endpoint = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_endpoint,
	.pattern = "^(\\[[0-9a-fA-F:.]+\\]|[0-9.]+|localhost):[0-9]+$",
};
const struct jd_type st_endpoint_or_none = {.kind = JD_TEXT, .check = check_endpoint};
const struct jd_type st_guid = {.kind = JD_TEXT, .check = check_guid};
const struct jd_type st_resource_id = {.kind = JD_TEXT, .max = 1024, .check = check_resource_id};
const struct jd_type st_mode = {.kind = JD_TEXT, .min = 1, .check = check_mode, .pattern = "^0?[0-7]{3}$"};
const struct jd_type st_user = {.kind = JD_TEXT, .check = check_account};
const struct jd_type st_group = {.kind = JD_TEXT, .check = check_account};
const struct jd_type st_user_and_group = {.kind = JD_TEXT, .min = 1, .check = check_user_and_group};
const struct jd_type st_sha256 = {.kind = JD_TEXT, .min = 1, .check = check_sha256, .pattern = "^[0-9a-fA-F]{64}$"};
const struct jd_type st_shell_text = {.kind = JD_SECRETABLE, .max = 32768, .what = "shell text of at most 32 KiB"};
const struct jd_type st_script_text = {
	.kind = JD_SECRETABLE,
	.max = LIMIT_SCRIPT_ENCODED,
	.check = check_script,
	.what = "a script in base64",
};
const struct jd_type st_argument = {
	.kind = JD_TEXT,
	.no_secret = "a secretRef cannot be an argument (every user can read argv); use environment",
};
const struct jd_type st_storage_account_name = {.kind = JD_TEXT, .check = check_storage_account_name};
const struct jd_type st_storage_account_key = {
	.kind = JD_SECRETABLE,
	.must_be_secret = true,
	.check = check_base64,
	.what = "a storage account's key (base64)",
};
const struct jd_type st_file_name = {.kind = JD_TEXT, .min = 1, .check = check_file_name, .pattern = "^[^/]+$"};
const struct jd_type st_relative_file_name = {.kind = JD_TEXT, .check = check_relative_file_name};
const struct jd_type st_host_name = {.kind = JD_TEXT, .check = check_host_name};
static const struct jd_type st_secret_value = {.kind = JD_SECRETABLE};
const struct jd_type st_secret_only = {.kind = JD_SECRETABLE, .must_be_secret = true};
#define COMMAND_WHAT "a command as a list, e.g. [\"nginx\", \"-t\"], or with a shell [\"sh\", \"-c\", \"TEXT\"]"
const struct jd_type st_command = {
	.kind = JD_LIST, .min = 1, .max = LIMIT_ARGV, .element = &st_argument, .what = COMMAND_WHAT};
const struct jd_type st_command_or_none = {
	.kind = JD_LIST, .max = LIMIT_ARGV, .element = &st_argument, .what = COMMAND_WHAT};
const struct jd_type st_commands = {.kind = JD_LIST, .max = 16, .element = &st_command};
const struct jd_type st_units = {.kind = JD_LIST, .max = 16, .element = &st_unit};
const struct jd_type st_port = {.kind = JD_INTEGER, .min = 1, .max = 65535};
const struct jd_type st_api_version = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_api_version,
	.pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
};
const struct jd_type st_method = {.kind = JD_TEXT, .check = check_method};
const struct jd_type st_event_type = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_event_type,
	.pattern = "^(Freeze|Reboot|Redeploy|Preempt|Terminate)$",
};
const struct jd_type st_event_source = {
	.kind = JD_TEXT, .min = 1, .check = check_event_source, .pattern = "^(Platform|User)$"};
const struct jd_type st_settable_section = {
	.kind = JD_TEXT,
	.min = 1,
	.check = check_settable_section,
	.pattern = "^(customScript|keyRefresh|drain|health|notify|network|log)$",
};
const struct jd_type st_exit_codes = {
	.kind = JD_LIST,
	.max = 32,
	.element = &(const struct jd_type){.kind = JD_INTEGER, .min = 1, .max = 255},
};
const struct jd_type st_environment = {
	.kind = JD_MAP,
	.max = 64,
	.size = sizeof(struct script_variable),
	.value_offset = offsetof(struct script_variable, value),
	.element = &st_secret_value,
	.check = check_variable,
	.pattern = "^[A-Za-z_][A-Za-z0-9_]*$",
};
const struct jd_type st_headers = {
	.kind = JD_MAP,
	.max = 32,
	.size = sizeof(struct script_variable),
	.value_offset = offsetof(struct script_variable, value),
	.element =
		&(const struct jd_type){
			.kind = JD_SECRETABLE, .max = 8192, .check = check_header_value, .what = "a text on one line"},
	.check = check_header,
};
const struct jd_type st_secrets = {
	.kind = JD_MAP,
	.max = LIMIT_SECRETS,
	.size = sizeof(struct settings_secret),
	.value_offset = offsetof(struct settings_secret, value),
	.element = &(const struct jd_type){.kind = JD_TEXT, .max = LIMIT_SECRET, .sensitive = true},
	.check = check_secret_name,
	.pattern = NAME_PATTERN,
};

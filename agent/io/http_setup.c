/* What all requests of a client have in common: the proxy and its exceptions, authorities, addresses of tests. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/secret.h"
#include "agent/base/str.h"
#include "agent/io/http_internal.h"

static bool is_loopback_name(const char *host)
{
	return str_equal_nocase(host, "localhost") || str_equal(host, "[::1]") || str_starts(host, "127.");
}

/* Routes of the platform that exist only on this host; a proxy has others of its own, or none. */
bool http_is_direct(const char *host)
{
	return str_equal(host, "169.254.169.254") || str_equal(host, "168.63.129.16") || is_loopback_name(host);
}

/* As curl understands the list: a name with all below it; only for messages. */
bool http_is_excepted(const struct http_setup *s, const char *host)
{
	const char *p = s->no_proxy;
	size_t len = strlen(host);

	while (p && *p) {
		size_t n = strcspn(p, ","), skip = *p == '.' ? 1 : 0;

		if (n > skip && len >= n - skip && strncasecmp(host + len - (n - skip), p + skip, n - skip) == 0 &&
		    (len == n - skip || host[len - (n - skip) - 1] == '.'))
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

/* OpenSSL looks certificates up in a directory by the hash of their subject: 8 hexadecimal digits, ".", a number. */
static bool is_hash_link(const char *name)
{
	return strspn(name, "0123456789abcdef") == 8 && name[8] == '.' && name[9] >= '0' && name[9] <= '9';
}

/* A few links are an administrator's additions beside a bundle; the authorities of the world are more than that. */
static bool is_hashed_dir(const char *path)
{
	_cleanup_(closedirp) DIR *d = opendir(path);
	unsigned n = 0;

	for (struct dirent *e; d && n < 20 && (e = readdir(d));)
		n += is_hash_link(e->d_name);
	return n >= 20;
}

/* The directory first: certificates are then read when needed, and a whole bundle costs a megabyte for good. */
static int probe_authorities(char **ret_file, char **ret_path)
{
	static const char *const directories[] = {
		"/etc/ssl/certs",
		"/etc/pki/tls/certs",
		"/etc/pki/ca-trust/extracted/pem/directory-hash",
	};
	static const char *const bundles[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/ssl/cert.pem",
	};

	for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
		if (is_hashed_dir(directories[i]))
			return str_set(ret_path, directories[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bundles); i++)
		if (access(bundles[i], R_OK) == 0)
			return str_set(ret_file, bundles[i]);
	return 0; /* curl's own default remains, and TLS fails by name if it is nothing */
}

static int set_authorities(struct http_setup *s, const char *given, struct error *err)
{
	struct stat st;

	if (!given)
		return probe_authorities(&s->ca_file, &s->ca_path) < 0 ? error_oom(err) : 0;
	if (stat(given, &st) < 0 || access(given, R_OK) < 0)
		return error_errno(err, -errno, "cannot read the certificate authorities in %s", given);
	if (str_set(S_ISDIR(st.st_mode) ? &s->ca_path : &s->ca_file, given) < 0)
		return error_oom(err);
	return 0;
}

static int set_no_proxy(struct http_setup *s, const char *const *suffixes, struct error *err)
{
	_cleanup_buf_ struct buf b = BUF_INIT(LIMIT_HTTP_HEADERS);

	(void)buf_puts(&b, "169.254.169.254,168.63.129.16,localhost,127.0.0.1,::1,[::1]");
	for (const char *const *p = suffixes; p && *p; p++)
		(void)buf_printf(&b, ",%s", *p);
	if (buf_ok(&b) == -EFBIG)
		return error_set(err, ERROR_USER, -EFBIG, "the list of hosts that need no proxy is too long");
	s->no_proxy = buf_take(&b);
	return s->no_proxy ? 0 : error_oom(err);
}

static int set_connect_to(struct http_setup *s, const char *list, struct error *err)
{
	_cleanup_free_ char *copy = list ? strdup(list) : NULL;
	char *rest = copy;

	if (list && !copy)
		return error_oom(err);
	for (char *one; (one = strsep(&rest, ","));) {
		struct curl_slist *l;

		if (!*one)
			continue;
		l = curl_slist_append(s->connect_to, one);
		if (!l)
			return error_oom(err);
		s->connect_to = l;
	}
	return 0;
}

void http_setup_done(struct http_setup *s)
{
	erase_and_free(s->proxy);
	free(s->no_proxy);
	free(s->ca_file);
	free(s->ca_path);
	curl_slist_free_all(s->connect_to);
}

int http_configure(struct http *h, const struct http_options *o, struct error *err)
{
	static const struct http_options defaults;
	struct http_setup made = { 0 };
	int r;

	if (!o)
		o = &defaults;
	r = set_authorities(&made, o->ca_file, err);
	if (r == 0)
		r = set_no_proxy(&made, o->no_proxy, err);
	if (r == 0)
		r = set_connect_to(&made, o->connect_to, err);
	if (r == 0 && !str_empty(o->proxy) && str_set(&made.proxy, o->proxy) < 0)
		r = error_oom(err);
	if (r < 0) {
		http_setup_done(&made);
		return r;
	}
	if (curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
			      o->host_connections ? (long)o->host_connections : LIMIT_HTTP_HOST_CONNECTIONS) != CURLM_OK) {
		http_setup_done(&made);
		return error_set(err, ERROR_SYSTEM, -EINVAL, "cannot set up libcurl");
	}
	http_setup_done(&h->setup);
	h->setup = made;
	return 0;
}

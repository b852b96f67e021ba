/* Which URLs name a secret of a vault, and of which cloud. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/azure/keyvault_internal.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"
#include "agent/codec/uri.h"

bool vault_is_name(const char *s, size_t len, size_t min, size_t max)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr("0123456789-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", s[i]))
			return false;
	return len >= min && len <= max;
}

static const char *const known_suffixes[] = { ".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net" };

static int refuse_url(struct error *err, const char *why, const char *what)
{
	return error_set(err, ERROR_USER, -EINVAL, "not a secret of a vault: %s%.200s", why, what);
}

static bool is_known(const char *suffix, const struct jd_list *added)
{
	const char *const *items = added ? added->items : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(known_suffixes); i++)
		if (str_equal_nocase(known_suffixes[i], suffix))
			return true;
	for (size_t i = 0; items && i < added->n; i++)
		if (str_equal_nocase(items[i], suffix))
			return true;
	return false;
}

/* The whole of what follows the vault's own name: "vault.azure.net.evil.example" has another. */
static int check_host(const struct uri *u, const struct jd_list *suffixes, const char **ret_suffix, struct error *err)
{
	const char *suffix = u->ipv6 ? NULL : strchr(u->host, '.');

	if (!suffix || strlen(u->host) > 255)
		return refuse_url(err, "the host is no vault's: ", u->host);
	if (strstr(suffix, ".managedhsm."))
		return refuse_url(err, "a managed HSM holds keys, but no secrets and certificates: ", u->host);
	if (strstr(suffix, ".privatelink."))
		return refuse_url(err,
				  "use the vault's public name, which leads to the private link by itself: ", u->host);
	if (!is_known(suffix, suffixes))
		return error_set(
			err, ERROR_USER, -EINVAL,
			"not a secret of a vault: tokens do not go to %.200s; a vault of another cloud needs its suffix"
			" in vaultSuffixes",
			u->host);
	if (!vault_is_name(u->host, (size_t)(suffix - u->host), 1, 63))
		return refuse_url(err, "the host is no vault's: ", u->host);
	*ret_suffix = suffix;
	return 0;
}

static int check_path(const char *path, char name[static 256], char version[static 256], struct error *err)
{
	static const char wanted[] = ", expected /secrets/NAME or /secrets/NAME/VERSION";
	const char *first = path + strlen("/secrets/"), *second = "", *more = "";
	size_t first_len, second_len;

	if (!str_starts(path, "/secrets/"))
		return error_set(
			err, ERROR_USER, -EINVAL, "not a secret of a vault: the path is %.150s%s%s", path, wanted,
			str_starts(path, "/certificates/") ? ": only as a secret a certificate has its key" : "");
	first_len = strcspn(first, "/");
	if (first[first_len])
		second = first + first_len + 1;
	second_len = strcspn(second, "/");
	more = second + second_len;
	if (!vault_is_name(first, first_len, 1, 127) ||
	    (second_len && (second_len != 32 || !vault_is_name(second, second_len, 32, 32))) || *more)
		return error_set(err, ERROR_USER, -EINVAL, "not a secret of a vault: the path is %.150s%s", path,
				 wanted);
	memcpy(name, first, first_len);
	name[first_len] = '\0';
	memcpy(version, second, second_len);
	version[second_len] = '\0';
	return 0;
}

int vault_url_parse(const char *url, const struct jd_list *suffixes, char host[static 256], char name[static 256],
		    char version[static 256], char resource[static 256], struct error *err)
{
	_cleanup_(uri_done) struct uri u = { .host = NULL };
	const char *suffix = NULL;
	int r;

	r = uri_parse(url, &u, err);
	if (r < 0)
		return error_wrap(err, r, "not a secret of a vault");
	if (!u.https)
		return refuse_url(err, "expected https, got http://", u.host);
	if (u.port && u.port != 443)
		return refuse_url(err, "vaults are at port 443 only: ", u.host);
	if (u.query)
		return refuse_url(err, "the url has a query: ", u.path);
	r = check_host(&u, suffixes, &suffix, err);
	if (r == 0)
		r = check_path(u.path, name, version, err);
	if (r < 0)
		return r;
	memcpy(host, u.host, strlen(u.host) + 1);
	(void)snprintf(resource, 256, "https://%.240s", suffix + 1);
	return 0;
}

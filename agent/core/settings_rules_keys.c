/* Rules across the members of keyRefresh: vaults, names, and that nothing is written twice. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "agent/core/settings_tables.h"

#define DEFAULT_DIRECTORY "/var/lib/evenkeel/certificates"

static bool is_known_suffix(const struct key_refresh_settings *k, const char *suffix)
{
	static const char *const known[] = {".vault.azure.net", ".vault.azure.cn", ".vault.usgovcloudapi.net"};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_equal(known[i], suffix))
			return true;
	for (size_t i = 0; i < k->vault_suffixes.n; i++)
		if (str_equal_nocase(((char **)k->vault_suffixes.items)[i], suffix))
			return true;
	return false;
}

/* A token for a vault goes to vaults only. */
static int judge_url(struct settings_loader *l, const char *url, const char *path)
{
	_cleanup_free_ char *vault = NULL, *suffix = NULL, *secret = NULL;
	int r = settings_split_vault_url(url, &vault, &suffix, &secret);

	if (r < 0)
		return r;
	if (!is_known_suffix(l->settings->key_refresh, suffix))
		settings_error(l, SECTION_KEY_REFRESH, path,
			       "\"%.80s%.80s\" is no known vault host; if it is one, add \"%.80s\" to "
			       "keyRefresh.vaultSuffixes",
			       vault, suffix, suffix);
	return 0;
}

/* Equal places have equal texts: one "/" between names, none at the end, no ".". */
static char *plain_path(const char *directory, const char *file)
{
	_cleanup_buf_ struct buf b = BUF_INIT(16384);
	const char *parts[] = {directory, file ? file : ""};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (const char *p = parts[i]; *p;) {
			size_t len = strcspn(p += strspn(p, "/"), "/");

			if (len > 0 && !(len == 1 && *p == '.')) {
				buf_putc(&b, '/');
				buf_append(&b, p, len);
			}
			p += len;
		}
	return buf_ok(&b) < 0 ? NULL : buf_take(&b);
}

struct place {
	char *path;
	char owner[40]; /* "certificates[0]" */
};

struct places {
	struct place *list;
	size_t n;
};

static void places_done(struct places *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->list[i].path);
	free(p->list);
}

static const struct place *find_place(const struct places *p, const char *path)
{
	for (size_t i = 0; i < p->n; i++)
		if (str_equal(p->list[i].path, path))
			return &p->list[i];
	return NULL;
}

/* `list` has room. Tells when the path is somebody else's. */
static int take_place(struct settings_loader *l, struct places *p, const char *directory, const char *file,
		      const char *kind, size_t index, const char *member)
{
	_cleanup_free_ char *path = plain_path(directory, file);
	const struct place *other;
	struct place *new;

	if (!path)
		return -ENOMEM;
	other = find_place(p, path);
	if (other) {
		char where[96];

		(void)snprintf(where, sizeof(where), "keyRefresh.%s[%zu].%s", kind, index, member);
		settings_error(l, SECTION_KEY_REFRESH, where, "\"%.*s\" is already written by %s", CUT(path, 200),
			       other->owner);
		return 0;
	}
	new = &p->list[p->n++];
	new->path = TAKE_PTR(path);
	(void)snprintf(new->owner, sizeof(new->owner), "%s[%zu]", kind, index);
	return 0;
}

static const char *const *file_names(const struct certificate_files *f, const char *names[static 7])
{
	const char *all[] = {f->fullchain, f->certificate, f->chain, f->key, f->combined, f->pkcs12};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i])
			names[n++] = all[i];
	names[n] = NULL;
	return names;
}

static void judge_files(struct settings_loader *l, const struct certificate_settings *c, const char *path)
{
	const char *names[7];
	char where[80];

	(void)snprintf(where, sizeof(where), "%s.files", path);
	file_names(&c->files, names);
	if (!names[0])
		settings_error(l, SECTION_KEY_REFRESH, where, "at least one file is required");
	for (size_t i = 0; names[i]; i++)
		for (size_t k = 0; k < i; k++)
			if (str_equal(names[i], names[k]))
				settings_error(l, SECTION_KEY_REFRESH, where, "\"%s\" is the name of two files",
					       names[i]);
}

static void judge_acls(struct settings_loader *l, const struct jd_list *acls, const char *path)
{
	const struct acl_settings *a = acls->items;

	for (size_t i = 0; i < acls->n; i++) {
		char where[96];

		(void)snprintf(where, sizeof(where), "%s.acls[%zu]", path, i);
		if (!a[i].user && !a[i].group)
			settings_error(l, SECTION_KEY_REFRESH, where,
				       "\"user\", \"group\" or both are required, got none");
	}
}

/* Names that were given are unique by the tables; one that was made from the URL may meet another. */
static void judge_name(struct settings_loader *l, const char *kind, size_t index, const char *name, const char *other,
		       size_t other_index)
{
	char where[64];

	if (!str_equal(name, other))
		return;
	(void)snprintf(where, sizeof(where), "keyRefresh.%s[%zu].name", kind, index);
	settings_error(l, SECTION_KEY_REFRESH, where, "\"%s\" is already the name of %s[%zu]", name, kind, other_index);
}

/* Two links of one name in one store would take turns. The same secret twice is only a waste. */
static void judge_links(struct settings_loader *l, const struct certificate_settings *all, size_t i)
{
	char path[96];

	for (size_t k = 0; k < i; k++) {
		if (!all[i].link_name || !str_equal(all[i].link_name, all[k].link_name) ||
		    !str_equal(all[i].directory, all[k].directory) || str_equal(all[i].url, all[k].url))
			continue;
		(void)snprintf(path, sizeof(path), "keyRefresh.certificates[%zu].customSymbolicLinkName", i);
		settings_error(l, SECTION_KEY_REFRESH, path,
			       "\"%.*s\" is already the link of observedCertificates[%zu]", CUT(all[i].link_name, 64),
			       k);
		return;
	}
}

static int judge_certificate(struct settings_loader *l, struct places *places, size_t i)
{
	const struct certificate_settings *all = l->settings->key_refresh->certificates.items, *c = &all[i];
	char path[64], where[80];
	int r;

	(void)snprintf(path, sizeof(path), "keyRefresh.certificates[%zu]", i);
	(void)snprintf(where, sizeof(where), "%s.url", path);
	r = judge_url(l, c->url, where);
	judge_acls(l, &c->acls, path);
	for (size_t k = 0; k < i; k++)
		judge_name(l, "certificates", i, c->name, all[k].name, k);
	/* The peer's store holds the files of all certificates side by side. */
	judge_links(l, all, i);
	if (r < 0 || c->layout != STORE_OWN)
		return r;
	judge_files(l, c, path);
	return take_place(l, places, c->directory ? c->directory : DEFAULT_DIRECTORY, c->directory ? NULL : c->name,
			  "certificates", i, "directory");
}

/* A secret's file must be nobody else's, nor one of a certificate's files. */
static int judge_secret(struct settings_loader *l, struct places *places, size_t i)
{
	const struct key_refresh_settings *k = l->settings->key_refresh;
	const struct key_secret_settings *all = k->secrets.items, *s = &all[i];
	const struct certificate_settings *c = k->certificates.items;
	_cleanup_free_ char *own = plain_path(s->path, NULL);
	char where[64];
	int r;

	(void)snprintf(where, sizeof(where), "keyRefresh.secrets[%zu].url", i);
	r = own ? judge_url(l, s->url, where) : -ENOMEM;
	for (size_t n = 0; n < i; n++)
		judge_name(l, "secrets", i, s->name, all[n].name, n);
	if (s->activate.verify.endpoint) {
		(void)snprintf(where, sizeof(where), "keyRefresh.secrets[%zu].activate.verify", i);
		settings_error(l, SECTION_KEY_REFRESH, where,
			       "no endpoint serves a secret; remove it, or let activate.check or a command look");
	}
	for (size_t n = 0; r == 0 && n < k->certificates.n; n++) {
		const char *names[7];

		if (c[n].layout != STORE_OWN || !c[n].directory)
			continue;
		file_names(&c[n].files, names);
		for (size_t f = 0; names[f]; f++) {
			_cleanup_free_ char *file = plain_path(c[n].directory, names[f]);

			if (!file)
				return -ENOMEM;
			(void)snprintf(where, sizeof(where), "keyRefresh.secrets[%zu].path", i);
			if (str_equal(file, own))
				settings_error(l, SECTION_KEY_REFRESH, where,
					       "\"%.*s\" is already written by certificates[%zu]", CUT(own, 200), n);
		}
	}
	return r < 0 ? r : take_place(l, places, s->path, NULL, "secrets", i, "path");
}

int settings_judge_keys(struct settings_loader *l)
{
	const struct key_refresh_settings *k = l->settings->key_refresh;
	_cleanup_(places_done) struct places places = {0};
	int r = 0;

	places.list = calloc(k->certificates.n + k->secrets.n + 1, sizeof(*places.list));
	if (!places.list)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < k->certificates.n; i++)
		r = judge_certificate(l, &places, i);
	for (size_t i = 0; r == 0 && i < k->secrets.n; i++)
		r = judge_secret(l, &places, i);
	return r;
}

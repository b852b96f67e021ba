/* Files of certificates and secrets. */
#include "handlers/key_refresh/layout.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"

#define STALE_MAX 64

void key_layout_done(struct key_layout *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->files[i].name);
		free(l->files[i].link);
	}
	free(l->directory);
}

const char *key_part_name(enum key_part part)
{
	static const char *const names[] = {
		[PART_SECRET] = "secret", [PART_FULLCHAIN] = "fullchain", [PART_CERTIFICATE] = "certificate",
		[PART_CHAIN] = "chain",	  [PART_KEY] = "key",		  [PART_COMBINED] = "combined",
		[PART_PKCS12] = "pkcs12", [PART_NOTE] = "note",	  [PART_LINK] = "link",
	};

	return (size_t)part < ARRAY_SIZE(names) && names[part] ? names[part] : "file";
}

bool key_part_has_key(enum key_part part)
{
	return part == PART_SECRET || part == PART_KEY || part == PART_COMBINED || part == PART_PKCS12;
}

/* Both texts are taken, also on failure. */
static int add(struct key_layout *l, enum key_part part, char *name, char *link, bool everybody)
{
	l->files[l->n++] = (struct key_file){ part, name, link, everybody };
	return name && (link || part != PART_LINK) ? 0 : -ENOMEM;
}

/* ---- our own ---- */

static int secret_layout(const struct paths *paths, const char *path, struct key_layout *l)
{
	_cleanup_free_ char *above = path_parent(path);

	l->directory = above ? path_under_root(paths, above) : NULL;
	return l->directory ? add(l, PART_SECRET, strdup(strrchr(path, '/') + 1), NULL, false) : -ENOMEM;
}

static int own_layout(const struct paths *paths, const struct certificate_settings *c, struct key_layout *l)
{
	const struct {
		enum key_part part;
		const char *name;
	} all[] = { { PART_FULLCHAIN, c->files.fullchain }, { PART_CERTIFICATE, c->files.certificate },
		    { PART_CHAIN, c->files.chain },	    { PART_KEY, c->files.key },
		    { PART_COMBINED, c->files.combined },   { PART_PKCS12, c->files.pkcs12 } };
	int r = 0;

	l->is_set = true;
	l->directory = c->directory ? path_under_root(paths, c->directory) : path_join(paths->certificates, c->name);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(all); i++)
		if (all[i].name)
			r = add(l, all[i].part, strdup(all[i].name), NULL, !key_part_has_key(all[i].part));
	return l->directory ? r : -ENOMEM;
}

/* ---- the Key Vault extension's store ---- */

/* VAULT.SECRET, from a url that the settings have checked. */
static char *store_base(const struct certificate_settings *c)
{
	static const char scheme[] = "https://", middle[] = "/secrets/";
	const char *vault = c->url + sizeof(scheme) - 1, *name = strstr(vault, middle);

	if (!str_starts(c->url, scheme) || !name)
		return strdup(c->name);
	name += sizeof(middle) - 1;
	return str_format("%.*s.%.*s", (int)strcspn(vault, "."), vault, (int)strcspn(name, "/?"), name);
}

static unsigned long long seconds(usec_t t)
{
	return t / USEC_PER_SEC;
}

/* One file with everything, the key last, and a link that shows the newest. */
static int store3_layout(const struct certificate_settings *c, const char *base, const struct key_found *f,
			 struct key_layout *l)
{
	const char *link = c->link_name ? c->link_name : base;
	_cleanup_free_ char *file = NULL;
	int r;

	if (!f)
		return add(l, PART_COMBINED, strdup(link), NULL, false);
	file = str_format("%s.%s.%llu.%llu.PEM", base, f->version, seconds(f->not_before), seconds(f->not_after));
	if (!file)
		return -ENOMEM;
	r = add(l, PART_COMBINED, strdup(file), NULL, false);
	return r < 0 || f->older ? r : add(l, PART_LINK, strdup(link), strdup(file), false);
}

/* Chain and key apart, a link for each, and a note that is written last: what an application is told to watch. */
static int store4_layout(const char *base, const struct key_found *f, struct key_layout *l)
{
	_cleanup_free_ char *pem = NULL, *key = NULL;
	int r;

	if (!f) {
		r = add(l, PART_FULLCHAIN, str_format("%s.pem", base), NULL, false);
		return r < 0 ? r : add(l, PART_KEY, str_format("%s.keyid", base), NULL, false);
	}
	pem = str_format("%s.%s.pem.%llu", base, f->version, seconds(f->not_before));
	key = str_format("%s.%s.keyid.%llu", base, f->version, seconds(f->not_before));
	if (!pem || !key)
		return -ENOMEM;
	r = add(l, PART_KEY, strdup(key), NULL, false);
	if (r >= 0)
		r = add(l, PART_FULLCHAIN, strdup(pem), NULL, false);
	if (f->older)
		return r;
	if (r >= 0)
		r = add(l, PART_LINK, str_format("%s.keyid", base), strdup(key), false);
	if (r >= 0)
		r = add(l, PART_LINK, str_format("%s.pem", base), strdup(pem), false);
	return r < 0 ? r : add(l, PART_NOTE, str_format("%s.luma", base), NULL, true);
}

static int store_layout(const struct paths *paths, const struct certificate_settings *c, const struct key_found *f,
			struct key_layout *l)
{
	_cleanup_free_ char *base = store_base(c);

	l->directory = path_under_root(paths, c->directory);
	if (!base || !l->directory)
		return -ENOMEM;
	return c->layout == STORE_KV3 ? store3_layout(c, base, f, l) : store4_layout(base, f, l);
}

int key_layout_find(const struct paths *paths, const struct key_wish *w, const struct key_found *found,
		    struct key_layout *ret)
{
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	int r;

	if (w->secret)
		r = secret_layout(paths, w->secret->path, &l);
	else if (w->certificate->layout == STORE_OWN)
		r = own_layout(paths, w->certificate, &l);
	else
		r = store_layout(paths, w->certificate, found, &l);
	if (r < 0)
		return r;
	*ret = l;
	l = (struct key_layout){ 0 };
	return 0;
}

bool key_layout_there(const struct paths *paths, const struct key_wish *w)
{
	_cleanup_(key_layout_done) struct key_layout l = { 0 };

	if (key_layout_find(paths, w, NULL, &l) < 0)
		return true;
	for (size_t i = 0; i < l.n; i++) {
		_cleanup_free_ char *path = path_join(l.directory, l.files[i].name);
		struct stat st;

		/* What may not be looked at may well be there. */
		if (path && stat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
			return false;
	}
	return true;
}

/* ---- old versions in a store ---- */

/* "BASE.VERSION.": the version in it, or NULL for what is not a version's file of this certificate. */
static const char *version_in(const char *name, const char *base)
{
	const char *version;
	size_t n;

	if (!str_starts(name, base) || name[strlen(base)] != '.')
		return NULL;
	version = name + strlen(base) + 1;
	n = strspn(version, "0123456789abcdefABCDEF");
	return n == 32 && version[n] == '.' && isalnum((unsigned char)version[n + 1]) ? version : NULL;
}

struct stored {
	const char *version; /* in a name of the list */
	struct timespec written;
};

static int newest_first(const void *a, const void *b)
{
	const struct stored *x = a, *y = b;

	return time_compare(&y->written, &x->written);
}

static bool same_version(const char *a, const char *b)
{
	return strncasecmp(a, b, 32) == 0;
}

/* One entry for each version but the current one, the newest first. */
static size_t list_versions(const char *directory, char *const *names, const char *base, const char *current,
			    struct stored *all)
{
	size_t n = 0;

	for (; *names; names++) {
		const char *version = version_in(*names, base);
		_cleanup_free_ char *path = version ? path_join(directory, *names) : NULL;
		bool known = false;
		struct stat st;

		for (size_t i = 0; version && i < n; i++)
			known = known || same_version(all[i].version, version);
		if (path && !known && !same_version(version, current) && lstat(path, &st) == 0)
			all[n++] = (struct stored){ version, st.st_mtim };
	}
	qsort(all, n, sizeof(*all), newest_first);
	return n;
}

int key_layout_stale(const struct key_layout *l, const struct certificate_settings *c, const char *current, char ***ret,
		     struct error *err)
{
	_cleanup_free_ char *base = store_base(c);
	_cleanup_strv_ char **names = NULL;
	_cleanup_strv_ char **stale = calloc(STALE_MAX + 1, sizeof(char *));
	_cleanup_free_ struct stored *all = NULL;
	size_t n, found = 0;
	int r = fs_list(l->directory, KEY_STORE_MAX, &names, err);

	if (r < 0)
		return r;
	all = calloc(strv_length(names) + 1, sizeof(*all));
	if (!base || !stale || !all)
		return error_oom(err);
	n = list_versions(l->directory, names, base, current, all);
	for (size_t i = n; i-- > (size_t)(c->keep_versions - 1);)
		for (char **name = names; *name && found < STALE_MAX; name++) {
			const char *version = version_in(*name, base);

			if (!version || !same_version(version, all[i].version))
				continue;
			stale[found] = strdup(*name);
			if (!stale[found++])
				return error_oom(err);
		}
	*ret = TAKE_PTR(stale);
	return 0;
}

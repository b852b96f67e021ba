/*
 * What is on disk against what the settings want, without the network: every file is there with its mode, owner, group and
 * access list, key and certificate belong together, the chain is complete, nothing has expired, and every user who is named
 * can reach what is meant for them.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/app/cli_certs.h"
#include "agent/app/reach.h"
#include "agent/app/runner.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/pkcs12.h"
#include "agent/codec/timefmt.h"
#include "agent/codec/x509.h"
#include "agent/core/exit_codes.h"

#define PUBLIC_MODE 0644u
#define COMPLAINT_MAX 2000
#define FILE_MAX    (4 * LIMIT_VAULT_SECRET)

struct checked {
	const struct view_key *key;
	int worst; /* an exit code */
	certs_tell_fn tell;
	void *userdata;
};

static void complain(struct checked *c, int code, const char *format, ...) _printf_(3, 4);

static void complain(struct checked *c, int code, const char *format, ...)
{
	char text[COMPLAINT_MAX];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	c->tell(c->key->name, code, text, c->userdata);
	if (c->worst != EXIT_FAILED)
		c->worst = code;
}

static const struct view_key_file *find_part(const struct view_key *v, const char *part)
{
	const struct view_key_file *files = v->files.items;

	for (size_t i = 0; i < v->files.n; i++)
		if (str_equal(files[i].part, part))
			return &files[i];
	return NULL;
}

/* ---- mode, owner, access list ---- */

static unsigned find_entry(const struct acl_entry *e, size_t n, unsigned tag, uid_t id, unsigned otherwise)
{
	for (size_t i = 0; i < n; i++)
		if (e[i].tag == tag && ((tag != ACL_USER && tag != ACL_GROUP) || e[i].id == id))
			return e[i].permissions;
	return otherwise;
}

/* The three classes as the settings' mode has them: with an access list the group's bits of st_mode are its mask. */
static unsigned mode_of(const struct acl_entry *e, size_t n)
{
	return find_entry(e, n, ACL_USER_OBJ, 0, 0) << 6 | find_entry(e, n, ACL_GROUP_OBJ, 0, 0) << 3 |
	       find_entry(e, n, ACL_OTHER, 0, 0);
}

static bool may_read(const struct acl_entry *e, size_t n, unsigned tag, uid_t id)
{
	return find_entry(e, n, tag, id, 0) & find_entry(e, n, ACL_MASK, 0, 7) & ACL_READ;
}

static void check_acls(struct checked *c, const char *path, const struct acl_entry *e, size_t n)
{
	const struct acl_settings *acls = c->key->acls.items;

	for (size_t i = 0; i < c->key->acls.n; i++) {
		const struct passwd *pw = acls[i].user ? getpwnam(acls[i].user) : NULL;
		const struct group *gr = acls[i].group ? getgrnam(acls[i].group) : NULL;

		if (acls[i].user && (!pw || !may_read(e, n, ACL_USER, pw->pw_uid)))
			complain(c, EXIT_FAILED, "%s: its access list does not let user %s read", path, acls[i].user);
		if (acls[i].group && (!gr || !may_read(e, n, ACL_GROUP, gr->gr_gid)))
			complain(c, EXIT_FAILED, "%s: its access list does not let group %s read", path, acls[i].group);
	}
	for (size_t i = 0; i < n; i++) {
		bool named = false;

		if (e[i].tag != ACL_USER && e[i].tag != ACL_GROUP)
			continue;
		for (size_t k = 0; k < c->key->acls.n; k++) {
			const struct passwd *pw = acls[k].user ? getpwnam(acls[k].user) : NULL;
			const struct group *gr = acls[k].group ? getgrnam(acls[k].group) : NULL;

			named = named ||
				(e[i].tag == ACL_USER ? pw && pw->pw_uid == e[i].id : gr && gr->gr_gid == e[i].id);
		}
		if (!named && e[i].permissions)
			complain(c, EXIT_FAILED, "%s: its access list lets in %s %u, which the settings do not name",
				 path, e[i].tag == ACL_USER ? "user" : "group", e[i].id);
	}
}

static void check_owner(struct checked *c, const char *path, const struct stat *st)
{
	const struct passwd *pw = getpwnam(c->key->owner ? c->key->owner : "root");
	const struct group *gr = getgrnam(c->key->group ? c->key->group : "root");

	if (!pw || pw->pw_uid != st->st_uid)
		complain(c, EXIT_FAILED, "%s belongs to user %u, the settings say %s", path, st->st_uid,
			 c->key->owner ? c->key->owner : "root");
	if (!gr || gr->gr_gid != st->st_gid)
		complain(c, EXIT_FAILED, "%s belongs to group %u, the settings say %s", path, st->st_gid,
			 c->key->group ? c->key->group : "root");
}

static void check_file(struct checked *c, const struct view_key_file *f)
{
	unsigned wanted = f->is_private && c->key->mode ? (unsigned)strtoul(c->key->mode, NULL, 8) : PUBLIC_MODE;
	_cleanup_free_ struct acl_entry *entries = calloc(ACL_MOST, sizeof(*entries));
	struct stat st;
	size_t n = 0;
	int r;

	if (stat(f->path, &st) < 0) {
		complain(c, EXIT_FAILED, "%s %s", f->path,
			 errno == ENOENT || errno == ENOTDIR ? "is missing" : strerror(errno));
		return;
	}
	/* There is no chain above a certificate that has signed itself. */
	if (!S_ISREG(st.st_mode) || (st.st_size == 0 && !str_equal(f->part, "chain"))) {
		complain(c, EXIT_FAILED, "%s is %s", f->path, S_ISREG(st.st_mode) ? "empty" : "no file");
		return;
	}
	check_owner(c, f->path, &st);
	r = entries ? acl_read(f->path, st.st_mode, entries, &n) : -ENOMEM;
	if (r < 0) {
		complain(c, EXIT_FAILED, "%s: its access list cannot be read: %s", f->path, strerror(-r));
		return;
	}
	if (mode_of(entries, n) != (wanted & 0777u))
		complain(c, EXIT_FAILED, "%s has mode %04o, the settings say %04o", f->path, mode_of(entries, n),
			 wanted & 0777u);
	if (f->is_private)
		check_acls(c, f->path, entries, n);
}

/* ---- who must be able to read it ---- */

static void check_reach(struct checked *c, const char *what, const char *name,
			int find(const char *, struct reach_who *, struct error *))
{
	const struct view_key_file *files = c->key->files.items;
	_cleanup_(reach_who_done) struct reach_who who = { 0 };
	_cleanup_free_ char *called = str_format("%s %s", what, name);
	struct error e = ERROR_INIT;

	if (!called || find(name, &who, &e) < 0) {
		complain(c, EXIT_FAILED, "%s", e.msg);
		return;
	}
	/* The first that is out of reach tells it all: they lie in the same place. */
	for (size_t i = 0; i < c->key->files.n; i++)
		if (reach_check(&who, called, files[i].path, &e) == -EACCES) {
			complain(c, EXIT_FAILED, "%s", e.msg);
			return;
		}
}

static void check_everybody_s_reach(struct checked *c)
{
	const struct view_key *v = c->key;
	const struct acl_settings *acls = v->acls.items;

	if (v->owner)
		check_reach(c, "user", v->owner, reach_user);
	if (v->group && v->mode && (strtoul(v->mode, NULL, 8) & 040) && !str_equal(v->group, "root"))
		check_reach(c, "group", v->group, reach_group);
	for (size_t i = 0; i < v->acls.n; i++) {
		if (acls[i].user)
			check_reach(c, "user", acls[i].user, reach_user);
		if (acls[i].group)
			check_reach(c, "group", acls[i].group, reach_group);
	}
}

/* ---- what is in them ---- */

static bool add(const struct view_key_file *f, struct buf *pem)
{
	struct error e = ERROR_INIT;

	if (!f)
		return true;
	if (fs_read(f->path, FILE_MAX, pem, &e) < 0)
		return false; /* told already: it is missing, or no file */
	return buf_putc(pem, '\n') == 0;
}

static void check_dates(struct checked *c, const struct x509_facts *facts)
{
	usec_t now = time_wall(), left = usec_sub(facts->not_after, now);
	char when[TIMEFMT_MAX], span[TIMEFMT_MAX];

	if (left == 0)
		complain(c, EXIT_FAILED, "it expired on %s; renew it in the vault",
			 timefmt_utc(facts->not_after, when));
	else if (left < USEC_PER_DAY)
		complain(c, EXIT_FAILED, "it expires in %s; renew it in the vault", timefmt_span(left, span));
	else if (str_equal(c->key->state, "expiring"))
		complain(c, EXIT_ATTENTION, "it expires in %s; renew it in the vault", timefmt_span(left, span));
	else if (facts->not_before > now)
		complain(c, EXIT_FAILED, "it is not valid before %s", timefmt_utc(facts->not_before, when));
}

static void check_bundle(struct checked *c, const char *path, const struct x509_bundle *bundle)
{
	struct x509_facts facts;

	x509_bundle_facts(bundle, &facts);
	if (!str_empty(c->key->thumbprint) && !str_equal(facts.thumbprint, c->key->thumbprint))
		complain(c, EXIT_FAILED, "%s holds another certificate (%s) than was installed (%s)", path, facts.thumbprint,
			 c->key->thumbprint);
	if (!facts.complete)
		complain(c, EXIT_ATTENTION, "%s: the chain is incomplete: some clients will not trust it", path);
	check_dates(c, &facts);
}

/* Certificates and key out of these files (NULL: none). */
static void check_pair(struct checked *c, const struct view_key_file *first, const struct view_key_file *chain,
		       const struct view_key_file *key)
{
	_cleanup_buf_ struct buf pem = BUF_SECRET_INIT(3 * FILE_MAX);
	_cleanup_(x509_bundle_freep) struct x509_bundle *bundle = NULL;
	struct error e = ERROR_INIT;

	if (!add(first, &pem) || !add(chain, &pem) || !add(key, &pem))
		return;
	if (x509_bundle_parse(buf_str(&pem), pem.len, &bundle, &e) < 0)
		complain(c, EXIT_FAILED, "%s%s%s: %s", first->path, key ? " and " : "", key ? key->path : "", e.msg);
	else
		check_bundle(c, first->path, bundle);
}

/* Its password is the daemon's to know: with one, only its being there is seen. */
static void check_pkcs12(struct checked *c, const struct view_key_file *file)
{
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(FILE_MAX + 1);
	_cleanup_(x509_bundle_freep) struct x509_bundle *bundle = NULL;
	struct error e = ERROR_INIT;
	int r;

	if (!add(file, &der))
		return;
	r = pkcs12_parse(der.data, der.len - 1, NULL, &bundle, &e);
	if (r >= 0)
		check_bundle(c, file->path, bundle);
	else if (r != -EACCES)
		complain(c, EXIT_FAILED, "%s: %s", file->path, e.msg);
}

static void check_contents(struct checked *c)
{
	const struct view_key_file *fullchain = find_part(c->key, "fullchain"),
				   *leaf = find_part(c->key, "certificate"), *chain = find_part(c->key, "chain"),
				   *key = find_part(c->key, "key"), *combined = find_part(c->key, "combined"),
				   *pkcs12 = find_part(c->key, "pkcs12");

	if (pkcs12)
		check_pkcs12(c, pkcs12);
	if (combined)
		check_pair(c, combined, NULL, NULL);
	if (key && (fullchain || leaf))
		check_pair(c, fullchain ? fullchain : leaf, fullchain ? NULL : chain, key);
}

static int check_one(const struct view_key *v, certs_tell_fn tell, void *userdata)
{
	const struct view_key_file *files = v->files.items;
	struct checked c = { v, EXIT_OK, tell, userdata };

	if (str_empty(v->version)) {
		complain(&c, EXIT_FAILED, "it is not installed%s%s", v->error ? ": " : "", v->error ? v->error : "");
		return c.worst;
	}
	for (size_t i = 0; i < v->files.n; i++)
		check_file(&c, &files[i]);
	check_everybody_s_reach(&c);
	if (str_equal(v->kind, "certificate"))
		check_contents(&c);
	if (c.worst == EXIT_OK)
		tell(v->name, EXIT_OK, "ok", userdata);
	return c.worst;
}

int certs_check(const struct key_view *v, certs_tell_fn tell, void *userdata)
{
	const struct view_key *all = v->items.items;
	int worst = EXIT_OK;

	for (size_t i = 0; i < v->items.n; i++) {
		int code = check_one(&all[i], tell, userdata);

		if (code == EXIT_FAILED || worst == EXIT_OK)
			worst = code;
	}
	return worst;
}

/* Jobs that write and remove what came out of a vault. */
#include "handlers/key_refresh/install.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"
#include "agent/codec/pkcs12.h"
#include "agent/codec/timefmt.h"
#include "agent/codec/x509.h"
#include "agent/io/paths.h"
#include "handlers/key_refresh/layout.h"

#define JOB_TIMEOUT_SECONDS 60
#define PUBLIC_MODE	    "0644"
#define KEEP_ALL	    100
#define CONTENT_MAX	    (4 * LIMIT_VAULT_SECRET) /* a bundle written out again, all of it in one file */

/* ---- where it must be writable ---- */

/* The nearest directory that is there: what is below it will be made. */
static char *nearest(const char *directory)
{
	char *path = strdup(directory);

	while (path && path[1] && !fs_is_dir(path)) {
		char *slash = strrchr(path, '/');

		slash[slash == path] = '\0';
	}
	return path;
}

static char *nearest_above(const char *directory)
{
	_cleanup_free_ char *above = path_parent(directory);

	return above ? nearest(above) : NULL;
}

/* ---- what ---- */

static int write_part(const struct x509_bundle *b, enum key_part part, struct buf *out)
{
	int r;

	switch (part) {
	case PART_SECRET:
	case PART_LINK:
	case PART_NOTE:
	case PART_PKCS12:
		return -EINVAL;
	case PART_FULLCHAIN:
		return x509_write_fullchain(b, out);
	case PART_CERTIFICATE:
		return x509_write_leaf(b, out);
	case PART_CHAIN:
		return x509_write_chain(b, out);
	case PART_KEY:
		return x509_write_key(b, out);
	case PART_COMBINED:
		r = x509_write_fullchain(b, out);
		return r < 0 ? r : x509_write_key(b, out);
	}
	return -EINVAL;
}

static int copy_acls(const struct certificate_settings *c, struct job_file *f)
{
	const struct acl_settings *from = c->acls.items;
	struct job_acl *to;

	if (c->acls.n == 0)
		return 0;
	to = calloc(c->acls.n, sizeof(*to));
	if (!to)
		return -ENOMEM;
	f->acls = (struct jd_list){ to, c->acls.n };
	for (size_t i = 0; i < c->acls.n; i++)
		if (str_set(&to[i].user, from[i].user) < 0 || str_set(&to[i].group, from[i].group) < 0)
			return -ENOMEM;
	return 0;
}

/* What the peer keeps beside a certificate for applications to watch: written after the links. Its content is nowhere
 * described, so it says what people look for. */
static int write_note(const struct key_found *f, struct buf *out)
{
	char until[TIMEFMT_MAX];

	return buf_printf(out, "{\"version\":\"%s\",\"thumbprint\":\"%s\",\"notAfter\":\"%s\"}\n", f->version,
			  f->thumbprint, timefmt_utc(f->not_after, until));
}

/* What goes into the files of one item. */
struct material {
	const struct key_wish *wish;
	const struct key_found *found;
	const struct x509_bundle *bundle;
	const char *value;
	size_t len;
};

/* Bytes, which the job carries as base64. */
static int write_pkcs12(const struct material *m, struct buf *out)
{
	_cleanup_buf_ struct buf der = BUF_SECRET_INIT(CONTENT_MAX);
	int r = pkcs12_write(m->bundle, key_name(m->wish), m->wish->password, &der);

	return r < 0 ? r : base64_encode(der.data, der.len, out);
}

static int write_file(const struct material *m, enum key_part part, struct buf *out)
{
	if (part == PART_SECRET)
		return buf_append(out, m->value, m->len);
	if (part == PART_PKCS12)
		return write_pkcs12(m, out);
	return part == PART_NOTE ? write_note(m->found, out) : write_part(m->bundle, part, out);
}

/* The content moves to the job's secrets, under the file's name. */
static int add_content(struct key_job *j, struct job_file *f, struct buf *content)
{
	struct job_secret *s = (struct job_secret *)j->secrets.values.items + j->secrets.values.n++;

	if (str_set(&f->content, f->name) < 0 || str_set(&s->name, f->name) < 0)
		return -ENOMEM;
	s->value = content->len ? buf_take(content) : strdup("");
	return s->value ? 0 : -ENOMEM;
}

/* The lists have room. */
static int add_file(struct key_job *j, const struct key_file *from, const struct material *m)
{
	const struct key_wish *w = m->wish;
	const struct certificate_settings *c = w->certificate;
	struct job_file *f = (struct job_file *)j->job.files.items + j->job.files.n++;
	_cleanup_buf_ struct buf content = BUF_SECRET_INIT(CONTENT_MAX);
	const char *mode = from->everybody ? PUBLIC_MODE : c ? c->mode : w->secret->mode;
	int r;

	if (str_set(&f->name, from->name) < 0 || str_set(&f->link, from->link) < 0 || str_set(&f->mode, mode) < 0 ||
	    str_set(&f->owner, c ? c->owner : w->secret->owner) < 0 ||
	    str_set(&f->group, c ? c->group : w->secret->group) < 0)
		return -ENOMEM;
	if (from->link)
		return 0;
	f->base64 = from->part == PART_PKCS12;
	r = write_file(m, from->part, &content);
	if (r >= 0)
		r = add_content(j, f, &content);
	return r >= 0 && c && !from->everybody ? copy_acls(c, f) : r;
}

/* ---- the jobs ---- */

void key_job_done(struct key_job *j)
{
	jd_free(&job_type, &j->job);
	jd_free(&job_secrets_type, &j->secrets);
	free(j->writable);
}

/* The same work has the same id: after a kill of the daemon it is found again instead of being done twice. */
static int set_id(struct key_job *j, const char *what, const struct key_item *item, const char *set)
{
	_cleanup_free_ char *all = str_format("%s\n%s\n%s", key_name(&item->wish), set, item->shape);
	char digest[SHA256_HEX_MAX];
	int r = all ? sha256_hex(all, strlen(all), digest) : -ENOMEM;

	if (r < 0)
		return r;
	j->job.id = str_format("%s-%.24s", what, digest);
	return j->job.id ? 0 : -ENOMEM;
}

static int prepare(struct key_job *j, enum job_kind kind, const struct key_item *item, const char *directory, size_t n)
{
	job_init(&j->job);
	j->job.kind = (int)kind;
	j->job.timeout_seconds = JOB_TIMEOUT_SECONDS;
	j->job.files.items = calloc(n ? n : 1, sizeof(struct job_file));
	j->secrets.values.items = calloc(n ? n : 1, sizeof(struct job_secret));
	if (!j->job.files.items || !j->secrets.values.items || str_set(&j->job.directory, directory) < 0 ||
	    str_set(&j->job.handler, "keyRefresh") < 0 || str_set(&j->job.title, key_name(&item->wish)) < 0)
		return -ENOMEM;
	return 0;
}

static int add_text(struct jd_list *list, const char *text)
{
	char **more = reallocarray(list->items, list->n + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	list->items = more;
	more[list->n] = strdup(text);
	return more[list->n++] ? 0 : -ENOMEM;
}

/* What is ours on the way to the files: our own home of certificates, and stores below the agent's directory, which it
 * makes 0700 (key-vault.md F.5). Other directories are whose they are. */
static int let_through(const struct paths *paths, struct key_job *j)
{
	const char *home = paths->certificates, *directory = j->job.directory;
	size_t len;
	int r;

	if (str_starts(directory, paths->waagent))
		home = paths->waagent;
	len = strlen(home);
	if (!str_starts(directory, home) || directory[len] != '/')
		return 0;
	r = add_text(&j->job.open, home);
	for (const char *p = strchr(directory + len + 1, '/'); r >= 0 && p; p = strchr(p + 1, '/')) {
		_cleanup_free_ char *above = strndup(directory, (size_t)(p - directory));

		r = above ? add_text(&j->job.open, above) : -ENOMEM;
	}
	if (fs_is_dir(home))
		j->opening = home;
	return r < 0 ? r : add_text(&j->job.open, directory);
}

int key_job_install(const struct paths *paths, const struct key_item *item, const struct key_found *found,
		    const struct x509_bundle *bundle, const char *value, size_t len, struct key_job *ret,
		    struct error *err)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	const struct material m = { &item->wish, found, bundle, value, len };
	char set[KEY_SET_MAX];
	int r = key_layout_find(paths, &item->wish, found, &l);

	key_set_name(item, found, set);
	if (r >= 0)
		r = prepare(&j, JOB_INSTALL, item, l.directory, l.n);
	if (r >= 0)
		r = set_id(&j, "key", item, set);
	if (r >= 0 && l.is_set) {
		j.job.keep_versions = item->wish.certificate->keep_versions;
		r = str_set(&j.job.version, set);
	}
	for (size_t i = 0; r >= 0 && i < l.n; i++)
		r = add_file(&j, &l.files[i], &m);
	if (r >= 0) {
		j.writable = nearest(l.directory);
		r = j.writable ? let_through(paths, &j) : -ENOMEM;
	}
	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0)
		return error_errno(err, r, "cannot make files of what the vault gave");
	*ret = j;
	j = (struct key_job){ 0 };
	return 0;
}

int key_job_stage(const struct paths *paths, const struct key_item *item, const struct key_found *found,
		  const struct x509_bundle *bundle, const char *value, size_t len, struct key_job *ret, struct error *err)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	char set[KEY_SET_MAX];
	int r = key_job_install(paths, item, found, bundle, value, len, &j, err);

	if (r < 0)
		return r;
	free(TAKE_PTR(j.job.id));
	j.job.stage = true;
	if (set_id(&j, "key-stage", item, key_set_name(item, found, set)) < 0)
		return error_oom(err);
	*ret = j;
	j = (struct key_job){ 0 };
	return 0;
}

/* By whom the directory may be owned, and who is to reach the files, is the same as when they were made. */
static int add_standing(struct key_job *j, const struct key_wish *w, const struct key_file *from)
{
	const struct certificate_settings *c = w->certificate;
	struct job_file *f = (struct job_file *)j->job.files.items + j->job.files.n++;

	if (str_set(&f->name, from->name) < 0 || str_set(&f->mode, from->everybody ? PUBLIC_MODE : c ? c->mode : w->secret->mode) < 0 ||
	    str_set(&f->owner, c ? c->owner : w->secret->owner) < 0 ||
	    str_set(&f->group, c ? c->group : w->secret->group) < 0)
		return -ENOMEM;
	return c && !from->everybody ? copy_acls(c, f) : 0;
}

int key_job_switch(const struct paths *paths, const struct key_item *item, enum key_switch how, const char *set,
		   const char *other, struct key_job *ret, struct error *err)
{
	static const char *const names[] = { [KEY_SWITCH] = "key-switch", [KEY_SWITCH_BACK] = "key-back",
					     [KEY_SWITCH_KEEP] = "key-keep" };
	_cleanup_(key_job_done) struct key_job j = { 0 };
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	int r = key_layout_find(paths, &item->wish, NULL, &l);

	if (r >= 0)
		r = prepare(&j, JOB_INSTALL, item, l.directory, l.n);
	if (r >= 0)
		r = set_id(&j, names[how], item, set ? set : "");
	for (size_t i = 0; r >= 0 && i < l.n; i++)
		r = add_standing(&j, &item->wish, &l.files[i]);
	if (r >= 0 && l.is_set)
		r = str_set(&j.job.version, set);
	if (r >= 0 && how == KEY_SWITCH_BACK)
		r = str_set(&j.job.drop, other ? other : "");
	j.job.keep_versions = how != KEY_SWITCH_KEEP ? KEEP_ALL : l.is_set ? item->wish.certificate->keep_versions : 1;
	if (r >= 0) {
		j.writable = nearest(l.directory);
		r = j.writable ? let_through(paths, &j) : -ENOMEM;
	}
	if (r < 0)
		return error_oom(err);
	*ret = j;
	j = (struct key_job){ 0 };
	return 0;
}

static int add_name(struct key_job *j, const char *name)
{
	return str_set(&((struct job_file *)j->job.files.items)[j->job.files.n++].name, name);
}

int key_job_remove(const struct paths *paths, const struct key_item *item, struct key_job *ret, struct error *err)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	int r = key_layout_find(paths, &item->wish, NULL, &l);

	if (r >= 0)
		r = prepare(&j, JOB_REMOVE, item, l.directory, l.n);
	if (r >= 0)
		r = set_id(&j, "key-remove", item, item->record.version ? item->record.version : "");
	for (size_t i = 0; r >= 0 && i < l.n; i++)
		r = add_name(&j, l.files[i].name);
	for (size_t i = 0; r >= 0 && i < item->record.opened.n; i++)
		r = add_text(&j.job.opened, ((char **)item->record.opened.items)[i]);
	if (r >= 0) {
		/* The directory itself goes, too. */
		j.writable = nearest_above(l.directory);
		r = j.writable ? let_through(paths, &j) : -ENOMEM;
	}
	if (r < 0)
		return error_oom(err);
	*ret = j;
	j = (struct key_job){ 0 };
	return 0;
}

int key_job_prune(const struct paths *paths, const struct key_item *item, struct key_job *ret, struct error *err)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	_cleanup_(key_layout_done) struct key_layout l = { 0 };
	_cleanup_strv_ char **names = NULL;
	size_t n;
	int r;

	if (!item->wish.certificate || item->wish.certificate->layout == STORE_OWN)
		return 0;
	r = key_layout_find(paths, &item->wish, NULL, &l);
	if (r < 0)
		return error_oom(err);
	r = key_layout_stale(&l, item->wish.certificate, item->record.version, &names, err);
	n = strv_length(names);
	if (r < 0 || n == 0)
		return r;
	r = prepare(&j, JOB_REMOVE, item, l.directory, n);
	if (r >= 0)
		r = set_id(&j, "key-prune", item, item->record.version);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = add_name(&j, names[i]);
	if (r >= 0) {
		j.writable = nearest(l.directory);
		r = j.writable ? 0 : -ENOMEM;
	}
	if (r < 0)
		return error_oom(err);
	*ret = j;
	j = (struct key_job){ 0 };
	return 1;
}

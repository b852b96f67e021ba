/* Jobs that write and remove what came out of a vault. */
#include "handlers/key_refresh/install.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/x509.h"
#include "agent/io/paths.h"

#define JOB_TIMEOUT_SECONDS 60
#define PUBLIC_MODE         "0644"
#define FILES_MAX           6
#define CONTENT_MAX         (4 * LIMIT_VAULT_SECRET) /* a bundle written out again, all of it in one file */

enum part { PART_SECRET, PART_FULLCHAIN, PART_CERTIFICATE, PART_CHAIN, PART_KEY, PART_COMBINED };

struct part_file {
	enum part part;
	const char *name; /* borrowed from the settings */
};

struct place {
	char *directory;
	struct part_file files[FILES_MAX];
	size_t n;
};

static void place_done(struct place *p)
{
	free(p->directory);
}

/* ---- where ---- */

static int secret_place(const struct paths *paths, const char *path, struct place *ret)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *above = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));

	ret->directory = above ? path_under_root(paths, above) : NULL;
	ret->files[ret->n++] = (struct part_file){ PART_SECRET, slash + 1 };
	return ret->directory ? 0 : -ENOMEM;
}

static int find_place(const struct paths *paths, const struct key_wish *w, struct place *ret)
{
	const struct certificate_settings *c = w->certificate;

	*ret = (struct place){ 0 };
	if (!c)
		return secret_place(paths, w->secret->path, ret);
	ret->directory = c->directory ? path_under_root(paths, c->directory) : path_join(paths->certificates, c->name);
	{
		const struct part_file all[] = { { PART_FULLCHAIN, c->files.fullchain },
						 { PART_CERTIFICATE, c->files.certificate },
						 { PART_CHAIN, c->files.chain },
						 { PART_KEY, c->files.key },
						 { PART_COMBINED, c->files.combined } };

		for (size_t i = 0; i < ARRAY_SIZE(all); i++)
			if (all[i].name)
				ret->files[ret->n++] = all[i];
	}
	return ret->directory ? 0 : -ENOMEM;
}

bool key_files_there(const struct paths *paths, const struct key_wish *wish)
{
	_cleanup_(place_done) struct place p;

	if (find_place(paths, wish, &p) < 0)
		return true;
	for (size_t i = 0; i < p.n; i++) {
		_cleanup_free_ char *path = path_join(p.directory, p.files[i].name);
		struct stat st;

		/* What may not be looked at may well be there. */
		if (path && stat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
			return false;
	}
	return true;
}

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
	const char *slash = strrchr(directory, '/');
	_cleanup_free_ char *above = slash == directory ? strdup("/") : strndup(directory, (size_t)(slash - directory));

	return above ? nearest(above) : NULL;
}

/* ---- what ---- */

static int write_part(const struct x509_bundle *b, enum part part, struct buf *out)
{
	int r;

	switch (part) {
	case PART_SECRET:
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

struct owner {
	const char *user, *group;
};

/* The content moves to the job's secrets, under the file's name. The lists have room. */
static int add_file(struct key_job *j, const char *name, const char *mode, const struct owner *owner,
		    struct buf *content)
{
	struct job_file *f = (struct job_file *)j->job.files.items + j->job.files.n++;
	struct job_secret *s = (struct job_secret *)j->secrets.values.items + j->secrets.values.n++;

	if (str_set(&f->name, name) < 0 || str_set(&f->mode, mode) < 0 || str_set(&f->owner, owner->user) < 0 ||
	    str_set(&f->group, owner->group) < 0 || str_set(&f->content, name) < 0 || str_set(&s->name, name) < 0)
		return -ENOMEM;
	s->value = content->len ? buf_take(content) : strdup("");
	return s->value ? 0 : -ENOMEM;
}

static int add_certificate(struct key_job *j, const struct certificate_settings *c, const struct x509_bundle *bundle,
			   const struct place *p)
{
	const struct owner owner = { c->owner, c->group };

	for (size_t i = 0; i < p->n; i++) {
		bool holds_key = p->files[i].part == PART_KEY || p->files[i].part == PART_COMBINED;
		_cleanup_buf_ struct buf content = BUF_SECRET_INIT(CONTENT_MAX);
		int r = write_part(bundle, p->files[i].part, &content);

		if (r >= 0)
			r = add_file(j, p->files[i].name, holds_key ? c->mode : PUBLIC_MODE, &owner, &content);
		if (r >= 0 && holds_key)
			r = copy_acls(c, (struct job_file *)j->job.files.items + i);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_secret(struct key_job *j, const struct key_secret_settings *s, const char *name, const char *value,
		      size_t len)
{
	const struct owner owner = { s->owner, s->group };
	_cleanup_buf_ struct buf content = BUF_SECRET_INIT(CONTENT_MAX);
	int r = buf_append(&content, value, len);

	return r < 0 ? r : add_file(j, name, s->mode, &owner, &content);
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

static int prepare(struct key_job *j, enum job_kind kind, const struct key_item *item, const struct place *p)
{
	job_init(&j->job);
	j->job.kind = (int)kind;
	j->job.timeout_seconds = JOB_TIMEOUT_SECONDS;
	j->job.files.items = calloc(p->n, sizeof(struct job_file));
	j->secrets.values.items = calloc(p->n, sizeof(struct job_secret));
	if (!j->job.files.items || !j->secrets.values.items || str_set(&j->job.directory, p->directory) < 0 ||
	    str_set(&j->job.handler, "keyRefresh") < 0 || str_set(&j->job.title, key_name(&item->wish)) < 0)
		return -ENOMEM;
	return 0;
}

int key_job_install(const struct paths *paths, const struct key_item *item, const struct key_found *found,
		    const struct x509_bundle *bundle, const char *value, size_t len, struct key_job *ret,
		    struct error *err)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	_cleanup_(place_done) struct place p;
	const struct certificate_settings *c = item->wish.certificate;
	char set[KEY_SET_MAX];
	int r = find_place(paths, &item->wish, &p);

	key_set_name(item, found, set);
	if (r >= 0)
		r = prepare(&j, JOB_INSTALL, item, &p);
	if (r >= 0)
		r = set_id(&j, "key", item, set);
	if (r >= 0 && c) {
		j.job.keep_versions = c->keep_versions;
		r = str_set(&j.job.version, set);
		if (r >= 0)
			r = add_certificate(&j, c, bundle, &p);
	} else if (r >= 0) {
		r = add_secret(&j, item->wish.secret, p.files[0].name, value, len);
	}
	if (r >= 0) {
		j.writable = nearest(p.directory);
		r = j.writable ? 0 : -ENOMEM;
	}
	if (r == -ENOMEM)
		return error_oom(err);
	if (r < 0)
		return error_errno(err, r, "cannot make files of what the vault gave");
	*ret = j;
	j = (struct key_job){ 0 };
	return 0;
}

int key_job_remove(const struct paths *paths, const struct key_item *item, struct key_job *ret, struct error *err)
{
	_cleanup_(key_job_done) struct key_job j = { 0 };
	_cleanup_(place_done) struct place p;
	int r = find_place(paths, &item->wish, &p);

	if (r >= 0)
		r = prepare(&j, JOB_REMOVE, item, &p);
	if (r >= 0)
		r = set_id(&j, "key-remove", item, item->record.version ? item->record.version : "");
	for (size_t i = 0; r >= 0 && i < p.n; i++)
		r = str_set(&((struct job_file *)j.job.files.items)[j.job.files.n++].name, p.files[i].name);
	if (r >= 0) {
		/* The directory itself goes, too. */
		j.writable = nearest_above(p.directory);
		r = j.writable ? 0 : -ENOMEM;
	}
	if (r < 0)
		return error_oom(err);
	*ret = j;
	j = (struct key_job){ 0 };
	return 0;
}

/*
 * Files of the customer's, installed as a set: DIRECTORY/versions/VERSION/NAME, DIRECTORY/current -> versions/VERSION,
 * DIRECTORY/NAME -> current/NAME. A reader sees the old set or the new one, never half of each. Without a version every
 * file is a plain one, replaced by a rename of its own.
 */
#include "agent/app/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/base64.h"
#include "agent/io/paths.h"

#define VERSIONS "versions"
#define CURRENT "current"
#define VERSIONS_MAX 1000

/* ---- the way to the directory ---- */

/* Who can write to a directory above can put another one in its place. A sticky one (/tmp) does not let others do it. */
static int check_directory(const char *path, uid_t also, struct error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_errno(err, -errno, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, ERROR_USER, -ENOTDIR, "%s is not a directory", path);
	if (st.st_uid != 0 && st.st_uid != geteuid() && st.st_uid != also)
		return error_set(err, ERROR_USER, -EPERM, "nothing is installed below %s: it belongs to another user; chown root it",
				 path);
	if ((st.st_mode & 022) && !(st.st_mode & S_ISVTX))
		return error_set(err, ERROR_USER, -EPERM,
				 "nothing is installed below %s: others than its owner can write to it; chmod go-w it", path);
	return 0;
}

/* Judges the real path with all its parents. Heap. */
static int open_way(const char *directory, uid_t also, char **ret, struct error *err)
{
	_cleanup_free_ char *real = realpath(directory, NULL);
	int r = 0;

	if (!real)
		return error_errno(err, -errno, "%s", directory);
	for (char *p = real; r >= 0 && p; p = strchr(p + 1, '/')) {
		char c = p[1];

		/* "/a/b": first "/", then "/a", last the whole. */
		if (p == real) {
			p[1] = '\0';
			r = check_directory(real, also, err);
			p[1] = c;
		} else {
			*p = '\0';
			r = check_directory(real, also, err);
			*p = '/';
		}
	}
	if (r >= 0)
		r = check_directory(real, also, err);
	if (r >= 0)
		*ret = TAKE_PTR(real);
	return r;
}

/* ---- one file ---- */

struct ownership {
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

static int find_ownership(const struct job_file *f, struct ownership *ret, struct error *err)
{
	_cleanup_(runner_user_done) struct runner_user u = { 0 };
	_cleanup_free_ char *both = NULL;
	char *end = NULL;
	unsigned long mode = f->mode ? strtoul(f->mode, &end, 8) : 0600;
	int r;

	if (f->mode && (*end || !*f->mode || mode > 07777))
		return error_set(err, ERROR_USER, -EINVAL, "file %s: \"%s\" is not a mode", f->name, f->mode);
	if (f->owner || f->group) {
		both = f->group ? str_format("%s:%s", f->owner ? f->owner : "root", f->group) : strdup(f->owner);
		if (!both)
			return error_oom(err);
	}
	r = runner_user_find(both, &u, err);
	if (r < 0)
		return error_wrap(err, r, "file %s", f->name);
	*ret = (struct ownership){ u.uid, u.gid, (mode_t)mode };
	return 0;
}

static int find_acl_ids(const struct job_acl *a, struct acl_entry *entries, size_t *n, struct error *err)
{
	_cleanup_(runner_user_done) struct runner_user u = { 0 };
	int r;

	if (a->user) {
		r = runner_user_find(a->user, &u, err);
		if (r < 0)
			return r;
		entries[(*n)++] = (struct acl_entry){ ACL_USER, ACL_READ, u.uid };
		runner_user_done(&u);
	}
	if (a->group) {
		_cleanup_free_ char *both = str_format("root:%s", a->group);

		if (!both)
			return error_oom(err);
		r = runner_user_find(both, &u, err);
		if (r < 0)
			return r;
		entries[(*n)++] = (struct acl_entry){ ACL_GROUP, ACL_READ, u.gid };
	}
	return 0;
}

static int set_acls(int fd, const struct job_file *f, mode_t mode, struct error *err)
{
	const struct job_acl *acls = f->acls.items;
	_cleanup_free_ struct acl_entry *entries = calloc(2 * f->acls.n + 4, sizeof(*entries));
	_cleanup_free_ unsigned char *raw = calloc(1, ACL_RAW_MAX);
	size_t n = 0;
	int r = 0;

	if (f->acls.n == 0)
		return 0;
	if (!entries || !raw)
		return error_oom(err);
	for (size_t i = 0; r >= 0 && i < f->acls.n; i++)
		r = find_acl_ids(&acls[i], entries, &n, err);
	if (r < 0)
		return error_wrap(err, r, "file %s: access list", f->name);
	entries[n++] = (struct acl_entry){ ACL_USER_OBJ, mode >> 6 & 7u, ACL_NO_ID };
	entries[n++] = (struct acl_entry){ ACL_GROUP_OBJ, mode >> 3 & 7u, ACL_NO_ID };
	entries[n++] = (struct acl_entry){ ACL_MASK, (mode >> 3 & 7u) | ACL_READ, ACL_NO_ID };
	entries[n++] = (struct acl_entry){ ACL_OTHER, mode & 7u, ACL_NO_ID };
	if (fsetxattr(fd, ACL_XATTR, raw, acl_encode(entries, n, raw), 0) < 0)
		return error_errno(err, -errno, "file %s: cannot set its access list", f->name);
	return 0;
}

/* Owner, group, mode and access list are right before anybody can see it under its name. */
static int make_file(const char *path, const struct job_file *f, const struct job_secrets *secrets, struct error *err)
{
	_cleanup_buf_ struct buf bytes = BUF_SECRET_INIT(LIMIT_JOB_CONTENT);
	const char *content = job_secret(secrets, f->content);
	_cleanup_close_ int fd = -1;
	struct ownership o;
	int r;

	if (!content)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "the content of file %s is missing", f->name);
	r = f->base64 ? base64_decode(content, strlen(content), true, &bytes, err) :
			buf_append(&bytes, content, strlen(content));
	if (r < 0)
		return error_wrap(err, r, "file %s", f->name);
	r = find_ownership(f, &o, err);
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, -errno, "%s", path);
	r = fs_write_all(fd, buf_str(&bytes), bytes.len);
	if (r < 0)
		return error_errno(err, r, "%s", path);
	if (fchown(fd, o.uid, o.gid) < 0 || fchmod(fd, o.mode) < 0)
		return error_errno(err, -errno, "%s: cannot set owner and mode", path);
	r = set_acls(fd, f, o.mode, err);
	if (r < 0)
		return r;
	return fsync(fd) < 0 ? error_errno(err, -errno, "%s", path) : 0;
}

/* ---- a set ---- */

static int make_version(const struct job *job, const struct job_secrets *secrets, const char *versions, const char *final,
			struct error *err)
{
	const struct job_file *files = job->files.items;
	_cleanup_free_ char *name = str_format(FS_TEMPORARY_PREFIX "%s", job->version);
	_cleanup_free_ char *made = name ? path_join(versions, name) : NULL;
	int r;

	if (!made)
		return error_oom(err);
	r = fs_remove_tree(made, err); /* of a try that was interrupted */
	if (r >= 0 && mkdir(made, 0700) < 0)
		r = error_errno(err, -errno, "%s", made);
	for (size_t i = 0; r >= 0 && i < job->files.n; i++) {
		_cleanup_free_ char *path = path_join(made, files[i].name);

		r = path ? make_file(path, &files[i], secrets, err) : error_oom(err);
	}
	if (r >= 0 && chmod(made, 0755) < 0)
		r = error_errno(err, -errno, "%s", made);
	if (r >= 0)
		r = fs_fsync_dir(made, err);
	if (r >= 0)
		r = fs_remove_tree(final, err); /* not the current one: that has been asked before */
	if (r >= 0 && rename(made, final) < 0)
		r = error_errno(err, -errno, "%s", final);
	/* What is left of a failure is removed by the next try. */
	return r < 0 ? r : fs_fsync_dir(versions, err);
}

static bool has_content(const struct job *job)
{
	const struct job_file *files = job->files.items;

	return files[0].content;
}

static bool is_current(const char *directory, const char *target)
{
	_cleanup_free_ char *link = path_join(directory, CURRENT);
	char text[PATH_MAX];
	ssize_t n = link ? readlink(link, text, sizeof(text) - 1) : -1;

	if (n < 0)
		return false;
	text[n] = '\0';
	return str_equal(text, target);
}

static bool in_set(const struct job *job, const char *name)
{
	const struct job_file *files = job->files.items;

	for (size_t i = 0; i < job->files.n; i++)
		if (str_equal(files[i].name, name))
			return true;
	return false;
}

/* Whether DIRECTORY/NAME is a link of ours. */
static bool is_our_link(const char *path, const char *name)
{
	char text[PATH_MAX];
	ssize_t n = readlink(path, text, sizeof(text) - 1);

	if (n < 0)
		return false;
	text[n] = '\0';
	return str_starts(text, CURRENT "/") && str_equal(text + strlen(CURRENT "/"), name);
}

/* Names for what is in the set, and none for what a former set had. */
static int link_names(const struct job *job, const char *directory, struct error *err)
{
	const struct job_file *files = job->files.items;
	_cleanup_strv_ char **names = NULL;
	int r = fs_list(directory, VERSIONS_MAX, &names, err);

	for (size_t i = 0; r >= 0 && i < job->files.n; i++) {
		_cleanup_free_ char *path = path_join(directory, files[i].name);
		_cleanup_free_ char *target = path_join(CURRENT, files[i].name);

		if (!path || !target)
			return error_oom(err);
		if (!is_our_link(path, files[i].name))
			r = fs_symlink(target, path, err);
		if (r == -EEXIST)
			return error_set(err, ERROR_USER, r, "%s is there and was not installed by evenkeel; move it away", path);
	}
	for (char **name = names; r >= 0 && name && *name; name++) {
		_cleanup_free_ char *path = path_join(directory, *name);

		if (!path)
			return error_oom(err);
		if (!in_set(job, *name) && is_our_link(path, *name))
			r = fs_unlink(path, err);
	}
	return r;
}

struct version {
	char *path;
	struct timespec made;
};

static int newest_first(const void *a, const void *b)
{
	const struct version *x = a, *y = b;

	return time_compare(&y->made, &x->made);
}

/* The current version always stays; of the others the newest. */
static int prune(const struct job *job, const char *versions, struct error *err)
{
	_cleanup_strv_ char **names = NULL;
	_cleanup_free_ struct version *all = NULL;
	size_t n = 0;
	int r = fs_list(versions, VERSIONS_MAX, &names, err);

	if (r < 0)
		return r;
	all = calloc(strv_length(names) + 1, sizeof(*all));
	if (!all)
		return error_oom(err);
	for (char **name = names; name && *name; name++) {
		struct stat st;
		char *path = str_equal(*name, job->version) ? NULL : path_join(versions, *name);

		if (path && lstat(path, &st) == 0)
			all[n++] = (struct version){ path, st.st_mtim };
		else
			free(path);
	}
	qsort(all, n, sizeof(*all), newest_first);
	for (size_t i = 0; i < n; i++) {
		if ((int64_t)i >= job->keep_versions - 1 && r >= 0)
			r = fs_remove_tree(all[i].path, err);
		free(all[i].path);
	}
	return r;
}

static int drop_version(const char *versions, const char *name, struct error *err)
{
	_cleanup_free_ char *path = path_join(versions, name);

	return path ? fs_remove_tree(path, err) : error_oom(err);
}

static int install_set(const struct job *job, const struct job_secrets *secrets, const char *directory, struct error *err)
{
	_cleanup_free_ char *versions = path_join(directory, VERSIONS), *link = path_join(directory, CURRENT);
	_cleanup_free_ char *target = path_join(VERSIONS, job->version), *final = path_join(directory, target ? target : "");
	int r;

	if (!versions || !link || !target || !final)
		return error_oom(err);
	r = fs_mkdirs(versions, 0755, err);
	if (r < 0)
		return r;
	if (has_content(job) && !is_current(directory, target))
		r = make_version(job, secrets, versions, final, err);
	else if (!fs_is_dir(final))
		return error_set(err, ERROR_SYSTEM, -ENOENT, "version %s is not below %s any more", job->version, versions);
	if (r < 0 || job->stage)
		return r;
	r = fs_symlink(target, link, err);
	if (r >= 0)
		r = link_names(job, directory, err);
	if (r >= 0)
		r = fs_fsync_dir(directory, err);
	if (r >= 0 && job->drop && !str_equal(job->drop, job->version))
		r = drop_version(versions, job->drop, err);
	return r < 0 ? r : prune(job, versions, err);
}

/* ---- plain files ---- */

static int make_plain(const char *made, const struct job_file *f, const struct job_secrets *secrets, struct error *err)
{
	int r = fs_unlink(made, err);

	if (r >= 0)
		r = make_file(made, f, secrets, err);
	if (r < 0)
		(void)unlink(made);
	return r;
}

static int put_in_place(const char *from, const char *to, struct error *err)
{
	return rename(from, to) < 0 ? error_errno(err, -errno, "%s", to) : 0;
}

/* Done again after a kill at any place it comes to the same: the new file goes last, and only once. */
static int switch_plain(const char *path, const char *made, const char *former, bool keep, struct error *err)
{
	int r = 0;

	if (fs_exists(made)) {
		r = fs_unlink(former, err);
		if (r >= 0 && keep && link(path, former) < 0 && errno != ENOENT)
			r = error_errno(err, -errno, "%s", former);
		if (r >= 0)
			r = put_in_place(made, path, err);
	} else if (!fs_exists(path)) {
		r = error_set(err, ERROR_SYSTEM, -ENOENT, "what was made for %s is not there any more", path);
	}
	return r < 0 || keep ? r : fs_unlink(former, err);
}

static int switch_back_plain(const char *path, const char *made, const char *former, struct error *err)
{
	int r = fs_exists(former) ? put_in_place(former, path, err) : 0;

	return r < 0 ? r : fs_unlink(made, err);
}

static int install_plain_file(const struct job *job, const struct job_file *f, const struct job_secrets *secrets,
			      const char *directory, struct error *err)
{
	_cleanup_free_ char *path = path_join(directory, f->name);
	_cleanup_free_ char *made = str_format("%s/" JOB_FILE_NEW "%s", directory, f->name);
	_cleanup_free_ char *former = str_format("%s/" JOB_FILE_FORMER "%s", directory, f->name);
	int r;

	if (!path || !made || !former)
		return error_oom(err);
	if (fs_is_dir(path))
		return error_set(err, ERROR_USER, -EISDIR, "%s is a directory", path);
	if (f->link)
		return fs_symlink(f->link, path, err);
	if (!f->content)
		return job->drop ? switch_back_plain(path, made, former, err) :
				   switch_plain(path, made, former, job->keep_versions > 1, err);
	r = make_plain(made, f, secrets, err);
	if (r < 0 || job->stage)
		return r;
	r = put_in_place(made, path, err);
	return r < 0 ? r : fs_unlink(former, err);
}

static int install_plain(const struct job *job, const struct job_secrets *secrets, const char *directory, struct error *err)
{
	const struct job_file *files = job->files.items;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < job->files.n; i++)
		r = install_plain_file(job, &files[i], secrets, directory, err);
	return r < 0 ? r : fs_fsync_dir(directory, err);
}

int runner_install(const struct job *job, const struct job_secrets *secrets, const struct paths *p, char **ret_notice,
		   struct error *err)
{
	_cleanup_free_ char *directory = NULL;
	struct ownership o;
	int r = find_ownership(job->files.items, &o, err);

	if (r >= 0)
		r = runner_make_directory(p, job->directory, ret_notice, err);
	if (r >= 0)
		r = open_way(job->directory, o.uid, &directory, err);
	if (r < 0)
		return r;
	return job->version ? install_set(job, secrets, directory, err) : install_plain(job, secrets, directory, err);
}

/* ---- removing ---- */

static int remove_set(const struct job *job, const char *directory, struct error *err)
{
	const struct job_file *files = job->files.items;
	_cleanup_free_ char *versions = path_join(directory, VERSIONS), *link = path_join(directory, CURRENT);
	int r = versions && link ? 0 : error_oom(err);

	for (size_t i = 0; r >= 0 && i < job->files.n; i++) {
		_cleanup_free_ char *path = path_join(directory, files[i].name);

		if (!path)
			return error_oom(err);
		if (is_our_link(path, files[i].name))
			r = fs_unlink(path, err);
	}
	if (r >= 0)
		r = fs_unlink(link, err);
	if (r >= 0)
		r = fs_remove_tree(versions, err);
	return r;
}

static int remove_plain(const struct job *job, const char *directory, struct error *err)
{
	const struct job_file *files = job->files.items;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < job->files.n; i++) {
		_cleanup_free_ char *path = path_join(directory, files[i].name);
		_cleanup_free_ char *made = str_format("%s/" JOB_FILE_NEW "%s", directory, files[i].name);
		_cleanup_free_ char *former = str_format("%s/" JOB_FILE_FORMER "%s", directory, files[i].name);

		r = path && made && former ? fs_unlink(path, err) : error_oom(err);
		if (r >= 0)
			r = fs_unlink(made, err);
		if (r >= 0)
			r = fs_unlink(former, err);
	}
	return r;
}

int runner_remove(const struct job *job, struct error *err)
{
	_cleanup_free_ char *directory = NULL, *link = NULL;
	struct stat st;
	int r;

	if (!fs_is_dir(job->directory))
		return 0;
	r = open_way(job->directory, 0, &directory, err);
	if (r < 0)
		return r;
	link = path_join(directory, CURRENT);
	if (!link)
		return error_oom(err);
	r = lstat(link, &st) == 0 && S_ISLNK(st.st_mode) ? remove_set(job, directory, err) : remove_plain(job, directory, err);
	if (r >= 0)
		(void)rmdir(directory); /* unless something of others is in it */
	return r;
}

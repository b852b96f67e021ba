/*
 * Files of the customer's, installed as a set (runner_set.c); or without a version every file is a plain one, replaced by a
 * rename of its own. Nothing is installed below a directory that others can change.
 */
#include "agent/app/runner_install.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/app/runner.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"

/* ---- the way to the directory ---- */

/* Who can write to a directory above can put another one in its place. A sticky one (/tmp) does not let others do it. */
static int check_directory(const char *path, uid_t also, struct error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_errno(err, -errno, "cannot look at %s", path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, ERROR_USER, -ENOTDIR, "nothing is installed below %s: it is not a directory", path);
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
		return error_errno(err, -errno, "cannot find %s", directory);
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

/* ---- plain files ---- */

static int make_plain(const char *made, const struct job_file *f, const struct job_secrets *secrets, struct error *err)
{
	int r = fs_unlink(made, err);

	if (r >= 0)
		r = file_make(made, f, secrets, err);
	if (r < 0)
		(void)unlink(made);
	return r;
}

static int put_in_place(const char *from, const char *to, struct error *err)
{
	return rename(from, to) < 0 ? error_errno(err, -errno, "cannot put %s in its place", to) : 0;
}

/* Done again after a kill at any place it comes to the same: the new file goes last, and only once. */
static int switch_plain(const char *path, const char *made, const char *former, bool keep, struct error *err)
{
	int r = 0;

	if (fs_exists(made)) {
		r = fs_unlink(former, err);
		if (r >= 0 && keep && link(path, former) < 0 && errno != ENOENT)
			r = error_errno(err, -errno, "cannot keep the former file as %s", former);
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
		return error_set(err, ERROR_USER, -EISDIR, "nothing is installed as %s: it is a directory; move it away", path);
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

/* ---- the jobs ---- */

int runner_install(const struct job *job, const struct job_secrets *secrets, const struct paths *p, char **ret_notice,
		   struct error *err)
{
	_cleanup_free_ char *directory = NULL;
	struct ownership o;
	int r = file_ownership(job->files.items, &o, err);

	if (r >= 0)
		r = directory_make(p, job->directory, ret_notice, err);
	if (r >= 0)
		r = open_way(job->directory, o.uid, &directory, err);
	if (r < 0)
		return r;
	return job->version ? set_install(job, secrets, directory, err) : install_plain(job, secrets, directory, err);
}

int runner_remove(const struct job *job, struct error *err)
{
	_cleanup_free_ char *directory = NULL;
	struct stat st;
	int r;

	if (stat(job->directory, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	/* It may be the files' owner's, as when they were installed. */
	r = open_way(job->directory, st.st_uid, &directory, err);
	if (r < 0)
		return r;
	r = set_is_there(directory) ? set_remove(job, directory, err) : remove_plain(job, directory, err);
	if (r >= 0)
		(void)rmdir(directory); /* unless something of others is in it */
	return r;
}

/* Files that belong together, installed and removed as a set. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/app/runner_install.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"

#define VERSIONS     "versions"
#define CURRENT	     "current"
#define VERSIONS_MAX 1000

/* ---- one version ---- */

static int make_version(const struct job *job, const struct job_secrets *secrets, const char *versions,
			const char *final, struct error *err)
{
	const struct job_file *files = job->files.items;
	_cleanup_free_ char *name = str_format(FS_TEMPORARY_PREFIX "%s", job->version);
	_cleanup_free_ char *made = name ? path_join(versions, name) : NULL;
	int r;

	if (!made)
		return error_oom(err);
	r = fs_remove_tree(made, err); /* of a try that was interrupted */
	if (r >= 0 && mkdir(made, 0700) < 0)
		r = error_errno(err, -errno, "cannot make the directory %s", made);
	for (size_t i = 0; r >= 0 && i < job->files.n; i++) {
		_cleanup_free_ char *path = path_join(made, files[i].name);

		r = path ? file_make(path, &files[i], secrets, err) : error_oom(err);
	}
	if (r >= 0 && chmod(made, 0755) < 0)
		r = error_errno(err, -errno, "cannot set the mode of %s", made);
	if (r >= 0)
		r = fs_fsync_dir(made, err);
	if (r >= 0)
		r = fs_remove_tree(final, err); /* not the current one: that has been asked before */
	if (r >= 0 && rename(made, final) < 0)
		r = error_errno(err, -errno, "cannot put %s in its place", final);
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
			return error_set(err, ERROR_USER, r,
					 "%s is there and was not installed by evenkeel; move it away", path);
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

/* ---- versions that are not needed any more ---- */

struct version {
	char *path;
	struct timespec made;
};

static int newest_first(const void *a, const void *b)
{
	const struct version *x = a, *y = b;

	return time_compare(&y->made, &x->made);
}

/* What was cut short while it was made, and was never begun again because another version came: it may hold a key. */
static int remove_unfinished(const char *versions, struct error *err)
{
	_cleanup_(closedirp) DIR *d = opendir(versions);
	const struct dirent *e;
	int r = d ? 0 : error_errno(err, -errno, "cannot list %s", versions);

	while (r >= 0 && (e = readdir(d))) {
		_cleanup_free_ char *path = str_starts(e->d_name, FS_TEMPORARY_PREFIX) ? path_join(versions, e->d_name) : NULL;

		if (path)
			r = fs_remove_tree(path, err);
	}
	return r;
}

/* The current version always stays; of the others the newest. */
static int prune(const struct job *job, const char *versions, struct error *err)
{
	_cleanup_strv_ char **names = NULL;
	_cleanup_free_ struct version *all = NULL;
	size_t n = 0;
	int r = remove_unfinished(versions, err);

	if (r >= 0)
		r = fs_list(versions, VERSIONS_MAX, &names, err);
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

/* ---- the whole ---- */

int set_install(const struct job *job, const struct job_secrets *secrets, const char *directory, struct error *err)
{
	_cleanup_free_ char *versions = path_join(directory, VERSIONS), *link = path_join(directory, CURRENT);
	_cleanup_free_ char *target = path_join(VERSIONS, job->version),
			    *final = path_join(directory, target ? target : "");
	int r;

	if (!versions || !link || !target || !final)
		return error_oom(err);
	r = fs_mkdirs(versions, 0755, err);
	if (r < 0)
		return r;
	if (has_content(job) && !is_current(directory, target))
		r = make_version(job, secrets, versions, final, err);
	else if (!fs_is_dir(final))
		return error_set(err, ERROR_SYSTEM, -ENOENT, "version %s is not below %s any more", job->version,
				 versions);
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

int set_remove(const struct job *job, const char *directory, struct error *err)
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

bool set_is_there(const char *directory)
{
	_cleanup_free_ char *link = path_join(directory, CURRENT);
	struct stat st;

	return link && lstat(link, &st) == 0 && S_ISLNK(st.st_mode);
}

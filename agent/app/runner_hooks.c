/* Which files of a hook directory are run: root's own, changeable by nobody else. */
#include "agent/app/runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"

/* What is wrong with running this as root, or NULL. */
static const char *objection(const struct stat *st)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "does not belong to root; chown root it";
	if (st->st_mode & 022)
		return "can be written by others than root; chmod go-w it";
	return NULL;
}

/* The directory is named once: there may be many, and what is told has a limit. */
static int refuse(char **refused, const char *path, const char *name, const char *why)
{
	char *text = *refused ? str_format("%s; %s %s", *refused, name, why) : str_format("hook not run: %s %s", path, why);

	if (!text)
		return -ENOMEM;
	free(*refused);
	*refused = text;
	return 0;
}

/* Moves `path` to the list, or says why not. Files without the executable bit (a README) and editors' copies are none. */
static int judge(const char *name, char *path, char **list, size_t *n, char **refused)
{
	struct stat st;
	const char *why;

	if (name[0] == '.' || str_ends(name, "~") || lstat(path, &st) < 0 || S_ISDIR(st.st_mode)) {
		free(path);
		return 0;
	}
	why = !S_ISREG(st.st_mode) ? "is not a regular file" : !(st.st_mode & 0111) ? "" : objection(&st);
	if (!why) {
		list[(*n)++] = path;
		return 0;
	}
	if (*why && refuse(refused, path, name, why) < 0) {
		free(path);
		return -ENOMEM;
	}
	free(path);
	return 0;
}

int runner_hooks_list(const char *directory, char ***ret, char **ret_refused, struct error *err)
{
	_cleanup_strv_ char **names = NULL, **list = calloc(LIMIT_HOOKS + 1, sizeof(*list));
	_cleanup_free_ char *refused = NULL;
	struct stat st;
	size_t n = 0;
	int r;

	if (!list)
		return error_oom(err);
	if (stat(directory, &st) < 0) {
		if (errno != ENOENT)
			return error_errno(err, -errno, "cannot look at the hooks in %s", directory);
	} else if (objection(&st)) {
		return error_set(err, ERROR_USER, -EPERM, "no hook is run: %s %s", directory, objection(&st));
	} else {
		r = fs_list(directory, LIMIT_HOOKS, &names, err);
		if (r < 0)
			return r;
	}
	for (char **name = names; name && *name; name++) {
		char *path = path_join(directory, *name);

		if (!path || judge(*name, path, list, &n, &refused) < 0)
			return error_oom(err);
	}
	*ret = TAKE_PTR(list);
	*ret_refused = TAKE_PTR(refused);
	return 0;
}

/* The kernel's permission check (acl(5), "Access check algorithm"), from the outside. */
#include "agent/app/reach.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/app/runner.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"

/* ---- who ---- */

void reach_who_done(struct reach_who *w)
{
	free(w->groups);
	*w = (struct reach_who){ 0 };
}

int reach_user(const char *user, struct reach_who *ret, struct error *err)
{
	_cleanup_free_ gid_t *groups = calloc(REACH_GROUPS_MAX, sizeof(*groups));
	int n = REACH_GROUPS_MAX;
	const struct passwd *pw;

	if (!groups)
		return error_oom(err);
	errno = 0;
	pw = getpwnam(user);
	if (!pw)
		return error_set(err, ERROR_USER, -ENOENT, "there is no user \"%.100s\"", user);
	if (getgrouplist(user, pw->pw_gid, groups, &n) < 0)
		n = REACH_GROUPS_MAX;
	*ret = (struct reach_who){ pw->pw_uid, TAKE_PTR(groups), (size_t)n };
	return 0;
}

int reach_group(const char *group, struct reach_who *ret, struct error *err)
{
	_cleanup_free_ gid_t *groups = calloc(1, sizeof(*groups));
	const struct group *gr;

	if (!groups)
		return error_oom(err);
	gr = getgrnam(group);
	if (!gr)
		return error_set(err, ERROR_USER, -ENOENT, "there is no group \"%.100s\"", group);
	groups[0] = gr->gr_gid;
	*ret = (struct reach_who){ REACH_NOBODY, TAKE_PTR(groups), 1 };
	return 0;
}

static bool in_group(const struct reach_who *w, gid_t gid)
{
	for (size_t i = 0; i < w->n_groups; i++)
		if (w->groups[i] == gid)
			return true;
	return false;
}

/* ---- one file ---- */

static unsigned find(const struct acl_entry *e, size_t n, unsigned tag, unsigned otherwise)
{
	for (size_t i = 0; i < n; i++)
		if (e[i].tag == tag)
			return e[i].permissions;
	return otherwise;
}

/* The first class that fits decides; of several groups one that grants it is enough. */
bool reach_granted(const struct reach_who *w, const struct stat *st, const struct acl_entry *e, size_t n,
		   unsigned wanted)
{
	unsigned mask = find(e, n, ACL_MASK, 7);
	bool is_member = false;

	if (w->uid == 0)
		return true;
	if (w->uid == st->st_uid)
		return find(e, n, ACL_USER_OBJ, 0) & wanted;
	for (size_t i = 0; i < n; i++)
		if (e[i].tag == ACL_USER && e[i].id == w->uid)
			return e[i].permissions & mask & wanted;
	for (size_t i = 0; i < n; i++) {
		if (!(e[i].tag == ACL_GROUP_OBJ && in_group(w, st->st_gid)) &&
		    !(e[i].tag == ACL_GROUP && in_group(w, (gid_t)e[i].id)))
			continue;
		is_member = true;
		if (e[i].permissions & mask & wanted)
			return true;
	}
	return !is_member && (find(e, n, ACL_OTHER, 0) & wanted);
}

/* ---- the way ---- */

static int check_one(const struct reach_who *w, const char *name, const char *path, unsigned wanted, struct error *err)
{
	_cleanup_free_ struct acl_entry *entries = calloc(ACL_MOST, sizeof(*entries));
	struct stat st;
	size_t n = 0;
	int r;

	if (!entries)
		return error_oom(err);
	if (stat(path, &st) < 0)
		return error_errno(err, -errno, "cannot look at %s", path);
	r = acl_read(path, st.st_mode, entries, &n);
	if (r < 0)
		return error_errno(err, r, "cannot read the access list of %s", path);
	if (reach_granted(w, &st, entries, n, wanted))
		return 0;
	if (wanted == ACL_SEARCH)
		return error_set(err, ERROR_USER, -EACCES,
				 "%.60s cannot reach the file: directory %s is %04o and does not let it through", name,
				 path, st.st_mode & 07777u);
	return error_set(err, ERROR_USER, -EACCES, "%.60s cannot read %s, which is %04o", name, path,
			 st.st_mode & 07777u);
}

/* The directories of the real path; then those of the way that was asked for, whose links are followed by the user, too. */
static int check_directories(const struct reach_who *w, const char *name, const char *path, struct error *err)
{
	_cleanup_free_ char *copy = strdup(path);
	int r = copy ? check_one(w, name, "/", ACL_SEARCH, err) : error_oom(err);

	for (char *p = copy ? strchr(copy + 1, '/') : NULL; r == 0 && p; p = strchr(p + 1, '/')) {
		*p = '\0';
		r = check_one(w, name, copy, ACL_SEARCH, err);
		*p = '/';
	}
	return r;
}

int reach_check(const struct reach_who *w, const char *name, const char *path, struct error *err)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	int r;

	if (!real)
		return error_errno(err, -errno, "cannot find %s", path);
	r = check_directories(w, name, real, err);
	if (r == 0)
		r = check_directories(w, name, path, err);
	return r == 0 ? check_one(w, name, real, ACL_READ, err) : r;
}

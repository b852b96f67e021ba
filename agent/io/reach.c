/* The kernel's permission check (acl(5), "Access check algorithm"), from the outside. */
#include "agent/io/reach.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"

#define ACL_ATTRIBUTE "system.posix_acl_access"
#define ACL_VERSION   2u
#define ACL_BYTES_MAX 65536
#define NOBODY	      ((uid_t)-2)
#define READ	      4u
#define SEARCH	      1u

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
	*ret = (struct reach_who){ NOBODY, TAKE_PTR(groups), 1 };
	return 0;
}

static bool in_group(const struct reach_who *w, gid_t gid)
{
	for (size_t i = 0; i < w->n_groups; i++)
		if (w->groups[i] == gid)
			return true;
	return false;
}

/* ---- access lists ---- */

/* linux/posix_acl_xattr.h: little endian. */
static unsigned get_le(const unsigned char *p, size_t bytes)
{
	unsigned v = 0;

	while (bytes-- > 0)
		v = v << 8 | p[bytes];
	return v;
}

static int list_of_mode(mode_t mode, struct reach_entry **ret, size_t *ret_n)
{
	struct reach_entry *e = calloc(3, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e[0] = (struct reach_entry){ REACH_USER_OBJ, mode >> 6 & 7u, 0 };
	e[1] = (struct reach_entry){ REACH_GROUP_OBJ, mode >> 3 & 7u, 0 };
	e[2] = (struct reach_entry){ REACH_OTHER, mode & 7u, 0 };
	*ret = e;
	*ret_n = 3;
	return 0;
}

static int list_of_attribute(const unsigned char *raw, size_t len, struct reach_entry **ret, size_t *ret_n)
{
	size_t n = len < 4 ? 0 : (len - 4) / 8;
	struct reach_entry *e;

	if (n == 0 || get_le(raw, 4) != ACL_VERSION)
		return -EBADMSG;
	e = calloc(n, sizeof(*e));
	if (!e)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const unsigned char *p = raw + 4 + 8 * i;

		e[i] = (struct reach_entry){ get_le(p, 2), get_le(p + 2, 2), get_le(p + 4, 4) };
	}
	*ret = e;
	*ret_n = n;
	return 0;
}

int reach_list(const char *path, struct reach_entry **ret, size_t *ret_n, struct error *err)
{
	_cleanup_free_ unsigned char *raw = malloc(ACL_BYTES_MAX);
	struct stat st;
	ssize_t len;
	int r;

	if (!raw)
		return error_oom(err);
	if (stat(path, &st) < 0)
		return error_errno(err, -errno, "%s", path);
	len = getxattr(path, ACL_ATTRIBUTE, raw, ACL_BYTES_MAX);
	if (len >= 0)
		r = list_of_attribute(raw, (size_t)len, ret, ret_n);
	else if (errno == ENODATA || errno == ENOTSUP)
		r = list_of_mode(st.st_mode, ret, ret_n);
	else
		r = -errno;
	return r < 0 ? error_errno(err, r, "%s: its access list", path) : 0;
}

static unsigned find(const struct reach_entry *e, size_t n, enum reach_tag tag, unsigned otherwise)
{
	for (size_t i = 0; i < n; i++)
		if (e[i].tag == tag)
			return e[i].permissions;
	return otherwise;
}

/* The first class that fits decides; of several groups one that grants it is enough. */
static bool granted(const struct reach_who *w, const struct stat *st, const struct reach_entry *e, size_t n,
		    unsigned wanted)
{
	unsigned mask = find(e, n, REACH_MASK, 7);
	bool is_member = false;

	if (w->uid == 0)
		return true;
	if (w->uid == st->st_uid)
		return find(e, n, REACH_USER_OBJ, 0) & wanted;
	for (size_t i = 0; i < n; i++)
		if (e[i].tag == REACH_USER && e[i].id == w->uid)
			return e[i].permissions & mask & wanted;
	for (size_t i = 0; i < n; i++) {
		if (!(e[i].tag == REACH_GROUP_OBJ && in_group(w, st->st_gid)) &&
		    !(e[i].tag == REACH_GROUP && in_group(w, (gid_t)e[i].id)))
			continue;
		is_member = true;
		if (e[i].permissions & mask & wanted)
			return true;
	}
	return !is_member && (find(e, n, REACH_OTHER, 0) & wanted);
}

/* ---- the way ---- */

static int check_one(const struct reach_who *w, const char *name, const char *path, unsigned wanted, struct error *err)
{
	_cleanup_free_ struct reach_entry *e = NULL;
	struct stat st;
	size_t n = 0;
	int r;

	if (stat(path, &st) < 0)
		return error_errno(err, -errno, "%s", path);
	r = reach_list(path, &e, &n, err);
	if (r < 0)
		return r;
	if (granted(w, &st, e, n, wanted))
		return 0;
	if (wanted == SEARCH)
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
	int r = copy ? check_one(w, name, "/", SEARCH, err) : error_oom(err);

	for (char *p = copy ? strchr(copy + 1, '/') : NULL; r == 0 && p; p = strchr(p + 1, '/')) {
		*p = '\0';
		r = check_one(w, name, copy, SEARCH, err);
		*p = '/';
	}
	return r;
}

int reach_check(const struct reach_who *w, const char *name, const char *path, struct error *err)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	int r;

	if (!real)
		return error_errno(err, -errno, "%s", path);
	r = check_directories(w, name, real, err);
	if (r == 0)
		r = check_directories(w, name, path, err);
	return r == 0 ? check_one(w, name, real, READ, err) : r;
}

/* One file of the customer's: content, owner, mode and access list. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/app/runner.h"
#include "agent/app/runner_install.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/base64.h"

int file_ownership(const struct job_file *f, struct ownership *ret, struct error *err)
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

int file_make(const char *path, const struct job_file *f, const struct job_secrets *secrets, struct error *err)
{
	_cleanup_buf_ struct buf bytes = BUF_SECRET_INIT(LIMIT_JOB_CONTENT);
	const char *content = job_secret(secrets, f->content);
	_cleanup_close_ int fd = -1;
	struct ownership o;
	int r;

	if (!content)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "the content of file %s is missing", f->name);
	r = f->base64 ? base64_decode(content, strlen(content), true, &bytes, err)
		      : buf_append(&bytes, content, strlen(content));
	if (r < 0)
		return error_wrap(err, r, "file %s", f->name);
	r = file_ownership(f, &o, err);
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err, -errno, "cannot make %s", path);
	r = fs_write_all(fd, buf_str(&bytes), bytes.len);
	if (r < 0)
		return error_errno(err, r, "cannot write %s", path);
	if (fchown(fd, o.uid, o.gid) < 0 || fchmod(fd, o.mode) < 0)
		return error_errno(err, -errno, "cannot set owner and mode of %s", path);
	r = set_acls(fd, f, o.mode, err);
	if (r < 0)
		return r;
	return fsync(fd) < 0 ? error_errno(err, -errno, "cannot write %s to disk", path) : 0;
}

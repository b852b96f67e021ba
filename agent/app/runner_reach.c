/* Whether those who are to read installed files can get at them: every directory above must let them through. */
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/app/reach.h"
#include "agent/app/runner.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

#define READERS_MAX 64
#define TOLD_MAX    8

/* Who is to read a file: a user with all its groups, or whoever is in a group. */
struct reader {
	bool is_group;
	uint32_t id;
	const char *name; /* of the job */
	gid_t *groups;
	int n_groups;
};

struct readers {
	struct reader list[READERS_MAX];
	size_t n;
};

static void readers_done(struct readers *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->list[i].groups);
}

/* ---- who ---- */

static int add_reader(struct readers *rs, const char *name, bool is_group, struct error *err)
{
	_cleanup_(runner_user_done) struct runner_user u = { 0 };
	_cleanup_free_ char *text = is_group ? str_format("root:%s", name) : strdup(name);
	struct reader *r = &rs->list[rs->n];
	int k = text ? runner_user_find(text, &u, err) : error_oom(err);

	if (k < 0)
		return k;
	*r = (struct reader){ .is_group = is_group, .id = is_group ? u.gid : u.uid, .name = name };
	/* The directories are root's to search in any case. */
	if (r->id == 0)
		return 0;
	for (size_t i = 0; i < rs->n; i++)
		if (rs->list[i].is_group == is_group && rs->list[i].id == r->id)
			return 0;
	r->n_groups = REACH_GROUPS_MAX;
	r->groups = calloc(REACH_GROUPS_MAX, sizeof(gid_t));
	if (!r->groups)
		return error_oom(err);
	if (is_group) {
		r->groups[0] = u.gid;
		r->n_groups = 1;
	} else if (getgrouplist(u.name ? u.name : name, u.gid, r->groups, &r->n_groups) < 0) {
		r->n_groups = REACH_GROUPS_MAX;
	}
	rs->n++;
	return 0;
}

static int add_readers(struct readers *rs, const struct job_file *f, struct error *err)
{
	unsigned long mode = f->mode ? strtoul(f->mode, NULL, 8) : 0600;
	const struct job_acl *acls = f->acls.items;
	int r = 0;

	/* At most owner, group, and two for each entry. */
	if (f->link || rs->n + 2 + 2 * f->acls.n > READERS_MAX)
		return 0;
	if (f->owner && (mode & 0400))
		r = add_reader(rs, f->owner, false, err);
	if (r >= 0 && f->group && (mode & 0040))
		r = add_reader(rs, f->group, true, err);
	for (size_t i = 0; r >= 0 && i < f->acls.n; i++) {
		if (acls[i].user)
			r = add_reader(rs, acls[i].user, false, err);
		if (r >= 0 && acls[i].group)
			r = add_reader(rs, acls[i].group, true, err);
	}
	return r;
}

/* ---- one directory ---- */

struct place {
	const char *path;
	struct stat st;
	struct acl_entry list[ACL_MOST + 2];
	size_t n;
};

static struct acl_entry *find_entry(struct place *p, unsigned tag)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->list[i].tag == tag)
			return &p->list[i];
	return NULL;
}

static bool may_search(const struct place *p, const struct reader *r)
{
	const struct reach_who who = { r->is_group ? REACH_NOBODY : r->id, r->groups, (size_t)r->n_groups };

	return reach_granted(&who, &p->st, p->list, p->n, ACL_SEARCH);
}

static int write_place(struct place *p)
{
	_cleanup_free_ unsigned char *raw = malloc(ACL_RAW_MAX);

	if (!raw)
		return -ENOMEM;
	return setxattr(p->path, ACL_XATTR, raw, acl_encode(p->list, p->n, raw), 0) < 0 ? -errno : 0;
}

/* Who was held back by the mask stays so. */
static void widen_mask(struct place *p)
{
	struct acl_entry *mask = find_entry(p, ACL_MASK);

	if (!mask) {
		const struct acl_entry *group = find_entry(p, ACL_GROUP_OBJ);

		p->list[p->n++] = (struct acl_entry){ ACL_MASK, (group ? group->permissions : 0) | ACL_SEARCH, ACL_NO_ID };
		return;
	}
	for (size_t i = 0; i < p->n && !(mask->permissions & ACL_SEARCH); i++)
		if (p->list[i].tag & (ACL_USER | ACL_GROUP | ACL_GROUP_OBJ))
			p->list[i].permissions &= ~ACL_SEARCH;
	mask->permissions |= ACL_SEARCH;
}

static int open_place(struct place *p, const struct reader *r)
{
	unsigned tag = r->is_group ? ACL_GROUP : ACL_USER;

	if (p->n + 2 > ACL_MOST)
		return -E2BIG;
	for (size_t i = 0; i < p->n; i++)
		if (p->list[i].tag == tag && p->list[i].id == r->id)
			return -EPERM; /* somebody has decided about it */
	widen_mask(p);
	p->list[p->n++] = (struct acl_entry){ tag, ACL_SEARCH, r->id };
	return write_place(p);
}

/* ---- the way ---- */

struct way {
	const struct job *job;
	struct readers readers;
	struct buf told;
	unsigned n_told;
	struct jd_list *opened;
};

static bool may_open(const struct job *job, const char *path)
{
	char *const *open = job->open.items;

	for (size_t i = 0; i < job->open.n; i++)
		if (str_equal(open[i], path))
			return true;
	return false;
}

static int note_opened(struct way *w, const struct reader *r, const char *path)
{
	char *text = str_format("%s:%" PRIu32 ":%s", r->is_group ? "group" : "user", r->id, path);
	char **more = text ? reallocarray(w->opened->items, w->opened->n + 1, sizeof(*more)) : NULL;

	if (!more) {
		free(text);
		return -ENOMEM;
	}
	w->opened->items = more;
	more[w->opened->n++] = text;
	return 0;
}

static void tell(struct way *w, const struct reader *r, const struct place *p)
{
	if (w->n_told++ >= TOLD_MAX)
		return;
	(void)buf_printf(&w->told, "%s%s %s cannot reach the files: directory %s is %04o", w->told.len ? "; " : "",
			 r->is_group ? "group" : "user", r->name, p->path, (unsigned)p->st.st_mode & 07777);
}

static int look_at(struct way *w, const char *path, struct error *err)
{
	_cleanup_free_ struct place *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return error_oom(err);
	p->path = path;
	if (stat(path, &p->st) < 0)
		return error_errno(err, -errno, "cannot look at %s", path);
	r = acl_read(path, p->st.st_mode, p->list, &p->n);
	if (r < 0)
		return error_errno(err, r, "cannot read the access list of %s", path);
	for (size_t i = 0; i < w->readers.n; i++) {
		const struct reader *reader = &w->readers.list[i];

		if (may_search(p, reader))
			continue;
		if (!may_open(w->job, path) || open_place(p, reader) < 0)
			tell(w, reader, p);
		else if (note_opened(w, reader, path) < 0)
			return error_oom(err);
	}
	return 0;
}

int runner_reach(const struct job *job, const char *root, char **ret_warning, struct jd_list *ret_opened, struct error *err)
{
	const struct job_file *files = job->files.items;
	struct way w = { .job = job, .told = BUF_INIT(LIMIT_STATUS_MESSAGE), .opened = ret_opened };
	_cleanup_free_ char *real = realpath(job->directory, NULL), *base = realpath(*root ? root : "/", NULL);
	size_t from = base && base[1] ? strlen(base) : 0;
	int r = 0;

	if (!real || !base)
		r = error_errno(err, -errno, "cannot find %s", job->directory);
	for (size_t i = 0; r >= 0 && i < job->files.n; i++)
		r = add_readers(&w.readers, &files[i], err);
	if (r >= 0 && from && (!str_starts(real, base) || (real[from] && real[from] != '/')))
		from = 0;
	/* "/a/b": "/a", then "/a/b". Everybody may search "/", or nothing works. */
	for (char *p = r >= 0 && w.readers.n && real[from] ? strchr(real + from + 1, '/') : NULL; r >= 0 && p; p = strchr(p + 1, '/')) {
		*p = '\0';
		r = look_at(&w, real, err);
		*p = '/';
	}
	if (r >= 0 && w.readers.n)
		r = look_at(&w, real, err);
	readers_done(&w.readers);
	if (w.told.len)
		*ret_warning = buf_take(&w.told);
	buf_done(&w.told);
	return r;
}

/* ---- taking it back ---- */

/* "user:1000:/var/lib/waagent" */
static bool parse_opened(const char *text, struct acl_entry *ret, const char **ret_path)
{
	_cleanup_free_ char *copy = strdup(text);
	char *id = copy ? strchr(copy, ':') : NULL, *path = id ? strchr(id + 1, ':') : NULL;
	uint64_t number;

	if (!path)
		return false;
	*id = *path = '\0';
	if (!str_to_u64(id + 1, UINT32_MAX - 1, &number) || (!str_equal(copy, "user") && !str_equal(copy, "group")))
		return false;
	*ret = (struct acl_entry){ str_equal(copy, "user") ? ACL_USER : ACL_GROUP, ACL_SEARCH, (uint32_t)number };
	*ret_path = text + (path + 1 - copy);
	return true;
}

/* Without further names there is no mask either: then it is a mode again. */
static void drop_mask(struct place *p)
{
	struct acl_entry *mask = find_entry(p, ACL_MASK);

	if (!mask || find_entry(p, ACL_USER) || find_entry(p, ACL_GROUP))
		return;
	*mask = p->list[--p->n];
}

static int close_place(const char *path, const struct acl_entry *entry, struct error *err)
{
	_cleanup_free_ struct place *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p)
		return error_oom(err);
	p->path = path;
	if (lstat(path, &p->st) < 0)
		return errno == ENOENT ? 0 : error_errno(err, -errno, "cannot look at %s", path);
	if (S_ISDIR(p->st.st_mode))
		r = acl_read(path, p->st.st_mode, p->list, &p->n);
	for (size_t i = 0; r >= 0 && i < p->n; i++)
		/* What somebody has changed since is theirs. */
		if (p->list[i].tag == entry->tag && p->list[i].id == entry->id && p->list[i].permissions == entry->permissions) {
			p->list[i] = p->list[--p->n];
			drop_mask(p);
			r = write_place(p);
			break;
		}
	return r < 0 ? error_errno(err, r, "cannot change the access list of %s", path) : 0;
}

int runner_close_again(const struct job *job, struct error *err)
{
	char *const *opened = job->opened.items;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < job->opened.n; i++) {
		struct acl_entry entry;
		const char *path;

		if (parse_opened(opened[i], &entry, &path))
			r = close_place(path, &entry, err);
	}
	return r;
}

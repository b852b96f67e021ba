/* Bytes of a download, into a file that is nobody's until all of it is there. */
#include "agent/app/runner_receive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"

int receive_init(struct receive *r, const char *directory, const char *name, size_t number)
{
	*r = (struct receive){ .name = name, .fd = -1 };
	r->path = str_format("%s/%s", directory, name);
	r->made = str_format("%s/" FS_TEMPORARY_PREFIX "%zu", directory, number);
	return r->path && r->made ? 0 : -ENOMEM;
}

static void drop(struct receive *r)
{
	closep(&r->fd);
	sha256_free(r->hash);
	r->hash = NULL;
	r->received = 0;
	r->conversion = CONVERT_UNDECIDED;
	r->convert = (struct text_convert){ 0 };
	r->n_head = 0;
}

int receive_begin(struct receive *r, struct error *err)
{
	int k;

	drop(r);
	k = fs_unlink(r->made, err);
	if (k >= 0 && r->hashed && sha256_new(&r->hash) < 0)
		k = error_oom(err);
	if (k < 0)
		return k;
	r->fd = open(r->made, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return r->fd < 0 ? error_errno(err, -errno, "cannot make %s", r->made) : 0;
}

static int put(struct receive *r, const void *data, size_t len)
{
	_cleanup_buf_ struct buf out = BUF_INIT(4 * len + 64);
	int k;

	if (r->conversion == CONVERT_NO)
		return fs_write_all(r->fd, data, len);
	k = text_convert_feed(&r->convert, data, len, &out);
	return k < 0 ? k : fs_write_all(r->fd, buf_str(&out), out.len);
}

static int decide(struct receive *r)
{
	r->conversion = r->may_convert && text_is_script(r->name, r->head, r->n_head) ? CONVERT_YES : CONVERT_NO;
	return put(r, r->head, r->n_head);
}

int receive_put(struct receive *r, const void *data, size_t len)
{
	const unsigned char *p = data;
	int k = r->hash ? sha256_update(r->hash, data, len) : 0;

	r->received += len;
	while (k >= 0 && r->conversion == CONVERT_UNDECIDED && len) {
		r->head[r->n_head++] = *p++;
		len--;
		if (r->n_head == sizeof(r->head))
			k = decide(r);
	}
	return k < 0 || !len ? k : put(r, p, len);
}

int receive_end(struct receive *r, char ret[static SHA256_HEX_MAX], struct error *err)
{
	_cleanup_buf_ struct buf out = BUF_INIT(64);
	int k = r->conversion == CONVERT_UNDECIDED ? decide(r) : 0;

	if (k >= 0 && r->conversion == CONVERT_YES) {
		k = text_convert_end(&r->convert, &out);
		if (k >= 0)
			k = fs_write_all(r->fd, buf_str(&out), out.len);
	}
	ret[0] = '\0';
	if (k >= 0 && r->hash)
		k = sha256_final_hex(r->hash, ret);
	return k < 0 ? error_errno(err, k, "cannot write %s", r->made) : 0;
}

int receive_finish(struct receive *r, const char *owner_text, const char *mode_text, const struct runner_user *user,
		   struct error *err)
{
	_cleanup_(runner_user_done) struct runner_user owner = { 0 };
	mode_t mode = (mode_t)strtoul(mode_text ? mode_text : "0500", NULL, 8);
	int k = runner_user_find(owner_text, &owner, err);

	if (k < 0)
		return k;
	if (user->switched && owner.uid == 0 && !(mode & 07)) {
		owner.uid = user->uid;
		owner.gid = user->gid;
	}
	if (((owner.uid != geteuid() || owner.gid != getegid()) && fchown(r->fd, owner.uid, owner.gid) < 0) ||
	    fchmod(r->fd, mode) < 0)
		return error_errno(err, -errno, "cannot set owner and mode of %s", r->path);
	closep(&r->fd);
	if (rename(r->made, r->path) < 0)
		return error_errno(err, -errno, "cannot put %s in its place", r->path);
	free(r->made);
	r->made = NULL;
	return 0;
}

void receive_done(struct receive *r)
{
	drop(r);
	if (r->made)
		(void)unlink(r->made);
	free(r->path);
	free(r->made);
	r->path = r->made = NULL;
}

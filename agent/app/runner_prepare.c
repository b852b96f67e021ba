/* What a job needs before it begins: read, claimed, its secrets, its user, its directory, its output, the loop. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/app/runner_job.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/loop.h"

/* ---- which job ---- */

int runner_read_job(struct runner *r, const char *id, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = NULL;
	int k;

	r->directory = path_of_job(&r->paths, id);
	path = r->directory ? path_join(r->directory, "job.json") : NULL;
	r->work = r->directory ? path_join(r->directory, "work") : NULL;
	if (!path || !r->work)
		return error_oom(err);
	k = fs_read_nofollow(path, LIMIT_JOB_FILE, &text, err);
	if (k >= 0)
		k = job_decode(buf_str(&text), text.len, &r->job, err);
	if (k >= 0 && !str_equal(r->job.id, id))
		k = error_set(err, ERROR_SYSTEM, -EINVAL, "%s is of another job than %s", path, id);
	return k;
}

int runner_claim(struct runner *r, struct error *err)
{
	_cleanup_free_ char *path = path_join(r->directory, "started");
	_cleanup_close_ int fd = -1;

	if (!path)
		return error_oom(err);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return error_set(err, ERROR_SYSTEM, -EEXIST, "job %s has been started before; nothing is run twice", r->job.id);
	if (fd < 0)
		return error_errno(err, -errno, "cannot make %s", path);
	/* The name is the lock; on a full disk the boot in it is missing. */
	if (fs_write_all(fd, r->boot_id, strlen(r->boot_id)) < 0 && ftruncate(fd, 0) < 0)
		return error_errno(err, -errno, "cannot write %s", path);
	/* The name must be durable before anything of the customer's runs; the boot in it only makes a sentence better. */
	return fs_fsync_dir(r->directory, err);
}

/* ---- what it is given ---- */

static int read_secrets(struct runner *r, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_JOB_SECRETS);
	_cleanup_free_ char *name = str_format("%s.secrets", r->job.id);
	_cleanup_free_ char *path = name ? path_join(r->paths.run_jobs, name) : NULL;
	struct error e = ERROR_INIT;
	int k;

	if (!path)
		return error_oom(err);
	k = fs_read_nofollow(path, LIMIT_JOB_SECRETS, &text, &e);
	if (k == -ENOENT)
		return 0; /* none, or gone with a reboot: what needs one says so */
	if (fs_unlink(path, err) < 0)
		return -EIO;
	if (k < 0)
		return error_wrap(err, error_set(err, e.cls, k, "%s", e.msg), "secrets of the job");
	return job_secrets_decode(text.data, text.len, &r->secrets, err);
}

static int make_work(struct runner *r, struct error *err)
{
	return mkdir(r->work, 0700) < 0 && errno != EEXIST ? error_errno(err, -errno, "cannot make the directory %s", r->work) : 0;
}

int runner_hand_over_work(struct runner *r, struct error *err)
{
	_cleanup_close_ int fd = -1;

	fd = open(r->work, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (r->user.switched && fchown(fd, r->user.uid, r->user.gid) < 0) || fchmod(fd, 0700) < 0)
		return error_errno(err, -errno, "cannot hand over %s to the user of the job", r->work);
	return 0;
}

static int open_capture(struct runner *r, const char *name, struct capture **ret, struct error *err)
{
	_cleanup_free_ char *path = path_join(r->directory, name);
	struct capture *c = calloc(1, sizeof(*c));

	if (!path || !c) {
		free(c);
		return error_oom(err);
	}
	c->read_fd = c->write_fd = c->file_fd = -1;
	*ret = c;
	if (capture_open(c, r->loop, path, (uint64_t)r->job.output_max_bytes, err) < 0)
		return -EIO;
	/* Or the user could not open /dev/stderr. */
	if (r->user.switched && fchown(c->write_fd, r->user.uid, r->user.gid) < 0)
		return error_errno(err, -errno, "cannot hand over the %s of the job", name);
	return 0;
}

int runner_open_loop(struct runner *r, struct error *err)
{
	int k = loop_new(&r->loop, err);

	if (k < 0)
		return k;
	k = loop_timer_new(r->loop, "step", runner_on_timer, r, &r->timer);
	if (k >= 0)
		k = loop_signal(r->loop, SIGCHLD, runner_on_child, r);
	if (k >= 0)
		k = loop_signal(r->loop, SIGTERM, runner_on_stop, r);
	if (k >= 0)
		k = loop_signal(r->loop, SIGINT, runner_on_stop, r);
	if (k >= 0)
		k = loop_signal(r->loop, RUNNER_TOLD, runner_on_stop, r);
	return k < 0 ? error_errno(err, k, "cannot set up signals") : 0;
}

int runner_prepare(struct runner *r, struct error *err)
{
	int k = read_secrets(r, err);

	if (k >= 0)
		k = runner_user_find(r->job.user, &r->user, err);
	if (k >= 0)
		k = runner_environment(&r->job, &r->secrets, &r->user, &r->env, err);
	if (k >= 0)
		k = make_work(r, err);
	if (k >= 0)
		k = open_capture(r, "stdout", &r->out, err);
	if (k >= 0)
		k = open_capture(r, "stderr", &r->err, err);
	return k;
}

/* Files of jobs. */
#include "handlers/common/job_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/str.h"
#include "agent/base/time.h"
#include "agent/codec/json.h"
#include "agent/codec/timefmt.h"
#include "agent/io/machine.h"
#include "agent/io/paths.h"

char *job_file(const struct paths *p, const char *id, const char *name)
{
	_cleanup_free_ char *directory = path_of_job(p, id);

	return directory ? path_join(directory, name) : NULL;
}

char *job_secrets_file(const struct paths *p, const char *id)
{
	return str_format("%s/%s.secrets", p->run_jobs, id);
}

bool job_has(const struct paths *p, const char *id, const char *name)
{
	_cleanup_free_ char *path = job_file(p, id, name);

	return path && fs_exists(path);
}

/* Others may pass through to work/, nothing else. */
static int make_directory(const char *path, struct error *err)
{
	int r = fs_mkdirs(path, 0711, err);

	if (r >= 0 && chmod(path, 0711) < 0)
		r = error_errno(err, -errno, "cannot set the mode of %s", path);
	return r;
}

static int write_job(const char *directory, const struct buf *text, struct error *err)
{
	_cleanup_free_ char *path = path_join(directory, "job.json");
	int r = path ? make_directory(directory, err) : error_oom(err);

	/* It is read in this boot only, and `started`, which the runner makes durable, says what has become of it. */
	return r < 0 ? r : fs_write(path, text->data, text->len, 0600, FS_REPLACE | FS_NO_SYNC, err);
}

static bool disk_refuses(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EROFS || r == -EIO;
}

int job_files_write(const struct paths *p, const struct job *job, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *durable = path_join(p->jobs, job->id), *fallback = path_join(p->run_jobs, job->id);
	struct error e = ERROR_INIT;
	int r;

	if (!durable || !fallback)
		return error_oom(err);
	r = jd_encode(&job_type, job, false, &text);
	if (r < 0)
		return error_errno(err, r, "job %s cannot be written down", job->id);
	r = write_job(durable, &text, &e);
	if (disk_refuses(r)) {
		log_for(LOG_LEVEL_DEBUG, (.job = job->id), "%s; the job stands in %s instead", e.msg, fallback);
		if (fs_remove_tree(durable, &e) < 0)
			log_for(LOG_LEVEL_DEBUG, (.job = job->id), "%s", e.msg);
		return write_job(fallback, &text, err);
	}
	if (r < 0 && err)
		*err = e;
	return r;
}

int job_files_secrets(const struct paths *p, const char *id, const struct job_secrets *secrets, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_SECRET_INIT(LIMIT_JOB_SECRETS);
	_cleanup_free_ char *path = job_secrets_file(p, id);
	int r;

	if (!path)
		return error_oom(err);
	if (!secrets || !secrets->values.n)
		return fs_unlink(path, err);
	r = fs_mkdirs(p->run_jobs, 0700, err);
	if (r < 0)
		return r;
	r = jd_encode(&job_secrets_type, secrets, false, &text);
	if (r < 0)
		return error_errno(err, r, "the secrets of job %s cannot be handed over", id);
	return fs_write(path, text.data, text.len, 0600, FS_REPLACE | FS_NO_SYNC, err);
}

/* ---- what the runner leaves ---- */

int job_files_result(const struct paths *p, const char *id, struct job_result *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = job_file(p, id, "result.json");
	int r;

	if (!path)
		return error_oom(err);
	r = fs_read_nofollow(path, LIMIT_JOB_FILE, &text, err);
	return r < 0 ? r : job_result_decode(buf_str(&text), text.len, ret, err);
}

void job_files_times(const struct paths *p, const char *id, struct job_result *r)
{
	_cleanup_free_ char *started = job_file(p, id, "started"), *out = job_file(p, id, "stdout"),
			    *err = job_file(p, id, "stderr");
	_cleanup_buf_ struct buf boot = BUF_INIT(MACHINE_ID_MAX);
	char text[TIMEFMT_MAX];
	struct stat s, o;
	time_t last;

	if (!started || !out || !err || stat(started, &s) < 0)
		return;
	last = s.st_mtime;
	if (stat(out, &o) == 0 && o.st_mtime > last)
		last = o.st_mtime;
	if (stat(err, &o) == 0 && o.st_mtime > last)
		last = o.st_mtime;
	r->started_at = strdup(timefmt_utc((usec_t)s.st_mtime * USEC_PER_SEC, text));
	r->duration_msec = (int64_t)(last - s.st_mtime) * 1000;
	if (fs_read_nofollow(started, MACHINE_ID_MAX, &boot, NULL) >= 0)
		r->boot_id = strdup(buf_str(&boot));
}

int job_files_tail(const struct paths *p, const char *id, bool standard_error, size_t max, struct buf *out)
{
	_cleanup_free_ char *path = job_file(p, id, standard_error ? "stderr" : "stdout"), *bytes = malloc(max + 5),
			    *clean = NULL;
	_cleanup_close_ int fd = -1;
	struct stat st;
	size_t want, from;
	ssize_t n;

	if (!path || !bytes)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* A few bytes more, so that the cut finds the border of a character. */
	want = (uint64_t)st.st_size < max + 4 ? (size_t)st.st_size : max + 4;
	n = pread(fd, bytes, want, st.st_size - (off_t)want);
	if (n < 0)
		return -errno;
	bytes[n] = '\0';
	from = utf8_tail(bytes, (size_t)n, max);
	clean = utf8_clean(bytes + from, (size_t)n - from);
	return clean ? buf_puts(out, clean) : -ENOMEM;
}

void job_files_clean_up(const struct paths *p, const char *id)
{
	_cleanup_free_ char *command = job_file(p, id, "command.sh"), *script = job_file(p, id, "work/script.sh");
	_cleanup_free_ char *secrets = job_secrets_file(p, id);

	if (command)
		(void)unlink(command);
	if (script)
		(void)unlink(script);
	if (secrets)
		(void)unlink(secrets);
}

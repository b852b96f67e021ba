/* The result of a job: from the first thing that went wrong to one file, written whole. */
#include "agent/app/runner_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/timefmt.h"

#define RESULT_RESERVED 65536

static void set_text(char **to, const char *text)
{
	if (str_set(to, text) < 0)
		*to = NULL;
}

void runner_conclude(struct runner *r, int end, int code, const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;

	if (r->decided)
		return;
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	r->decided = end != JOB_SUCCEEDED;
	r->result.end = end;
	r->result.code = code;
	free(r->result.message);
	r->result.message = text;
}

int runner_reserve_result(struct runner *r, struct error *err)
{
	r->result_made = path_join(r->directory, FS_TEMPORARY_PREFIX "result");
	if (!r->result_made)
		return error_oom(err);
	r->result_fd = open(r->result_made, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r->result_fd < 0)
		return error_errno(err, -errno, "cannot make %s", r->result_made);
	/* Without the room it is tried all the same. */
	(void)posix_fallocate(r->result_fd, 0, RESULT_RESERVED);
	return 0;
}

static int put_result(struct runner *r, const struct buf *text)
{
	if (lseek(r->result_fd, 0, SEEK_SET) < 0)
		return -errno;
	return fs_write_all(r->result_fd, text->data, text->len);
}

static void halve(char **text)
{
	size_t n = *text ? strlen(*text) : 0, from = n ? utf8_tail(*text, n, n / 2) : 0;

	if (n)
		memmove(*text, *text + from, n - from + 1);
}

/* Shorter until it fits where the disk has no more room than what was reserved. */
int runner_write_result(struct runner *r, struct error *err)
{
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_JOB_FILE);
	_cleanup_free_ char *path = path_join(r->directory, "result.json");
	int k;

	if (!path)
		return error_oom(err);
	for (;;) {
		buf_reset(&text);
		k = jd_encode(&job_result_type, &r->result, false, &text);
		if (k >= 0)
			k = put_result(r, &text);
		if (k != -ENOSPC && k != -EDQUOT && k != -EFBIG)
			break;
		if (str_empty(r->result.stdout_tail) && str_empty(r->result.stderr_tail))
			break;
		halve(&r->result.stdout_tail);
		halve(&r->result.stderr_tail);
	}
	if (k < 0)
		return error_errno(err, k, "cannot write %s", path);
	/*
	 * One wait for the disk instead of two: there was no result before, so nothing can be lost by a name that is durable
	 * before what it names, and a result that cannot be read counts as none. On the file systems there are, a file's
	 * fsync() takes its newest name along; where it does not, the daemon's record is what lasts.
	 */
	if (ftruncate(r->result_fd, (off_t)text.len) < 0 || rename(r->result_made, path) < 0 || fsync(r->result_fd) < 0)
		return error_errno(err, -errno, "cannot write %s", path);
	return 0;
}

static void tell_output(struct runner *r)
{
	int e = r->out->file_failed ? r->out->file_error : r->err->file_failed ? r->err->file_error : 0;

	r->result.stdout_tail = capture_tail(r->out, (size_t)r->job.tail_bytes);
	r->result.stderr_tail = capture_tail(r->err, (size_t)r->job.tail_bytes);
	r->result.stdout_bytes = (int64_t)r->out->produced;
	r->result.stderr_bytes = (int64_t)r->err->produced;
	if (e) {
		char *more = str_format("%s; not all of its output could be kept: %s", r->result.message ? r->result.message : "",
					strerror(-e));

		if (more) {
			free(r->result.message);
			r->result.message = more;
		}
	}
}

void runner_complete_result(struct runner *r)
{
	char text[TIMEFMT_MAX];

	r->result.format = JOB_FORMAT;
	set_text(&r->result.id, r->job.id);
	set_text(&r->result.boot_id, r->boot_id);
	set_text(&r->result.started_at, timefmt_utc_usec(r->started_wall, text));
	set_text(&r->result.ended_at, timefmt_utc_usec(time_wall(), text));
	r->result.duration_msec = (int64_t)(usec_sub(time_boot(), r->started_boot) / USEC_PER_MSEC);
	if (r->out && r->err)
		tell_output(r);
}

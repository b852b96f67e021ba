/* The customer's script or shell text, as a file that its interpreter is given. */
#include "agent/app/runner_job.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/codec/base64.h"
#include "agent/codec/gzip.h"

#define CONVERT_PIECE 65536

/* The bytes as they shall stand in the file. */
static int script_bytes(const struct runner *r, struct buf *ret, struct error *err)
{
	const char *text = job_secret(&r->secrets, JOB_CONTENT_SCRIPT);
	_cleanup_buf_ struct buf raw = BUF_SECRET_INIT(LIMIT_SCRIPT_DECODED), plain = BUF_SECRET_INIT(LIMIT_SCRIPT_DECODED);
	struct text_convert convert = { 0 };
	struct buf *bytes = &raw;
	int k;

	if (!text)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "the script itself is missing");
	k = base64_decode(text, strlen(text), true, &raw, err);
	if (k >= 0 && gzip_detect(buf_str(&raw), raw.len)) {
		k = gzip_inflate(raw.data, raw.len, &plain, err);
		bytes = &plain;
	}
	if (k < 0)
		return error_wrap(err, k, "the script");
	if (!r->job.convert_line_endings)
		return buf_append(ret, buf_str(bytes), bytes->len) < 0 ? error_oom(err) : 0;
	for (size_t at = 0; k >= 0 && at < bytes->len; at += CONVERT_PIECE)
		k = text_convert_feed(&convert, bytes->data + at,
				      bytes->len - at < CONVERT_PIECE ? bytes->len - at : CONVERT_PIECE, ret);
	if (k >= 0)
		k = text_convert_end(&convert, ret);
	return k < 0 ? error_errno(err, k, "the script cannot be converted") : 0;
}

/* A new file of the user's own, 0500: never over something that is there. */
static int put_program(const struct runner *r, const char *path, const void *data, size_t len, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int k;

	if (fd < 0)
		return error_errno(err, -errno, "cannot make %s", path);
	k = fs_write_all(fd, data, len);
	if (k < 0)
		return error_errno(err, k, "cannot write %s", path);
	if ((r->user.switched && fchown(fd, r->user.uid, r->user.gid) < 0) || fchmod(fd, 0500) < 0)
		return error_errno(err, -errno, "cannot set owner and mode of %s", path);
	return 0;
}

/* Run by its interpreter, named by ourselves, so that it also runs where the file system does not allow execution. */
int runner_start_script(struct runner *r, struct error *err)
{
	_cleanup_buf_ struct buf bytes = BUF_SECRET_INIT(3 * LIMIT_SCRIPT_DECODED);
	_cleanup_free_ char *path = path_join(r->work, "script.sh"), *interpreter = NULL, *argument = NULL;
	const char *before[4] = { NULL };
	size_t n = 0;
	int k;

	if (!path)
		return error_oom(err);
	k = script_bytes(r, &bytes, err);
	if (k >= 0)
		k = runner_policy_script(r, buf_str(&bytes), bytes.len, err);
	if (k >= 0)
		k = put_program(r, path, buf_str(&bytes), bytes.len, err);
	if (k < 0)
		return k;
	if (text_shebang(buf_str(&bytes), bytes.len, &interpreter, &argument)) {
		if (!interpreter)
			return error_oom(err);
		before[n++] = interpreter;
		if (argument)
			before[n++] = argument;
	} else if (bytes.len < 4 || memcmp(bytes.data, "\x7f" "ELF", 4) != 0) {
		before[n++] = "/bin/sh";
	}
	before[n] = path;
	k = runner_start_with(r, before, err);
	return k < 0 && interpreter ? error_wrap(err, k, "the script's first line names %s", interpreter) : k;
}

/* Shell text is a secret as a whole: it goes through a file, for argv is public. */
int runner_start_shell(struct runner *r, struct error *err)
{
	const char *text = job_secret(&r->secrets, JOB_CONTENT_COMMAND);
	_cleanup_free_ char *path = path_join(r->directory, "command.sh");
	const char *const before[] = { "/bin/sh", path, NULL };
	int k;

	if (!path)
		return error_oom(err);
	if (!text)
		return error_set(err, ERROR_SYSTEM, -ENOENT, "the command itself is missing");
	k = put_program(r, path, text, strlen(text), err);
	return k < 0 ? k : runner_start_with(r, before, err);
}

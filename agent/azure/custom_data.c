/* Custom data from the files of provisioning. */
#include "agent/azure/custom_data.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/codec/base64.h"
#include "agent/io/paths.h"

static int keep(const char *text, size_t len, struct buf *out, struct error *err)
{
	if (len > LIMIT_USER_DATA_DECODED)
		return error_set(err, ERROR_PLATFORM, -EFBIG, "custom data of %zu bytes is more than %lu", len,
				 LIMIT_USER_DATA_DECODED);
	return buf_append(out, text, len) < 0 ? error_oom(err) : 0;
}

int custom_data_decode(const char *text, size_t len, struct buf *out, struct error *err)
{
	_cleanup_buf_ struct buf plain = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);
	int r = base64_decode(text, len, true, &plain, NULL);

	if (r == -ENOMEM)
		return error_oom(err);
	return r < 0 ? keep(text, len, out, err) : keep(buf_str(&plain), plain.len, out, err);
}

static const char *find(const char *from, const char *end, const char *word)
{
	size_t n = strlen(word);

	return end > from ? memmem(from, (size_t)(end - from), word, n) : NULL;
}

/* The document is the platform's own and holds no other element of that name; comments and CDATA it never has. */
int custom_data_from_ovf(const char *text, size_t len, struct buf *out, struct error *err)
{
	_cleanup_buf_ struct buf plain = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);
	const char *end = text + len, *at = text, *open, *close;
	int r;

	for (;; at = open + 1) {
		open = find(at, end, "CustomData");
		if (!open)
			return -ENOENT;
		/* "<CustomData>" or "<ns1:CustomData …>" */
		if (open > text &&
		    (open[-1] == '<' || (open[-1] == ':' && memrchr(text, '<', (size_t)(open - text)))) &&
		    open + 10 < end && strchr("> \t\r\n/", open[10]) && open[10])
			break;
	}
	open = find(open, end, ">");
	if (!open)
		return error_set(err, ERROR_PLATFORM, -EBADMSG, "ovf-env.xml ends within CustomData");
	if (open[-1] == '/')
		return -ENOENT;
	close = find(open, end, "<");
	if (!close)
		return error_set(err, ERROR_PLATFORM, -EBADMSG, "ovf-env.xml ends within CustomData");
	r = base64_decode(open + 1, (size_t)(close - open - 1), true, &plain, err);
	if (r < 0)
		return error_wrap(err, r, "CustomData of ovf-env.xml");
	return plain.len ? keep(plain.data, plain.len, out, err) : -ENOENT;
}

static int read_file(const struct paths *p, const char *name, struct buf *out, struct error *err)
{
	_cleanup_free_ char *path = path_join(p->waagent, name);

	return path ? fs_read_nofollow(path, LIMIT_OVF_ENVIRONMENT, out, err) : error_oom(err);
}

int custom_data_read(const struct paths *p, struct buf *out, struct error *err)
{
	_cleanup_buf_ struct buf file = BUF_SECRET_INIT(LIMIT_OVF_ENVIRONMENT);
	struct error e = ERROR_INIT;
	int r = read_file(p, "CustomData", &file, &e);

	if (r >= 0 && file.len)
		return custom_data_decode(file.data, file.len, out, err);
	if (r >= 0 || r == -ENOENT) {
		buf_reset(&file);
		r = read_file(p, "ovf-env.xml", &file, &e);
		if (r >= 0)
			r = custom_data_from_ovf(buf_str(&file), file.len, out, &e);
	}
	if (r < 0 && r != -ENOENT && err)
		*err = e;
	return r;
}

/* N.status: the agent reads it at any moment, so it is replaced as a whole. Not synced: whoever starts anew writes it
 * anew. */
#include "agent/azure/status_file.h"

#include <errno.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/codec/json.h"

struct told {
	char *level;
};

struct item {
	struct told status;
};

static const struct jd_type word = { .kind = JD_TEXT, .max = 64 };

/* clang-format off */
static const struct jd_field told_fields[] = {
	{ "status", &word, offsetof(struct told, level), JD_REQUIRED },
	{ NULL },
};
static const struct jd_type told = { .kind = JD_OBJECT, .fields = told_fields };

static const struct jd_field item_fields[] = {
	{ "status", &told, offsetof(struct item, status), JD_REQUIRED },
	{ NULL },
};
/* clang-format on */
static const struct jd_type item = { .kind = JD_OBJECT, .fields = item_fields, .size = sizeof(struct item) };
static const struct jd_type document = { .kind = JD_LIST, .element = &item, .min = 1, .max = 1 };

bool status_file_succeeded(const char *folder, const char *sequence)
{
	_cleanup_free_ char *path = str_format("%s/%s.status", folder, sequence);
	_cleanup_buf_ struct buf text = BUF_INIT(LIMIT_STATUS_FILE);
	struct jd_list list = { 0 };
	bool succeeded;

	if (!path || fs_read(path, LIMIT_STATUS_FILE, &text, NULL) < 0 ||
	    jd_decode_document(buf_str(&text), text.len, path, LIMIT_STATUS_FILE, &document, &list, NULL) < 0)
		return false;
	succeeded = str_equal(((struct item *)list.items)->status.level, "success");
	jd_free(&document, &list);
	return succeeded;
}

int status_file_write(const char *folder, const char *sequence, const char *text, size_t len, struct error *err)
{
	_cleanup_free_ char *path = str_format("%s/%s.status", folder, sequence);
	struct error why = ERROR_INIT;
	int r;

	if (!path)
		return error_oom(err);
	if (str_empty(sequence) || strchr(sequence, '/'))
		return error_set(err, ERROR_SYSTEM, -EINVAL, "cannot write a status file: \"%s\" is no sequence number",
				 sequence);
	/* Above twice that the agent cuts texts, or stumbles and reports no extension at all. */
	if (len > LIMIT_STATUS_FILE)
		return error_set(err, ERROR_SYSTEM, -EFBIG, "cannot write %s: %zu bytes are more than %lu", path, len,
				 LIMIT_STATUS_FILE);
	r = fs_write(path, text, len, 0644, FS_REPLACE | FS_NO_SYNC, &why);
	if (r == -ENOENT)
		return error_set(err, ERROR_PLATFORM, r,
				 "cannot write %s: the folder is gone; the extension was removed or is being upgraded",
				 path);
	if (r < 0 && err)
		*err = why;
	return r;
}

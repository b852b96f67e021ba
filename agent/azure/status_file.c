/* N.status: the agent reads it at any moment, so it is replaced as a whole. Not synced: whoever starts anew writes it
 * anew. */
#include "agent/azure/status_file.h"

#include <errno.h>
#include <string.h>

#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"

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

/* cloud-init's files, read. */
#include "handlers/common/cloud_init.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"

#define ID_MAX 256

static bool is_there(const struct paths *p, const char *path)
{
	_cleanup_free_ char *real = path_under_root(p, path);

	return real && fs_exists(real);
}

/* result.json is there after the final stage only, anew at each boot. Where cloud-init is switched off or not installed it
 * never comes. */
enum cloud_init_stage cloud_init_look(const struct paths *p)
{
	if (is_there(p, "/run/cloud-init/result.json"))
		return CLOUD_INIT_FINISHED;
	if (is_there(p, "/run/cloud-init/disabled") || is_there(p, "/etc/cloud/cloud-init.disabled"))
		return CLOUD_INIT_ABSENT;
	if (is_there(p, "/run/cloud-init/enabled") || is_there(p, "/run/cloud-init/status.json"))
		return CLOUD_INIT_RUNNING;
	return is_there(p, "/run/cloud-init") || is_there(p, "/usr/bin/cloud-init") ? CLOUD_INIT_UNKNOWN : CLOUD_INIT_ABSENT;
}

static bool read_word(const struct paths *p, const char *path, struct buf *out)
{
	_cleanup_free_ char *real = path_under_root(p, path);

	if (!real || fs_read(real, ID_MAX, out, NULL) < 0 || !out->len)
		return false;
	out->data[strcspn(out->data, "\r\n")] = '\0';
	return true;
}

bool cloud_init_first_boot(const struct paths *p)
{
	_cleanup_buf_ struct buf now = BUF_INIT(ID_MAX + 1), before = BUF_INIT(ID_MAX + 1);

	return read_word(p, "/var/lib/cloud/data/instance-id", &now) && read_word(p, "/var/lib/cloud/data/previous-instance-id", &before) &&
	       !str_equal(now.data, before.data);
}

bool cloud_init_user_data(const struct paths *p, char ret[static SHA256_HEX_MAX])
{
	_cleanup_free_ char *real = path_under_root(p, "/var/lib/cloud/instance/user-data.txt");
	_cleanup_buf_ struct buf data = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);

	return real && fs_read(real, LIMIT_GUNZIP_DEFAULT, &data, NULL) >= 0 && sha256_hex(buf_str(&data), data.len, ret) >= 0;
}

/* cloud-init's files, read. */
#include "handlers/common/cloud_init.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/time.h"
#include "agent/io/paths.h"

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
	return is_there(p, "/run/cloud-init") || is_there(p, "/usr/bin/cloud-init") ? CLOUD_INIT_UNKNOWN
										    : CLOUD_INIT_ABSENT;
}

static bool changed_at(const struct paths *p, const char *path, struct timespec *ret)
{
	_cleanup_free_ char *real = path_under_root(p, path);
	struct stat st;

	if (!real || stat(real, &st) < 0)
		return false;
	*ret = st.st_mtim;
	return true;
}

/* Its mark of having taken the user data apart for this instance is as new as what its generator has left at this boot.
 * (previous-instance-id tells nothing: its second stage of the first boot overwrites it.) A clock that was set back during
 * the boot makes a first boot look like a later one, never the reverse. */
bool cloud_init_first_boot(const struct paths *p)
{
	struct timespec consumed, booted;

	return changed_at(p, "/var/lib/cloud/instance/sem/consume_data", &consumed) &&
	       changed_at(p, "/run/cloud-init/enabled", &booted) && time_compare(&consumed, &booted) >= 0;
}

bool cloud_init_user_data(const struct paths *p, char ret[static SHA256_HEX_MAX])
{
	_cleanup_free_ char *real = path_under_root(p, "/var/lib/cloud/instance/user-data.txt");
	_cleanup_buf_ struct buf data = BUF_SECRET_INIT(LIMIT_GUNZIP_DEFAULT);

	return real && fs_read(real, LIMIT_GUNZIP_DEFAULT, &data, NULL) >= 0 &&
	       sha256_hex(buf_str(&data), data.len, ret) >= 0;
}

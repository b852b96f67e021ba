/* Locks of dpkg, apt and rpm. */
#include "handlers/common/package_locks.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/io/paths.h"

/* These are record locks: that the file is there means nothing, and it is never removed. A probe takes nothing. */
static bool is_locked(const struct paths *p, const char *path)
{
	_cleanup_free_ char *real = path_under_root(p, path);
	_cleanup_close_ int fd = real ? open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

bool package_locks_held(const struct paths *p)
{
	static const char *const locks[] = { "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock",
					     "/var/cache/apt/archives/lock", "/var/lib/apt/lists/lock",
					     "/var/lib/rpm/.rpm.lock" };

	for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
		if (is_locked(p, locks[i]))
			return true;
	return false;
}

/* Locks of dpkg, apt, rpm, tdnf and zypper. */
#include "handlers/common/package_locks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/io/paths.h"

#define TDNF_LOCK "/run/.tdnf-instance-lockfile"
#define ZYPP_LOCK "/run/zypp.pid"
#define LOCKS_MAX (1024UL * 1024)
#define PID_TEXT  64

/* These are record locks: that the file is there means nothing, and it is never removed. A probe takes nothing. */
static bool is_locked(const struct paths *p, const char *path)
{
	_cleanup_free_ char *real = path_under_root(p, path);
	_cleanup_close_ int fd = real ? open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* flock() has no question, only tries; the kernel's table tells without taking anything (proc_locks(5)): "1: FLOCK ADVISORY
 * WRITE PID MAJOR:MINOR:INODE 0 EOF", with "->" before the kind of those that wait. */
static bool is_flocked(const struct paths *p, const char *path)
{
	_cleanup_free_ char *real = path_under_root(p, path);
	_cleanup_buf_ struct buf table = BUF_INIT(LOCKS_MAX);
	struct stat st;
	char *rest;

	if (!real || lstat(real, &st) < 0 || fs_read("/proc/locks", LOCKS_MAX, &table, NULL) < 0)
		return false;
	rest = table.data;
	for (const char *line; rest && (line = strsep(&rest, "\n"));) {
		unsigned device_major, device_minor;
		unsigned long inode;

		if (sscanf(line, "%*d: FLOCK %*s %*s %*d %x:%x:%lu", &device_major, &device_minor, &inode) == 3 &&
		    makedev(device_major, device_minor) == st.st_dev && inode == st.st_ino)
			return true;
	}
	return false;
}

/* zypper locks its file for a moment only: it holds the number of the process that works, and stays behind. */
static bool is_alive(const struct paths *p, const char *path)
{
	_cleanup_free_ char *real = path_under_root(p, path);
	_cleanup_buf_ struct buf text = BUF_INIT(PID_TEXT);
	long pid;

	if (!real || fs_read_nofollow(real, PID_TEXT, &text, NULL) < 0)
		return false;
	pid = strtol(buf_str(&text), NULL, 10);
	return pid > 0 && pid <= INT_MAX && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

const char *package_locks_held(const struct paths *p)
{
	static const char *const locks[] = { "/var/lib/dpkg/lock-frontend",
					     "/var/lib/dpkg/lock",
					     "/var/cache/apt/archives/lock",
					     "/var/lib/apt/lists/lock",
					     "/var/lib/rpm/.rpm.lock",
					     "/usr/lib/sysimage/rpm/.rpm.lock",
					     TDNF_LOCK };

	for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
		if (is_locked(p, locks[i]))
			return locks[i];
	/* Its older versions lock the record, the newer ones the file. */
	if (is_flocked(p, TDNF_LOCK))
		return TDNF_LOCK;
	return is_alive(p, ZYPP_LOCK) ? ZYPP_LOCK : NULL;
}

/* Checks of the operating system: systemd, clock, mounts, room, package managers. */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/timex.h>

#include "agent/app/doctor_private.h"
#include "agent/base/cleanup.h"
#include "agent/base/str.h"
#include "handlers/common/package_locks.h"

#define SYSTEMD_OLDEST 239 /* units of ours work there, with less protection */
#define SYSTEMD_WANTED 249

/* ---- systemd ---- */

/* Its libraries carry the version in their names, with nothing to be run: libsystemd-shared-252.so, -255.4-1.el9.so. */
static unsigned systemd_version(const struct doctor *d)
{
	static const char *const patterns[] = { "/usr/lib/systemd/libsystemd-shared-*.so",
						"/usr/lib/*/systemd/libsystemd-shared-*.so",
						"/usr/lib64/systemd/libsystemd-shared-*.so",
						"/lib/systemd/libsystemd-shared-*.so",
						"/lib/*/systemd/libsystemd-shared-*.so" };
	unsigned newest = 0;

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		_cleanup_free_ char *pattern = path_under_root(d->paths, patterns[i]);
		glob_t found = { 0 };

		if (pattern && glob(pattern, GLOB_NOSORT, NULL, &found) == 0)
			for (size_t k = 0; k < found.gl_pathc; k++) {
				unsigned v = (unsigned)strtoul(
					strrchr(found.gl_pathv[k], '/') + strlen("/libsystemd-shared-"), NULL, 10);

				newest = v > newest ? v : newest;
			}
		globfree(&found);
	}
	return newest;
}

void doctor_check_systemd(struct doctor *d)
{
	unsigned v = systemd_version(d);

	if (!v)
		doctor_tell(d, VERDICT_NOTE, "systemctl --version tells it", "the version of systemd is not known");
	else if (v < SYSTEMD_OLDEST)
		doctor_tell(d, VERDICT_ERROR, NULL, "systemd %u is older than %d: the service does not work there", v,
			    SYSTEMD_OLDEST);
	else if (v < SYSTEMD_WANTED)
		doctor_tell(d, VERDICT_WARNING, NULL,
			    "systemd %u is older than %d: parts of the service's sandbox are ignored", v,
			    SYSTEMD_WANTED);
	else
		doctor_tell(d, VERDICT_OK, NULL, "version %u%s", v, d->bus ? "" : "; no manager answers here");
}

/* ---- the clock; what servers say of it is told where they are asked ---- */

void doctor_check_clock(struct doctor *d)
{
	struct timex t = { 0 };

	d->clock = d->check;
	if (adjtimex(&t) >= 0 && (t.status & STA_UNSYNC))
		doctor_tell(d, VERDICT_NOTE, NULL, "no time service keeps the clock right");
	else
		doctor_tell(d, VERDICT_OK, NULL, "a time service keeps the clock right");
}

/* ---- mounts ---- */

static void check_noexec(struct doctor *d, const char *path, const char *what, bool *ok)
{
	struct statvfs v;

	if (!path) {
		d->oom = true;
	} else if (statvfs(path, &v) == 0 && (v.f_flag & ST_NOEXEC)) {
		*ok = false;
		doctor_tell(d, VERDICT_ERROR, NULL, "%s is mounted noexec: %s cannot be run", path, what);
	}
}

void doctor_check_noexec(struct doctor *d)
{
	_cleanup_free_ char *hooks = path_join(d->paths->etc, "hooks");
	bool ok = true;

	check_noexec(d, d->paths->libexec, "the service", &ok);
	check_noexec(d, d->paths->jobs, "scripts", &ok);
	check_noexec(d, d->paths->waagent, "the extension's commands", &ok);
	check_noexec(d, hooks, "hooks", &ok);
	if (ok)
		doctor_tell(d, VERDICT_OK, NULL, "programs may be run where they are");
}

/* ---- room ---- */

struct room {
	unsigned long long low, critical; /* bytes */
};

static unsigned long long free_mib(const struct statvfs *v)
{
	return (unsigned long long)v->f_bavail * v->f_frsize >> 20;
}

static void check_space(struct doctor *d, const char *path, const struct room *r, bool *ok)
{
	struct statvfs v;
	unsigned long long bytes;
	enum verdict worst = VERDICT_OK;

	if (!path || statvfs(path, &v) < 0)
		return;
	bytes = (unsigned long long)v.f_bavail * v.f_frsize;
	if (bytes < r->low) {
		worst = bytes < r->critical ? VERDICT_ERROR : VERDICT_WARNING;
		doctor_tell(d, worst, NULL, "%s: %llu MiB are free", path, free_mib(&v));
	}
	/* File systems without a table of inodes say 0 of 0. */
	if (v.f_files && v.f_favail < 1000) {
		worst = VERDICT_WARNING;
		doctor_tell(d, v.f_favail < 50 ? VERDICT_ERROR : VERDICT_WARNING, NULL, "%s: %llu inodes are free",
			    path, (unsigned long long)v.f_favail);
	}
	*ok = *ok && worst == VERDICT_OK;
}

void doctor_check_space(struct doctor *d)
{
	static const struct room disk = { 100ULL << 20, 10ULL << 20 }, memory = { 8ULL << 20, 1ULL << 20 };
	const char *log = d->have_goal && d->goal.log_folder ? d->goal.log_folder : d->paths->log_default;
	bool ok = true;

	check_space(d, d->paths->state, &disk, &ok);
	check_space(d, log, &disk, &ok);
	check_space(d, d->paths->run, &memory, &ok);
	if (ok)
		doctor_tell(d, VERDICT_OK, NULL, "there is room for state, logs and sockets");
}

/* ---- package managers ---- */

void doctor_check_packages(struct doctor *d)
{
	const char *lock = package_locks_held(d->paths);

	if (lock)
		doctor_tell(d, VERDICT_NOTE, NULL,
			    "a package manager is at work: it holds %s; scripts that wait for packageLocks wait", lock);
	else
		doctor_tell(d, VERDICT_OK, NULL, "no package manager is at work");
}

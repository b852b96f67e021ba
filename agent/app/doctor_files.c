/* Checks of files: what we wrote, logind's drop-in, hooks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/app/doctor_private.h"
#include "agent/app/installation.h"
#include "agent/app/runner.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"

#define NAMES_MAX      10000
#define ACTIVATE_HOOKS "/etc/evenkeel/hooks/activate.d"
#define CONF_LIMIT     (64UL * 1024)

/* ---- owner and mode ---- */

/* No more than these bits, ours, and of this kind; absent is fine. Whether it is there and right. */
static bool check_path(struct doctor *d, const char *path, mode_t kind, mode_t most, bool *ok)
{
	struct stat st;

	if (!path) {
		d->oom = true;
		return false;
	}
	if (lstat(path, &st) < 0) {
		if (errno != ENOENT) {
			*ok = false;
			doctor_tell(d, VERDICT_ERROR, NULL, "%s: %s", path, strerror(errno));
		}
		return false;
	}
	if ((st.st_mode & S_IFMT) != kind)
		doctor_tell(d, VERDICT_ERROR, NULL, "%s is not %s", path,
			    kind == S_IFDIR ? "a directory" : "a regular file");
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		doctor_tell(d, VERDICT_ERROR, NULL, "%s belongs to user %u, not to root", path, st.st_uid);
	else if (st.st_mode & 07777u & ~most)
		doctor_tell(d, VERDICT_ERROR, NULL, "%s has mode %04o, which is more than %04o", path,
			    st.st_mode & 07777u, most);
	else
		return true;
	*ok = false;
	return false;
}

static void check_files(struct doctor *d, const char *directory, const char *suffix, mode_t most, bool *ok)
{
	_cleanup_strv_ char **names = NULL;
	struct stat st;

	if (fs_list(directory, NAMES_MAX, &names, NULL) < 0)
		return;
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *path = path_join(directory, *n);

		if (!str_ends(*n, suffix) || !path || lstat(path, &st) < 0 || S_ISDIR(st.st_mode))
			continue;
		(void)check_path(d, path, S_IFREG, most, ok);
	}
}

/* A directory that is there for all we do: its absence is told, too. */
static void check_directory(struct doctor *d, const char *path, mode_t most, bool *ok)
{
	if (path && !fs_exists(path)) {
		*ok = false;
		doctor_tell(d, VERDICT_WARNING, "restart the service, which makes it", "%s is missing", path);
		return;
	}
	(void)check_path(d, path, S_IFDIR, most, ok);
}

void doctor_check_permissions(struct doctor *d)
{
	const struct paths *p = d->paths;
	_cleanup_free_ char *binary = installation_binary(p),
			    *dropins = path_join(p->etc, "evenkeel.d"), *main_file = path_join(p->etc, "evenkeel.json");
	bool ok = true;

	check_directory(d, p->state, 0711, &ok);
	check_directory(d, p->records, 0700, &ok);
	check_directory(d, p->jobs, 0711, &ok);
	check_directory(d, p->certificates, 0711, &ok);
	check_directory(d, p->run, 0711, &ok);
	check_directory(d, p->run_jobs, 0700, &ok);
	check_files(d, p->records, "", 0600, &ok);
	(void)check_path(d, p->etc, S_IFDIR, 0755, &ok);
	(void)check_path(d, main_file, S_IFREG, 0644, &ok);
	if (check_path(d, dropins, S_IFDIR, 0755, &ok))
		check_files(d, dropins, ".json", 0644, &ok);
	(void)check_path(d, p->libexec, S_IFDIR, 0755, &ok);
	(void)check_path(d, binary, S_IFREG, 0755, &ok);
	for (size_t i = 0; installation_unit(i); i++) {
		_cleanup_free_ char *unit = path_join(p->units, installation_unit(i));

		(void)check_path(d, unit, S_IFREG, 0644, &ok);
	}
	if (ok)
		doctor_tell(d, VERDICT_OK, NULL, "everything is root's, and no more open than it was written");
}

/* ---- logind ---- */

/* The last InhibitDelayMaxSec= of a file in seconds; -1: it has none. */
static long long delay_of(const char *path)
{
	_cleanup_buf_ struct buf text = BUF_INIT(CONF_LIMIT);
	long long delay = -1;
	char *rest;

	if (fs_read(path, CONF_LIMIT, &text, NULL) < 0)
		return -1;
	rest = text.data;
	for (char *line; rest && (line = strsep(&rest, "\n"));) {
		unsigned long long n;
		char unit[8] = "";

		line += strspn(line, " \t");
		if (sscanf(line, "InhibitDelayMaxSec = %llu%7[a-z]", &n, unit) < 1)
			continue;
		delay = (long long)(str_equal(unit, "min") || str_equal(unit, "m") ? n * 60
				    : str_equal(unit, "h")			   ? n * 3600
				    : str_equal(unit, "ms")			   ? n / 1000
										   : n);
	}
	return delay;
}

/* What is in force: the drop-in whose name sorts last wins. NULL on out of memory. */
static char *last_dropin(struct doctor *d, long long *ret_delay)
{
	_cleanup_strv_ char **names = NULL;
	char *last = strdup("");

	*ret_delay = -1;
	if (fs_list(d->paths->logind, NAMES_MAX, &names, NULL) < 0)
		return last;
	for (char **n = names; last && *n; n++) {
		_cleanup_free_ char *path = path_join(d->paths->logind, *n);
		long long delay = path && str_ends(*n, ".conf") ? delay_of(path) : -1;

		if (delay < 0)
			continue;
		*ret_delay = delay;
		free(last);
		last = TAKE_PTR(path);
	}
	return last;
}

void doctor_check_logind(struct doctor *d)
{
	const struct shutdown_settings *s = d->settings.drain ? d->settings.drain->shutdown : NULL;
	_cleanup_free_ char *ours = path_join(d->paths->logind, LOGIND_DROPIN), *last = NULL;
	long long delay;

	last = last_dropin(d, &delay);
	if (!ours || !last)
		d->oom = true;
	else if (!s && fs_exists(ours))
		doctor_tell(d, VERDICT_NOTE, NULL, "%s is there, although drain.shutdown is not set", ours);
	else if (!s)
		doctor_tell(d, VERDICT_OK, NULL, "drain.shutdown is not set");
	else if (!fs_exists(ours))
		doctor_tell(d, VERDICT_ERROR, NULL, "%s is missing: a shutdown does not wait for the drain", ours);
	else if (delay < s->max_delay_seconds)
		doctor_tell(d, VERDICT_ERROR, NULL, "%s limits the delay to %lld s; drain.shutdown wants %lld s", last,
			    delay, (long long)s->max_delay_seconds);
	else
		doctor_tell(d, VERDICT_OK, NULL, "a shutdown waits for the drain, up to %lld s", delay);
}

/* ---- hooks ---- */

static void check_hooks(struct doctor *d, const char *directory, bool *ok)
{
	_cleanup_free_ char *real = path_under_root(d->paths, directory), *refused = NULL;
	_cleanup_strv_ char **list = NULL, **names = NULL;
	struct error e = ERROR_INIT;
	struct stat st;

	if (!real) {
		d->oom = true;
		return;
	}
	if (runner_hooks_list(real, &list, &refused, &e) < 0) {
		*ok = false;
		doctor_tell(d, VERDICT_ERROR, NULL, "%s", e.msg);
		return;
	}
	if (refused) {
		*ok = false;
		doctor_tell(d, VERDICT_ERROR, NULL, "%s", refused);
	}
	if (fs_list(real, LIMIT_HOOKS, &names, NULL) < 0)
		return;
	for (char **n = names; *n; n++) {
		_cleanup_free_ char *path = path_join(real, *n);

		if (path && (*n)[0] != '.' && !str_ends(*n, "~") && lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		    !(st.st_mode & 0111)) {
			*ok = false;
			doctor_tell(d, VERDICT_WARNING, "chmod 755 the file, or move it elsewhere if it is no hook",
				    "%s is not executable: it is not run", path);
		}
	}
}

static size_t check_steps(struct doctor *d, const struct jd_list *list, bool *ok)
{
	const struct step_settings *steps = list->items;
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++) {
		if (steps[i].type == STEP_HOOKS) {
			check_hooks(d, steps[i].directory, ok);
			check_hooks(d, steps[i].undo_directory, ok);
			n++;
		}
		n += check_steps(d, &steps[i].steps, ok);
	}
	return n;
}

void doctor_check_hooks(struct doctor *d)
{
	bool ok = true;
	size_t n = d->settings.drain ? check_steps(d, &d->settings.drain->steps, &ok) : 0;

	if (d->settings.key_refresh) {
		check_hooks(d, ACTIVATE_HOOKS, &ok);
		n++;
	}
	if (!n)
		doctor_tell(d, VERDICT_OK, NULL, "the settings ask for no hooks");
	else if (ok)
		doctor_tell(d, VERDICT_OK, NULL, "every file would be run");
}

/* The processes of this machine, by /proc. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/app/doctor_private.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"

#define COMMAND_MAX   4096
#define ARGUMENTS_MAX 16

static bool is_number(const char *name)
{
	return *name && strspn(name, "0123456789") == strlen(name);
}

/* The first arguments; cut where there are more. */
static bool read_arguments(const char *pid, char *buffer, size_t size, char **argv)
{
	char path[64];
	_cleanup_fclose_ FILE *f = NULL;
	size_t len, n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	f = fopen(path, "re");
	len = f ? fread(buffer, 1, size - 1, f) : 0;
	buffer[len] = '\0';
	for (size_t at = 0; at < len && n < ARGUMENTS_MAX; at += strlen(buffer + at) + 1)
		argv[n++] = buffer + at;
	argv[n] = NULL;
	return n;
}

void doctor_each_process(doctor_process_fn visit, void *userdata)
{
	_cleanup_(closedirp) DIR *proc = opendir("/proc");

	for (struct dirent *e; proc && (e = readdir(proc));) {
		char buffer[COMMAND_MAX], *argv[ARGUMENTS_MAX + 1];

		if (is_number(e->d_name) && read_arguments(e->d_name, buffer, sizeof(buffer), argv) &&
		    visit(atoi(e->d_name), argv, userdata))
			return;
	}
}

/* ---- our own service ---- */

struct search {
	char *lock; /* that the service holds open */
	int pid;
};

static bool has_open(int pid, const char *wanted)
{
	char path[64];
	_cleanup_(closedirp) DIR *fds = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	for (struct dirent *e; fds && (e = readdir(fds));) {
		char target[COMMAND_MAX];
		ssize_t n = readlinkat(dirfd(fds), e->d_name, target, sizeof(target) - 1);

		if (n > 0 && (size_t)n == strlen(wanted) && memcmp(target, wanted, (size_t)n) == 0)
			return true;
	}
	return false;
}

static bool on_process(int pid, char *const *argv, void *userdata)
{
	struct search *s = userdata;

	if (!argv[1] || !str_equal(argv[1], "daemon") || !has_open(pid, s->lock))
		return false;
	s->pid = pid;
	return true;
}

int doctor_service_pid(const struct doctor *d)
{
	_cleanup_free_ char *path = path_join(d->paths->run, "daemon.lock"), *lock = path ? realpath(path, NULL) : NULL;
	struct search s = { .lock = lock };

	if (lock)
		doctor_each_process(on_process, &s);
	return s.pid;
}

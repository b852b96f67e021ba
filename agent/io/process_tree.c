/* Descendants of a process, as /proc shows them at this moment. */
#include "agent/io/process_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/cleanup.h"
#include "agent/base/str.h"

#define PROCESSES_MAX 131072
/* A descendant may be many generations away; each pass over the table finds at least one. */
#define GENERATIONS_MAX 4096

struct process {
	pid_t pid, parent, group;
	bool ours;
};

/* "PID (NAME) STATE PPID PGRP …": the name may hold anything, also blanks and parentheses. */
static bool read_process(const char *name, struct process *ret)
{
	char path[64], text[512], *end;
	_cleanup_close_ int fd = -1;
	ssize_t n;
	uint64_t pid;
	char state;
	int parent, group;

	if (!str_to_u64(name, INT32_MAX, &pid))
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%s/stat", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	end = strrchr(text, ')');
	if (!end || sscanf(end + 1, " %c %d %d", &state, &parent, &group) != 3 || state == 'Z' || state == 'X')
		return false;
	*ret = (struct process){ (pid_t)pid, parent, group, false };
	return true;
}

static size_t read_processes(struct process **ret)
{
	_cleanup_(closedirp) DIR *d = opendir("/proc");
	struct process *all = NULL, p;
	size_t n = 0, cap = 0;
	struct dirent *e;

	while (d && n < PROCESSES_MAX && (e = readdir(d))) {
		if (!read_process(e->d_name, &p))
			continue;
		if (n == cap) {
			struct process *more = reallocarray(all, cap ? cap * 2 : 256, sizeof(*all));

			if (!more)
				break;
			all = more;
			cap = cap ? cap * 2 : 256;
		}
		all[n++] = p;
	}
	*ret = all;
	return n;
}

static bool is_ours(const struct process *all, size_t n, pid_t parent, pid_t root)
{
	if (parent == root)
		return true;
	for (size_t i = 0; i < n; i++)
		if (all[i].pid == parent)
			return all[i].ours;
	return false;
}

static size_t signal_all(pid_t root, int signo)
{
	_cleanup_free_ struct process *all = NULL;
	size_t n = read_processes(&all), count = 0;
	bool more = true;

	for (size_t g = 0; more && g < GENERATIONS_MAX; g++) {
		more = false;
		for (size_t i = 0; i < n; i++)
			if (!all[i].ours && is_ours(all, n, all[i].parent, root)) {
				all[i].ours = more = true;
				count++;
			}
	}
	for (size_t i = 0; signo && i < n; i++)
		if (all[i].ours)
			(void)kill(all[i].pid, signo);
	return count;
}

/* What we have started and what came to us as its subreaper would be a child. Asking costs nothing beside reading /proc. */
static bool has_no_children(pid_t root)
{
	siginfo_t info;

	return root == getpid() && waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

size_t process_tree_signal(pid_t root, int signo)
{
	if (has_no_children(root))
		return 0;
	return signal_all(root, signo);
}

static bool is_called(pid_t pid, const char *verb, const char *argument)
{
	char path[64], line[4096];
	_cleanup_close_ int fd = -1;
	const char *word[4] = { line };
	size_t n_words = 1;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, line, sizeof(line));
	if (n <= 0 || line[n - 1] != '\0')
		return false;
	for (ssize_t i = 0; i + 1 < n && n_words < ARRAY_SIZE(word); i++)
		if (!line[i])
			word[n_words++] = line + i + 1;
	return n_words == 3 && str_equal(word[1], verb) && str_equal(word[2], argument);
}

bool process_is(pid_t pid, pid_t group, const char *verb, const char *argument)
{
	return getpgid(pid) == group && is_called(pid, verb, argument);
}

pid_t process_find(pid_t group, const char *verb, const char *argument)
{
	_cleanup_free_ struct process *all = NULL;
	size_t n = read_processes(&all);

	for (size_t i = 0; i < n; i++)
		if (all[i].group == group && is_called(all[i].pid, verb, argument))
			return all[i].pid;
	return 0;
}

/* SELinux by its file system, by the attribute that holds labels, and by restorecon as a short child. */
#include "agent/io/selinux.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/fs.h"
#include "agent/base/str.h"
#include "agent/io/paths.h"

#define ENFORCE	    "/sys/fs/selinux/enforce"
#define LABEL_XATTR "security.selinux"
#define LABEL_MAX   512
#define WORDS_MAX   300 /* of what restorecon has to say */
#define LOOK_MSEC   20

enum selinux_mode selinux_mode(const struct paths *p)
{
	_cleanup_free_ char *path = path_under_root(p, ENFORCE);
	_cleanup_buf_ struct buf text = BUF_INIT(16);

	/* The file system is mounted only where the kernel has a policy. */
	if (!path || fs_read(path, 15, &text, NULL) < 0)
		return SELINUX_OFF;
	return str_starts(buf_str(&text), "1") ? SELINUX_ENFORCING : SELINUX_PERMISSIVE;
}

const char *selinux_mode_name(enum selinux_mode m)
{
	return m == SELINUX_ENFORCING ? "enforcing" : m == SELINUX_PERMISSIVE ? "permissive" : "off";
}

int selinux_type(const char *path, char ret[static SELINUX_TYPE_MAX], struct error *err)
{
	char label[LABEL_MAX + 1], *rest = label;
	ssize_t n = lgetxattr(path, LABEL_XATTR, label, LABEL_MAX);
	const char *type = NULL;

	if (n < 0)
		return error_errno(err, errno == EOPNOTSUPP ? -ENODATA : -errno, "%s: its label cannot be read", path);
	label[n] = '\0';
	for (int i = 0; i < 3; i++)
		type = strsep(&rest, ":"); /* NULL once there are no more */
	if (str_empty(type) || strlen(type) >= SELINUX_TYPE_MAX)
		return error_set(err, ERROR_SYSTEM, -EINVAL, "%s: its label is not one of SELinux", path);
	memcpy(ret, type, strlen(type) + 1);
	return 0;
}

/* ---- restorecon ---- */

static char *find_restorecon(const struct paths *p)
{
	static const char *const places[] = { "/usr/sbin/restorecon", "/sbin/restorecon" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_free_ char *path = path_under_root(p, places[i]);

		if (path && access(path, X_OK) == 0)
			return TAKE_PTR(path);
	}
	return NULL;
}

/* In a process group of its own, so that all of it can be ended; what it says comes through `out`. */
static int start(char *const *argv, int out, pid_t *ret)
{
	static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", locale[] = "LC_ALL=C";
	char *const environment[] = { path, locale, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t all, none;
	int r;

	if (posix_spawn_file_actions_init(&actions) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&attributes) != 0) {
		(void)posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	(void)sigfillset(&all);
	(void)sigemptyset(&none);
	r = posix_spawnattr_setflags(&attributes,
				     POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	r = r ? r : posix_spawnattr_setsigdefault(&attributes, &all);
	r = r ? r : posix_spawnattr_setsigmask(&attributes, &none);
	r = r ? r : posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	r = r ? r : posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	r = r ? r : posix_spawn(ret, argv[0], &actions, &attributes, argv, environment);
	(void)posix_spawnattr_destroy(&attributes);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* Keeps the beginning of what comes; the rest is taken, so that nobody waits for room. False at the end. */
static bool listen_to(int fd, struct buf *words)
{
	char chunk[4096];
	ssize_t n = read(fd, chunk, sizeof(chunk));
	size_t room = WORDS_MAX - words->len;

	if (n > 0)
		(void)buf_append(words, chunk, (size_t)n < room ? (size_t)n : room);
	return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

/* Its wait status, or -ETIMEDOUT when it had to be killed. What it has left running does not keep us. */
static int await(pid_t pid, int *fd, usec_t due, struct buf *words, int *ret_status)
{
	for (;;) {
		struct pollfd p = { .fd = *fd, .events = POLLIN };
		pid_t ended;

		if (poll(&p, 1, LOOK_MSEC) > 0 && p.revents && !listen_to(*fd, words))
			closep(fd);
		ended = waitpid(pid, ret_status, WNOHANG);
		if (ended == pid) {
			while (*fd >= 0 && poll(&(struct pollfd){ .fd = *fd, .events = POLLIN }, 1, 0) > 0 &&
			       time_boot() < due && listen_to(*fd, words))
				;
			return 0;
		}
		if (ended < 0 && errno != EINTR)
			return -errno;
		if (time_boot() >= due)
			break;
	}
	(void)kill(-pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	return -ETIMEDOUT;
}

static int run(char *const *argv, usec_t limit, struct error *err)
{
	_cleanup_buf_ struct buf words = BUF_INIT(WORDS_MAX + 1);
	_cleanup_close_ int from = -1, to = -1;
	usec_t due = usec_add(time_boot(), limit);
	int ends[2], status = 0, r;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, -errno, "%s cannot be started", argv[0]);
	from = ends[0];
	to = ends[1];
	r = start(argv, to, &pid);
	closep(&to);
	if (r < 0)
		return error_errno(err, r, "%s cannot be started", argv[0]);
	r = await(pid, &from, due, &words, &status);
	if (r == -ETIMEDOUT)
		return error_set(err, ERROR_SYSTEM, r, "%s did not end within %llu s", argv[0],
				 (unsigned long long)(limit / USEC_PER_SEC));
	if (r < 0)
		return error_errno(err, r, "%s cannot be waited for", argv[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_set(err, ERROR_SYSTEM, -EIO, "%s %s %d: %.*s", argv[0],
			 WIFEXITED(status) ? "ended with exit code" : "was ended by signal",
			 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
			 (int)strcspn(buf_str(&words), "\n"), buf_str(&words));
}

int selinux_relabel(const struct paths *p, const char *const *paths, size_t n, usec_t limit, struct error *err)
{
	static char end_of_options[] = "--";
	char *argv[SELINUX_PATHS_MAX + 3];
	_cleanup_free_ char *program = NULL;
	size_t used = 0;
	struct stat st;

	if (selinux_mode(p) == SELINUX_OFF)
		return 0;
	if (n > SELINUX_PATHS_MAX)
		return error_set(err, ERROR_SYSTEM, -E2BIG, "too many paths to label");
	program = find_restorecon(p);
	if (!program)
		return error_set(err, ERROR_SYSTEM, -ENOENT,
				 "this system has no restorecon: install policycoreutils, which contains it");
	argv[used++] = program;
	argv[used++] = end_of_options;
	for (size_t i = 0; i < n; i++)
		if (paths[i] && lstat(paths[i], &st) == 0)
			argv[used++] = (char *)(uintptr_t)paths[i];
	argv[used] = NULL;
	return used > 2 ? run(argv, limit, err) : 0;
}

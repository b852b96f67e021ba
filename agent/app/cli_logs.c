/* `evenkeel logs`: the end of the log file, and what is added to it; works without the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/app/arguments.h"
#include "agent/app/goal_request.h"
#include "agent/app/verbs.h"
#include "agent/base/buf.h"
#include "agent/base/cleanup.h"
#include "agent/base/limits.h"
#include "agent/base/str.h"
#include "agent/core/exit_codes.h"
#include "agent/io/paths.h"

#define LINES_DEFAULT 50
#define LINES_MAX     100000
#define TAIL_MAX      (LINES_DEFAULT * LIMIT_LOG_LINE * 10UL)
#define PIECE	      65536
#define LOOK_MSEC     200

/* Where the daemon writes: the folder that the agent gave it, or our own. NULL on out of memory. */
static char *log_path(const struct paths *p)
{
	_cleanup_(goal_request_done) struct goal_request goal = { 0 };
	bool given = goal_request_read(p, &goal, NULL) == 0 && !str_empty(goal.log_folder);

	return path_join(given ? goal.log_folder : p->log_default, "evenkeel.log");
}

/* Where the last `lines` lines begin, within the last TAIL_MAX bytes. */
static off_t tail_start(int fd, off_t size, uint64_t lines)
{
	off_t from = size > (off_t)TAIL_MAX ? size - (off_t)TAIL_MAX : 0, at = size;
	char piece[PIECE];

	while (at > from) {
		size_t want = (size_t)(at - from) < sizeof(piece) ? (size_t)(at - from) : sizeof(piece);
		ssize_t n = pread(fd, piece, want, at - (off_t)want);

		if (n <= 0 || (size_t)n != want)
			return from;
		for (ssize_t i = n - 1; i >= 0; i--)
			/* The line feed at the very end ends the last line; it begins none. */
			if (piece[i] == '\n' && at - n + i + 1 < size && lines-- == 1)
				return at - n + i + 1;
		at -= n;
	}
	return from;
}

/* Up to its present end. */
static int print_rest(int fd)
{
	char piece[PIECE];
	ssize_t n;

	while ((n = read(fd, piece, sizeof(piece))) > 0)
		if (fwrite(piece, 1, (size_t)n, stdout) != (size_t)n)
			return -EPIPE;
	return fflush(stdout) == 0 ? 0 : -EPIPE;
}

/* A file that was rotated away has got a successor of the same name. */
static bool is_current(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

static int open_log(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static int follow(int fd, const char *path)
{
	for (;;) {
		bool current = is_current(fd, path);
		int r = print_rest(fd), next = r < 0 || current ? -1 : open_log(path);

		if (r < 0)
			return r;
		if (next >= 0) {
			(void)dup3(next, fd, O_CLOEXEC);
			close(next);
			continue;
		}
		(void)poll(NULL, 0, LOOK_MSEC);
	}
}

static int show(const char *path, uint64_t lines, bool on)
{
	_cleanup_close_ int fd = open_log(path);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		fprintf(stderr, "evenkeel logs: %s: %s\n", path,
			errno == EACCES ? "only root may read it" : errno == ENOENT ? "nothing has been logged yet" : strerror(errno));
		return errno == EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
	}
	if (lseek(fd, tail_start(fd, st.st_size, lines), SEEK_SET) < 0)
		return EXIT_FAILED;
	r = on ? follow(fd, path) : print_rest(fd);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}

int verb_logs(int argc, char **argv)
{
	_cleanup_(paths_done) struct paths p = { 0 };
	_cleanup_free_ char *path = NULL;
	struct error e = ERROR_INIT;
	uint64_t lines = LINES_DEFAULT;
	bool on = false;
	const struct argument arguments[] = { { "--follow", .flag = &on },
					      { "--lines", .number = &lines, .min = 1, .max = LINES_MAX } };
	int code = arguments_read("logs", arguments, ARRAY_SIZE(arguments), argc, argv);

	if (code != EXIT_OK)
		return code;
	if (paths_init(&p, NULL, &e) < 0) {
		fprintf(stderr, "evenkeel logs: %s\n", e.msg);
		return EXIT_FAILED;
	}
	path = log_path(&p);
	return path ? show(path, lines, on) : EXIT_FAILED;
}

/*
 * Preloaded, it moves the wall clock of one process by the seconds that stand in the file EK_CLOCK_SHIFT, read anew each time:
 * a clock that jumps, without touching that of the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t shift(void)
{
	const char *path = getenv("EK_CLOCK_SHIFT");
	int saved = errno, fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	char text[24] = "";

	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) < 0)
			text[0] = '\0';
		(void)close(fd);
	}
	errno = saved;
	return (time_t)strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ret);

	if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ret->tv_sec += shift();
	return r;
}

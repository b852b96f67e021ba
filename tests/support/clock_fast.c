/*
 * Preloaded, it lets the boot clock of one process run EK_CLOCK_RATE times as fast as the kernel's, its timers with it: half an
 * hour of patience in a few seconds, without touching the clock of the machine.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FDS 1024

static bool fast[FDS]; /* timers on the boot clock */
static int64_t began, rate = 1;

static int64_t nsec(const struct timespec *ts)
{
	return ts->tv_sec * 1000000000LL + ts->tv_nsec;
}

static struct timespec timespec_of(int64_t t)
{
	return (struct timespec){ .tv_sec = t / 1000000000LL, .tv_nsec = t % 1000000000LL };
}

__attribute__((constructor)) static void begin(void)
{
	const char *text = getenv("EK_CLOCK_RATE");
	struct timespec ts;

	if (text && atoi(text) > 0)
		rate = atoi(text);
	if (syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &ts) == 0)
		began = nsec(&ts);
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ret);

	if (r == 0 && clock == CLOCK_BOOTTIME)
		*ret = timespec_of(began + (nsec(ret) - began) * rate);
	return r;
}

int timerfd_create(clockid_t clock, int flags)
{
	int fd = (int)syscall(SYS_timerfd_create, clock, flags);

	if (fd >= 0 && fd < FDS)
		fast[fd] = clock == CLOCK_BOOTTIME || clock == CLOCK_BOOTTIME_ALARM;
	return fd;
}

/* sd-event asks for absolute times only; "disarmed" and "long ago" stay what they are. */
int timerfd_settime(int fd, int flags, const struct itimerspec *wanted, struct itimerspec *former)
{
	struct itimerspec at = *wanted;
	int64_t t = nsec(&at.it_value);

	if (fd >= 0 && fd < FDS && fast[fd] && (flags & TFD_TIMER_ABSTIME) && t > began)
		at.it_value = timespec_of(began + (t - began) / rate);
	return (int)syscall(SYS_timerfd_settime, fd, flags, &at, former);
}

/* The two clocks. */
#include "agent/base/time.h"

#include <time.h>

static usec_t read_clock(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) < 0 || ts.tv_sec < 0)
		return 0;
	return (usec_t)ts.tv_sec * USEC_PER_SEC + (usec_t)ts.tv_nsec / 1000;
}

usec_t time_wall(void)
{
	return read_clock(CLOCK_REALTIME);
}

usec_t time_boot(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

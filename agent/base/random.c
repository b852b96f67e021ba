/* Random numbers for jitter, from the kernel. */
#include "agent/base/random.h"

#include <sys/random.h>

uint32_t random_jitter(void)
{
	uint32_t n = 0;

	return getrandom(&n, sizeof(n), GRND_NONBLOCK) == (ssize_t)sizeof(n) ? n : 0;
}

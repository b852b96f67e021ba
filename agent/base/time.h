/*
 * Time as a number: microseconds in a uint64_t, saturating. Two clocks are used and never mixed:
 * wall time (since 1970, for what the platform and people say) and boot time (CLOCK_BOOTTIME, goes on
 * while suspended; for every interval and deadline). Only shells read clocks; the core is told.
 */
#pragma once

#include <stdint.h>
#include <time.h>

typedef uint64_t usec_t;

#define USEC_INFINITY	UINT64_MAX
#define USEC_PER_MSEC	((usec_t)1000)
#define USEC_PER_SEC	((usec_t)1000000)
#define USEC_PER_MINUTE (60 * USEC_PER_SEC)
#define USEC_PER_HOUR	(60 * USEC_PER_MINUTE)
#define USEC_PER_DAY	(24 * USEC_PER_HOUR)

static inline usec_t usec_add(usec_t a, usec_t b)
{
	return a > USEC_INFINITY - b ? USEC_INFINITY : a + b;
}

static inline usec_t usec_sub(usec_t a, usec_t b)
{
	return a == USEC_INFINITY ? USEC_INFINITY : a > b ? a - b : 0;
}

static inline usec_t usec_min(usec_t a, usec_t b)
{
	return a < b ? a : b;
}

static inline usec_t usec_max(usec_t a, usec_t b)
{
	return a > b ? a : b;
}

static inline usec_t usec_from_seconds(uint64_t s)
{
	return s > USEC_INFINITY / USEC_PER_SEC ? USEC_INFINITY : s * USEC_PER_SEC;
}

/* Times of files, to the nanosecond: < 0 when a is the earlier one, 0 when they are the same, else > 0. */
static inline int time_compare(const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? -1 : 1;
	return a->tv_nsec < b->tv_nsec ? -1 : a->tv_nsec > b->tv_nsec;
}

/* The wall clock, and CLOCK_BOOTTIME. */
usec_t time_wall(void);
usec_t time_boot(void);

#pragma once

#include <stdint.h>
#include <time.h>

/** clock_ns() - nanoseconds of CLOCK_MONOTONIC, which all processes share and nobody sets back */
static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/** clock_us() - the same in microseconds, as the event loop counts */
static inline uint64_t clock_us(void)
{
	return clock_ns() / 1000;
}

/** clock_ms() - the same in milliseconds */
static inline uint64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

#include "lib/patience.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/sanitizer.h"

static bool sanitized(void)
{
	const char *text = getenv("BULKHEAD_SANITIZED");

	return SANITIZES_ADDRESSES || SANITIZES_THREADS || (text && strcmp(text, "1") == 0);
}

static double factor(void)
{
	const char *text = getenv("BULKHEAD_TIME_FACTOR");
	double value = text ? strtod(text, NULL) : 0;

	if (value > 0)
		return value;
	return sanitized() ? 3 : 1;
}

int test_ms(int ms)
{
	return (int)(ms * factor());
}

uint64_t test_us(int ms)
{
	return (uint64_t)test_ms(ms) * 1000;
}

unsigned int test_rounds(unsigned int n)
{
	return sanitized() && !getenv("BULKHEAD_FULL") ? (n + 2) / 3 : n;
}

uint32_t test_seed(void)
{
	static uint32_t seed;
	const char *text = getenv("BULKHEAD_SEED");

	if (seed)
		return seed;
	if (text)
		seed = (uint32_t)strtoul(text, NULL, 10);
	else
		(void)!getrandom(&seed, sizeof(seed), 0);
	printf("# BULKHEAD_SEED=%u\n", seed);
	fflush(stdout);
	return seed;
}

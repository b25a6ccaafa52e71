#pragma once

#include <stdint.h>

/* Timeouts, sizes and random seeds of tests. */

/**
 * test_ms() - timeout for an event that must occur, adapted to this machine
 * @ms: ample on an idle machine, without sanitizers
 *
 * Returns ms times BULKHEAD_TIME_FACTOR; without that, three times as much under sanitizers
 * (BULKHEAD_SANITIZED=1, or in a build that has them).
 * Not for the time in which an event must not occur.
 */
int test_ms(int ms);

/** test_us() - as test_ms(), but returns microseconds */
uint64_t test_us(int ms);

/** test_rounds() - how many of n equal rounds to run: a third of them under sanitizers, at least
 * one; all with BULKHEAD_FULL=1 */
unsigned int test_rounds(unsigned int n);

/** test_seed() - the seed of this test process: BULKHEAD_SEED, or a random one. It is printed to
 * stdout as "# BULKHEAD_SEED=N", so that the run can be repeated. Constant within a process. */
uint32_t test_seed(void);

#pragma once

#include <stdint.h>

/* How long a test waits, and what it draws. */

/**
 * test_ms() - a limit for what must come, on this machine
 * @ms: what is ample on an idle machine, without sanitizers
 *
 * Returns ms times BULKHEAD_TIME_FACTOR; without that, three times as much under sanitizers
 * (BULKHEAD_SANITIZED=1, or in a build that has them). The same rule as in bulkhead_test/env.py.
 * How long nothing must come is not for this.
 */
int test_ms(int ms);

/** test_us() - the same in microseconds, out of milliseconds */
uint64_t test_us(int ms);

/** test_seed() - what a test draws from: BULKHEAD_SEED, or a new one; the line "# BULKHEAD_SEED=N"
 * on stdout says which, so that the run can be repeated. The same for the whole process. */
uint32_t test_seed(void);

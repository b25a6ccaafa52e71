#pragma once

#include <stdint.h>

/* What the driver asks of the device in async.c. */

#define ASYNC_MAGIC UINT64_C(0xa5a5000000000000)

struct async_request {
	uint64_t id;
	uint32_t delay_us;
	/* answered as soon as the other ring holds that many; 0 = by delay_us alone */
	uint32_t n_held;
};

struct async_answer {
	uint64_t id; /* ^ ASYNC_MAGIC */
};

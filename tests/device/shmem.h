#pragma once

#include <stdint.h>

/* What the driver asks of the device in shmem.c. Each map is a file of its own, whose first eight
 * bytes are its number. */

#define SHMEM_BYTES (UINT64_C(1) << 30) /* of region 1, the only one */
#define SHMEM_REGION 1
#define SHMEM_MAPS 1100 /* that the device remembers: more than can be mapped */

enum shmem_op {
	SHMEM_MAP = 1,
	SHMEM_UNMAP,  /* until the next look nothing is known of it */
	SHMEM_FORGET, /* all of them */
	SHMEM_ASK,
};

enum {
	SHMEM_F_READ_ONLY = 1, /* the file cannot be written to */
	SHMEM_F_SHORT = 2,     /* it is shorter than the map */
};

struct shmem_request {
	uint32_t op;
	uint32_t flags;
	uint64_t seq;
	uint64_t offset;
	uint64_t size;
};

enum shmem_state { SHMEM_NONE, SHMEM_PENDING, SHMEM_MADE, SHMEM_REFUSED, SHMEM_FAILED };

struct shmem_answer {
	uint32_t state;  /* enum shmem_state, of the map */
	uint32_t n_told; /* how often the device was told, over all its deaths */
};

#pragma once

#include <stdbool.h>
#include <stdint.h>

struct exchange;

/*
 * Shared memory regions: what the VMM has mapped is made like what the worker reports
 * (Observed.shmem_maps), one SHMEM_MAP or SHMEM_UNMAP at a time, and the record is told what became
 * of it. The journal knows what the VMM has; nothing here waits, and the VMM's messages are
 * answered meanwhile: it may send some because of a mapping, and wait for their answers.
 */

/** struct shmem - of one device: the file that goes out with the next SHMEM_MAP */
struct shmem {
	int fd;         /* owned; -1 = none was fetched */
	uint64_t token; /* of fd, or of the one that is being fetched */
	bool fetching;
	/* Observed.generation when it was asked for, and one in which a token stands that memory
	 * does not know */
	uint64_t asked, in_vain;
};

#define SHMEM_NULL                                                                                 \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/** shmem_run() - go on, as far as it gets
 * Returns whether the record is to be told something: exchange_change() was called. */
bool shmem_run(struct exchange *exchange);

/** shmem_fetched() - the answer to fetch(): the descriptor (taken over) | negative errno */
void shmem_fetched(struct exchange *exchange, int fd);

/** shmem_forget() - the VMM is gone: no answer to fetch() is waited for */
void shmem_forget(struct exchange *exchange);

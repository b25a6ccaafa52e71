#pragma once

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "instead.h"
#include "net.h"
#include "shmem.h"
#include "suite.h"
#include "window.h"

/*
 * The driver of the device in shmem.c, and its VMM. Functions that can fail fail the test.
 */

struct mapper {
	struct suite suite;
	struct net n;
	struct window w;
	uint64_t request, answer; /* guest addresses */
	pthread_t vmm;            /* see mapper_begin_vmm() */
	pthread_mutex_t lock;     /* of w, while that runs */
	atomic_bool quit;
};

#define MAPPER_WAIT_MS 30000
#define MAPPER_PROTOCOL                                                                            \
	(VU_BIT(VU_PF_SHMEM) | VU_BIT(VU_PF_BACKEND_REQ) | VU_BIT(VU_PF_BACKEND_SEND_FD) |         \
		VU_BIT(VU_PF_STATUS))

/* main() of a test program: add() adds to a suite of the name; @m is open meanwhile */
int mapper_main(struct mapper *m, const char *name, void (*add)(Suite *suite));

/* a VMM that has acked these protocol features connects, and starts both rings */
void mapper_open(struct mapper *m, uint64_t protocol, bool with_channel);
/* stops the rings, which must be where the driver is, and disconnects */
void mapper_close(struct mapper *m);
void mapper_start_rings(struct mapper *m);
void mapper_stop_rings(struct mapper *m);

/* one request; what the device says of the map after it */
struct shmem_answer mapper_ask(struct mapper *m, const struct shmem_request *request);
void mapper_map(struct mapper *m, uint64_t seq, uint64_t offset, uint64_t size, uint32_t flags);
void mapper_unmap(struct mapper *m, uint64_t seq);
void mapper_forget(struct mapper *m);

/* the VMM serves the next n requests of the back-end channel */
void mapper_serve(struct mapper *m, unsigned int n);
/* takes the next request, and neither does it nor answers */
struct vu_msg mapper_take(struct mapper *m);
/* does what it asks for, and answers; the message is over */
void mapper_answer(struct mapper *m, struct vu_msg *msg);
/* nothing comes on the back-end channel */
void mapper_expect_silence(struct mapper *m);
/* from now on the VMM serves whatever comes, in a thread of its own, until mapper_end_vmm() */
void mapper_begin_vmm(struct mapper *m);
void mapper_end_vmm(struct mapper *m);
/* waits until the VMM has so many mappings, with mapper_begin_vmm() */
void mapper_await_maps(struct mapper *m, size_t n);

/* waits until the device has heard what became of the map, which must be this */
void mapper_expect(struct mapper *m, uint64_t seq, enum shmem_state state);
/* the guest sees that map there: its number is read, and something is written behind it */
void mapper_check_there(struct mapper *m, uint64_t seq, uint64_t offset, uint64_t size);

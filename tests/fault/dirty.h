#ifndef TESTS_FAULT_DIRTY_H
#define TESTS_FAULT_DIRTY_H

/*
 * The dirty log of a VMM that migrates its guest: each page that the device writes to must be
 * marked by the time its rings stand, whoever died meanwhile.
 */

#include "net.h"

#define DIRTY_FRAMES_MAX 64

struct dirty {
	uint8_t *bytes; /* of the log */
	uint64_t n_bytes;
	uint64_t n_used[2];                  /* as the driver saw it when the log was switched on */
	uint64_t next_buf[DIRTY_FRAMES_MAX]; /* receive buffers, in the order of their use */
	uint16_t first[2];                   /* the place of the used ring that is written next */
};

/* All return 0, a negative errno or VU_E_REFUSED, and then n->why or n->c.why tells. */

/* SET_LOG_BASE, LOG_ALL, and the LOG flag of both rings, which run */
int dirty_begin(struct dirty *d, struct net *n);
/* whether everything is marked that was written for buffers that the driver has got back; their
 * frames have n_bytes */
int dirty_check(struct dirty *d, struct net *n, uint32_t n_bytes);
/* switches it off again, and forgets what was marked */
int dirty_end(struct dirty *d, struct net *n);
/* whether nothing is marked */
int dirty_is_clean(const struct dirty *d, struct net *n);
void dirty_free(struct dirty *d);

#endif

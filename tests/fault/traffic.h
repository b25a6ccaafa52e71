#ifndef TESTS_FAULT_TRAFFIC_H
#define TESTS_FAULT_TRAFFIC_H

/*
 * Numbered frames through an echo device whose processes may die meanwhile: what came back is
 * counted, not demanded. What the rings promise is demanded all the same: each buffer comes back
 * once, nothing is written where it must not be.
 */

#include "net.h"

#define TRAFFIC_WINDOW 32

struct traffic {
	uint32_t next; /* number of the next frame; goes on over runs */
	uint64_t n_sent, n_back, n_lost, n_repeated;
	uint32_t worst_lost, worst_repeated; /* in one run */
};

/*
 * n_frames of n_bytes there and back. Frames of former runs that come late count as repeated.
 * 0, or a negative errno and n->why: -ETIMEDOUT nothing comes back any more.
 */
int traffic_run(struct traffic *t, struct net *n, uint32_t n_frames, uint32_t n_bytes);

#endif

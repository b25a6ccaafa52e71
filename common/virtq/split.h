#pragma once

#include <stdbool.h>

#include "virtq/ring.h"

/*
 * The split layout (split.c): the steps of the data path, which virtq.c calls. split.h and packed.h
 * declare the same steps; virtq.h has their contracts. The thread is the one that serves the ring.
 */

/** split_map() - find the three parts of the ring in guest memory; 0 | VIRTQ_E_ADDRESS */
int split_map(struct virtq *vq);

/** split_fill() - parse until the window holds n, or no more can be parsed; 0 | VIRTQ_E_BROKEN */
int split_fill(struct virtq *vq, unsigned int n);

/** split_take() - enter the first n chains of the window into the in-flight region; the window
 * holds n */
void split_take(struct virtq *vq, unsigned int n);

/** split_mark_ring() - any part of the used ring may have been written */
void split_mark_ring(const struct virtq *vq);

/** split_publish() - all staged entries into the used ring; at least one is staged */
void split_publish(struct virtq *vq);

/** split_call_due() - whether the driver wants a notification of what was published; contains the
 * full fence */
bool split_call_due(struct virtq *vq);

/** split_kick_off() - the driver need not kick */
void split_kick_off(struct virtq *vq);

/** split_kick_on() - ask for a kick at the next chain; true: the driver made more available
 * meanwhile */
bool split_kick_on(struct virtq *vq);

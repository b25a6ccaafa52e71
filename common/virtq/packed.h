#pragma once

#include <stdbool.h>

#include "virtq/ring.h"

/*
 * The packed layout (packed.c): the steps of the data path, which virtq.c calls. split.h and
 * packed.h declare the same steps; virtq.h has their contracts. The thread is the one that serves
 * the ring.
 */

/** packed_new() - what only this layout stores; 0 | -ENOMEM: packed_free() frees what was
 * allocated */
int packed_new(struct virtq *vq);

/** packed_free() - free it, and what recovery added */
void packed_free(struct virtq *vq);

/** packed_map() - find the three parts of the ring in guest memory; 0 | VIRTQ_E_ADDRESS */
int packed_map(struct virtq *vq);

/** packed_fill() - parse until the window holds n, or no more can be parsed; 0 | VIRTQ_E_BROKEN */
int packed_fill(struct virtq *vq, unsigned int n);

/** packed_take() - enter the first n chains of the window into the in-flight region; the window
 * holds n */
void packed_take(struct virtq *vq, unsigned int n);

/** packed_mark_ring() - any part of the ring may have been written */
void packed_mark_ring(const struct virtq *vq);

/** packed_publish() - all staged entries into the ring; at least one is staged */
void packed_publish(struct virtq *vq);

/** packed_call_due() - whether the driver wants a notification of what was published; contains the
 * full fence */
bool packed_call_due(struct virtq *vq);

/** packed_kick_off() - the driver need not kick */
void packed_kick_off(struct virtq *vq);

/** packed_kick_on() - ask for a kick at the next chain; true: the driver made more available
 * meanwhile */
bool packed_kick_on(struct virtq *vq);

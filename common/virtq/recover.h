#pragma once

#include "virtq/ring.h"

/*
 * How a ring starts (recover.c). The ring's parts are mapped. Each function sets the positions, and
 * writes them into the ledger. Cost: O(size), with allocations.
 *
 * Errors: 0 | VIRTQ_E_BROKEN, VIRTQ_E_BASE: the peer's | -ENOMEM.
 */

/** split_begin() - the ring is new to the ledger: it begins at the base */
int split_begin(struct virtq *vq);

/** split_adopt() - the ring is new to the ledger, but the region is not: go on where another device
 * stopped */
int split_adopt(struct virtq *vq);

/** split_recover() - a former worker of ours served the ring: go on where it stopped */
int split_recover(struct virtq *vq);

/** packed_begin() - as split_begin() */
int packed_begin(struct virtq *vq);

/** packed_adopt() - as split_adopt() */
int packed_adopt(struct virtq *vq);

/** packed_recover() - as split_recover() */
int packed_recover(struct virtq *vq);

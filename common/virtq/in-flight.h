#pragma once

#include <stdint.h>

#include "virtq/virtq.h"

/**
 * virtq_in_flight() - the chains that the device has taken and not given back, oldest first
 * @ret_ids: [out] has room for as many as the ring has descriptors; their heads (packed: buffer
 *           ids), which are below its size
 *
 * Returns how many there are. The region, which the VMM may share, is not trusted.
 * Thread: the ring's, or any while the device is paused. Cost: O(size log size), with allocations.
 */
uint32_t virtq_in_flight(const struct virtq *vq, uint16_t *ret_ids);

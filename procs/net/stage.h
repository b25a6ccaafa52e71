#pragma once

#include "device/device.h"

/* The device's stage of its state: "net", proto/state.proto. */

#define STAGE_VERSION 1

struct net_state;

/** stage_pack() - returns the bytes of *ret_data, which is from malloc(), the caller's
 * @features: acked; a driver that came back with fewer may have left settings of its former life */
size_t stage_pack(const struct net_state *state, uint64_t features, uint8_t **ret_data);

/**
 * stage_unpack() - judge a stage
 * @n_pairs:   queue pairs of this device
 * @ret_state: [out] set only on 0
 *
 * Errors: 0 | -EINVAL: why names the field and the rule that it breaks.
 */
int stage_unpack(const struct device_stage *stage, unsigned int n_pairs,
	struct net_state *ret_state, char *why, size_t n_why);

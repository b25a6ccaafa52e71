#pragma once

#include "device/device.h"
#include "state.h"

/* The device's stage of its state: "net", proto/state.proto. */

#define STAGE_VERSION 1

/** struct net_loaded - what a stage says */
struct net_loaded {
	struct net_settings settings;
	uint8_t source[6]; /* a group's = none: the driver has sent nothing */
};

/** stage_pack() - returns the bytes of *ret_data, which is from malloc(), the caller's
 * @features: acked; a driver that came back with fewer may have left settings of its former life */
size_t stage_pack(const struct net_saved *saved, uint64_t features, uint8_t **ret_data);

/**
 * stage_unpack() - judge a stage
 * @n_pairs:   queue pairs of this device
 * @ret:       [out] set only on 0
 *
 * Errors: 0 | -EINVAL: why names the field and the rule that it breaks.
 */
int stage_unpack(const struct device_stage *stage, unsigned int n_pairs, struct net_loaded *ret,
	char *why, size_t n_why);

#pragma once

#include "device/core.h"

/** struct wants - tokens of a record to redeem, and the descriptors got for them (-1 = none yet);
 * zeros = empty */
struct wants {
	uint64_t tokens[MAP_REGIONS_MAX + 3 * VHOST_USER_MAX_QUEUES + 1];
	int fds[MAP_REGIONS_MAX + 3 * VHOST_USER_MAX_QUEUES + 1];
	size_t n;
};

/** wants_deinit() - close what was got and not taken; wants is empty after it */
void wants_deinit(struct wants *wants);

/** wants_redeem() - get what this record names and is not in force; takes desired over. Returns the
 * record that counts: this one, or a newer one when what this one named is gone already. NULL = the
 * vault itself is away: nothing is known. */
Bh__Desired *wants_redeem(struct wants *wants, struct device *device, Bh__Desired *desired);

/** wants_find() - borrowed, or -1. A token may stand in several places: one file, several
 * regions. */
int wants_find(const struct wants *wants, uint64_t token);

/** wants_take() - now the caller's, or -1 */
int wants_take(struct wants *wants, uint64_t token);

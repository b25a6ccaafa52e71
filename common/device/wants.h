#pragma once

#include "device/core.h"

/* regions, the descriptors of rings, the in-flight region, the dirty log */
#define WANTS_MAX (MAP_REGIONS_MAX + 3 * VHOST_USER_MAX_QUEUES + 2)

/** struct wants - tokens of a record to redeem, and their descriptors (-1 = not redeemed yet);
 * zeroed = empty */
struct wants {
	uint64_t tokens[WANTS_MAX];
	int fds[WANTS_MAX];
	size_t n;
};

/** wants_deinit() - close the descriptors not taken; wants is empty afterwards */
void wants_deinit(struct wants *wants);

/** wants_redeem() - redeem what the record names and is not applied yet; consumes desired.
 * Returns the record to apply: this one, or a newer one if this one's descriptors are gone. NULL =
 * the memory manager does not answer, nothing is known. */
Bh__Desired *wants_redeem(struct wants *wants, struct device *device, Bh__Desired *desired);

/** wants_find() - the descriptor of a token, borrowed; -1 = none. A token may occur several
 * times: one file can back several regions. */
int wants_find(const struct wants *wants, uint64_t token);

/** wants_take() - the descriptor of a token, owned by the caller; -1 = none */
int wants_take(struct wants *wants, uint64_t token);

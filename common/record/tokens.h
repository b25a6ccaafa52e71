#pragma once

#include <stdint.h>

#include "record/record.h"

/* What a record names in the vault: every field of either half that holds a token is listed here,
 * and nowhere else. ShmemMap.token repeats one of Observed.tokens. */

/** enum record_place - what kind of field it is */
enum record_place {
	RECORD_REGION,
	RECORD_INFLIGHT,
	RECORD_LOG,
	RECORD_RING_KICK,
	RECORD_RING_CALL,
	RECORD_RING_ERR,
	RECORD_KEPT_BY_WORKER,
};

/** struct record_token - a token, and where it stands */
struct record_token {
	uint64_t token; /* never 0 */
	enum record_half half;
	enum record_place place;
	/* of a ring: its index in the protocol; of others: their place in the list */
	uint32_t index;
};

/** record_token_fn - returns 0 to go on; anything else ends the walk */
typedef int record_token_fn(void *data, const struct record_token *token);

/**
 * record_each_token() - visit every token that is set
 * @desired, @observed: [in] borrowed for the call; a half that is NULL is left out
 *
 * Order:   regions, the in-flight region, the dirty log, rings as they stand, then the worker's
 *          own.
 * Returns: 0, or what the visitor returned last.
 */
int record_each_token(const Bh__Desired *desired, const Bh__Observed *observed,
	record_token_fn *visit, void *data);

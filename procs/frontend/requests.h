#pragma once

#include "exchange.h"

/* The request table, and what is checked of every message before its handler sees it. */

/** request_table - by number; entry 0 is empty */
extern const struct request_row request_table[_REQUESTS_END];

/** requests_find() - by number; NULL = unknown */
const struct request_row *requests_find(uint32_t request);

/** requests_check() - is the message in work right in form, column by column
 * Errors: 0 | OUTCOME_REFUSED, with exchange->why. Descriptors that are another message's, perhaps,
 *         are closed. */
int requests_check(struct exchange *exchange, const struct request_row *row,
	const struct message *msg);

/** requests_take_fds() - whether a message of this form brings descriptors of its own */
bool requests_take_fds(const struct request_row *row, const struct message *msg);

/** requests_reply() - what is owed for the message in work, whether it was refused or not; only
 * where its row owes a reply
 * @buf: [out] of REPLY_BYTES_MAX
 * Returns how many bytes it has. */
size_t requests_reply(struct exchange *exchange, uint8_t *buf);

/** requests_queue_pairs() - what the section of the device says of queue pairs; 0 = its type has
 * none */
unsigned int requests_queue_pairs(const struct config_device *device);

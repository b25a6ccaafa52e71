#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fd/fdlink.h"

/*
 * Transfers of a device's state, on the side link: how one is begun, and how the snapshot process
 * gets its stream. See struct Transfer in proto/record.proto.
 */

/**
 * vault_started_fn - a transfer was begun, or not; called from the loop
 * @error:   0 | negative errno: memory cannot serve it; -EOPNOTSUPP: it is of a former release
 * @id:      of the transfer; 0 if it was refused
 * @refused: the rule that it breaks, one line; "" = begun. Borrowed for the call
 */
typedef void vault_started_fn(void *data, int error, uint64_t id, const char *refused);

/** struct vault_transfer - what is asked for; all of it is borrowed */
struct vault_transfer {
	const char *device;
	bool load;
	uint64_t session; /* Desired.session of the VMM that asks; 0 = the operator */
	int stream;       /* the end of a pipe */
};

/** vault_ask_start_transfer() - for the frontend: begin a transfer, without waiting
 * @transfer: its name and stream are borrowed until the answer or vault_forget(). Close the stream
 *            then: whoever reads the pipe waits for its end
 *
 * A transfer does not survive memory. What is asked for again, by us or by a successor of ours, is
 * the same transfer as long as the stream is the same.
 * Errors: 0 | -ENOMEM: not asked. Of a vault that is watched (vault_watch()). */
int vault_ask_start_transfer(struct vault_link *vault, const struct vault_transfer *transfer,
	vault_started_fn *on_started, void *data);

/** vault_start_transfer() - for bulkheadctl: the same, blocking. The transfer is cancelled when the
 * vault is freed
 * @ret_refused: [out] "" or the rule that it breaks; to be freed; set only on 0
 * Errors: 0 | negative errno. */
int vault_start_transfer(struct vault_link *vault, const struct vault_transfer *transfer,
	uint64_t *ret_id, char **ret_refused);

/** vault_ask_take_stream() - for the snapshot process: get the stream, without waiting. The answer
 * has one descriptor, and is -ENOENT where there is none (any more). The device's name is borrowed
 * until the answer
 * Errors: as vault_ask_start_transfer(). */
int vault_ask_take_stream(struct vault_link *vault, const char *device, uint64_t id,
	vault_answer_fn *on_answer, void *data);

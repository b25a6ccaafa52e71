#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record.pb-c.h"

struct session;

/** struct memory_ops - what is asked of the memory manager. None waits; each answer comes later,
 * to the session. */
struct memory_ops {
	/** commit() - ask for `next` (borrowed for the call) to be put in force
	 * @applied: the worker's report is needed next; it comes before the answer if it can be had
	 * at once
	 * Errors: 0 | negative errno: not sent, ask again in a while. */
	int (*commit)(struct session *session, const Bh__Desired *next, bool applied);
	/** deposit() - ask for descriptors (borrowed until the answer, or forget()) to be put
	 * into the vault
	 * Errors: 0 | negative errno: it cannot be asked. */
	int (*deposit)(struct session *session, const int *fds, size_t n);
	/** redeem() - ask for a copy of what lies under a token; as deposit() */
	int (*redeem)(struct session *session, uint64_t token);
	/** fetch() - redeem() for what the worker has deposited, at any moment; answered by
	 * session_fetched() */
	int (*fetch)(struct session *session, uint64_t token);
	/** transfer() - ask for a transfer of the device's state to be begun over a stream; as
	 * deposit() */
	int (*transfer)(struct session *session, int stream, bool load);
	/** forget() - none of these is answered any more */
	void (*forget)(struct session *session);
};

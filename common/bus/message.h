#pragma once

#include <nng/nng.h>

#include "bus.pb-c.h"

/** bus_error() - translate an nng error to a negative errno; 0 stays 0 */
int bus_error(int nng_error);

/** bus_pack() - serialize an envelope into a new message, which is the caller's
 * Errors: 0 | -EMSGSIZE | -ENOMEM. */
int bus_pack(const Bh__Envelope *envelope, nng_msg **ret_msg);
/** bus_unpack() - parse a message, with a limit on the memory it may take; NULL if it is malformed.
 * Free it with bh__envelope__free_unpacked() */
Bh__Envelope *bus_unpack(nng_msg *msg);

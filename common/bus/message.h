#pragma once

#include <nng/nng.h>

#include "bus.pb-c.h"

/** bus_error() - an nng error as a negative errno */
int bus_error(int nng_error);

/** bus_pack() - a message ready to be sent; 0 | -EMSGSIZE | -ENOMEM */
int bus_pack(const Bh__Envelope *envelope, nng_msg **ret_msg);
/** bus_unpack() - checked in size and form; NULL when malformed; free with bh__envelope__free_unpacked() */
Bh__Envelope *bus_unpack(nng_msg *msg);

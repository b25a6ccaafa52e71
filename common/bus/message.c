/* Conversion of envelopes to nng's messages and back, and of nng's errors. Sizes are limited both
 * ways. */
#include "bus/message.h"

#include <errno.h>
#include <stdlib.h>

#include "bus/bus.h"

#define UNPACK_MAX_BYTES (16u * 1024 * 1024)
#define WAY_BACK_BYTES 64 /* nng's limit includes the header that it prepends */
#define BUS_PACKED_MAX (BUS_MESSAGE_MAX - WAY_BACK_BYTES)

int bus_error(int nng_error)
{
	switch (nng_error) {
	case 0:
		return 0;
	case NNG_ETIMEDOUT:
		return -ETIMEDOUT;
	case NNG_ECONNRESET:
	case NNG_ECLOSED:
	case NNG_ECANCELED:
	case NNG_ECONNSHUT:
		return -ECONNRESET;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_EADDRINUSE:
		return -EADDRINUSE;
	case NNG_EADDRINVAL:
		return -ENAMETOOLONG;
	case NNG_EPERM:
		return -EPERM;
	case NNG_ENOENT:
		return -ENOENT;
	default:
		return (nng_error & NNG_ESYSERR) ? -(int)(nng_error & ~NNG_ESYSERR) : -EIO;
	}
}

int bus_pack(const Bh__Envelope *envelope, nng_msg **ret_msg)
{
	size_t n = bh__envelope__get_packed_size(envelope);
	nng_msg *msg;

	if (n > BUS_PACKED_MAX)
		return -EMSGSIZE;
	if (nng_msg_alloc(&msg, n) != 0)
		return -ENOMEM;
	bh__envelope__pack(envelope, nng_msg_body(msg));
	*ret_msg = msg;
	return 0;
}

/* A small hostile message can unpack to much memory, so each message has a budget. */
static void *capped_alloc(void *data, size_t n)
{
	size_t *left = data;

	if (n > *left)
		return NULL;
	*left -= n;
	return malloc(n);
}

static void capped_free(void *data, void *p)
{
	free(p);
}

Bh__Envelope *bus_unpack(nng_msg *msg)
{
	size_t left = UNPACK_MAX_BYTES;
	ProtobufCAllocator allocator = { capped_alloc, capped_free, &left };

	return bh__envelope__unpack(&allocator, nng_msg_len(msg), nng_msg_body(msg));
}

/* A small hostile message can unpack to much memory, so each has a budget. */
#include "snapshot/message.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define UNPACK_MAX_BYTES (8u * 1024 * 1024)

struct budget {
	size_t left_bytes;
	bool no_memory;
};

static void *capped_alloc(void *data, size_t n)
{
	struct budget *budget = data;
	void *p;

	if (n > budget->left_bytes)
		return NULL;
	budget->left_bytes -= n;
	p = malloc(n);
	budget->no_memory |= !p && n > 0;
	return p;
}

static void capped_free(void *data, void *p)
{
	free(p);
}

int snapshot_parse(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n,
	ProtobufCMessage **ret_msg)
{
	struct budget budget = { .left_bytes = UNPACK_MAX_BYTES };
	ProtobufCAllocator allocator = { capped_alloc, capped_free, &budget };
	ProtobufCMessage *msg = protobuf_c_message_unpack(type, &allocator, n, bytes);

	if (!msg)
		return budget.no_memory ? -ENOMEM : -EBADMSG;
	*ret_msg = msg;
	return 0;
}

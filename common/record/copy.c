#include "record/copy.h"

#include <stdlib.h>

#include "base/cleanup.h"

static ProtobufCMessage *copy_message(const ProtobufCMessage *msg)
{
	size_t n = protobuf_c_message_get_packed_size(msg);
	_cleanup_free_ uint8_t *buf = malloc(n + 1);

	if (!buf)
		return NULL;
	protobuf_c_message_pack(msg, buf);
	return protobuf_c_message_unpack(msg->descriptor, NULL, n, buf);
}

Bh__Desired *record_copy_desired(const Bh__Desired *desired)
{
	return (Bh__Desired *)copy_message(&desired->base);
}

Bh__Observed *record_copy_observed(const Bh__Observed *observed)
{
	return (Bh__Observed *)copy_message(&observed->base);
}

Bh__Transfer *record_copy_transfer(const Bh__Transfer *transfer)
{
	return (Bh__Transfer *)copy_message(&transfer->base);
}

#pragma once

#include <protobuf-c/protobuf-c.h>

/** snapshot_parse() - parse a message, with a limit on the memory that it may take
 * @ret_msg: [out] the caller's; free it with protobuf_c_message_free_unpacked(msg, NULL)
 *
 * Errors: 0 | -EBADMSG: it is malformed, or unpacks to too much | -ENOMEM. */
int snapshot_parse(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n,
	ProtobufCMessage **ret_msg);

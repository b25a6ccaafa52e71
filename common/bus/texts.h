#pragma once

#include <protobuf-c/protobuf-c.h>

/** texts_clean() - make all strings of a message and its submessages safe to display (base/text.h),
 * in place */
void texts_clean(ProtobufCMessage *msg);

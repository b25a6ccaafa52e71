#pragma once

#include <protobuf-c/protobuf-c.h>

/** texts_clean() - make all texts of a message, and of those within it, fit to be shown (base/text.h); in place */
void texts_clean(ProtobufCMessage *msg);

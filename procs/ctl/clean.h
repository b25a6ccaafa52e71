#pragma once

#include <protobuf-c/protobuf-c.h>

/**
 * clean_texts() - make every text of a message fit to be shown: what is no UTF-8, or controls a terminal, becomes '?'
 * @msg: [in,out] its texts are changed in place, those of the messages in it too
 *
 * An answer holds what every process of a guest says of itself, one that was taken over as well: an operator's
 * terminal must not obey it, and JSON must stay JSON.
 */
void clean_texts(ProtobufCMessage *msg);

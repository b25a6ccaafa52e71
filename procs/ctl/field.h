#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* The fields of a message, found by its descriptor: what is printed of a stage needs no code of the
 * stage's own. */

/** field_count() - how many values a field has: of one that is not repeated, 1; of a message that
 * is not there, 0 */
size_t field_count(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field);

/** field_message() - a value of a field of type message; borrowed */
const ProtobufCMessage *field_message(const ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *field, size_t i);

/** field_number() - a value of a field whose type is a number, an enum or a bool */
uint64_t field_number(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, size_t i);

/** field_text() - a value of a field of strings or bytes, safe to display: bytes as two digits
 * each, with ':' between them; malloc'ed */
char *field_text(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, size_t i);

/* Walks the message by its descriptor, so that a string that is added later is not forgotten. */
#include "bus/texts.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

/* A string that was not sent is protobuf-c's constant "", which must not be written to. */
static void clean_string(char *text)
{
	if (text && *text)
		(void)text_clean(text);
}

static void clean_one(const ProtobufCFieldDescriptor *field, void *value)
{
	if (field->type == PROTOBUF_C_TYPE_STRING)
		clean_string(*(char **)value);
	else if (*(ProtobufCMessage **)value)
		texts_clean(*(ProtobufCMessage **)value);
}

static bool is_there(const ProtobufCFieldDescriptor *field, const uint8_t *base)
{
	return !(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
		*(const uint32_t *)(const void *)(base + field->quantifier_offset) == field->id;
}

void texts_clean(ProtobufCMessage *msg)
{
	uint8_t *base = (uint8_t *)msg;

	for (unsigned int i = 0; i < msg->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
		void *value = base + field->offset;
		size_t n = 1;

		if ((field->type != PROTOBUF_C_TYPE_STRING &&
			    field->type != PROTOBUF_C_TYPE_MESSAGE) ||
			!is_there(field, base))
			continue;
		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			n = *(size_t *)(void *)(base + field->quantifier_offset);
			value = *(void **)value;
		}
		for (size_t k = 0; k < n; k++)
			clean_one(field, (void **)value + k);
	}
}

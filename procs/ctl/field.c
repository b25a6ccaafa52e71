#include "field.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/text.h"

static size_t size_of(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	default:
		return sizeof(uint32_t);
	}
}

static const void *value_at(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
	size_t i)
{
	const uint8_t *value = (const uint8_t *)msg + field->offset;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		value = *(const uint8_t *const *)(const void *)value + i * size_of(field);
	return value;
}

size_t field_count(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field)
{
	const uint8_t *base = (const uint8_t *)msg;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return *(const size_t *)(const void *)(base + field->quantifier_offset);
	return field->type != PROTOBUF_C_TYPE_MESSAGE || field_message(msg, field, 0);
}

const ProtobufCMessage *field_message(const ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *field, size_t i)
{
	return *(const ProtobufCMessage *const *)value_at(msg, field, i);
}

uint64_t field_number(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, size_t i)
{
	const void *value = value_at(msg, field, i);

	if (field->type == PROTOBUF_C_TYPE_BOOL)
		return *(const protobuf_c_boolean *)value != 0;
	return size_of(field) == sizeof(uint64_t) ? *(const uint64_t *)value
						  : *(const uint32_t *)value;
}

static char *hex(ProtobufCBinaryData data)
{
	char *text = malloc(3 * data.len + 1), *p = text;

	check(text);
	*p = '\0';
	for (size_t i = 0; i < data.len; i++)
		p += sprintf(p, "%s%02x", i ? ":" : "", data.data[i]);
	return text;
}

char *field_text(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field, size_t i)
{
	const void *value = value_at(msg, field, i);
	char *text;

	if (field->type == PROTOBUF_C_TYPE_BYTES)
		return hex(*(const ProtobufCBinaryData *)value);
	text = strdup(*(const char *const *)value);
	check(text);
	return text_clean(text);
}

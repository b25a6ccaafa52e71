/* Texts of an answer, made fit to be shown. The walk goes by the messages' own descriptions: no field is forgotten. */
#include "clean.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/** struct utf8_row - a first byte, and how many follow it */
struct utf8_row {
	uint8_t mask, lead;
	unsigned int n_more;
	uint32_t least; /* with fewer bytes it would be written with fewer */
};

static const struct utf8_row utf8_rows[] = {
	{ 0x80, 0x00, 0, ' ' },
	{ 0xe0, 0xc0, 1, 0xa0 }, /* those below control a terminal */
	{ 0xf0, 0xe0, 2, 0x800 },
	{ 0xf8, 0xf0, 3, 0x10000 },
};

static bool shown(uint32_t code, const struct utf8_row *row)
{
	bool surrogate = code >= 0xd800 && code <= 0xdfff;

	return code >= row->least && code != 0x7f && !surrogate && code <= 0x10ffff;
}

/* Bytes of the character that begins here, or 0 if it cannot be shown. The text's end stops every look ahead. */
static size_t character(const unsigned char *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(utf8_rows); i++) {
		const struct utf8_row *row = &utf8_rows[i];
		uint32_t code = *p & (uint8_t)~row->mask;
		unsigned int n = 0;

		if ((*p & row->mask) != row->lead)
			continue;
		while (n < row->n_more && (p[n + 1] & 0xc0) == 0x80)
			code = code << 6 | (p[++n] & 0x3f);
		return n == row->n_more && shown(code, row) ? n + 1 : 0;
	}
	return 0;
}

static void clean_text(char *text)
{
	while (*text) {
		size_t n = character((const unsigned char *)text);

		if (n == 0)
			*text = '?';
		text += n ? n : 1;
	}
}

/* A member of a text or message field: a pointer in both cases. */
static void clean_member(const ProtobufCFieldDescriptor *field, void *member)
{
	if (field->type == PROTOBUF_C_TYPE_STRING && member)
		clean_text(member);
	if (field->type == PROTOBUF_C_TYPE_MESSAGE && member)
		clean_texts(member);
}

static bool absent(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field)
{
	uint32_t in_use = *(const uint32_t *)(const void *)((const uint8_t *)msg + field->quantifier_offset);

	return field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && in_use != field->id;
}

void clean_texts(ProtobufCMessage *msg)
{
	for (unsigned int i = 0; i < msg->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &msg->descriptor->fields[i];
		uint8_t *at = (uint8_t *)msg + field->offset;
		size_t n = 1;

		if ((field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) ||
			absent(msg, field))
			continue;
		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			n = *(size_t *)(void *)((uint8_t *)msg + field->quantifier_offset);
			at = *(uint8_t **)(void *)at;
		}
		for (size_t k = 0; k < n; k++)
			clean_member(field, ((void **)(void *)at)[k]);
	}
}

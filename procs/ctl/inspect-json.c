/* What is in a snapshot, for programs: the fields have the names of proto/state.proto. */
#include "base/check.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "field.h"
#include "inspect.h"
#include "writer.h"

#include <string.h>

static struct writer out;

static void begin(FILE *to, const char *path)
{
	_cleanup_free_ char *name = strdup(path);

	check(name);
	out = (struct writer){ .to = to };
	writer_open(&out, NULL, '{');
	writer_text(&out, "file", text_clean(name));
	writer_open(&out, "images", '[');
}

static void image(const struct image *image, size_t i)
{
	const Bh__State *state = image->state;

	writer_open(&out, NULL, '{');
	writer_text(&out, "type", state->type);
	writer_text(&out, "device", state->device);
	writer_text(&out, "guest", state->guest);
	writer_text(&out, "release", state->release);
	writer_number(&out, "saved_usec", state->saved_usec);
	writer_boolean(&out, "suspended", state->suspended);
	writer_number(&out, "bytes", image->n);
	writer_open(&out, "stages", '[');
}

/* --- Fields --- */

static void put_message(const char *key, const ProtobufCMessage *msg);

static void put_value(const char *key, const ProtobufCMessage *msg,
	const ProtobufCFieldDescriptor *field, size_t i)
{
	_cleanup_free_ char *text = NULL;

	switch (field->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		put_message(key, field_message(msg, field, i));
		break;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
		text = field_text(msg, field, i);
		writer_text(&out, key, text);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		writer_boolean(&out, key, field_number(msg, field, i));
		break;
	default:
		writer_number(&out, key, field_number(msg, field, i));
	}
}

static void put_field(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field)
{
	size_t n = field_count(msg, field);

	if (field->label != PROTOBUF_C_LABEL_REPEATED) {
		if (n)
			put_value(field->name, msg, field, 0);
		return;
	}
	writer_open(&out, field->name, '[');
	for (size_t i = 0; i < n; i++)
		put_value(NULL, msg, field, i);
	writer_close(&out, ']');
}

/* Messages of a stage hold messages to a depth that the tables of protobuf-c decide. */
static void put_message(const char *key, const ProtobufCMessage *msg)
{
	writer_open(&out, key, '{');
	for (unsigned int i = 0; i < msg->descriptor->n_fields; i++)
		put_field(msg, &msg->descriptor->fields[i]);
	writer_close(&out, '}');
}

static void stage(const Bh__Stage *stage, const struct snapshot_stage *row,
	const ProtobufCMessage *msg)
{
	writer_open(&out, NULL, '{');
	writer_text(&out, "name", stage->name);
	writer_number(&out, "version", stage->version);
	writer_number(&out, "bytes", stage->data.len);
	writer_number(&out, "known_version", row ? row->version : 0);
	if (msg)
		put_message("data", msg);
	writer_close(&out, '}');
}

static void image_end(void)
{
	writer_close(&out, ']');
	writer_close(&out, '}');
}

static void end(const char *error)
{
	writer_close(&out, ']');
	writer_text(&out, "error", error);
	writer_close(&out, '}');
	fputc('\n', out.to);
}

const struct sheet sheet_json = { begin, image, stage, image_end, end };

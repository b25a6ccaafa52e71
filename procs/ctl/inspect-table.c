/* What is in a snapshot, for people: a line for each field, and for each message of a list. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "field.h"
#include "inspect.h"

static FILE *out;

static void begin(FILE *to, const char *path)
{
	out = to;
}

static void print_time(uint64_t usec)
{
	time_t seconds = (time_t)(usec / 1000000);
	char text[64];
	struct tm tm;

	if (usec == 0 || !gmtime_r(&seconds, &tm) ||
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(text, sizeof(text), "at an unknown time");
	fprintf(out, "  saved %s", text);
}

static void image(const struct image *image, size_t i)
{
	const Bh__State *state = image->state;

	fprintf(out, "image %zu: device %s of guest %s, type %s, %zu bytes\n", i + 1, state->device,
		state->guest, state->type, image->n);
	print_time(state->saved_usec);
	fprintf(out, " by release %s, %s\n", *state->release ? state->release : "unknown",
		state->suspended ? "suspended" : "while it ran");
}

/* --- Fields --- */

static bool is_set_of_bits(const char *name)
{
	static const char *const sets[] = { "features", "protocol_features", "modes", "offloads" };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		if (strcmp(sets[i], name) == 0)
			return true;
	return false;
}

/* The position in a packed ring has two halves. */
static void print_number(const ProtobufCFieldDescriptor *field, uint64_t value)
{
	bool is_position = strcmp(field->name, "position") == 0;

	if (field->type == PROTOBUF_C_TYPE_BOOL)
		fputs(value ? " yes" : " no", out);
	else if (is_set_of_bits(field->name) || (is_position && value > UINT16_MAX))
		fprintf(out, " 0x%" PRIx64, value);
	else
		fprintf(out, " %" PRIu64, value);
}

static void print_value(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field,
	size_t i)
{
	_cleanup_free_ char *text = NULL;

	if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_BYTES) {
		print_number(field, field_number(msg, field, i));
		return;
	}
	text = field_text(msg, field, i);
	fprintf(out, " %s", text);
}

static void print_values(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field)
{
	size_t n = field_count(msg, field);

	fputs(field->name, out);
	for (size_t i = 0; i < n; i++)
		print_value(msg, field, i);
	if (n == 0)
		fputs(" none", out);
}

static void print_message(const ProtobufCMessage *msg)
{
	for (unsigned int i = 0; i < msg->descriptor->n_fields; i++) {
		if (i > 0)
			fputs(", ", out);
		print_values(msg, &msg->descriptor->fields[i]);
	}
}

static void print_field(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *field)
{
	if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
		fputs("    ", out);
		print_values(msg, field);
		fputs("\n", out);
		return;
	}
	for (size_t i = 0; i < field_count(msg, field); i++) {
		fprintf(out, "    %s: ", field->name);
		print_message(field_message(msg, field, i));
		fputs("\n", out);
	}
}

static void stage(const Bh__Stage *stage, const struct snapshot_stage *row,
	const ProtobufCMessage *msg)
{
	fprintf(out, "  stage %s, version %u, %zu bytes", stage->name, stage->version,
		stage->data.len);
	if (!row)
		fputs(": this release does not know it", out);
	else if (!msg)
		fprintf(out, ": newer than version %u, which this release knows", row->version);
	fputs("\n", out);
	for (unsigned int i = 0; msg && i < msg->descriptor->n_fields; i++)
		print_field(msg, &msg->descriptor->fields[i]);
	if (msg && msg->n_unknown_fields)
		fprintf(out, "    and %u field(s) of a newer release\n", msg->n_unknown_fields);
}

static void nothing(void)
{
}

/* What is wrong goes to standard error. */
static void end(const char *error)
{
}

const struct sheet sheet_table = { begin, image, stage, nothing, end };

/* Numbers above 2^53 are written in full; a reader that needs them must parse them as integers. */
#include "writer.h"

#include <inttypes.h>

static void begin(struct writer *writer, const char *key)
{
	if (writer->after)
		fputc(',', writer->to);
	writer->after = true;
	if (key)
		fprintf(writer->to, "\"%s\":", key);
}

void writer_open(struct writer *writer, const char *key, char bracket)
{
	begin(writer, key);
	fputc(bracket, writer->to);
	writer->after = false;
}

void writer_close(struct writer *writer, char bracket)
{
	fputc(bracket, writer->to);
	writer->after = true;
}

void writer_text(struct writer *writer, const char *key, const char *value)
{
	begin(writer, key);
	fputc('"', writer->to);
	for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
		if (*p == '"' || *p == '\\')
			fprintf(writer->to, "\\%c", *p);
		else if (*p < ' ')
			fprintf(writer->to, "\\u%04x", *p);
		else
			fputc(*p, writer->to);
	}
	fputc('"', writer->to);
}

void writer_number(struct writer *writer, const char *key, uint64_t value)
{
	begin(writer, key);
	fprintf(writer->to, "%" PRIu64, value);
}

void writer_boolean(struct writer *writer, const char *key, bool value)
{
	begin(writer, key);
	fputs(value ? "true" : "false", writer->to);
}

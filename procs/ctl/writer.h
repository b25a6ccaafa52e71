#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* JSON, written as it comes. The caller opens and closes in order; a key is NULL in a list. */

/** struct writer - where it goes */
struct writer {
	FILE *to;
	bool after; /* a value stands before: a comma comes next; private */
};

/** writer_open(), writer_close() - '{' or '[', and its end */
void writer_open(struct writer *writer, const char *key, char bracket);
void writer_close(struct writer *writer, char bracket);

/** writer_text(), writer_number(), writer_boolean() - a value; text is UTF-8 */
void writer_text(struct writer *writer, const char *key, const char *value);
void writer_number(struct writer *writer, const char *key, uint64_t value);
void writer_boolean(struct writer *writer, const char *key, bool value);

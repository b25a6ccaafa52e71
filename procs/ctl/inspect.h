#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "images.h"
#include "snapshot/stage.h"

/** struct sheet - an output format of inspect. For each image: image(), its stages, image_end() */
struct sheet {
	void (*begin)(FILE *to, const char *path);
	void (*image)(const struct image *image, size_t i);
	/* row and msg are NULL for a stage that this release does not know; msg is NULL for one of
	 * a newer version */
	void (*stage)(const Bh__Stage *stage, const struct snapshot_stage *row,
		const ProtobufCMessage *msg);
	void (*image_end)(void);
	void (*end)(const char *error); /* "" = the file is good to its end */
};

/** sheet_table is for people, sheet_json for programs */
extern const struct sheet sheet_table, sheet_json;

/** inspect_print() - write what is in a file; error as in struct sheet, and only displayed */
void inspect_print(FILE *to, const struct sheet *sheet, const char *path,
	const struct images *images, const char *error);

/**
 * inspect_run() - the command: print what is in a file
 *
 * Errors: 0 | negative errno, already reported: it cannot be read, or is damaged. Images before the
 * damage are printed nevertheless.
 */
int inspect_run(const char *path, bool json);

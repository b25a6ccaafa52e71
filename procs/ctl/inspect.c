/* bulkheadctl inspect: judges a whole file, then prints it. It asks no process of a guest. */
#include "inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static const struct snapshot_stage *find_row(const char *name)
{
	const struct snapshot_stage *row;

	for (size_t i = 0; (row = snapshot_stage_at(i)); i++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

static void print_stage(const struct sheet *sheet, const Bh__State *state, const Bh__Stage *stage)
{
	const struct snapshot_stage *row = find_row(stage->name);
	ProtobufCMessage *msg = NULL;

	if (row)
		(void)snapshot_stage_unpack(state, row, &msg);
	sheet->stage(stage, row, msg);
	if (msg)
		protobuf_c_message_free_unpacked(msg, NULL);
}

void inspect_print(FILE *to, const struct sheet *sheet, const char *path,
	const struct images *images, const char *error)
{
	sheet->begin(to, path);
	for (size_t i = 0; i < images->n; i++) {
		const Bh__State *state = images->list[i].state;

		sheet->image(&images->list[i], i);
		for (size_t k = 0; k < state->n_stages; k++)
			print_stage(sheet, state, state->stages[k]);
		sheet->image_end();
	}
	sheet->end(error);
}

static int finish_output(const char *path)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	return saved_fail(path, -EIO, "cannot be shown: standard output: %s", strerror(errno));
}

int inspect_run(const char *path, bool json)
{
	struct saved saved = { 0 };
	struct images images;
	struct snapshot_fault fault = { "" };
	int r = saved_read(path, &saved);

	if (r < 0)
		return r;
	r = images_find(&saved, &images, &fault);
	if (r < 0)
		return saved_fail(path, r, "%s", strerror(-r));
	inspect_print(stdout, json ? &sheet_json : &sheet_table, path, &images, fault.text);
	images_free(&images);
	free(saved.bytes);
	if (finish_output(path) < 0)
		return -EIO;
	return r ? saved_fail(path, -EBADMSG, "%s", fault.text) : 0;
}

#include "snapshots.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/run.h"

const char *golden_path(const char *rest)
{
	static char path[4096];

	ck_assert_ptr_nonnull(getenv("BULKHEAD_SOURCE"));
	snprintf(path, sizeof(path), "%s/tests/data/snapshots/%s", getenv("BULKHEAD_SOURCE"), rest);
	return path;
}

void golden_read(struct golden *golden, const char *name)
{
	FILE *file = fopen(golden_path(name), "r");

	ck_assert_msg(file, "%s cannot be opened", name);
	golden->n = fread(golden->bytes, 1, sizeof(golden->bytes), file);
	ck_assert(feof(file) && golden->n > 0);
	fclose(file);
}

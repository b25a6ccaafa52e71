#include "instead.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct {
	const char *name, *from; /* NULL = the worker */
} programs[] = {
	{ "frontend", "procs/frontend/bulkhead-frontend" },
	{ "memory", "procs/memory/bulkhead-memory" },
	{ "snapshot", "procs/snapshot/bulkhead-snapshot" },
	{ "net", NULL },
};

#define N_PROGRAMS (sizeof(programs) / sizeof(programs[0]))

int instead_open(char *dir, const char *build, const char *worker)
{
	char from[512], to[256];

	if (!mkdtemp(dir))
		return -1;
	for (size_t i = 0; i < N_PROGRAMS; i++) {
		snprintf(from, sizeof(from), "%s/%s", build, programs[i].from ?: worker);
		snprintf(to, sizeof(to), "%s/bulkhead-%s", dir, programs[i].name);
		if (symlink(from, to) < 0)
			perror(to);
	}
	return setenv("BULKHEAD_LIBEXEC", dir, 1);
}

void instead_close(const char *dir)
{
	char path[256];

	for (size_t i = 0; i < N_PROGRAMS; i++) {
		snprintf(path, sizeof(path), "%s/bulkhead-%s", dir, programs[i].name);
		unlink(path);
	}
	rmdir(dir);
}

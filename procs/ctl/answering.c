/* A guest is served where a memory manager's socket is. */
#include "answering.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "query.h"

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

size_t answering_find(const char *runtime_dir, char **names)
{
	DIR *dir = opendir(runtime_dir);
	struct dirent *entry;
	size_t n = 0;

	while (dir && (entry = readdir(dir)) && n < GUESTS_MAX) {
		if (*entry->d_name == '.' ||
			query_answers(runtime_dir, entry->d_name) == ANSWERS_NOBODY)
			continue;
		names[n] = strdup(entry->d_name);
		check(names[n]);
		n++;
	}
	if (dir)
		closedir(dir);
	qsort(names, n, sizeof(*names), by_name);
	return n;
}

void answering_free(char **names, size_t n)
{
	while (n)
		free(names[--n]);
}

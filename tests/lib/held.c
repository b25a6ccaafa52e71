#include "held.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KINDS_MAX 4096
#define TEXT_BYTES ((size_t)1 << 18)

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* without the number that distinguishes descriptors of a kind */
static char *kind_of(const char *path)
{
	char target[300];
	ssize_t len = readlink(path, target, sizeof(target) - 1);

	target[len < 0 ? 0 : len] = 0;
	if (!strncmp(target, "socket:", 7) || !strncmp(target, "pipe:", 5))
		*strchr(target, ':') = 0;
	return strdup(target);
}

static size_t read_kinds(pid_t pid, char **kinds)
{
	char path[600];
	struct dirent *entry;
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) && n < KINDS_MAX) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, entry->d_name);
		if (entry->d_name[0] != '.')
			kinds[n++] = kind_of(path);
	}
	if (dir)
		closedir(dir);
	return n;
}

char *held_by(pid_t pid)
{
	static char *kinds[KINDS_MAX];
	char *text = calloc(1, TEXT_BYTES);
	size_t n = read_kinds(pid, kinds), at = 0;

	qsort(kinds, n, sizeof(*kinds), by_text);
	for (size_t i = 0, same = 1; text && i < n; i++, same++) {
		if (i + 1 < n && !strcmp(kinds[i], kinds[i + 1]))
			continue;
		at += (size_t)snprintf(text + at, TEXT_BYTES - at, "%zu x %s\n", same, kinds[i]);
		same = 0;
	}
	while (n)
		free(kinds[--n]);
	return text;
}

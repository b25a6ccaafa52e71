/*
 * The number comes from the memory manager, and may be another process's by now, or a lie of a
 * memory manager that was taken over: only a process that bears one of our names counts.
 */
#include "usage.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NAMES "bulkhead"

static FILE *open_of(uint32_t pid, const char *what)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/%s", pid, what);
	return fopen(path, "re");
}

/* The name stands in parentheses, and may hold some itself. */
static bool read_stat(uint32_t pid, struct usage *usage)
{
	FILE *file = open_of(pid, "stat");
	char line[1024] = "";
	unsigned long user = 0, system = 0;
	const char *name, *rest;
	long ticks = sysconf(_SC_CLK_TCK);

	if (!file)
		return false;
	(void)!fgets(line, sizeof(line), file);
	fclose(file);
	name = strchr(line, '(');
	rest = strrchr(line, ')');
	if (!name || !rest || strncmp(name + 1, NAMES, strlen(NAMES)) != 0)
		return false;
	if (sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) !=
		2)
		return false;
	usage->cpu_ms = (uint64_t)(user + system) * 1000 / (uint64_t)(ticks > 0 ? ticks : 100);
	return true;
}

static void read_memory(uint32_t pid, struct usage *usage)
{
	FILE *file = open_of(pid, "smaps_rollup");
	char line[256];
	uint64_t kib;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			usage->rss_bytes = kib * 1024;
		if (sscanf(line, "Pss: %" SCNu64, &kib) == 1) {
			usage->pss_bytes = kib * 1024;
			usage->has_memory = true;
		}
	}
	if (file)
		fclose(file);
}

static void count_fds(uint32_t pid, struct usage *usage)
{
	const struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/fd", pid);
	dir = opendir(path);
	if (!dir)
		return;
	usage->has_fds = true;
	while ((entry = readdir(dir)))
		usage->n_fds += *entry->d_name != '.';
	closedir(dir);
}

struct usage usage_read(uint32_t pid, bool wants_memory)
{
	struct usage usage = { 0 };

	if (!pid || !read_stat(pid, &usage))
		return (struct usage){ 0 };
	usage.known = true;
	if (wants_memory)
		read_memory(pid, &usage);
	count_fds(pid, &usage);
	return usage;
}

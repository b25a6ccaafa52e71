#include "guests.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "config/config.h"
#include "query.h"

static void add(struct guests *guests, const char *name, size_t n)
{
	guests->names = reallocarray(guests->names, guests->n + 1, sizeof(*guests->names));
	check(guests->names);
	guests->names[guests->n] = strndup(name, n);
	check(guests->names[guests->n++]);
}

static void add_name(const char *name, void *data)
{
	add(data, name, strlen(name));
}

/* As the generator finds them. */
static void add_file(struct guests *guests, const char *dir, const char *entry)
{
	static const char suffix[] = ".conf";
	size_t n = strlen(entry);

	if (*entry != '.' && n > strlen(suffix) && strcmp(entry + n - strlen(suffix), suffix) == 0)
		add(guests, entry, n - strlen(suffix));
}

/* A folder outlives its guest; the launcher's file or a memory manager's socket does not. */
static void add_folder(struct guests *guests, const char *dir, const char *entry)
{
	_cleanup_free_ char *path = NULL;

	if (*entry == '.')
		return;
	check(asprintf(&path, "%s/%s/processes", dir, entry) >= 0);
	if (access(path, F_OK) == 0 || query_answers(dir, entry) != ANSWERS_NOBODY)
		add(guests, entry, strlen(entry));
}

static int each_entry(const char *path, struct guests *guests,
	void (*fn)(struct guests *guests, const char *dir, const char *entry))
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir)))
		fn(guests, path, entry->d_name);
	closedir(dir);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort(struct guests *guests)
{
	size_t n = 0;

	if (guests->n)
		qsort(guests->names, guests->n, sizeof(*guests->names), by_name);
	for (size_t i = 0; i < guests->n; i++)
		if (n && strcmp(guests->names[n - 1], guests->names[i]) == 0)
			free(guests->names[i]);
		else
			guests->names[n++] = guests->names[i];
	guests->n = n;
}

int guests_find(const char *runtime_dir, const char *config_dir, const struct units *units,
	struct guests *ret)
{
	int r = each_entry(runtime_dir, ret, add_folder);

	if (config_dir) {
		int files = each_entry(config_dir, ret, add_file);

		r = r < 0 ? r : files;
	}
	if (units)
		units_names(units, add_name, ret);
	sort(ret);
	return r;
}

void guests_deinit(struct guests *guests)
{
	for (size_t i = 0; i < guests->n; i++)
		free(guests->names[i]);
	free(guests->names);
	*guests = (struct guests){ 0 };
}

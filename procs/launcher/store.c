/* The store of one process; the list by_file finds an open file that is stored already. */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "fd/fdstore.h"

/* The index in by_file, or where it would be inserted; returns whether it is there. */
static bool find_file(const struct store *store, int fd, size_t *ret_at)
{
	size_t from = 0, to = store->n_items;

	while (from < to) {
		size_t middle = from + (to - from) / 2;
		int order = file_order(store->by_file[middle]->fd, fd);

		if (order == 0) {
			*ret_at = middle;
			return true;
		}
		if (order < 0)
			from = middle + 1;
		else
			to = middle;
	}
	*ret_at = from;
	return false;
}

static void drop(struct store *store, size_t i)
{
	struct stored *item = store->items[i];
	size_t at;

	check(find_file(store, item->fd, &at));
	memmove(&store->by_file[at], &store->by_file[at + 1],
		(store->n_items - at - 1) * sizeof(*store->by_file));
	store->names_bytes -= strlen(item->name) + 1;
	fd_close(item->fd);
	free(item->name);
	free(item);
	memmove(&store->items[i], &store->items[i + 1],
		(store->n_items - i - 1) * sizeof(*store->items));
	store->n_items--;
	store->full_said = false;
}

static bool has_room(struct store *store, const char *name)
{
	if (store->n_items < FDSTORE_MAX && store->names_bytes + strlen(name) < FDSTORE_NAMES_BYTES)
		return true;
	if (!store->full_said)
		log_limited(LOG_WARNING, NULL, 0,
			"%s: the fd store is full (at most %d descriptors, with %d bytes of "
			"names): '%s' and what follows is not kept",
			store->owner, FDSTORE_MAX, FDSTORE_NAMES_BYTES, name);
	store->full_said = true;
	return false;
}

int store_add(struct store *store, const char *name, int fd)
{
	struct stored *item;
	size_t at;

	if (find_file(store, fd, &at)) {
		fd_close(fd);
		return 0;
	}
	if (!has_room(store, name)) {
		fd_close(fd);
		return -ENOSPC;
	}
	item = calloc(1, sizeof(*item));
	store->items = reallocarray(store->items, store->n_items + 1, sizeof(*store->items));
	store->by_file = reallocarray(store->by_file, store->n_items + 1, sizeof(*store->by_file));
	check(item && store->items && store->by_file);
	*item = (struct stored){ .name = strdup(name), .fd = fd };
	check(item->name);
	memmove(&store->by_file[at + 1], &store->by_file[at],
		(store->n_items - at) * sizeof(*store->by_file));
	store->by_file[at] = item;
	store->items[store->n_items++] = item;
	store->names_bytes += strlen(name) + 1;
	return 0;
}

bool store_has(const struct store *store, const char *name)
{
	for (size_t i = 0; i < store->n_items; i++)
		if (strcmp(store->items[i]->name, name) == 0)
			return true;
	return false;
}

void store_remove(struct store *store, const char *name)
{
	for (size_t i = store->n_items; i-- > 0;)
		if (strcmp(store->items[i]->name, name) == 0)
			drop(store, i);
}

void store_deinit(struct store *store)
{
	while (store->n_items)
		drop(store, store->n_items - 1);
	free(store->items);
	free(store->by_file);
	store->items = store->by_file = NULL;
}

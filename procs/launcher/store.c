/* What a process wants to have again at its next start. */
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

static void drop(struct store *store, size_t i)
{
	struct stored *item = store->items[i];

	store->names_bytes -= strlen(item->name) + 1;
	fd_close(item->fd);
	free(item->name);
	free(item);
	memmove(&store->items[i], &store->items[i + 1], (store->n_items - i - 1) * sizeof(*store->items));
	store->n_items--;
	store->full_said = false;
}

static bool has_file(const struct store *store, int fd)
{
	for (size_t i = 0; i < store->n_items; i++)
		if (file_same(store->items[i]->fd, fd))
			return true;
	return false;
}

static bool has_room(struct store *store, const char *name)
{
	if (store->n_items < FDSTORE_MAX && store->names_bytes + strlen(name) < FDSTORE_NAMES_BYTES)
		return true;
	if (!store->full_said)
		log_warning("%s: the fd store is full (at most %d descriptors, with %d bytes of names): "
			    "'%s' and what follows is not kept",
			store->owner, FDSTORE_MAX, FDSTORE_NAMES_BYTES, name);
	store->full_said = true;
	return false;
}

int store_add(struct store *store, const char *name, int fd)
{
	struct stored *item;

	if (has_file(store, fd)) {
		fd_close(fd);
		return 0;
	}
	if (!has_room(store, name)) {
		fd_close(fd);
		return -ENOSPC;
	}
	item = calloc(1, sizeof(*item));
	store->items = reallocarray(store->items, store->n_items + 1, sizeof(*store->items));
	check(item && store->items);
	*item = (struct stored){ .name = strdup(name), .fd = fd };
	check(item->name);
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
	store->items = NULL;
}

char *store_names(const struct store *store)
{
	char *text = malloc(store->names_bytes + 1), *at = text;

	check(text);
	*at = '\0';
	for (size_t i = 0; i < store->n_items; i++)
		at += sprintf(at, "%s%s", i ? ":" : "", store->items[i]->name);
	return text;
}

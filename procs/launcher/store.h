#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * The descriptors kept for one process, as systemd keeps them under FDPOLL=0: several may have one
 * name, and the same open file is kept once.
 */

/** struct stored - a descriptor that is kept */
struct stored {
	char *name;
	int fd;
};

struct store {
	const char *owner;     /* for the log; borrowed */
	struct stored **items; /* in the order in which they came */
	struct stored **
		/* the same in the kernel's order of open files: each is looked for at every
		 * addition */
		by_file;
	size_t n_items;
	size_t names_bytes; /* as they will stand in LISTEN_FDNAMES */
	bool full_said;     /* the limit was reached, and the log says so */
};

/**
 * store_add() - store a descriptor; one whose open file is stored already is closed
 * @fd: [in] consumed always
 *
 * Errors: 0 | -ENOSPC the limit is reached: this one is not kept, and one line says so.
 */
int store_add(struct store *store, const char *name, int fd);
/** store_has() - whether a descriptor of that name is stored */
bool store_has(const struct store *store, const char *name);
/** store_remove() - close all descriptors of that name */
void store_remove(struct store *store, const char *name);
/** store_deinit() - close all, and leave the store empty */
void store_deinit(struct store *store);

#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

/*
 * All guests of a host: their files, the configurations in force (config/force.h), and which of the
 * two each guest gets. The generator, `bulkheadctl check` and `bulkheadctl apply` decide alike.
 */

/** enum host_verdict - the configuration that a guest gets */
enum host_verdict {
	HOST_NONE, /* none: it is not served */
	HOST_KEEP, /* the one in force, whatever the file says */
	HOST_TAKE, /* the file's */
};

/** struct host_guest - one guest */
struct host_guest {
	char *name;
	char *path;          /* of its file, which may not exist */
	struct config *file; /* NULL = there is none, or it is faulty */
	struct config *copy; /* in force; NULL = there is none */
	bool gone;           /* the file does not exist */
	bool runs;           /* as force_runs() tells */
	bool chosen;         /* the operator wants its file in force, if it is valid */
	bool refused;        /* private */
	enum host_verdict verdict;
	char *error; /* why the file cannot be in force, a line for each fault; NULL = it can */
};

/** struct host - all guests, in the order of their names; initially { 0 } */
struct host {
	const char *runtime_dir; /* borrowed */
	struct host_guest *guests;
	size_t n_guests;
};

/** host_load() - read all files of a folder, and the configurations in force
 * @confdir: NULL = none, only guests with a configuration in force */
void host_load(struct host *host, const char *confdir, const char *runtime_dir);

/** host_find() - a guest by name; NULL = none */
struct host_guest *host_find(const struct host *host, const char *name);

/** host_set_path() - have a guest read from another file than the folder's */
void host_set_path(struct host *host, struct host_guest *guest, const char *path);

/** host_add() - have a guest read from another file than the folder's, or one more guest; it is
 * chosen. Pointers to guests end. */
void host_add(struct host *host, const char *path);

/**
 * host_judge() - decide for each guest; fills in verdict, and completes error
 *
 * Chosen:    a valid file is taken; without a file the guest is not served.
 * Otherwise: a guest that runs keeps what is in force. One that does not run gets its file, or if
 *            that is faulty what was in force.
 * Clashes:   of two guests that claim the same socket, TAP or user, the one whose configuration
 *            does not change keeps it, or else the first in the order of names. The other's file is
 *            refused.
 */
void host_judge(struct host *host);

/** host_config() - the configuration that a guest gets; borrowed; NULL = none */
const struct config *host_config(const struct host_guest *guest);

/** host_deinit() - free everything */
void host_deinit(struct host *host);

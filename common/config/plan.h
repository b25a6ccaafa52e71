#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "config/roles.h"

/* What must happen to the processes and sockets of a guest so that its next configuration is in
 * force, and nothing besides. */

/** enum plan_action - in the order in which they are carried out */
enum plan_action { PLAN_LEAVE, PLAN_STOP, PLAN_RESTART, PLAN_START };

/** struct plan_item - a process, or the socket of a device */
struct plan_item {
	const struct role *role; /* NULL: a socket */
	char *name;              /* "memory", "net0", "net0+standby"; of a socket, the device */
	char *instance;          /* of its unit */
	const char *path; /* of a socket: where it is going to be; borrowed; NULL = nowhere */
	bool second;      /* of a pair */
	enum plan_action action;
};

/** struct plan - of one guest; initially { 0 } */
struct plan {
	struct plan_item *items;
	size_t n_items;
};

/**
 * plan_make() - compare two configurations of a guest
 * @old: [in] in force now; NULL = nothing runs
 * @new: [in] NULL = nothing shall run. Both are borrowed for the life of the plan
 *
 * Workers:   restarted if a key of their device changed.
 * Others:    restarted if devices came or went, or a common key of one changed.
 * Frontend:  restarted as well if a socket is to be passed to it.
 */
void plan_make(struct plan *plan, const struct config *old, const struct config *new);

/** plan_start() - something that should run does not: start it. A socket needs the frontend to be
 * restarted, too */
void plan_start(struct plan *plan, struct plan_item *item);

/** plan_is_empty() - whether there is nothing to do */
bool plan_is_empty(const struct plan *plan);

/** plan_deinit() - free it */
void plan_deinit(struct plan *plan);

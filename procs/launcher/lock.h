#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "config/roles.h"

/*
 * A guest's lock file says who serves the guest. Its lines have equal length: the launcher's pid,
 * how often the launcher has executed itself, and the pids of its children. Contents without a lock
 * were left by a launcher that was killed. Its children die with it, but not at once: they have
 * memory to unmap, and hold their sockets until then.
 */

/* two for each device; of the file, and of a former one */
#define GUEST_CHILDREN_MAX (ROLES_PER_GUEST + 4 * CONFIG_DEVICES_MAX)

#define SLOT_LAUNCHER 0   /* its pid; 0 = it has come to a good end */
#define SLOT_EXECUTIONS 1 /* how often it took its own place */
#define SLOT_CHILDREN 2   /* pids, from here on; the keeper's comes last */
#define SLOT_KEEPER (SLOT_CHILDREN + GUEST_CHILDREN_MAX)

/**
 * lock_take() - lock the file; a launcher that is being killed holds it for a moment longer, and is
 * waited for
 * @fd: [in] borrowed
 *
 * Errors: 0 | -EBUSY a launcher that lives holds it.
 * Cost:   up to 10 s.
 */
int lock_take(int fd);

/** lock_blank() - empty all slots; later notes need no more room on the disk; 0 | negative errno */
int lock_blank(int fd);

/** lock_pid() - the pid in that slot; 0: the slot is empty */
pid_t lock_pid(int fd, size_t slot);

/** lock_wait_for_children() - wait until the processes in the children's slots are gone; at most 10
 * s */
void lock_wait_for_children(int fd);

/**
 * lock_note() - write into a slot, for whoever comes after us; a failure is logged
 * @guest: [in] whose file it is, for the log
 */
void lock_note(int fd, size_t slot, unsigned long number, const char *guest);

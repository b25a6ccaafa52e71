#pragma once

#include "child.h"
#include "lock.h"

/* The guests that a launcher serves, and their processes. */

struct launcher;

/** struct guest - the processes of one guest */
struct guest {
	struct launcher *launcher;
	struct home home; /* its children's */
	size_t n_devices;
	struct child *children; /* in the order of process_next(); room for GUEST_CHILDREN_MAX */
	size_t n_children;
	bool failed;           /* it could not be started; its children are stopped */
	bool untold;           /* told.h: it cannot be written, and that was said */
	sd_event_source *note; /* what is told of it has changed, and is written soon (told.h) */
};

/** struct launcher - all guests, and what their processes have in common */
struct launcher {
	sd_event *event;
	char *program;     /* our own, where the next release will be found */
	char **argv;       /* ours; borrowed */
	char *runtime_dir; /* of all guests */
	char *libexec_dir;
	bool build_tree; /* programs lie in ROLE/bulkhead-ROLE */
	struct guest *guests;
	size_t n_guests;
	char *notify_path; /* where the children of a former release speak; NULL = there are none */
	int notify_fd;
	sd_event_source *notify_source;
	uint64_t watchdog_usec;  /* of each child; 0 = none */
	unsigned int executions; /* how often we took our own place */
	bool fd_passed;          /* see struct launch */
	bool from_options;       /* the same */
	bool stopping;
	bool announced;                            /* said that all is up */
	int status;                                /* exit status */
	const struct keeper_events *keeper_events; /* what keepers say; their data is the guest */
	void (*child_ended)(struct child *child, int wait_status);
};

/** guest_open() - read and lock a guest, start its keeper, and add the children that its file asks
 * for
 * Errors: 0 | negative errno, logged: guest_close() releases what there is. */
int guest_open(struct launcher *launcher, struct guest *guest, const char *file);
/** guest_init() - a guest without children, whose home has what the launcher knows; aborts without
 * memory */
void guest_init(struct launcher *launcher, struct guest *guest);
/** guest_add() - add a child that does not run yet; there must be room (GUEST_CHILDREN_MAX). It
 * never moves */
struct child *guest_add(struct guest *guest, const char *role, const char *instance);
/** guest_find_copy() - a former launcher may have put a configuration in force */
void guest_find_copy(struct guest *guest);
/** guest_follow() - read the guest's file again: children that it no longer asks for become
 * unwanted, new ones are added and do not run yet. If the file has errors, or wants what another
 * guest has, that is logged and nothing changes. */
void guest_follow(struct guest *guest);
/** guest_close() - end the keeper, free everything, and empty the lock file, which tells the next
 * launcher that this one ended in order */
void guest_close(struct guest *guest);
/** guest_keep() - start the guest's keeper, and have it listen to all children; 0 | negative errno,
 * logged */
int guest_keep(struct guest *guest);
/** guest_adopt_keeper() - take over the keeper that a former launcher started; fd is consumed
 * always
 * Errors: 0 | negative errno, logged. */
int guest_adopt_keeper(struct guest *guest, pid_t pid, int fd);

#pragma once

#include "child.h"
#include "lock.h"

/* The guests that a launcher serves, and their processes. */

struct launcher;

/** struct guest - the processes of one guest */
struct guest {
	struct launcher *launcher;
	struct home home;          /* its children's */
	size_t n_devices;
	struct child *children;    /* in the order of process_next(); room for GUEST_CHILDREN_MAX */
	size_t n_children;
	bool failed;               /* did not start; its children are stopped */
};

/** struct launcher - all guests; what it decides stands in launcher.c */
struct launcher {
	sd_event *event;
	char *program;             /* our own, where the next release will be found */
	char **argv;               /* ours; borrowed */
	char *runtime_dir;         /* of all guests */
	char *libexec_dir;
	bool build_tree;           /* programs lie in ROLE/bulkhead-ROLE */
	struct guest *guests;
	size_t n_guests;
	char *notify_path;         /* where the children of a former release speak; NULL = there are none */
	int notify_fd;
	sd_event_source *notify_source;
	uint64_t watchdog_usec;    /* of each child; 0 = none */
	unsigned int executions;   /* how often we took our own place */
	bool fd_passed;            /* see struct launch */
	bool from_options;         /* the same */
	bool stopping;
	bool announced;            /* said that all is up */
	int status;                /* exit status */
	const struct keeper_events *keeper_events; /* what keepers say; their data is the guest */
	void (*child_ended)(struct child *child, int wait_status);
};

/** guest_open() - from its file, locked, with children that do not run yet
 * Errors: 0 | negative errno, logged: guest_close() releases what there is. */
int guest_open(struct launcher *launcher, struct guest *guest, const char *file);
/** guest_init() - empty, with what the launcher's children have in common, and room for them; aborts without memory */
void guest_init(struct launcher *launcher, struct guest *guest);
/** guest_add() - room for one child more is taken, in place */
struct child *guest_add(struct guest *guest, const char *role, const char *instance);
/** guest_follow() - the file may have changed: workers that it does not name any more are unwanted, and those that
 * it names besides are there, and do not run yet. Where it has errors, they are logged, and all stays as it is. */
void guest_follow(struct guest *guest);
/** guest_close() - also says, for the next launcher, that this one came to a good end */
void guest_close(struct guest *guest);
/** guest_keep() - start its keeper; 0 | negative errno, logged */
int guest_keep(struct guest *guest);
/** guest_adopt_keeper() - the one that a former launcher started; fd is consumed. As guest_keep() */
int guest_adopt_keeper(struct guest *guest, pid_t pid, int fd);

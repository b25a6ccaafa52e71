#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "config/roles.h"
#include "keeper.h"

/*
 * What the files of this process share. A process under the launcher has the contract that systemd gives: a
 * notification socket, a store of descriptors that come back by name at each start, a watchdog (all these are
 * its guest's keeper's), and a restart whatever it died of.
 */

struct launcher;

struct child {
	struct launcher *launcher;
	struct guest *guest;
	char *role;                /* the name of its row in the table of processes */
	char *instance;            /* as in struct process */
	char *title;               /* role and instance: for the log, and its name at the keeper */
	char *peer;                /* as its endpoints are called: "memory", "net0", "net0+standby" */
	pid_t pid;                 /* 0 = not running */
	int pid_fd;
	sd_event_source *source;   /* its end */
	sd_event_source *timer;    /* its next start */
	sd_event_source *abort;    /* it was told to abort, since it gave no sign of life, and must have by then */
	bool was_ready;            /* once, in any life: from then on its end is followed by a restart */
	bool unwanted;             /* the guest's file does not name its device any more: its end is the end */
	bool ready;                /* in this life */
	unsigned int restarts;
};

/** struct guest - the processes of one guest */
struct guest {
	struct launcher *launcher;
	char *name;
	char *config_path;
	char *runtime_dir;         /* of the guest */
	int lock_fd;
	struct keeper *keeper;
	size_t n_devices;
	struct child *children;    /* memory, frontend, then the workers; GUEST_CHILDREN_MAX */
	size_t n_children;
	bool failed;               /* did not start; its children are stopped */
};

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
};

/* child.c */
/** child_init() - in place, in an array that does not move any more; role and instance are copied */
void child_init(struct child *child, struct guest *guest, const char *role, const char *instance);
/** child_open() - make its notification socket, and have the keeper listen; 0 | negative errno */
int child_open(struct child *child);
/** child_start() - run its program; 0 | negative errno */
int child_start(struct child *child);
/** child_adopt() - watch a process that runs already under child->pid; 0 | negative errno */
int child_adopt(struct child *child);
/** child_kill() - send a signal, if it runs */
void child_kill(struct child *child, int signal);
/** child_silent() - it has given no sign of life in time: it is killed */
void child_silent(struct child *child);
void child_free(struct child *child);

/* guest.c */
/** guest_open() - from its file, locked, with children that do not run yet; errors are logged */
int guest_open(struct launcher *launcher, struct guest *guest, const char *file);
/** guest_children() - room for a guest's children; aborts without memory */
struct child *guest_children(void);
/** guest_follow() - the file may have changed: workers that it does not name any more are unwanted, and those that
 * it names besides are there, and do not run yet. Where it has errors, they are logged, and all stays as it is. */
void guest_follow(struct guest *guest);
/** guest_close() - also says, for the next launcher, that this one came to a good end */
void guest_close(struct guest *guest);
/** guest_note() - write into slot i of the lock file who we are, for whoever comes after us */
void guest_note(const struct guest *guest, size_t slot, unsigned long number);

#define GUEST_CHILDREN_MAX (ROLES_PER_GUEST + 4 * CONFIG_DEVICES_MAX) /* two for each device; of the file, and of a former one */

#define SLOT_LAUNCHER 0            /* its pid; 0 = it has come to a good end */
#define SLOT_EXECUTIONS 1          /* how often it took its own place */
#define SLOT_CHILDREN 2            /* pids, from here on; the keeper's comes last */
#define SLOT_KEEPER (SLOT_CHILDREN + GUEST_CHILDREN_MAX)
#define SLOT_BYTES 11

/** guest_keep() - start its keeper; 0 | negative errno, logged */
int guest_keep(struct guest *guest);
/** guest_adopt_keeper() - the one that a former launcher started; fd is consumed. As guest_keep() */
int guest_adopt_keeper(struct guest *guest, pid_t pid, int fd);

/* launcher.c */
/** launcher_child_ended() - it is gone; decides what follows */
void launcher_child_ended(struct child *child, int wait_status);
/** launcher_child_ready() - it said so */
void launcher_child_ready(struct child *child);

/** launcher_events - what keepers say; their data is the guest */
extern const struct keeper_events launcher_events;

/* former.c */
/** former_watch() - obey what the children of a former release say at launcher->notify_fd; 0 | negative errno */
int former_watch(struct launcher *launcher);
void former_close(struct launcher *launcher);

/* state.c */
/** state_hand_over() - run the program at our path in our place; returns only when that failed (logged) */
void state_hand_over(struct launcher *launcher);
/** state_take_over() - what a former launcher left in that memfd (consumed always). 0 | negative errno: it
 * cannot be read (logged); the former's processes die with us */
int state_take_over(struct launcher *launcher, int fd);

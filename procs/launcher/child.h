#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "config/roles.h"
#include "keeper.h"

/*
 * One process under the launcher. It has the contract that systemd gives: a notification socket, a store of descriptors
 * that come back by name at each start, a watchdog (all these are its guest's keeper's), and a restart whatever it died
 * of, which its owner decides upon.
 */

struct child;
struct guest;

/** struct home - what a guest's processes have in common; their owner's, and outlives them */
struct home {
	sd_event *event;
	const char *libexec_dir;
	bool build_tree;           /* programs lie in ROLE/bulkhead-ROLE */
	const char *runtime_base;  /* of all guests */
	uint64_t watchdog_usec;    /* how long each may be silent; 0 = for ever */
	char *name;                /* of the guest */
	char *config_path;
	char *runtime_dir;         /* of the guest */
	int lock_fd;
	struct keeper *keeper;
	/** ended() - it is gone; the owner decides what follows */
	void (*ended)(struct child *child, int wait_status);
};

/** struct child - a process of a guest */
struct child {
	const struct home *home;
	struct guest *guest;       /* its owner's, and not looked into here */
	size_t slot;               /* of the guest's lock file, where its pid stands */
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

/** child_init() - in place, in an array that does not move any more; role and instance are copied, home is borrowed */
void child_init(struct child *child, const struct home *home, const char *role, const char *instance);
/** child_open() - make its notification socket, and have the keeper listen; 0 | negative errno */
int child_open(struct child *child);
/** child_start() - run its program; 0 | negative errno: -EAGAIN the keeper is busy, try later */
int child_start(struct child *child);
/** child_adopt() - watch a process that runs already under child->pid; 0 | negative errno */
int child_adopt(struct child *child);
/** child_kill() - send a signal, if it runs */
void child_kill(struct child *child, int signal);
/** child_silent() - it has given no sign of life in time: it is killed */
void child_silent(struct child *child);
/** child_free() - release what it has; the process itself is left alone */
void child_free(struct child *child);

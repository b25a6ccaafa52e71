#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "config/roles.h"
#include "keeper.h"

/*
 * One process under the launcher. It has the contract that systemd gives: a notification socket, a
 * store of descriptors that come back by name at each start, a watchdog (all these are its guest's
 * keeper's), and a restart whatever it died of, which its owner decides upon.
 */

struct child;
struct guest;

/** struct home - what the processes of a guest have in common; belongs to their owner, and outlives
 * them */
struct home {
	sd_event *event;
	const char *libexec_dir;
	bool build_tree;          /* programs lie in ROLE/bulkhead-ROLE */
	const char *runtime_base; /* of all guests */
	uint64_t watchdog_usec;   /* how long each may be silent; 0 = for ever */
	char *name;               /* of the guest */
	char *config_path;
	char *copy_path; /* the configuration in force, which its processes read; NULL = the file */
	char *runtime_dir; /* of the guest */
	int lock_fd;
	struct keeper *keeper;
	/** ended() - the child's process is gone; its owner decides what follows. Called from the
	 * event loop */
	void (*ended)(struct child *child, int wait_status);
};

/** struct child - a process of a guest */
struct child {
	const struct home *home;
	struct guest *guest; /* its owner, which child.c does not look into */
	size_t slot;         /* of the guest's lock file, where its pid stands */
	char *role;          /* the name of its row in the table of processes */
	char *instance;      /* as in struct process */
	char *title;         /* role and instance: for the log, and its name at the keeper */
	char *peer;          /* as its endpoints are called: "memory", "net0", "net0+standby" */
	pid_t pid;           /* 0 = not running */
	int pid_fd;
	sd_event_source *source; /* its end */
	sd_event_source *timer;  /* its next start */
	/* it was told to abort, since it gave no sign of life, and must have by then */
	sd_event_source *abort;
	bool was_ready; /* at least once: from then on it is restarted whenever it ends */
	bool unwanted;  /* the guest's file no longer asks for it: it is not restarted */
	bool ready;     /* the process that runs now */
	unsigned int restarts;
	char *said; /* of its own state, last; NULL = nothing */
	char *end;  /* how the process before this one ended; NULL = there was none */
};

/** child_init() - initialise a child that does not run yet, at an address that does not change any
 * more
 * @home:           [in] borrowed for the child's life
 * @role, @instance: [in] copied */
void child_init(struct child *child, const struct home *home, const char *role,
	const char *instance);
/** child_open() - make its notification socket, and have the keeper listen there; 0 | negative
 * errno */
int child_open(struct child *child);
/** child_start() - fork and run its program, which gets everything that it stored
 * Errors: 0 | -EAGAIN: the keeper is blocked, try again later | another negative errno. A program
 *         that cannot be run is a child that ends. */
int child_start(struct child *child);
/** child_adopt() - watch the process child->pid, which runs already; 0 | negative errno */
int child_adopt(struct child *child);
/** child_kill() - send a signal; nothing happens where the child does not run */
void child_kill(struct child *child, int signal);
/** child_silent() - the child gave no sign of life in time: abort it, and kill it if that takes too
 * long */
void child_silent(struct child *child);
/** child_free() - free what describes it; the process itself is left alone */
void child_free(struct child *child);

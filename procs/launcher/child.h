#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "config/config.h"

/*
 * A process under the launcher, with the contract that systemd gives: a notification socket, a store of
 * descriptors that come back by name at each start, a restart whatever it died of.
 */

#define STORE_MAX 4096

struct launcher;

/** struct stored - a descriptor kept for a child */
struct stored {
	char *name;
	int fd;
};

struct child {
	struct launcher *launcher;
	struct guest *guest;
	const char *role;          /* "memory", "frontend", or a device's type */
	char *instance;            /* GUEST or GUEST:DEVICE */
	pid_t pid;                 /* 0 = not running */
	int pid_fd;
	sd_event_source *source;   /* its end */
	sd_event_source *timer;    /* its next start, after quick deaths */
	struct stored *stored;     /* in the order in which they came */
	size_t n_stored;
	bool ready;                /* has been ready once: from then on its death is a restart */
	bool failed;               /* ended before it was ever ready */
	uint64_t started_usec;
	unsigned int quick_deaths; /* in a row */
	unsigned int restarts;
};

/** struct guest - the processes of one guest */
struct guest {
	struct launcher *launcher;
	struct config *config;
	char *config_path;
	char *runtime_dir;         /* of the guest */
	int lock_fd;
	struct child *children;    /* memory, frontend, then the workers */
	size_t n_children;
	bool failed;               /* did not start; its children are stopped */
};

struct launcher {
	sd_event *event;
	char *runtime_dir;         /* of all guests */
	char *libexec_dir;
	bool build_tree;           /* programs lie in ROLE/bulkhead-ROLE */
	struct guest *guests;
	size_t n_guests;
	char *notify_path;
	int notify_fd;
	sd_event_source *notify_source;
	bool stopping;
	bool announced;            /* said that all is up */
	int status;                /* exit status */
};

/** child_start() - run its program; 0 | negative errno */
int child_start(struct child *child);
/** child_kill() - send a signal, if it runs */
void child_kill(struct child *child, int signal);
/** child_store() - keep a descriptor (consumed always) under a name */
void child_store(struct child *child, const char *name, int fd);
void child_unstore(struct child *child, const char *name);
void child_free(struct child *child);

/* launcher.c */
/** launcher_child_ended() - it is gone; decides what follows */
void launcher_child_ended(struct child *child, int wait_status);
/** launcher_child_ready() - it said so for the first time */
void launcher_child_ready(struct child *child);

/* notify.c */
int notify_open(struct launcher *launcher);
void notify_close(struct launcher *launcher);

#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "config/config.h"

/*
 * The skeleton of every process: arguments, log, descriptors handed over, loop, "ready", watchdog, end.
 * main() declares a struct proc_role and calls proc_main().
 */

struct proc {
	const struct proc_role *role;
	sd_event *event;
	struct config *config;               /* the guest's file */
	const struct config_device *device;  /* the process's own device; NULL for frontend and memory */
	const char *guest;
	const char *peer;                    /* the name of its endpoints: "net0", or "net0+standby" */
	const char *runtime_dir;             /* of the guest: /run/bulkhead/GUEST */
	const char *runtime_base;            /* the same by a way that stays open, see identity.c */
	bool separate;                       /* each process has a user of its own (config/user.h) */
	bool by_root;                        /* started by root: what takes rights can be done by starting anew */
	void *data;                          /* the role's own */
};

struct proc_role {
	const char *name;      /* "frontend", "memory", "net" */
	bool per_device;       /* the instance names a device */
	/** open() - take what rights are needed for; may be NULL. It starts no thread, which would keep its rights,
	 * and reads nothing that a guest or a VMM wrote. Errors: as start(). */
	int (*open)(struct proc *proc);
	/** start() - all else; without rights, called once, before the loop. The role calls proc_ready() itself,
	 * there or later. Errors: 0 | negative errno (already logged): the process ends with status 1. */
	int (*start)(struct proc *proc);
	/** leave() - the loop has ended: finish what is in hand, and let go of what a successor waits for. The
	 * process is over after that: what is left is the kernel's to take down, which does it faster. May be NULL. */
	void (*leave)(struct proc *proc);
	/** stop() - release; may be NULL. After a leave() only where leaks are looked for. */
	void (*stop)(struct proc *proc);
	/** drop_rights() is done by the skeleton between open() and start(): a process that root started becomes its
	 * own user (config/user.h), and all capabilities go but these */
	const int *keep_caps;  /* CAP_*, ends with -1; NULL = none */
};

/**
 * proc_main() - run a process to its end
 *
 * Arguments: --instance=GUEST[:DEVICE[:standby]], --config=FILE (default /etc/bulkhead/GUEST.conf),
 *            --runtime-dir=DIR (default /run/bulkhead; the guest's own is DIR/GUEST), --help, --version.
 * SIGTERM and SIGINT end the loop. WATCHDOG_USEC is served from the loop.
 * Returns the exit status.
 */
int proc_main(int argc, char *argv[], const struct proc_role *role);

/** proc_ready() - tell the service manager that we serve; repeated calls are harmless */
void proc_ready(struct proc *proc);

/** proc_status() - one line for the service manager's status display */
void proc_status(struct proc *proc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * The guest's runtime folder belongs to root (or to the ordinary user who runs everything). Each process has a
 * folder of its own in it, which systemd (RuntimeDirectory=), or the process while it is root, has made. Where
 * processes meet, the socket's group is the one peer's, and who connects is looked at besides (proc_user()).
 *
 *   GUEST/link/PEER.sock   memory listens; descriptors; of PEER's group
 *   GUEST/link/ctl.sock    memory listens; bulkheadctl, which root runs
 *   GUEST/PEER/bus.sock    PEER listens; memory, a member of PEER's group, dials
 */

/** proc_user() - the user that a process of this guest must have; PEER as for user_of() */
uid_t proc_user(const struct proc *proc, const char *peer);

/** proc_link_path(), proc_bus_path(), proc_ctl_path() - the paths above as text to be freed; never NULL (aborts without memory) */
char *proc_link_path(const struct proc *proc, const char *peer);
char *proc_bus_path(const struct proc *proc, const char *peer);
char *proc_ctl_path(const struct proc *proc);

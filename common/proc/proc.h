#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "config/config.h"

/*
 * The skeleton of every process: arguments, log, fd store, event loop, readiness, watchdog, exit.
 * main() declares a struct proc_role and calls proc_main(); a worker calls device_main().
 */

struct proc {
	const struct proc_role *role;
	sd_event *event;
	struct config *config;              /* the guest's file */
	const struct config_device *device; /* of a worker; NULL for frontend and memory */
	const char *guest;
	const char *peer;         /* names the process's endpoints: "net0" or "net0+standby" */
	const char *runtime_dir;  /* of the guest: /run/bulkhead/GUEST */
	const char *runtime_base; /* the same through a descriptor (identity.c); may be NULL */
	bool separate;            /* each process has a user of its own (config/user.h) */
	bool by_root;          /* started by root: a restart has the rights that this one dropped */
	uint64_t started_usec; /* when proc_main() began */
	bool ready;            /* proc_ready() was called */
	void *data;            /* the role's own */
};

struct proc_role {
	const char *name; /* "frontend", "memory", "net" */
	bool per_device;  /* --instance names a device */
	/** open() - open what needs rights; may be NULL. It must not start a thread, which would
	 * keep its capabilities, nor read anything that a guest or a VMM wrote. Errors: as
	 * start(). */
	int (*open)(struct proc *proc);
	/** start() - everything else; called once, without rights, before the loop runs. The role
	 * calls proc_ready() itself, here or later.
	 * Errors: 0 | negative errno, logged: the process exits with status 1. */
	int (*start)(struct proc *proc);
	/** leave() - the loop has ended: finish the work in hand and release what a successor waits
	 * for; may be NULL. The process exits after it, and the kernel frees the rest, which is
	 * faster. */
	void (*leave)(struct proc *proc);
	/** stop() - release everything; may be NULL. It runs in sanitizer builds only. */
	void (*stop)(struct proc *proc);
	/** keep_caps - CAP_* that the process keeps, ending with -1; NULL = none. Between open()
	 * and start() a process of root changes to its own user, and drops all other
	 * capabilities. */
	const int *keep_caps;
};

/**
 * proc_main() - run a process to its end
 *
 * Arguments: --instance=GUEST[:DEVICE[:standby]], --config=FILE (default /etc/bulkhead/GUEST.conf),
 *            --runtime-dir=DIR (default /run/bulkhead; the guest's own is DIR/GUEST), --help,
 *            --version.
 * SIGTERM and SIGINT end the loop. The loop serves the service manager's watchdog.
 * Returns the exit status.
 */
int proc_main(int argc, char *argv[], const struct proc_role *role);

/** proc_ready() - tell the service manager that the process is ready; may be called repeatedly */
void proc_ready(struct proc *proc);

/** proc_status() - set the status line that the service manager displays */
void proc_status(struct proc *proc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * The guest's runtime directory belongs to root, or to the ordinary user who runs everything. Each
 * process has a subdirectory, which systemd (RuntimeDirectory=) or the process itself, as root, has
 * made. The socket where two processes meet has the group of the one peer, and every connection's
 * user is checked (proc_user()).
 *
 *   GUEST/link/PEER.sock   memory listens; descriptors; of PEER's group
 *   GUEST/link/ctl.sock    memory listens; bulkheadctl, which root runs
 *   GUEST/link/ctl+link.sock  likewise, for descriptors; no device has such a name
 *   GUEST/PEER/bus.sock    PEER listens; memory, a member of PEER's group, dials
 */

/** proc_user() - the user as which that process of this guest runs; peer as for user_of() */
uid_t proc_user(const struct proc *proc, const char *peer);

/** proc_link_path(), proc_bus_path(), proc_ctl_path(), proc_ctl_link_path() - the paths above, to
 * be freed; never NULL (aborts without memory) */
char *proc_link_path(const struct proc *proc, const char *peer);
char *proc_bus_path(const struct proc *proc, const char *peer);
char *proc_ctl_path(const struct proc *proc);
char *proc_ctl_link_path(const struct proc *proc);

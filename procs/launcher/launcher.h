#pragma once

#include <stdbool.h>
#include <stddef.h>

/** The descriptor of what a former launcher, whose place this one takes in the same process, handed
 * over. */
#define LAUNCHER_STATE_ENV "BULKHEAD_LAUNCHER_STATE"

/* Names of what may be passed to the frontend of a device called dev. */
#define LAUNCH_LISTENER "passed.dev"
#define LAUNCH_CONNECTION "conn.dev"

/** struct launch_fd - a descriptor that whoever started us passed, for a process of the first
 * guest */
struct launch_fd {
	const char *role; /* of that process: the first that has it */
	const char *name; /* under which the process finds it */
	int fd;
};

/** struct launch - what is to be run */
struct launch {
	char **argv; /* ours: what a later release is run with, in our place */
	const char *runtime_dir;
	const char *libexec_dir; /* NULL: where it is found */
	const char *const *files;
	size_t n_files;
	bool from_options; /* the file was made from options: its lines mean nothing to the user */
	const struct launch_fd *fds;
	size_t n_fds;
	bool fd_passed; /* the VMM's socket is among them; if it is a connection, we end with it */
	unsigned int watchdog_sec; /* how long a process may be silent; 0 = for ever */
	bool quiet;                /* do not print that all is up */
	int state_fd;              /* LAUNCHER_STATE_ENV; -1 = a first start */
};

/** launcher_run() - run all processes of all guests until told to end; returns the exit status */
int launcher_run(const struct launch *launch);

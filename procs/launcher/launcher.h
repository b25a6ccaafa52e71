#pragma once

#include <stdbool.h>
#include <stddef.h>

/** struct launch_fd - a descriptor that whoever started us passed, for a process of the first guest */
struct launch_fd {
	bool for_frontend;  /* else for the first device's worker */
	const char *name;   /* under which the process finds it */
	int fd;
};

/** struct launch - what is to be run */
struct launch {
	const char *runtime_dir;
	const char *libexec_dir;       /* NULL: where it is found */
	const char *const *files;
	size_t n_files;
	const struct launch_fd *fds;
	size_t n_fds;
	bool quiet;                    /* do not print that all is up */
};

/** launcher_run() - run all processes of all guests until told to end; returns the exit status */
int launcher_run(const struct launch *launch);

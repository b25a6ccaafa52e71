#pragma once

#include <stdbool.h>
#include <stddef.h>

/** struct status_wish - what to look at, and how to show it */
struct status_wish {
	const char *runtime_dir;
	/* where guests' files are; NULL = the usual place, if runtime_dir is the usual one */
	const char *config_dir;
	char **names;   /* of guests */
	size_t n_names; /* 0 = all */
	bool json;
	bool quiet; /* show nothing */
};

/** enum - exit status; the first that holds */
enum { STATUS_HEALTHY = 0, STATUS_UNHEALTHY = 1, STATUS_UNCLEAR = 2 };

/** status_run() - show guests; returns the exit status */
int status_run(const struct status_wish *wish);

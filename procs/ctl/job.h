#pragma once

#include <stdbool.h>

#include "config/host.h"
#include "config/plan.h"

/* What apply does for one guest, under its service manager. */

/** struct job - one guest; everything but the plan is borrowed */
struct job {
	const char *runtime_dir;
	struct host_guest *guest;
	const struct config *config; /* that it gets; NULL = none: it ends */
	struct plan plan;
	bool launched; /* by a launcher, and not by systemd */
};

/** job_changes() - whether another configuration is in force afterwards */
bool job_changes(const struct job *job);

/** job_put_in_force() - its processes read that configuration from now on; 0 | negative errno,
 * reported */
int job_put_in_force(const struct job *job);

/** apply_systemd() - carry out the plans of all jobs that are systemd's
 * @all: bulkhead.target is started as well
 *
 * Errors: 0 | negative errno, reported. What can be done is done. */
int apply_systemd(struct job *jobs, size_t n, bool all);

/** apply_look() - plan to start the units of a guest that should be active and are not */
void apply_look(struct job *job);

/** apply_launcher() - carry out the plan of a guest of a launcher; 0 | negative errno, reported */
int apply_launcher(const struct job *job);

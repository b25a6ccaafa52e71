/*
 * Limits that a shell or a service sets for everything that it starts. Where they are hit later,
 * the error is that of whatever happened to need one more descriptor or page, and explains nothing.
 */
#include "rlimits.h"

#include <errno.h>
#include <sys/resource.h>

#include "base/log.h"

#define FILES_MIN 256          /* of a guest with a few devices */
#define SPACE_MIN (1ULL << 30) /* of a worker without any guest memory: stacks, libraries */
#define KIB 1024

static rlim_t raise_one(__rlimit_resource_t resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return RLIM_INFINITY;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(resource, &limit);
	return limit.rlim_max;
}

int rlimits_raise(void)
{
	rlim_t files = raise_one(RLIMIT_NOFILE), space = raise_one(RLIMIT_AS);

	if (files < FILES_MIN) {
		log_error("no process may have more than %llu open files (ulimit -Hn), and %d are needed; raise that limit",
			(unsigned long long)files, FILES_MIN);
		return -EMFILE;
	}
	if (space < SPACE_MIN) {
		log_error("no process may have more than %llu KiB of address space (ulimit -v), and a worker needs 1 GiB beside the guest's memory; lift that limit",
			(unsigned long long)space / KIB);
		return -ENOMEM;
	}
	if (space != RLIM_INFINITY)
		log_warning("no process may have more than %llu KiB of address space (ulimit -v): a guest with about as much memory cannot be served; lift that limit",
			(unsigned long long)space / KIB);
	return 0;
}

#pragma once

#include "config/host.h"
#include "guests.h"
#include "seen.h"
#include "units.h"

/* The guests of this host by their files and by who runs their processes. No memory manager is
 * asked. */

/** struct look - what was there when it was opened */
struct look {
	const char *runtime_dir; /* borrowed */
	const char *config_dir;  /* NULL = no folder of files belongs to it; borrowed */
	struct host host;        /* judged */
	struct units units;
	int units_error; /* of units_read(); 0 = they are known */
	struct guests guests;
	int guests_error; /* of guests_find() */
};

/** look_open() - read files, and ask systemd for its units
 * @config_dir: NULL = the usual place, if runtime_dir is the usual one */
void look_open(struct look *look, const char *runtime_dir, const char *config_dir);

/** look_guest() - what is known of a guest; seen_deinit() it, before look_close() */
void look_guest(const struct look *look, const char *name, struct seen *ret);

/** look_close() - free all */
void look_close(struct look *look);

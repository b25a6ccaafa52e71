#pragma once

#include "seen.h"

/* What systemd knows of the units of guests (deploy/units, deploy/generator.c). */

/** struct units - those of all guests, as they were when they were read; struct unit is
 * units.c's */
struct units {
	struct sd_bus *bus;
	struct unit *list;
	size_t n;
};

/** units_read() - ask systemd which units of ours it has
 * Errors: 0 | -ENOENT: no systemd runs here | another negative errno: it cannot be asked. */
int units_read(struct units *units);

/** units_has() - whether systemd has a unit of that guest's that is not stopped */
bool units_has(const struct units *units, const char *guest);

/** units_look() - add the processes of a guest, and the faults of its sockets */
void units_look(const struct units *units, struct seen *seen);

/** units_names() - call fn with the guest of each unit; a name comes more than once */
void units_names(const struct units *units, void (*fn)(const char *guest, void *data), void *data);

/** units_deinit() - close the connection and free all; the struct is empty afterwards */
void units_deinit(struct units *units);

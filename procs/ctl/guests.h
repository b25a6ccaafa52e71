#pragma once

#include <stddef.h>

#include "units.h"

/** struct guests - names, sorted, each once */
struct guests {
	char **names;
	size_t n;
};

/**
 * guests_find() - all guests: those with a file, and those that are served without one
 * @config_dir: NULL = no files
 * @units:      NULL = no systemd
 *
 * Errors: 0 | negative errno: a folder is there and cannot be read; what was found is there.
 */
int guests_find(const char *runtime_dir, const char *config_dir, const struct units *units,
	struct guests *ret);

/** guests_deinit() - free all names; the struct is empty afterwards */
void guests_deinit(struct guests *guests);

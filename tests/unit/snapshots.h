#pragma once

#include <stddef.h>
#include <stdint.h>

/* The golden snapshots: tests/data/snapshots/RELEASE/NAME.state. */

#define GOLDEN_MAX 4096

/** struct golden - the bytes of a file */
struct golden {
	uint8_t bytes[GOLDEN_MAX];
	size_t n;
};

/** golden_path() - where the folder is; a static buffer, overwritten by the next call */
const char *golden_path(const char *rest);

/** golden_read() - read "RELEASE/NAME"; fails the test if there is no such file */
void golden_read(struct golden *golden, const char *name);

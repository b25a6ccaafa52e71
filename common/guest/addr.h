#pragma once

#include <stdint.h>

/* Addresses of two spaces, each a type of its own so that one is never taken for the other. */

/** struct gpa - an address in the guest's physical memory; descriptors hold these */
struct gpa {
	uint64_t val;
};

/** struct uva - an address in the VMM's own memory; ring addresses of vhost-user are these */
struct uva {
	uint64_t val;
};

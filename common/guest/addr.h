#pragma once

#include <stdint.h>

/* Addresses of each space are a type of their own, so that one is never taken for the other. */

/** struct gpa - an address in the guest's physical memory; descriptors hold these */
struct gpa {
	uint64_t val;
};

/** struct uva - an address in the VMM's own memory; ring addresses of vhost-user are these */
struct uva {
	uint64_t val;
};

/** struct iova - an address of a ring or in a descriptor, where an IOMMU of the guest's stands
 * between */
struct iova {
	uint64_t val;
};

#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Shared memory regions: windows in the guest's address space into which the VMM maps what the
 * device asks for (SHMEM_MAP, SHMEM_UNMAP). A device keeps the set of its maps, and the frontend
 * makes the VMM's like it, exactly once over the death of any process. The set lies in the
 * device's own state: a device that is started again names it by shmem_restore().
 *
 * All functions belong to the loop thread, and none waits for the VMM.
 */

struct device;

/** struct shmem_map - a map: the pages of a file, in a region */
struct shmem_map {
	uint64_t seq; /* another one for each map; the device counts, and begins with 1 */
	uint32_t region;
	uint64_t offset_bytes; /* in the region, and a multiple of the page's size, as the next */
	uint64_t size_bytes;
	uint64_t fd_offset_bytes;
	bool writable;
};

/** device_shmem_map() - have the VMM map a file (borrowed) there. ops->shmem_mapped() tells what
 * became of it, after this function has returned; a map that was refused is none any more. The
 * place is free, or was given to device_shmem_unmap() before, and lies in the region: else no
 * report of the device counts any more.
 * Errors: 0 | -EDQUOT: there are RECORD_SHMEM_MAPS_MAX maps, or the vault takes no more | -EMFILE:
 * likewise | other negative errno of the vault. */
int device_shmem_map(struct device *device, const struct shmem_map *map, int fd);

/** device_shmem_restore() - in ops->begin(): a former instance had called device_shmem_map() for
 * this map. If the VMM has not answered it yet, it is asked, with this file (borrowed).
 * Errors: as device_shmem_map(). */
int device_shmem_restore(struct device *device, const struct shmem_map *map, int fd);

/** device_shmem_unmap() - have the VMM unmap it, whether it has mapped it or not. The place can be
 * used again at once: the VMM hears of a later map after this. */
void device_shmem_unmap(struct device *device, uint64_t seq);

/** device_shmem_forget() - the VMM has dropped all maps by itself, as it does when the guest or
 * another VMM starts the device anew: nothing is unmapped. */
void device_shmem_forget(struct device *device);

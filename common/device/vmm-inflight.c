/*
 * The in-flight region shared with the VMM. Rings are recovered from it, and there is no second
 * copy. The VMM may write to it at any time. Corrupting it costs only the VMM's own rings, because
 * the region is read only when a ring starts, through a checked copy. Positions and counters, which
 * others rely on, are in the ledger, which is never shared.
 *
 * The specification does not define how many bytes a queue has in the region. The worker's own
 * layout has room for split and packed rings. A region with that much room is assumed to have this
 * layout; a smaller one comes from a back-end that only used split rings.
 */
#include "device/core.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "virtq/inflight-layout.h"

#define PAGE 4096u

static void unmap(struct inflight_map *map)
{
	if (map->mapping)
		(void)munmap(map->mapping, map->mapping_bytes);
	*map = (struct inflight_map){ 0 };
}

static int map_region(struct inflight_map *map, const Bh__Inflight *inflight, int fd)
{
	uint64_t skip = inflight->mmap_offset % PAGE;
	void *mapping;

	if (fd < 0)
		return -EBADF;
	if (inflight->mmap_size == 0 || skip % INFLIGHT_ALIGN)
		return -EINVAL;
	mapping = mmap(NULL, inflight->mmap_size + skip, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		(off_t)(inflight->mmap_offset - skip));
	if (mapping == MAP_FAILED)
		return -errno;
	*map = (struct inflight_map){ .mapping = mapping,
		.mapping_bytes = inflight->mmap_size + skip,
		.regions = (uint8_t *)mapping + skip,
		.n_bytes = inflight->mmap_size,
		.n_queues = inflight->n_queues,
		.queue_size = inflight->queue_size };
	return 0;
}

void inflight_apply(struct device *device, const Bh__Inflight *inflight, int fd)
{
	struct inflight_map *map = &device->core->inflight;
	int r;

	if (map->token == (inflight ? inflight->token : 0))
		return;
	unmap(map);
	if (!inflight)
		return;
	r = map_region(map, inflight, fd);
	map->token = inflight->token;
	if (r < 0) {
		device->core->apply_error = "the in-flight region could not be mapped";
		log_limited(LOG_WARNING, NULL, 0,
			"the in-flight region of the VMM cannot be mapped: %s", strerror(-r));
	}
}

static bool has_room(const struct inflight_map *map, bool packed)
{
	return map->n_bytes / map->n_queues >= inflight_bytes(map->queue_size, packed);
}

void *inflight_of(const struct device *device, const struct virtq_setup *setup, uint64_t *ret_id)
{
	const struct inflight_map *map = &device->core->inflight;

	*ret_id = 0;
	if (!map->mapping || setup->index >= map->n_queues || setup->size > map->queue_size ||
		!has_room(map, setup->packed))
		return ledger_inflight(&device->ledger, setup->index);
	*ret_id = map->token;
	return map->regions + setup->index * inflight_bytes(map->queue_size, has_room(map, true));
}

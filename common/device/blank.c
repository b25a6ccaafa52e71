/*
 * Detects guest memory that is not shared. A VMM that maps guest memory privately passes valid
 * files, but they stay empty: the driver kicks, and its rings contain nothing.
 *
 * Empty rings alone prove nothing, because some VMMs kick each ring once or twice before a driver
 * is loaded. But an access to a private mapping still allocates an empty page in the file. So
 * resident pages that hold only zeros indicate a private mapping, and so does a driver that keeps
 * kicking.
 */
#include "device/core.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

#define BLANK_KICKS 2      /* before memory is checked */
#define BLANK_KICKS_SURE 8 /* report regardless of the pages */
#define BLANK_KICKS_MAX 32 /* a check is expensive, and the guest chooses how often it kicks */
#define SAMPLE_PAGES 256   /* at the start of a region, where firmware and kernels leave data */
#define SAMPLE_REGIONS 4
#define SURE 1024      /* added to the ring's number: BLANK_KICKS_SURE was reached */
#define TOUCHED_MIN 16 /* pages: the worker itself touches those of the rings */

/* A working driver has filled at least one ring. */
static bool all_rings_blank(const struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->queues[i].vq && !virtq_is_blank(device->queues[i].vq))
			return false;
	return true;
}

static bool page_is_blank(const uint64_t *words, size_t n_bytes)
{
	for (size_t i = 0; i < n_bytes / sizeof(*words); i++)
		if (__atomic_load_n(&words[i], __ATOMIC_RELAXED))
			return false;
	return true;
}

/* Returns how many pages at the start of the region are resident but all zero, or 0 if any holds
 * data. Pages that are not resident are skipped: reading them would allocate them. */
static unsigned int count_touched_blank(const struct device *device,
	const struct map_region *region)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n;
	size_t n_bytes = MIN(region->size_bytes, SAMPLE_PAGES * (uint64_t)page) / page * page;
	uint8_t *mem = n_bytes ? map_gpa(device->map, region->gpa, n_bytes) : NULL;
	unsigned char there[SAMPLE_PAGES];
	unsigned int touched = 0;

	if (!mem || (uintptr_t)mem % page || mincore(mem, n_bytes, there) < 0)
		return 0;
	n = n_bytes / page;
	for (size_t i = 0; i < n; i++) {
		if (!(there[i] & 1))
			continue;
		if (!page_is_blank((const uint64_t *)(const void *)(mem + i * page), page))
			return 0;
		touched++;
	}
	return touched;
}

static bool looks_private(const struct device *device)
{
	const struct device_core *core = device->core;
	unsigned int touched = 0;

	for (size_t i = 0; i < MIN(core->n_mapped, (size_t)SAMPLE_REGIONS); i++)
		touched += count_touched_blank(device, &core->mapped[i].region);
	return touched >= TOUCHED_MIN;
}

void queue_look_at_memory(struct device_queue *queue)
{
	struct device_core *core = queue->device->core;
	struct ring_state *state = &core->rings[queue->index];

	state->shows = state->n_blank_kicks == BLANK_KICKS_MAX || !virtq_is_blank(queue->vq);
	if (state->shows || ++state->n_blank_kicks < BLANK_KICKS)
		return;
	atomic_store(&core->blank_ring,
		queue->index + 1 + (state->n_blank_kicks < BLANK_KICKS_SURE ? 0 : SURE));
	wake_loop(core);
}

/* Reads rings of other threads as well: rings are only started and stopped in the loop thread. */
void blank_look(struct device *device)
{
	unsigned int ring = atomic_exchange(&device->core->blank_ring, 0);
	uint64_t session = device->ledger.header ? device->ledger.header->session : 0;

	if (!ring || !all_rings_blank(device) || (ring < SURE && !looks_private(device)))
		return;
	if (atomic_exchange(&device->core->blank_session, session) == session)
		return;
	log_warning("the guest kicks ring %u, but its memory is blank: is guest memory shared (QEMU: -object memory-backend-memfd,...,share=on)?",
		ring % SURE - 1);
}

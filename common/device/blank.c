/*
 * Guest memory that the guest does not share: a VMM that maps it privately hands over files that
 * are in order, and stay empty. A driver kicks, and its rings show nothing.
 *
 * That alone does not tell: some VMMs kick each ring once or twice as they start it, before there
 * is a driver. But whoever touches a private mapping leaves an empty page behind in the file, so
 * that pages which are there, and nothing but zeros in them, say it; and so does a driver that goes
 * on kicking.
 */
#include "device/core.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"

#define BLANK_KICKS 2      /* before it is looked for */
#define BLANK_KICKS_SURE 8 /* whatever the pages say */
#define BLANK_KICKS_MAX 32 /* a look has its price, and the guest chooses how often it kicks */
#define SAMPLE_PAGES 256 /* at the begin of a region: firmware and kernels leave something there */
#define SAMPLE_REGIONS 4
#define SURE 1024      /* beside the number of a ring: so many kicks say it all */
#define TOUCHED_MIN 16 /* pages: we ourselves touch those of the rings */

/* A driver that is at work has filled one ring at least. */
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

/* How many pages of the region's begin somebody has touched, but left empty; none if one is not.
 * Pages that are not there are not looked at: that would make them. */
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

/* Rings of other threads are looked at as well: they come and go in the loop's thread alone. */
void blank_look(struct device *device)
{
	unsigned int ring = atomic_exchange(&device->core->blank_ring, 0);
	uint64_t session = device->ledger.header ? device->ledger.header->session : 0;

	if (!ring || !all_rings_blank(device) || (ring < SURE && !looks_private(device)))
		return;
	if (atomic_exchange(&device->core->blank_session, session) == session)
		return;
	log_warning("the guest kicks ring %u, but its memory shows nothing: is guest memory shared "
		    "(QEMU: -object memory-backend-memfd,...,share=on)?",
		ring % SURE - 1);
}

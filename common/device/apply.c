/*
 * Applying a record. The record is compared with the current state (plan.c), and only the threads
 * that a difference affects are paused while it is applied. The order matters: rings that must stop
 * are stopped first, so that no ring sees memory or features change under it. Rings that may run
 * are started last.
 *
 * A ring must be drained before it stops, and every ring before memory is unmapped: the device
 * completes the chains it holds. This can take as long as disk I/O. Until then, only new call and
 * kick descriptors of rings that keep running are applied. The event loop is not blocked, and a
 * later record may cancel the drain.
 */
#include "device/log.h"
#include "device/plan.h"
#include "device/rings.h"
#include "device/serve.h"
#include "device/shmem-set.h"
#include "device/shmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/fault.h"
#include "base/log.h"

static struct map_region to_map_region(const Bh__Region *region)
{
	return (struct map_region){ .gpa = { region->gpa },
		.uva = { region->uva },
		.size_bytes = region->size_bytes,
		.offset_bytes = region->offset_bytes,
		.sealed = region->sealed };
}

/* --- Session, features, config --- */

/* The ledger notes the last event that was handled, so that no later worker handles it again. */
static void apply_session(struct device *device, const Bh__Desired *desired)
{
	struct ledger_header *header = device->ledger.header;
	bool resets = plan_resets(device, desired);

	device->connected = desired->connected;
	if (header->session != desired->session)
		device_shmem_forget(device);
	if (resets && device->ops->reset)
		device->ops->reset(device);
	if (resets) { /* serving threads read these, and are paused only for a reset */
		header->session = desired->session;
		header->reset_epoch = desired->reset_epoch;
	}
	header->status = desired->status;
}

static void apply_features(struct device *device, const Bh__Desired *desired)
{
	if (device->features == plan_features(desired) && device->core->applied)
		return;
	device->features = plan_features(desired);
	if (device->ops->negotiated)
		device->ops->negotiated(device);
}

static void apply_config_writes(struct device *device, const Bh__Desired *desired)
{
	struct ledger_header *header = device->ledger.header;

	for (size_t i = 0; i < desired->n_config_writes; i++) {
		const Bh__ConfigWrite *write = desired->config_writes[i];

		if (write->seq <= header->config_write_seq ||
			write->offset_bytes > device->offer.config_bytes ||
			write->data.len > device->offer.config_bytes - write->offset_bytes)
			continue;
		if (device->ops->config_write)
			device->ops->config_write(device, write->offset_bytes, write->data.data,
				(uint32_t)write->data.len);
		header->config_write_seq = write->seq;
	}
}

/* --- Memory --- */

static void unmap_unwanted(struct device *device, const Bh__Desired *desired)
{
	struct device_core *core = device->core;

	for (size_t i = 0; i < core->n_mapped;) {
		if (plan_wants_region(desired, &core->mapped[i])) {
			i++;
			continue;
		}
		check(map_remove(device->map, &core->mapped[i].region) == 0);
		core->mapped[i] = core->mapped[--core->n_mapped];
	}
}

static void map_wanted(struct device *device, const Bh__Desired *desired, struct wants *wants)
{
	struct device_core *core = device->core;

	for (size_t i = 0; i < desired->n_regions && core->n_mapped < MAP_REGIONS_MAX; i++) {
		const Bh__Region *wanted = desired->regions[i];
		struct map_region region = to_map_region(wanted);
		int fd, r;

		if (core_has_mapped(core, wanted))
			continue;
		fd = wants_find(wants, wanted->token);
		r = fd < 0 ? -EBADF : map_add(device->map, &region, fd);
		if (r < 0) {
			core->apply_error = "a memory region could not be mapped";
			log_limited(LOG_WARNING, NULL, 0,
				"the memory region at guest address 0x%llx of %llu bytes cannot be "
				"mapped: %s",
				(unsigned long long)region.gpa.val,
				(unsigned long long)region.size_bytes, strerror(-r));
			continue;
		}
		core->mapped[core->n_mapped++] =
			(struct mapped_region){ .token = wanted->token, .region = region };
	}
}

/* --- Rings --- */

/* A ring is served again when its drain has finished or was cancelled. */
static void end_drain(struct device_queue *queue)
{
	if (!queue->device->core->rings[queue->index].break_why)
		atomic_store(&queue->drain, DRAIN_NONE);
}

static void apply_ring(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants)
{
	end_drain(queue);
	if (ring)
		ring_apply(queue, ring, wants);
	else
		ring_forget(queue);
}

static void apply_rings(struct device *device, const struct plan *plan, const Bh__Desired *desired,
	struct wants *wants)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		struct device_queue *queue = &device->queues[i];

		if (plan->rings[i] == RING_RECALLED)
			ring_recall(queue, plan_find_ring(desired, i), wants);
		else if (plan->rings[i] >= RING_CHANGES)
			apply_ring(queue, plan_find_ring(desired, i), wants);
		else if (plan->memory_leaves)
			end_drain(queue);
	}
}

static void stop_rings(struct device *device, const struct plan *plan)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (plan->rings[i] == RING_STOPS)
			ring_stop(&device->queues[i]);
}

static void remap_rings(struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		ring_remap(&device->queues[i]);
}

/* --- Pausing --- */

static bool all_rest(struct device *device, const struct plan *plan)
{
	bool rest = true;

	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (plan->memory_leaves || plan->rings[i] == RING_STOPS)
			rest &= ring_rests(&device->queues[i]);
	return rest;
}

static void pause_for(struct device *device, const struct plan *plan,
	bool paused[DEVICE_GROUPS_MAX])
{
	for (uint32_t i = 0; i < device->offer.n_queues && !plan->whole; i++) {
		struct device_group *group = group_of(device, i);

		if (plan->rings[i] < RING_CHANGES || !group || paused[group->index])
			continue;
		paused[group->index] = true;
		group_pause(group);
	}
	if (plan->whole)
		device_pause(device);
}

static bool concerns_loop(const struct device *device, const struct plan *plan)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (plan->rings[i] >= RING_CHANGES && !group_of(device, i))
			return true;
	return plan->whole;
}

static void resume_for(struct device *device, const struct plan *plan,
	const bool paused[DEVICE_GROUPS_MAX])
{
	for (unsigned int i = 0; i < device->n_groups; i++)
		if (plan->whole || paused[i])
			group_resume(&device->groups[i]);
	if (!concerns_loop(device, plan))
		return;
	loop_rings_assign(device);
	loop_rings_serve(device);
}

/* --- Everything --- */

static void apply_plan(struct device *device, const struct plan *plan, const Bh__Desired *desired,
	struct wants *wants)
{
	stop_rings(device, plan);
	apply_session(device, desired);
	apply_features(device, desired);
	unmap_unwanted(device, desired);
	map_wanted(device, desired, wants);
	if (plan->memory_leaves)
		remap_rings(device);
	log_apply(device, desired, wants_find(wants, log_token(desired)));
	inflight_apply(device, desired->inflight, wants_find(wants, inflight_token(desired)));
	apply_rings(device, plan, desired, wants);
	apply_config_writes(device, desired);
}

/* While a ring is draining, changes that depend on it are deferred. Other running rings get their
 * new descriptors now; if only rings change, all changes to other rings are applied. */
static void apply_meanwhile(struct device *device, struct plan *plan, const Bh__Desired *desired,
	struct wants *wants)
{
	bool paused[DEVICE_GROUPS_MAX] = { false };

	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (plan->rings[i] == RING_STOPS ||
			(plan->rings[i] == RING_CHANGES &&
				(plan->memory_leaves || (plan->whole && !device->queues[i].vq))))
			plan->rings[i] = RING_STAYS;
	plan->whole = plan->memory_leaves = false;
	pause_for(device, plan, paused);
	apply_rings(device, plan, desired, wants);
	resume_for(device, plan, paused);
}

/* Rings that a previous instance left running keep running until they are drained. */
static bool any_is_left(const struct device *device, const Bh__Desired *desired)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		const Bh__Ring *ring = plan_find_ring(desired, i);

		if (device->queues[i].vq && ring && !ring->started)
			return true;
	}
	return false;
}

/* The record is read again when the loop is woken. */
static int apply_later(struct device *device, Bh__Desired *desired)
{
	device->core->waits = true;
	device->core->generation = desired->generation;
	bh__desired__free_unpacked(desired, NULL);
	blame_finish();
	return -EINPROGRESS;
}

static int apply_whole(struct device *device, Bh__Desired *desired, struct wants *wants)
{
	struct device_core *core = device->core;
	bool paused[DEVICE_GROUPS_MAX] = { false };
	struct plan plan;

	blame_set(&device->ledger.header->blame, LEDGER_BLAME_RECORD, desired->generation);
	fault_point("apply", desired->status);
	shmem_hear(device, desired);
	plan_make(&plan, device, desired);
	if (!all_rest(device, &plan)) {
		apply_meanwhile(device, &plan, desired, wants);
		return apply_later(device, desired);
	}
	pause_for(device, &plan, paused);
	apply_plan(device, &plan, desired, wants);
	resume_for(device, &plan, paused);
	if (any_is_left(device, desired)) {
		wake_loop(core);
		return apply_later(device, desired);
	}
	core->waits = false;
	apply_note(core, desired);
	if (device->ops->desired)
		device->ops->desired(device, desired);
	blame_finish();
	return 0;
}

static int apply_regions(struct device *device, Bh__Desired *desired, struct wants *wants)
{
	unmap_unwanted(device, desired);
	map_wanted(device, desired, wants);
	device->core->generation = desired->generation;
	bh__desired__free_unpacked(desired, NULL);
	return 0;
}

/* Nothing is changed until every descriptor that the record names has been redeemed. */
static int with_wants(struct device *device, Bh__Desired *desired,
	int (*apply)(struct device *device, Bh__Desired *desired, struct wants *wants))
{
	struct wants *wants = calloc(1, sizeof(*wants));
	int r = -EAGAIN;

	check(wants);
	desired = wants_redeem(wants, device, desired);
	if (desired)
		r = apply(device, desired, wants);
	wants_deinit(wants);
	free(wants);
	return r;
}

int apply_memory(struct device *device, Bh__Desired *desired)
{
	return with_wants(device, desired, apply_regions);
}

int apply_desired(struct device *device, Bh__Desired *desired)
{
	return with_wants(device, desired, apply_whole);
}

/* --- Broken rings --- */

static void take_note(struct device_queue *queue)
{
	struct device_core *core = queue->device->core;
	struct ring_state *state = &core->rings[queue->index];
	const char *why;

	pthread_mutex_lock(&core->broken_lock);
	why = core->broken[queue->index];
	core->broken[queue->index] = NULL;
	pthread_mutex_unlock(&core->broken_lock);
	if (!why || !queue->vq || state->break_why)
		return;
	state->break_why = why;
	queue->device->ledger.queues[queue->index].broken = 1;
}

static void break_ring(struct device_queue *queue)
{
	struct device *device = queue->device;
	struct ring_state *state = &device->core->rings[queue->index];
	struct device_group *group = group_of(device, queue->index);
	const char *why = state->break_why;

	if (group)
		group_pause(group);
	ring_stop(queue);
	ring_fail(queue, state->start_id, why, true);
	if (group)
		group_resume(group);
	else
		loop_rings_assign(device);
}

void apply_broken(struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		struct device_queue *queue = &device->queues[i];

		take_note(queue);
		if (device->core->rings[i].break_why && ring_rests(queue))
			break_ring(queue);
	}
}

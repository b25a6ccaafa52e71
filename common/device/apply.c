/*
 * Putting a record in force: what is there now is compared with what is wanted, and the difference is
 * applied while the device stands still. The order matters: rings that must stop stop first, so that no
 * ring ever sees memory or features change under it; rings that may run start last.
 *
 * What is there now is read from this process's own state, never from the former record: a step that
 * failed is thus tried again with the next generation.
 */
#include "device/serve.h"
#include "device/wants.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"

#define F_INDIRECT 28
#define F_EVENT_IDX 29
#define F_PACKED 34
#define F_IN_ORDER 35
#define DESCS_MAX (1u << 20) /* of all rings of a device: at most some 60 bytes of ours for each */
#define RING_FEATURES (BIT(F_INDIRECT) | BIT(F_EVENT_IDX) | BIT(F_PACKED) | BIT(F_IN_ORDER))

/* --- Finding things in the record --- */

static const Bh__Ring *find_ring(const Bh__Desired *desired, uint32_t index)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->index == index)
			return desired->rings[i];
	return NULL;
}

static struct map_region to_map_region(const Bh__Region *region)
{
	return (struct map_region){ .gpa = { region->gpa }, .uva = { region->uva },
		.size_bytes = region->size_bytes, .offset_bytes = region->offset_bytes,
		.sealed = region->sealed };
}

static bool is_wanted(const Bh__Desired *desired, const struct mapped_region *mapped)
{
	for (size_t i = 0; i < desired->n_regions; i++)
		if (mapped_is(mapped, desired->regions[i]))
			return true;
	return false;
}

/* --- Session, features, config --- */

/* The ledger remembers what was acted upon, so that it is done once over any number of workers. */
static void apply_session(struct device *device, const Bh__Desired *desired)
{
	struct ledger_header *header = device->ledger.header;
	bool reset = header->session != desired->session ||
		header->reset_epoch != desired->reset_epoch ||
		(header->status != 0 && desired->status == 0);

	device->connected = desired->connected;
	if (reset && device->ops->reset)
		device->ops->reset(device);
	header->session = desired->session;
	header->reset_epoch = desired->reset_epoch;
	header->status = desired->status;
}

static void apply_features(struct device *device, const Bh__Desired *desired)
{
	if (device->features == desired->features && device->mtu == desired->mtu &&
		device->core->applied)
		return;
	device->features = desired->features;
	device->mtu = desired->mtu;
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

static void apply_announce(struct device *device, const Bh__Desired *desired)
{
	struct ledger_header *header = device->ledger.header;

	if (desired->rarp_seq == header->rarp_seq)
		return;
	header->rarp_seq = desired->rarp_seq;
	if (desired->rarp_seq && desired->rarp_mac.len == 6 && device->ops->announce)
		device->ops->announce(device, desired->rarp_mac.data);
}

/* --- Memory --- */

static void unmap_unwanted(struct device *device, const Bh__Desired *desired)
{
	struct device_core *core = device->core;

	for (size_t i = 0; i < core->n_mapped;) {
		if (is_wanted(desired, &core->mapped[i])) {
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
			log_limited(LOG_WARNING, NULL, 0, "the memory region at guest address 0x%llx of %llu bytes cannot be "
				    "mapped: %s",
				(unsigned long long)region.gpa.val,
				(unsigned long long)region.size_bytes, strerror(-r));
			continue;
		}
		core->mapped[core->n_mapped++] =
			(struct mapped_region){ .token = wanted->token, .region = region };
	}
}

static bool memory_differs(struct device *device, const Bh__Desired *desired)
{
	if (device->core->n_mapped != desired->n_regions)
		return true;
	for (size_t i = 0; i < desired->n_regions; i++)
		if (!core_has_mapped(device->core, desired->regions[i]))
			return true;
	return false;
}

/* --- Rings --- */

static const char *start_error(int r)
{
	switch (r) {
	case VIRTQ_E_ADDRESS:
		return "a ring address is misaligned or not in guest memory";
	case VIRTQ_E_SIZE:
		return "the ring size is 0, above the maximum, or no power of 2";
	case VIRTQ_E_BASE:
		return "the base lies outside the ring";
	case VIRTQ_E_BROKEN:
		return "the ring's indices contradict its size, or its in-flight region";
	default:
		return "out of memory";
	}
}

static void ring_failed(struct device_queue *queue, uint64_t start_id, const char *why, bool broken)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];

	if (state->error != why || state->error_start_id != start_id)
		log_limited(LOG_WARNING, NULL, 0, "ring %u stopped: %s", queue->index, why);
	state->error = why;
	state->error_start_id = start_id;
	state->broken = broken;
	queue_signal_err(queue);
}

static void changed(struct device_queue *queue)
{
	if (queue->device->ops->queue_changed)
		queue->device->ops->queue_changed(queue->device, queue);
}

static void stop_ring(struct device_queue *queue)
{
	if (!queue->vq)
		return;
	queue->vq = virtq_stop(queue->vq);
	queue->device->ledger.queues[queue->index].running = 0;
	changed(queue);
}

static bool must_stop(struct device *device, const Bh__Desired *desired, const Bh__Ring *ring)
{
	const Bh__Ring *now;

	if (!ring || !ring->started || ring->start_id != device->core->rings[ring->index].start_id)
		return true;
	if ((device->features ^ desired->features) & RING_FEATURES ||
		inflight_token(desired) != device->core->inflight.token)
		return true;
	now = find_ring(device->core->applied, ring->index);
	return !now || now->size != ring->size || now->desc_uva != ring->desc_uva ||
		now->avail_uva != ring->avail_uva || now->used_uva != ring->used_uva;
}

static void stop_unwanted_rings(struct device *device, const Bh__Desired *desired)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->queues[i].vq && must_stop(device, desired, find_ring(desired, i)))
			stop_ring(&device->queues[i]);
}

/* Memory came or went under rings that go on: they find their addresses again, or stop. */
static void remap_rings(struct device *device)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		struct device_queue *queue = &device->queues[i];
		uint64_t start_id = device->core->rings[i].start_id;
		int r;

		if (!queue->vq)
			continue;
		r = virtq_remap(queue->vq);
		if (r == 0)
			continue;
		stop_ring(queue);
		ring_failed(queue, start_id, start_error(r), false);
	}
}

/* A new token brings a new descriptor; token 0 takes the old one away. */
static bool replace_fd(int *fdp, uint64_t *now, uint64_t token, struct wants *wants)
{
	if (*now == token)
		return false;
	fd_close(*fdp);
	*fdp = token ? wants_take(wants, token) : -1;
	*now = *fdp >= 0 ? token : 0;
	return true;
}

static bool replace_call(struct device_queue *queue, uint64_t *now, uint64_t token,
	struct wants *wants)
{
	int fd;

	if (*now == token)
		return false;
	fd = token ? wants_take(wants, token) : -1;
	queue_set_call(queue, fd);
	*now = fd >= 0 ? token : 0;
	return true;
}

/* Only what can be waited for is a kick descriptor: a file would break the loop that serves the ring. */
static void refuse_bad_kick(struct device_queue *queue, const Bh__Ring *ring)
{
	struct stat st;

	if (queue->kick_fd < 0 || (fstat(queue->kick_fd, &st) == 0 && !S_ISREG(st.st_mode) &&
		!S_ISDIR(st.st_mode)))
		return;
	queue->kick_fd = fd_close(queue->kick_fd);
	ring_failed(queue, ring->start_id, "the kick descriptor is no eventfd", true);
}

static bool apply_fds(struct device_queue *queue, const Bh__Ring *ring, struct wants *wants)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];
	bool any = replace_fd(&queue->kick_fd, &state->kick_token, ring->kick_token, wants);

	if (any)
		refuse_bad_kick(queue, ring);
	any |= replace_call(queue, &state->call_token, ring->call_token, wants);
	any |= replace_fd(&queue->err_fd, &state->err_token, ring->err_token, wants);
	return any;
}

static bool may_start(struct device *device, const Bh__Ring *ring)
{
	const struct ring_state *state = &device->core->rings[ring->index];

	if (!ring->started || !ring->has_addresses || !ring->size || !device->core->n_mapped)
		return false;
	return !(state->broken && state->error_start_id == ring->start_id);
}

static void note_start(struct device_queue *queue, const Bh__Ring *ring)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];

	if (state->start_id != ring->start_id)
		state->err_signalled = false;
	state->shows = false;
	state->n_blank_kicks = 0;
	state->start_id = ring->start_id;
	if (state->error_start_id != ring->start_id) {
		state->error = NULL;
		state->broken = false;
	}
}

/* What a ring needs grows with its size, and the guest chooses both sizes and number. NULL: it may be started */
static const char *ring_refused(const struct device *device, const Bh__Ring *ring)
{
	uint64_t n = ring->size;

	if (ring->size > device->offer.queue_size_max)
		return start_error(VIRTQ_E_SIZE);
	for (uint32_t i = 0; i < device->offer.n_queues; i++)
		if (device->queues[i].vq)
			n += device->ledger.queues[i].size;
	return n <= DESCS_MAX ? NULL : "the device's rings together are longer than 1048576 descriptors";
}

/* A VMM whose former back-end died without a word can only guess where its rings stand. */
static void tell_place(const struct device_queue *queue, const Bh__Ring *ring)
{
	if (virtq_place(queue->vq) == VIRTQ_AS_TOLD)
		return;
	if (virtq_place(queue->vq) == VIRTQ_FOUND)
		log_limited(LOG_NOTICE, NULL, 0, "ring %u is not where the VMM says (0x%x): it goes on at 0x%x, as the ring itself shows",
			queue->index, ring->position, virtq_base(queue->vq));
	else
		log_limited(LOG_WARNING, NULL, 0, "ring %u may not be where the VMM says (0x%x), and does not show where it is: should it stand "
			    "still, the guest has to set the device up anew", queue->index, ring->position);
}

static bool start_ring(struct device_queue *queue, const Bh__Ring *ring)
{
	struct device *device = queue->device;
	struct ledger_queue *slot = &device->ledger.queues[queue->index];
	struct virtq_setup setup = {
		.index = (uint16_t)ring->index,
		.size = ring->size,
		.packed = has_bit(device->features, F_PACKED),
		.event_idx = has_bit(device->features, F_EVENT_IDX),
		.indirect = has_bit(device->features, F_INDIRECT),
		.in_order = has_bit(device->features, F_IN_ORDER),
		.reads_only = device->ops->reads_only && device->ops->reads_only(queue->index),
		.desc = { ring->desc_uva },
		.avail = { ring->avail_uva },
		.used = { ring->used_uva },
		.base = ring->position,
		.start_id = ring->start_id,
		.blame = &device->ledger.header->blame,
	};
	bool known = slot->start_id == ring->start_id;
	const char *refused = ring_refused(device, ring);
	void *inflight = inflight_of(device, &setup, &setup.inflight_id);
	int r;

	note_start(queue, ring);
	if (refused) {
		ring_failed(queue, ring->start_id, refused, false);
		return false;
	}
	r = virtq_start(&queue->vq, &setup, device->map, slot, inflight);
	if (r != 0) {
		queue->vq = NULL;
		ring_failed(queue, ring->start_id, start_error(r), false);
		return false;
	}
	tell_place(queue, ring);
	queue->waits_until_ns = known || ring->enabled ? 0 : clock_ns() + DEVICE_WAIT_MS * UINT64_C(1000000);
	device->core->rings[queue->index].error = NULL;
	slot->running = 1;
	if (device->ops->queue_started)
		device->ops->queue_started(device, queue, known);
	device_queue_call(queue); /* a former process may have died before it called */
	return true;
}

static void apply_ring(struct device *device, const Bh__Ring *ring, struct wants *wants)
{
	struct device_queue *queue = &device->queues[ring->index];
	bool any = apply_fds(queue, ring, wants);

	any |= queue->enabled != ring->enabled || queue->poll != ring->poll;
	queue->enabled = ring->enabled;
	queue->poll = ring->poll;
	if (!queue->vq && may_start(device, ring))
		any |= start_ring(queue, ring);
	if (any)
		changed(queue);
}

/* A ring the record does not know (the VMM went away) has nothing left. */
static void forget_ring(struct device_queue *queue)
{
	struct ring_state *state = &queue->device->core->rings[queue->index];

	if (queue->kick_fd < 0 && queue->call_fd < 0 && queue->err_fd < 0 && !queue->enabled &&
		!state->start_id)
		return;
	queue->kick_fd = fd_close(queue->kick_fd);
	queue_set_call(queue, -1);
	queue->err_fd = fd_close(queue->err_fd);
	queue->enabled = false;
	queue->poll = false;
	*state = (struct ring_state){ 0 };
	changed(queue);
}

static void apply_rings(struct device *device, const Bh__Desired *desired, struct wants *wants)
{
	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		const Bh__Ring *ring = find_ring(desired, i);

		if (ring)
			apply_ring(device, ring, wants);
		else
			forget_ring(&device->queues[i]);
	}
}

/* --- The whole --- */

static void apply_paused(struct device *device, const Bh__Desired *desired, struct wants *wants)
{
	stop_unwanted_rings(device, desired);
	apply_session(device, desired);
	apply_features(device, desired);
	if (memory_differs(device, desired)) {
		unmap_unwanted(device, desired);
		map_wanted(device, desired, wants);
		remap_rings(device);
	}
	inflight_apply(device, desired->inflight, wants_find(wants, inflight_token(desired)));
	apply_rings(device, desired, wants);
	apply_config_writes(device, desired);
}

static void apply_regions(struct device *device, Bh__Desired *desired, struct wants *wants)
{
	unmap_unwanted(device, desired);
	map_wanted(device, desired, wants);
	device->core->generation = desired->generation;
	bh__desired__free_unpacked(desired, NULL);
}

static void apply_whole(struct device *device, Bh__Desired *desired, struct wants *wants)
{
	struct device_core *core = device->core;

	blame_set(&device->ledger.header->blame, LEDGER_BLAME_RECORD, desired->generation);
	fault_point("apply", desired->status);
	device_pause(device);
	apply_paused(device, desired, wants);
	apply_note(core, desired);
	device_resume(device);
	loop_rings_assign(device);
	loop_rings_serve(device);
	apply_announce(device, desired);
	blame_finish();
}

/* What is in force is not touched before all that the record names is at hand. */
static int with_wants(struct device *device, Bh__Desired *desired,
	void (*apply)(struct device *device, Bh__Desired *desired, struct wants *wants))
{
	struct wants *wants = calloc(1, sizeof(*wants));

	check(wants);
	desired = wants_redeem(wants, device, desired);
	if (desired)
		apply(device, desired, wants);
	wants_deinit(wants);
	free(wants);
	return desired ? 0 : -EAGAIN;
}

int apply_memory(struct device *device, Bh__Desired *desired)
{
	return with_wants(device, desired, apply_regions);
}

int apply_desired(struct device *device, Bh__Desired *desired)
{
	return with_wants(device, desired, apply_whole);
}

void apply_broken(struct device *device)
{
	struct device_core *core = device->core;

	device_pause(device);
	for (uint32_t i = 0; i < device->offer.n_queues; i++) {
		struct device_queue *queue = &device->queues[i];
		const char *why;

		pthread_mutex_lock(&core->broken_lock);
		why = core->broken[i];
		core->broken[i] = NULL;
		pthread_mutex_unlock(&core->broken_lock);
		if (!why || !queue->vq)
			continue;
		device->ledger.queues[i].broken = 1;
		stop_ring(queue);
		ring_failed(queue, core->rings[i].start_id, why, true);
	}
	device_resume(device);
	loop_rings_assign(device);
	loop_rings_serve(device);
}

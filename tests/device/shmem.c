/*
 * A device with a shared memory region, whose driver says what is to be mapped there; a worker for
 * tests alone, in the place of bulkhead-net. It remembers its maps in its state, and their files in
 * the vault, and answers each request at once: what has become of a map is asked for.
 */
#include "shmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "device/device.h"
#include "device/shmem.h"

#define N_QUEUES 2
#define BATCH 16

struct slot {
	uint64_t seq, offset, size;
	uint32_t state; /* enum shmem_state */
	uint32_t n_told;
};

struct state {
	struct slot slots[SHMEM_MAPS];
};

static struct slot *find(struct device *device, uint64_t seq)
{
	struct state *state = device->state;

	for (size_t i = 0; i < SHMEM_MAPS; i++)
		if (state->slots[i].state != SHMEM_NONE && state->slots[i].seq == seq)
			return &state->slots[i];
	return NULL;
}

static struct slot *find_free(struct device *device)
{
	struct state *state = device->state;

	for (size_t i = 0; i < SHMEM_MAPS; i++)
		if (state->slots[i].state == SHMEM_NONE)
			return &state->slots[i];
	return NULL;
}

static const char *name_of(uint64_t seq, char *buf, size_t n)
{
	snprintf(buf, n, "m.%llu", (unsigned long long)seq);
	return buf;
}

/* --- What the driver asks --- */

static int make_file(const struct shmem_request *request)
{
	_cleanup_close_ int fd = memfd_create("map", MFD_CLOEXEC);
	uint64_t size = request->flags & SHMEM_F_SHORT ? request->size / 2 : request->size;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
		pwrite(fd, &request->seq, sizeof(request->seq), 0) != sizeof(request->seq))
		return -errno;
	if (!(request->flags & SHMEM_F_READ_ONLY))
		return fd_steal(&fd);
	return file_open_again(fd, O_RDONLY);
}

static struct shmem_map map_of(const struct slot *slot)
{
	return (struct shmem_map){ .seq = slot->seq,
		.region = SHMEM_REGION,
		.offset_bytes = slot->offset,
		.size_bytes = slot->size,
		.writable = true };
}

static int keep(struct device *device, uint64_t seq, int fd)
{
	char name[32];

	return fd < 0 ? fd : device_keep(device, name_of(seq, name, sizeof(name)), fd);
}

/* A request that a former instance took is taken again, unless that had noted it. */
static void map(struct device *device, const struct shmem_request *request)
{
	struct slot *slot = find_free(device);
	_cleanup_close_ int fd = slot ? make_file(request) : -1;
	bool kept = keep(device, request->seq, fd) == 0;
	struct shmem_map wanted;

	if (!slot)
		return;
	slot->seq = request->seq;
	slot->offset = request->offset;
	slot->size = request->size;
	slot->n_told = 0;
	__atomic_store_n(&slot->state, kept ? SHMEM_PENDING : SHMEM_FAILED, __ATOMIC_RELEASE);
	wanted = map_of(slot);
	if (kept && device_shmem_map(device, &wanted, fd) < 0)
		slot->state = SHMEM_FAILED;
}

static void unmap(struct device *device, struct slot *slot)
{
	char name[32];

	slot->state = SHMEM_NONE;
	device_shmem_unmap(device, slot->seq);
	(void)device_unkeep(device, name_of(slot->seq, name, sizeof(name)));
}

static void forget(struct device *device)
{
	struct state *state = device->state;
	char name[32];

	for (size_t i = 0; i < SHMEM_MAPS; i++) {
		if (state->slots[i].state == SHMEM_NONE)
			continue;
		state->slots[i].state = SHMEM_NONE;
		(void)device_unkeep(device, name_of(state->slots[i].seq, name, sizeof(name)));
	}
	device_shmem_forget(device);
}

static void serve_request(struct device *device, const struct shmem_request *request,
	struct shmem_answer *ret)
{
	struct slot *slot = find(device, request->seq);

	if (request->op == SHMEM_MAP && !slot)
		map(device, request);
	else if (request->op == SHMEM_UNMAP && slot)
		unmap(device, slot);
	else if (request->op == SHMEM_FORGET)
		forget(device);
	slot = find(device, request->seq);
	*ret = (struct shmem_answer){ .state = slot ? slot->state : SHMEM_NONE,
		.n_told = slot ? slot->n_told : 0 };
}

static enum device_wait shmem_serve(struct device_queue *queue)
{
	int n = virtq_fill(queue->vq, BATCH);

	if (n < 0) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	for (int i = 0; i < n; i++) {
		struct virtq_chain *chain = virtq_window(queue->vq, 0);
		struct shmem_request request = { 0 };
		struct shmem_answer answer;

		virtq_take(queue->vq, 1);
		virtq_read(chain, 0, &request, sizeof(request));
		serve_request(queue->device, &request, &answer);
		virtq_write(chain, 0, &answer, sizeof(answer));
		virtq_complete(queue->vq, chain, sizeof(answer));
	}
	virtq_publish(queue->vq);
	device_queue_call(queue);
	return n == BATCH ? DEVICE_MORE : DEVICE_KICK;
}

/* --- What the VMM says --- */

static void shmem_mapped(struct device *device, uint64_t seq, bool refused)
{
	struct slot *slot = find(device, seq);

	if (!slot)
		return;
	slot->n_told++;
	slot->state = refused ? SHMEM_REFUSED : SHMEM_MADE;
}

static size_t shmem_figures(struct device *device, struct device_figure *ret)
{
	const struct state *state = device->state;

	ret[0] = (struct device_figure){ .name = "maps", .unit = "" };
	ret[1] = (struct device_figure){ .name = "mapped", .unit = "bytes" };
	for (size_t i = 0; state && i < SHMEM_MAPS; i++) {
		if (state->slots[i].state != SHMEM_MADE)
			continue;
		ret[0].value++;
		ret[1].value += state->slots[i].size;
	}
	return 2;
}

/* --- The table --- */

static int shmem_prepare(struct device *device)
{
	device->offer.features = BIT(28) /* INDIRECT_DESC */ | BIT(29) /* EVENT_IDX */ |
		BIT(30) /* PROTOCOL_FEATURES */ | BIT(32) /* VERSION_1 */ |
		BIT(34) /* RING_PACKED */;
	/* MQ, INFLIGHT_SHMFD, CONFIGURE_MEM_SLOTS, STATUS */
	device->offer.protocol_features = BIT(0) | BIT(12) | BIT(15) | BIT(16);
	device->offer.n_queues = device->offer.queue_num = N_QUEUES;
	device->offer.queue_size_max = VIRTQ_SIZE_MAX;
	device->offer.shmem_bytes[SHMEM_REGION] = SHMEM_BYTES;
	return 0;
}

static void shmem_begin(struct device *device)
{
	struct state *state = device->state;
	char name[32];

	for (size_t i = 0; i < SHMEM_MAPS; i++) {
		struct slot *slot = &state->slots[i];
		struct shmem_map wanted = map_of(slot);
		_cleanup_close_ int fd = -1;

		if (slot->state != SHMEM_PENDING && slot->state != SHMEM_MADE)
			continue;
		fd = device_take_kept(device, name_of(slot->seq, name, sizeof(name)));
		if (fd < 0 || device_shmem_restore(device, &wanted, fd) < 0)
			slot->state = SHMEM_FAILED;
	}
}

static uint32_t shmem_group(const struct device *device, uint32_t index)
{
	return DEVICE_GROUP_LOOP;
}

static const struct device_ops shmem_ops = {
	.type = "net",
	.state_bytes = sizeof(struct state),
	.state_first_bytes = sizeof(struct state),
	.prepare = shmem_prepare,
	.begin = shmem_begin,
	.serve = shmem_serve,
	.group = shmem_group,
	.reset = forget,
	.shmem_mapped = shmem_mapped,
	.figures = shmem_figures,
};

int main(int argc, char *argv[])
{
	return device_main(argc, argv, &shmem_ops);
}

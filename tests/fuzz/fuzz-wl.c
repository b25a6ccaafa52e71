/*
 * Commands of a hostile driver, raw or with fields that come near to what makes sense, and what
 * they do to the table of VFDs. Now and then the worker is replaced, and its saved table may have
 * been tampered with by a process that the guest had taken over.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/check.h"
#include "input.h"
#include "request.h"
#include "space.h"
#include "vfd.h"

#define COMMAND_MAX 1024
#define PAGE SPACE_PAGE_BYTES

static struct vfd_saved saved;
static struct vfd_table table;

static const struct vfd_quota quota = { .n_vfds = 40, .n_contexts = 4, .mapped_bytes = 64 * PAGE };

/* --- The command --- */

/** struct command - as the driver writes it */
struct command {
	uint8_t bytes[COMMAND_MAX];
	size_t n;
	bool send_fences;
};

static void put32(struct command *command, size_t at, uint32_t value)
{
	memcpy(&command->bytes[at], &value, sizeof(value));
}

/* Types next to the valid ones, and ids of both halves, a few of each. */
static void make(struct command *command, struct input *in)
{
	uint8_t id = input_u8(in);

	put32(command, 0, VIRTIO_WL_CMD_VFD_NEW - 1 + input_u8(in) % 13);
	put32(command, 8,
		(id & 0x1f) | (id & 0x20 ? VIRTWL_VFD_ID_HOST_MASK : 0) |
			(id & 0x40 ? VIRTWL_VFD_ID_ILLEGAL_MASK : 0));
	put32(command, 12, input_u8(in) % 32);
	put32(command, 24, input_u16(in));
	command->n = 8 + input_u16(in) % 512;
	input_bytes(in, &command->bytes[28], input_u8(in));
}

static void make_raw(struct command *command, struct input *in)
{
	command->n = input_u16(in) % COMMAND_MAX;
	input_bytes(in, command->bytes, MIN(command->n, (size_t)input_u8(in) * 4));
}

/* The head in memory of its own, so that sanitizers see a byte too many. */
static uint32_t parse(const struct command *command, struct request *ret)
{
	size_t n_head = MIN(command->n, REQUEST_HEAD_MAX);
	uint8_t *head = malloc(n_head + !n_head);
	uint32_t r;

	check(head);
	memcpy(head, command->bytes, n_head);
	r = request_parse(ret, head, n_head, command->n, command->send_fences);
	free(head);
	return r;
}

static void check_send(const struct command *command, const struct request *request)
{
	check(request->n_items <= VIRTWL_SEND_MAX_ALLOCS);
	check(request->data_at >= sizeof(struct virtio_wl_ctrl_vfd_send));
	check(request->data_at + request->data_bytes == command->n);
	for (uint32_t i = 0; i < request->n_items; i++)
		check(request->items[i].kind < _VIRTIO_WL_CTRL_VFD_SEND_KIND_N);
}

static void check_refused(uint32_t r, const struct request *request)
{
	static const struct request untouched;

	check(r >= VIRTIO_WL_RESP_ERR && r <= VIRTIO_WL_RESP_INVALID_CMD);
	check(same_bytes(request, &untouched, sizeof(untouched)));
}

/* --- The table --- */

static void check_apart(const struct vfd *a, const struct vfd *b)
{
	check(a->id != b->id);
	if (a->map_seq && b->map_seq)
		check(a->offset_bytes + a->size_bytes <= b->offset_bytes ||
			b->offset_bytes + b->size_bytes <= a->offset_bytes);
}

static void check_table(void)
{
	uint32_t n = 0;
	uint64_t mapped = 0;

	for (unsigned int i = 0; i < VFDS_MAX; i++) {
		const struct vfd *vfd = vfd_at(&table, i);

		if (!vfd)
			continue;
		n++;
		mapped += vfd->map_seq ? vfd->size_bytes : 0;
		check(!vfd->map_seq || vfd->offset_bytes + vfd->size_bytes <= SPACE_BYTES);
		check(vfd->state == VFD_CLOSED || vfd_find(&table, vfd->id) == vfd);
		for (unsigned int j = 0; j < i; j++)
			if (vfd_at(&table, j))
				check_apart(vfd, vfd_at(&table, j));
	}
	check(n == table.n_vfds && mapped == table.mapped_bytes);
}

static void add(const struct request *request)
{
	struct vfd *vfd = vfd_find(&table, request->vfd_id);

	if (vfd || !vfd_is_guests_id(request->vfd_id))
		return;
	vfd = vfd_add(&table, request->vfd_id,
		request->type == VIRTIO_WL_CMD_VFD_NEW_CTX ? VFD_SOCKET : VFD_MEMORY);
	if (!vfd)
		return;
	if (vfd->kind == VFD_MEMORY && !vfd_map(&table, vfd, align_up(request->size, PAGE)))
		vfd_remove(&table, vfd);
	check(table.mapped_bytes <= quota.mapped_bytes);
}

static void drop(const struct request *request)
{
	struct vfd *vfd = vfd_find(&table, request->vfd_id);

	if (!vfd)
		return;
	if (request->flags & 1)
		vfd_hide(&table, vfd);
	else
		vfd_remove(&table, vfd);
}

static void apply(const struct command *command, const struct request *request)
{
	switch (request->type) {
	case VIRTIO_WL_CMD_VFD_NEW:
	case VIRTIO_WL_CMD_VFD_NEW_CTX:
		add(request);
		break;
	case VIRTIO_WL_CMD_VFD_CLOSE:
		drop(request);
		break;
	case VIRTIO_WL_CMD_VFD_SEND:
		check_send(command, request);
		break;
	default:
		(void)vfd_add(&table, vfd_host_id(&table), VFD_FENCE);
	}
}

static void replace_worker(struct input *in)
{
	size_t n = input_u8(in) % 8;

	for (size_t i = 0; i < n; i++) {
		uint32_t at = input_u16(in) | (uint32_t)input_u8(in) << 16;

		((uint8_t *)&saved)[at % sizeof(saved)] ^= input_u8(in);
	}
	vfd_open(&table, &saved, &quota);
}

static void step(struct input *in)
{
	uint8_t what = input_u8(in);
	struct command command = { .send_fences = what & 1 };
	struct request request;
	uint32_t r;

	if ((what & 0x1e) == 0x1e) {
		replace_worker(in);
		return;
	}
	memset(&request, 0, sizeof(request));
	(what & 2 ? make_raw : make)(&command, in);
	r = parse(&command, &request);
	if (r)
		check_refused(r, &request);
	else
		apply(&command, &request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = { data, n };

	memset(&saved, 0, sizeof(saved));
	vfd_open(&table, &saved, &quota);
	while (in.n)
		step(&in);
	check_table();
	return 0;
}

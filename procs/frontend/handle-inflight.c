/*
 * The memory in which chains in flight are noted, and which the VMM keeps for a back-end that has
 * lost everything. It is a file of its own: the ledger, in which the suite keeps what it relies on
 * itself, is never handed over. Each GET_INFLIGHT_FD makes a new file, all zeros, which says that
 * it is new; with SET_INFLIGHT_FD the VMM names the file that is to be used from now on, most often
 * the same one.
 *
 * The VMM may write to it at any time, may hand over any other file, and may change its mind: what
 * the file is, is judged by the memory manager (regions.h), and what is in it by who starts a ring
 * (recover.c). Neither message may come while a ring runs, so no ring ever changes the file under
 * way.
 */
#include <string.h>

#include "base/file.h"
#include "handlers.h"
#include "virtq/inflight-layout.h"

static int check_shape(struct exchange *exchange, const struct inflight_area *area)
{
	uint32_t n_max = exchange->view->observed->n_queues,
		 size_max = exchange->view->observed->queue_size_max;

	if (area->n_queues == 0 || area->n_queues > n_max || area->queue_size == 0 ||
		area->queue_size > size_max)
		return exchange_refuse(exchange,
			"%u queues of %u descriptors; up to %u of up to %u are possible",
			area->n_queues, area->queue_size, n_max, size_max);
	return 0;
}

static void fill(Bh__Inflight *inflight, const struct inflight_area *area, uint64_t token)
{
	inflight->token = token;
	inflight->mmap_size = area->mmap_size;
	inflight->mmap_offset = area->mmap_offset;
	inflight->n_queues = area->n_queues;
	inflight->queue_size = area->queue_size;
}

/* The file is deposited as if it had come with the message, which itself brings none. */
static int make_file(struct exchange *exchange, uint64_t n_bytes)
{
	int fd = exchange->msg.n_fds ? 0 : file_sealed("bulkhead-inflight", n_bytes);

	if (fd < 0)
		return exchange_refuse(exchange, "cannot allocate memory for it: %s",
			strerror(-fd));
	if (!exchange->msg.n_fds)
		exchange->msg.fds[exchange->msg.n_fds++] = fd;
	return 0;
}

enum outcome handle_get_inflight_fd(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	struct inflight_area area = msg->payload.inflight;
	enum outcome outcome;
	uint64_t token;

	if (check_shape(exchange, &area))
		return OUTCOME_REFUSED;
	/* room for either ring layout: which it will be may not have been said yet */
	area.mmap_size = area.n_queues * inflight_bytes(area.queue_size, true);
	area.mmap_offset = 0;
	if (make_file(exchange, area.mmap_size))
		return OUTCOME_REFUSED;
	outcome = exchange_deposit(exchange, &token);
	if (outcome != OUTCOME_DONE)
		return outcome;
	fill(desired_new_inflight(next), &area, token);
	return OUTCOME_CHANGED;
}

size_t reply_inflight(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	const Bh__Inflight *inflight = exchange->view->desired->inflight;
	struct inflight_area area = { .mmap_size = inflight->mmap_size,
		.mmap_offset = inflight->mmap_offset,
		.n_queues = (uint16_t)inflight->n_queues,
		.queue_size = (uint16_t)inflight->queue_size };

	memcpy(buf, &area, sizeof(area));
	return sizeof(area);
}

/* A refusal has no bytes to be mapped. */
uint64_t token_inflight(const Bh__Desired *desired, const void *reply, size_t n)
{
	struct inflight_area area;

	if (n != sizeof(area))
		return TOKEN_NONE;
	memcpy(&area, reply, sizeof(area));
	if (!area.mmap_size)
		return TOKEN_NONE;
	return desired->inflight ? desired->inflight->token : TOKEN_LOST;
}

/* Front-ends name what they were just given, and name it again when rings start again. The vault
 * has each file once. */
static bool is_the_same(struct exchange *exchange, const struct inflight_area *area, uint64_t token)
{
	const Bh__Inflight *now = exchange_desired(exchange)->inflight;

	return now && now->mmap_size == area->mmap_size && now->mmap_offset == area->mmap_offset &&
		now->n_queues == area->n_queues && now->queue_size == area->queue_size &&
		now->token == token;
}

enum outcome handle_set_inflight_fd(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct inflight_area *area = &msg->payload.inflight;
	enum outcome outcome;
	uint64_t token, least;

	if (check_shape(exchange, area))
		return OUTCOME_REFUSED;
	least = area->n_queues *
		inflight_bytes(area->queue_size, has_bit(next->features, VIRTIO_F_RING_PACKED));
	if (area->mmap_offset % INFLIGHT_ALIGN || area->mmap_size < least)
		return exchange_refuse(exchange,
			"%llu bytes at offset %llu; %llu at a multiple of %u are needed",
			(unsigned long long)area->mmap_size, (unsigned long long)area->mmap_offset,
			(unsigned long long)least, INFLIGHT_ALIGN);
	outcome = exchange_deposit(exchange, &token);
	if (outcome != OUTCOME_DONE)
		return outcome;
	if (is_the_same(exchange, area, token))
		return OUTCOME_SETTLE;
	fill(desired_new_inflight(next), area, token);
	return OUTCOME_CHANGED;
}

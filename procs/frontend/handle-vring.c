/*
 * Rings. Front-ends send these in many orders; all are taken: what a ring still lacks when it is started is
 * for the worker to wait for, and what is wrong with it is for the worker to say.
 */
#include "handlers.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define SIZE_MAX_DESCS 32768u

Bh__Ring *ring_find(const Bh__Desired *desired, uint32_t index)
{
	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->index == index)
			return desired->rings[i];
	return NULL;
}

Bh__Ring *ring_get(Bh__Desired *desired, uint32_t index)
{
	Bh__Ring *ring = ring_find(desired, index), **list;

	if (ring)
		return ring;
	list = reallocarray(desired->rings, desired->n_rings + 1, sizeof(*list));
	if (!list)
		return NULL;
	desired->rings = list;
	ring = malloc(sizeof(*ring));
	if (!ring)
		return NULL;
	bh__ring__init(ring);
	ring->index = index;
	/* a front-end without bit 30 knows no SET_VRING_ENABLE: its rings are enabled from the start */
	ring->enabled = desired->features_set && !has_bit(desired->features, F_PROTOCOL_FEATURES);
	list[desired->n_rings++] = ring;
	return ring;
}

static int no_memory(struct session *session)
{
	return session_refuse(session, "out of memory");
}

int handle_set_vring_num(struct session *session, const struct message *msg, Bh__Desired *next)
{
	Bh__Ring *ring = ring_get(next, msg->payload.state.index);
	uint32_t num = msg->payload.state.num;

	if (!ring)
		return no_memory(session);
	if (num == 0 || num > MIN(SIZE_MAX_DESCS, session->observed->queue_size_max))
		return session_refuse(session, "ring %u of %u descriptors; 1 to %u are possible",
			ring->index, num, session->observed->queue_size_max);
	if (next->features_set && !has_bit(next->features, F_VRING_PACKED) && !is_power_of_2(num))
		return session_refuse(session,
			"ring %u of %u descriptors; a split ring's size is a power of 2", ring->index, num);
	if (ring->started && ring->size && ring->size != num)
		return session_refuse(session, "ring %u is running; its size cannot change", ring->index);
	ring->size = num;
	return OUTCOME_CHANGED;
}

int handle_set_vring_addr(struct session *session, const struct message *msg, Bh__Desired *next)
{
	const struct vring_addr *addr = &msg->payload.addr;
	Bh__Ring *ring = ring_get(next, addr->index);

	if (!ring)
		return no_memory(session);
	if (addr->flags & ~1u)
		return session_refuse(session, "reserved flags are set");
	ring->has_addresses = true;
	ring->desc_uva = addr->desc;
	ring->avail_uva = addr->avail;
	ring->used_uva = addr->used;
	ring->log = addr->flags & 1;
	ring->log_gpa = addr->log;
	return OUTCOME_CHANGED;
}

int handle_set_vring_base(struct session *session, const struct message *msg, Bh__Desired *next)
{
	Bh__Ring *ring = ring_get(next, msg->payload.state.index);
	uint32_t base = msg->payload.state.num;

	if (!ring)
		return no_memory(session);
	if (ring->started)
		return session_refuse(session, "ring %u is running; its base cannot change", ring->index);
	if (next->features_set && !has_bit(next->features, F_VRING_PACKED) && base > UINT16_MAX)
		return session_refuse(session, "base 0x%x of ring %u; a split ring's has 16 bits", base,
			ring->index);
	ring->position = base;
	ring->start_id = 0; /* where it was before no longer counts */
	return OUTCOME_CHANGED;
}

/* The ring stops; the answer is where it goes on, once the worker has let go of it. */
int handle_get_vring_base(struct session *session, const struct message *msg, Bh__Desired *next)
{
	Bh__Ring *ring = ring_find(next, msg->payload.state.index);

	if (!ring || !ring->started)
		return OUTCOME_DONE;
	ring->started = false;
	ring->kick_token = 0;
	ring->poll = false;
	return OUTCOME_WAIT;
}

size_t reply_vring_base(struct session *session, const struct message *msg, uint8_t *buf)
{
	const Bh__Ring *ring = ring_find(session->desired, msg->payload.state.index);
	struct vring_state state = { .index = msg->payload.state.index,
		.num = ring ? ring->position : 0 };

	memcpy(buf, &state, sizeof(state));
	return sizeof(state);
}

static uint32_t fd_index(const struct message *msg)
{
	return (uint32_t)(msg->payload.u64 & VRING_FD_INDEX_MASK);
}

/* Kick starts the ring. On a running ring it only brings another descriptor. */
int handle_set_vring_kick(struct session *session, const struct message *msg, Bh__Desired *next)
{
	Bh__Ring *ring = ring_get(next, fd_index(msg));

	if (!ring)
		return no_memory(session);
	ring->kick_token = 0;
	if (msg->n_fds && session_deposit(session, &ring->kick_token))
		return OUTCOME_REFUSED;
	ring->poll = msg->n_fds == 0;
	if (!ring->started)
		ring->start_id = next->generation;
	ring->started = true;
	return OUTCOME_CHANGED;
}

int handle_set_vring_call(struct session *session, const struct message *msg, Bh__Desired *next)
{
	Bh__Ring *ring = ring_get(next, fd_index(msg));

	if (!ring)
		return no_memory(session);
	ring->call_token = 0;
	if (msg->n_fds && session_deposit(session, &ring->call_token))
		return OUTCOME_REFUSED;
	return OUTCOME_CHANGED;
}

int handle_set_vring_err(struct session *session, const struct message *msg, Bh__Desired *next)
{
	Bh__Ring *ring = ring_get(next, fd_index(msg));

	if (!ring)
		return no_memory(session);
	ring->err_token = 0;
	if (msg->n_fds && session_deposit(session, &ring->err_token))
		return OUTCOME_REFUSED;
	return OUTCOME_CHANGED;
}

int handle_set_vring_enable(struct session *session, const struct message *msg, Bh__Desired *next)
{
	Bh__Ring *ring = ring_get(next, msg->payload.state.index);

	if (!ring)
		return no_memory(session);
	if (msg->payload.state.num > 1)
		return session_refuse(session, "ring %u cannot be enabled by %u; 0 or 1 are due",
			ring->index, msg->payload.state.num);
	ring->enabled = msg->payload.state.num;
	return OUTCOME_CHANGED;
}

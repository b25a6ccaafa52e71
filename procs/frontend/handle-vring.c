/*
 * Rings. Front-ends send these in many orders, and all are taken: a ring that is started before it
 * has size, addresses or memory waits for them, and is as free to change as a stopped one until
 * then. What is wrong with addresses is said at once where memory and size are known, and by the
 * worker in any case.
 *
 * A ring that runs is stopped by GET_VRING_BASE before it is set up anew. Linux' own front-end only
 * disables it, and then sends the new set-up in its own order. Such a ring is held: with the first
 * message that changes it the worker lets go of the old addresses, which is waited for; when it is
 * enabled again, it starts with all that has come by then, at the new base, or without one where it
 * had stopped.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "handlers.h"
#include "rings.h"

#define NUM(x) ((unsigned long long)(x))

static bool packed(const Bh__Desired *desired)
{
	return has_bit(desired->features, VIRTIO_F_RING_PACKED);
}

static bool runs(const struct exchange *exchange, const Bh__Ring *ring)
{
	return ring_runs(exchange_desired(exchange), exchange->view->observed, ring);
}

static enum outcome hold(const struct exchange *exchange, Bh__Ring *ring)
{
	return ring_hold(exchange_desired(exchange), exchange->view->observed, ring)
		? OUTCOME_WAIT
		: OUTCOME_CHANGED;
}

enum outcome handle_set_vring_num(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	Bh__Ring *ring = desired_ring(next, msg->payload.state.index);
	enum outcome outcome;
	uint32_t num = msg->payload.state.num, max = exchange->view->observed->queue_size_max;

	if (num == 0 || num > MIN(VIRTQUEUE_SIZE_MAX, max))
		return exchange_refuse(exchange, "ring %u of %u descriptors; 1 to %u are possible",
			ring->index, num, max);
	if (!packed(next) && !is_power_of_2(num))
		return exchange_refuse(exchange,
			"ring %u of %u descriptors; the size of a split ring is a power of 2",
			ring->index, num);
	outcome = hold(exchange, ring);
	ring->size = num;
	return outcome;
}

/* --- Addresses --- */

static bool in_memory(const Bh__Desired *desired, uint64_t uva, uint64_t n_bytes)
{
	for (size_t i = 0; i < desired->n_regions; i++) {
		const Bh__Region *region = desired->regions[i];

		if (uva >= region->uva && uva - region->uva < region->size_bytes &&
			n_bytes <= region->size_bytes - (uva - region->uva))
			return true;
	}
	return false;
}

/** struct area - one of the three parts of a ring */
struct area {
	const char *name;
	uint64_t uva;
	uint64_t align;
	uint64_t n_bytes;
};

static int check_areas(struct exchange *exchange, const Bh__Desired *next, const Bh__Ring *ring,
	const struct vring_addr *addr)
{
	uint64_t n = MAX(ring->size, 1u);
	const struct area split[] = { { "descriptor table", addr->desc, 16, 16 * n },
		{ "available ring", addr->avail, 2, 6 + 2 * n },
		{ "used ring", addr->used, 4, 6 + 8 * n } };
	const struct area pack[] = { { "descriptor ring", addr->desc, 16, 16 * n },
		{ "driver event area", addr->avail, 4, 4 },
		{ "device event area", addr->used, 4, 4 } };
	const struct area *areas = packed(next) ? pack : split;

	for (size_t i = 0; i < ARRAY_SIZE(split); i++) {
		if (areas[i].uva % areas[i].align)
			return exchange_refuse(exchange,
				"the %s of ring %u at 0x%llx is not aligned to %llu bytes",
				areas[i].name, ring->index, NUM(areas[i].uva), NUM(areas[i].align));
		if (next->n_regions && !in_memory(next, areas[i].uva, areas[i].n_bytes))
			return exchange_refuse(exchange,
				"the %s of ring %u at 0x%llx of %llu bytes is not in a region of guest memory",
				areas[i].name, ring->index, NUM(areas[i].uva),
				NUM(areas[i].n_bytes));
	}
	return 0;
}

/* While the ring runs, only logging may change. */
static bool moves(const Bh__Ring *ring, const struct vring_addr *addr)
{
	return ring->desc_uva != addr->desc || ring->avail_uva != addr->avail ||
		ring->used_uva != addr->used;
}

static enum outcome set_log(struct exchange *exchange, Bh__Desired *next, Bh__Ring *ring,
	const struct vring_addr *addr)
{
	bool log = addr->flags & VRING_ADDR_LOG;
	bool changes = ring->log != log || ring->log_gpa != addr->log;

	ring->log = log;
	ring->log_gpa = addr->log;
	if (log_refuses_ring(exchange, next, ring))
		return OUTCOME_REFUSED;
	return changes ? log_outcome(exchange) : OUTCOME_CHANGED;
}

enum outcome handle_set_vring_addr(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct vring_addr *addr = &msg->payload.addr;
	Bh__Ring *ring = desired_ring(next, addr->index);
	enum outcome outcome;

	if (addr->flags & ~VRING_ADDR_LOG)
		return exchange_refuse(exchange, "reserved flags are set");
	if (check_areas(exchange, next, ring, addr))
		return OUTCOME_REFUSED;
	if (runs(exchange, ring) && ring->enabled && moves(ring, addr))
		return exchange_refuse(exchange,
			"ring %u runs; it must be stopped or disabled before it moves",
			ring->index);
	outcome = set_log(exchange, next, ring, addr);
	if (outcome == OUTCOME_REFUSED)
		return outcome;
	if (moves(ring, addr) && hold(exchange, ring) == OUTCOME_WAIT)
		outcome = OUTCOME_WAIT;
	ring->has_addresses = true;
	ring->desc_uva = addr->desc;
	ring->avail_uva = addr->avail;
	ring->used_uva = addr->used;
	return outcome;
}

/* --- Position --- */

static bool base_possible(const Bh__Desired *next, const Bh__Ring *ring, uint32_t base)
{
	if (!packed(next))
		return base <= UINT16_MAX;
	return !ring->size || ((base & 0x7fff) < ring->size && (base >> 16 & 0x7fff) < ring->size);
}

/* Where the ring was before no longer counts: it is as if it had never been started. */
enum outcome handle_set_vring_base(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	Bh__Ring *ring = desired_ring(next, msg->payload.state.index);
	uint32_t base = msg->payload.state.num;
	enum outcome outcome;

	if (!base_possible(next, ring, base))
		return exchange_refuse(exchange, "base 0x%x is not in ring %u of %u descriptors",
			base, ring->index, ring->size);
	outcome = hold(exchange, ring);
	ring->position = base;
	ring->start_id = ring->started ? next->generation : 0;
	return outcome;
}

/* The ring stops; the answer is where it goes on, once the worker has let go of it. GET_VRING_BASE
 * waits for the chains that the device holds; that which does not is offered only for devices that
 * hold none then. */
enum outcome handle_get_vring_base(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	Bh__Ring *ring = desired_find_ring(next, msg->payload.state.index);

	if (!ring || (!ring->start_id && !ring->held))
		return OUTCOME_DONE;
	if (!ring->started && !ring->held)
		return OUTCOME_SETTLE;
	ring->started = ring->held = false;
	ring->kick_token = 0;
	ring->in_band &= ~(uint32_t)INBAND_KICK;
	ring->poll = false;
	return OUTCOME_WAIT;
}

size_t reply_vring_base(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	const Bh__Ring *ring = desired_find_ring(exchange->view->desired, msg->payload.state.index);
	struct vring_state state = { .index = msg->payload.state.index,
		.num = ring ? ring_position(exchange->view->desired, exchange->view->observed,
				      &exchange->view->heard, ring)
			    : 0 };

	memcpy(buf, &state, sizeof(state));
	return sizeof(state);
}

/* --- Descriptors --- */

/* A socket (User Mode Linux has one for its calls) is only written to. It is closed by memory,
 * by a worker or by the service manager, and must hold nothing then that makes closing wait:
 * from now on nothing comes into it. */
static bool deaf(int fd)
{
	char text[FD_KIND_TEXT_BYTES];
	int unread = 0;

	if (fd_kind_of(fd, text) != FD_CHANNEL)
		return true;
	return shutdown(fd, SHUT_RD) == 0 && ioctl(fd, FIONREAD, &unread) == 0 && unread == 0;
}

static bool agreed_in_band(const struct exchange *exchange)
{
	return has_bit(exchange_desired(exchange)->protocol_features,
		VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS);
}

/* Without a descriptor the VMM polls, or is polled; or it notifies in band, and one is made that
 * the message might have had. */
static bool is_in_band(const struct exchange *exchange, const struct message *msg)
{
	return (msg->payload.u64 & VHOST_USER_VRING_NOFD_MASK) && agreed_in_band(exchange);
}

/* As many as the message might have had; those that are there already are kept. */
static int make_notifiers(struct message *msg, size_t n)
{
	for (; msg->n_fds < n; msg->n_fds++) {
		msg->fds[msg->n_fds] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (msg->fds[msg->n_fds] < 0)
			return -errno;
	}
	return 0;
}

static enum outcome deposit_notifier(struct exchange *exchange, const struct message *msg,
	Bh__Ring *ring, enum inband_kind kind, uint64_t *ret_token)
{
	bool in_band = is_in_band(exchange, msg);
	enum outcome outcome;
	uint64_t token = 0;
	int r = in_band && !msg->n_fds ? make_notifiers(&exchange->msg, 1) : 0;

	if (r < 0)
		return exchange_refuse(exchange, "no descriptor can be made for it: %s",
			strerror(-r));
	if (msg->n_fds && !deaf(msg->fds[0]))
		return exchange_refuse(exchange, "its descriptor is a socket with unread data");
	outcome = exchange_deposit(exchange, &token);
	if (outcome != OUTCOME_DONE)
		return outcome;
	*ret_token = token;
	ring->in_band = in_band ? ring->in_band | kind : ring->in_band & ~(uint32_t)kind;
	return OUTCOME_DONE;
}

static Bh__Ring *fd_ring(struct exchange *exchange, const struct message *msg, Bh__Desired *next)
{
	return desired_ring(next, row_ring(exchange->row, msg));
}

/* Said with the first ring only. A VMM whose memory is not shared has none to hand over, and
 * says nothing of it. */
static void look_for_memory(struct exchange *exchange)
{
	const Bh__Desired *desired = exchange_desired(exchange);

	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->started)
			return;
	if (desired->n_regions == 0)
		exchange_log(exchange,
			"the VMM starts a ring, and guest memory is not shared with us: start the VMM "
			"with shared memory (memory-backend-memfd,share=on)");
}

/* A kick descriptor starts the ring. One that runs only gets another descriptor. */
enum outcome handle_set_vring_kick(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	Bh__Ring *ring = fd_ring(exchange, msg, next);
	enum outcome outcome =
		deposit_notifier(exchange, msg, ring, INBAND_KICK, &ring->kick_token);

	if (outcome != OUTCOME_DONE)
		return outcome;
	look_for_memory(exchange);
	ring->poll = msg->n_fds == 0;
	if (ring->held)
		return OUTCOME_CHANGED;
	if (!ring->started || ring_failed(exchange->view->observed, ring))
		ring->start_id = next->generation;
	ring->started = true;
	return OUTCOME_CHANGED;
}

enum outcome handle_set_vring_call(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	Bh__Ring *ring = fd_ring(exchange, msg, next);
	enum outcome outcome =
		deposit_notifier(exchange, msg, ring, INBAND_CALL, &ring->call_token);

	return outcome == OUTCOME_DONE ? OUTCOME_CHANGED : outcome;
}

enum outcome handle_set_vring_err(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	Bh__Ring *ring = fd_ring(exchange, msg, next);
	enum outcome outcome = deposit_notifier(exchange, msg, ring, INBAND_ERR, &ring->err_token);

	return outcome == OUTCOME_DONE ? OUTCOME_CHANGED : outcome;
}

/* A VMM that has agreed on messages may send no SET_VRING_KICK and no SET_VRING_CALL (User Mode
 * Linux does not): by the specification the first kick starts the ring. Calls are in band then. */
static enum outcome start_in_band(struct exchange *exchange, Bh__Desired *next, Bh__Ring *ring)
{
	uint64_t tokens[2];
	bool uncalled = !ring->call_token && !(ring->in_band & INBAND_CALL);
	int r = make_notifiers(&exchange->msg, uncalled ? 2 : 1);
	enum outcome outcome;

	if (r < 0)
		return exchange_refuse(exchange, "no descriptor can be made for it: %s",
			strerror(-r));
	outcome = exchange_deposit(exchange, tokens);
	if (outcome != OUTCOME_DONE)
		return outcome;
	look_for_memory(exchange);
	ring->kick_token = tokens[0];
	ring->in_band |= INBAND_KICK;
	if (uncalled) {
		ring->call_token = tokens[1];
		ring->in_band |= INBAND_CALL;
	}
	ring->start_id = next->generation;
	ring->started = true;
	return OUTCOME_CHANGED;
}

/* Was it set up, and never started or told how it is kicked? One that was stopped waits for
 * SET_VRING_KICK. */
static bool starts_in_band(const struct exchange *exchange, const Bh__Ring *ring)
{
	return ring && ring->has_addresses && !ring->started && !ring->held && !ring->start_id &&
		agreed_in_band(exchange);
}

/* May be handled twice: the ring is looked at once more. */
enum outcome handle_vring_kick(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	Bh__Ring *ring = desired_find_ring(next, msg->payload.state.index);

	if (starts_in_band(exchange, ring))
		return start_in_band(exchange, next, ring);
	if (!ring || !ring->started || !(ring->in_band & INBAND_KICK))
		return exchange_refuse(exchange, "ring %u is not started to be kicked in band",
			msg->payload.state.index);
	inband_kick(exchange, ring->index);
	return OUTCOME_DONE;
}

/* Remembered whatever the ring's state, and before any feature is set. */
enum outcome handle_set_vring_enable(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct vring_state *state = &msg->payload.state;

	if (state->num > 1)
		return exchange_refuse(exchange, "ring %u can be set to 0 or 1, not to %u",
			state->index, state->num);
	ring_enable(next, desired_ring(next, state->index), state->num);
	return OUTCOME_CHANGED;
}

/*
 * The dirty log: memory of the VMM's with a bit for each page of guest memory, in which the worker
 * marks what it writes while the VMM migrates its guest. It is in force while LOG_ALL is acked. A
 * log stays when LOG_ALL goes, since a VMM may switch that on again without another word; a VMM
 * that brings a new one each time leaves the old one behind. So a log that is too small for guest
 * memory is an error only where it would be written: while a ring runs.
 *
 * Front-ends differ in what they wait for. QEMU waits for the reply to SET_LOG_BASE, whose value it
 * does not look at, and takes the marks out of the former log then. It asks for acknowledgements of
 * the messages that switch logging on, or, without REPLY_ACK, sends GET_FEATURES behind them. So
 * each of these messages is done when the worker has done it.
 *
 * Spec: vhost-user, "Migration"; "Log description".
 */
#include <string.h>

#include "handlers.h"
#include "rings.h"

#define NUM(x) ((unsigned long long)(x))
#define LOG_PAGE 4096

enum outcome log_outcome(const struct exchange *exchange)
{
	return ring_any_runs(exchange_desired(exchange), exchange->view->observed)
		? OUTCOME_WAIT
		: OUTCOME_CHANGED;
}

/* --- What a log covers --- */

static bool covers(const Bh__Log *log, uint64_t last)
{
	return last / LOG_PAGE / 8 < log->mmap_size;
}

/* The last byte of guest memory; 0: there is none. */
static uint64_t last_of_memory(const Bh__Desired *desired)
{
	uint64_t last = 0;

	for (size_t i = 0; i < desired->n_regions; i++)
		last = MAX(last, desired->regions[i]->gpa + desired->regions[i]->size_bytes - 1);
	return last;
}

static bool refuses_memory(struct exchange *exchange, const Bh__Desired *next)
{
	uint64_t last = last_of_memory(next);

	if (covers(next->log, last))
		return false;
	exchange_refuse(exchange,
		"a dirty log of %llu bytes is too small for guest memory, which ends at 0x%llx: %llu are "
		"needed",
		NUM(next->log->mmap_size), NUM(last), NUM(last / LOG_PAGE / 8 + 1));
	return true;
}

bool log_refuses(struct exchange *exchange, const Bh__Desired *next)
{
	return next->log && has_bit(next->features, VHOST_F_LOG_ALL) &&
		ring_any_runs(exchange_desired(exchange), exchange->view->observed) &&
		refuses_memory(exchange, next);
}

/* A log that does not cover guest memory is one that was left behind: it says nothing of rings. */
bool log_refuses_ring(struct exchange *exchange, const Bh__Desired *next, const Bh__Ring *ring)
{
	uint64_t n =
		has_bit(next->features, VIRTIO_F_RING_PACKED) ? 4 : 6 + 8 * (uint64_t)ring->size;
	uint64_t last;

	if (!ring->log)
		return false;
	if (add_overflows(ring->log_gpa, n - 1, &last) ||
		(next->log && covers(next->log, last_of_memory(next)) &&
			!covers(next->log, last))) {
		exchange_refuse(exchange,
			"the log address 0x%llx of ring %u, which stands for %llu bytes, is not in the dirty "
			"log",
			NUM(ring->log_gpa), ring->index, NUM(n));
		return true;
	}
	return false;
}

/* --- SET_LOG_BASE --- */

static int check_area(struct exchange *exchange, const struct log_area *area)
{
	uint64_t end;

	if (area->mmap_size == 0)
		return exchange_refuse(exchange, "a dirty log of 0 bytes");
	if (add_overflows(area->mmap_offset, area->mmap_size, &end) || end > INT64_MAX)
		return exchange_refuse(exchange,
			"a dirty log of 0x%llx bytes at offset 0x%llx wraps around",
			NUM(area->mmap_size), NUM(area->mmap_offset));
	return 0;
}

static int check_use(struct exchange *exchange, const Bh__Desired *next)
{
	if (refuses_memory(exchange, next))
		return OUTCOME_REFUSED;
	for (size_t i = 0; i < next->n_rings; i++)
		if (next->rings[i]->started && log_refuses_ring(exchange, next, next->rings[i]))
			return OUTCOME_REFUSED;
	return 0;
}

/* Front-ends with several queue pairs name the same log once for each pair. */
static bool is_the_same(const Bh__Log *now, const struct log_area *area, uint64_t token)
{
	return now && now->mmap_size == area->mmap_size && now->mmap_offset == area->mmap_offset &&
		now->token == token;
}

enum outcome handle_set_log_base(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	const struct log_area *area = &msg->payload.log;
	enum outcome outcome;
	uint64_t token = 0;
	Bh__Log *log;

	if (check_area(exchange, area))
		return OUTCOME_REFUSED;
	log = desired_new_log(next);
	log->mmap_size = area->mmap_size;
	log->mmap_offset = area->mmap_offset;
	if (check_use(exchange, next))
		return OUTCOME_REFUSED;
	outcome = exchange_deposit(exchange, &token);
	if (outcome != OUTCOME_DONE)
		return outcome;
	log->token = token;
	return is_the_same(exchange_desired(exchange)->log, area, token) ? OUTCOME_SETTLE
									 : OUTCOME_WAIT;
}

/* The specification names no payload, and QEMU takes any. rust-vmm's front-end, which is Cloud
 * Hypervisor's, waits for the description that it has sent. */
size_t reply_log_base(struct exchange *exchange, const struct message *msg, uint8_t *buf)
{
	memcpy(buf, &msg->payload.log, sizeof(msg->payload.log));
	return sizeof(msg->payload.log);
}

/* --- SET_LOG_FD --- */

/* A back-end may tell the VMM by this eventfd that it has marked something. None of today's
 * front-ends asks for it, and each looks at the log when it wants to: it is closed, and done. */
enum outcome handle_set_log_fd(struct exchange *exchange, const struct message *msg,
	Bh__Desired *next)
{
	return OUTCOME_DONE;
}

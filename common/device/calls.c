/*
 * When the driver is notified. A notification may be held back, to tell of several publications at
 * once. The driver is asked twice: when the first of them is made, because nothing is owed to a
 * driver that wants no notification, and when it is due, because it may have seen them meanwhile.
 *
 * The serving thread looks at the time only while a ring owes something: once a turn, and to sleep
 * no longer than until the first of them is due.
 */
#include "device/calls.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "device/core.h"

#define NS_PER_US 1000u
#define HOLD_NS (DEVICE_HOLD_MS * UINT64_C(1000000))

static uint64_t count_chains(const struct device_queue *queue)
{
	return virtq_counters(queue->vq)->chains;
}

static void call(struct device_queue *queue)
{
	queue->owed_until_ns = 0;
	queue->told_chains = count_chains(queue);
	if (virtq_call_due(queue->vq))
		queue_signal_call(queue);
}

/* The driver wants to hear of what was published just now, as the first. */
static void owe(struct device_queue *queue)
{
	struct device_group *group = atomic_load_explicit(&queue->group, memory_order_relaxed);

	queue->owed_until_ns = clock_ns() + queue->hold_ns;
	group->owes = true;
}

static bool is_held(struct device_queue *queue)
{
	if (!queue->owed_until_ns && !virtq_call_wanted(queue->vq)) {
		queue->told_chains = count_chains(queue);
		return true;
	}
	if (count_chains(queue) - queue->told_chains >= queue->hold_chains)
		return false;
	if (!queue->owed_until_ns)
		owe(queue);
	return true;
}

void device_queue_call(struct device_queue *queue)
{
	if (likely(!queue->hold_chains)) {
		if (virtq_call_due(queue->vq))
			queue_signal_call(queue);
	} else if (!is_held(queue)) {
		call(queue);
	}
}

void device_queue_call_now(struct device_queue *queue)
{
	if (queue->owed_until_ns)
		call(queue);
}

void device_queue_hold_calls(struct device_queue *queue, uint32_t max_chains, uint32_t max_us)
{
	uint64_t ns = MIN((uint64_t)max_us * NS_PER_US, HOLD_NS);
	uint32_t chains = ns ? MIN(max_chains, queue->device->core->rings[queue->index].size) : 0;

	if (chains == queue->hold_chains && ns == queue->hold_ns)
		return;
	queue->hold_chains = chains;
	queue->hold_ns = ns;
	call(queue);
}

void calls_look(struct device_group *group)
{
	uint64_t now = clock_ns();

	group->owes = false;
	for (unsigned int i = 0; i < group->n_queues; i++) {
		struct device_queue *queue = group->queues[i];

		if (queue->owed_until_ns && queue->owed_until_ns <= now)
			call(queue);
		group->owes |= queue->owed_until_ns != 0;
	}
}

uint64_t calls_left_ns(const struct device_group *group)
{
	uint64_t now = clock_ns(), left = HOLD_NS;

	for (unsigned int i = 0; i < group->n_queues; i++) {
		uint64_t until = group->queues[i]->owed_until_ns;

		if (until)
			left = MIN(left, until > now ? until - now : 0);
	}
	return left;
}

void calls_start(struct device_queue *queue)
{
	call(queue);
}

void calls_stop(struct device_queue *queue)
{
	if (queue->owed_until_ns)
		queue_signal_call(queue);
	queue->owed_until_ns = 0;
	queue->hold_chains = 0;
}

#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "device/turnstile.h"
#include "virtq/virtq.h"

/*
 * The rings of a device as those see them who serve them. A group is the rings of one thread: it
 * gives each of them a turn (ops->serve()), asks for kicks when none has more to do, and sleeps
 * until a kick, the group's host descriptor, or device_queue_wake().
 */

struct device;
struct device_group;
struct loop_ring;

/** enum device_wait - what ops->serve() answers: what the ring waits for now that its turn is
 * over */
enum device_wait {
	/* nothing: there may be more to do, and the other rings of the group have their turns
	 * first */
	DEVICE_MORE,
	DEVICE_KICK, /* the driver: it is asked for a kick */
	DEVICE_HOST, /* the group's host descriptor; the driver need not kick */
	DEVICE_SOON, /* DEVICE_WAIT_MS, at most */
	/* a turn of another ring of the group, or device_queue_wake(); the driver need not kick */
	DEVICE_OTHER,
};

/** enum device_drain - how far a ring has come to rest */
enum device_drain { DRAIN_NONE, DRAIN_ASKED, DRAIN_DONE };

/** struct device_queue - one ring; written while its group is paused */
struct device_queue {
	struct device *device;
	unsigned int index;
	struct virtq *vq; /* NULL while it does not run */
	bool enabled;
	bool poll;               /* started without a kick descriptor */
	uint64_t waits_until_ns; /* see device_queue_waits() */
	int kick_fd;             /* owned; -1 = none */
	int call_fd;             /* owned; -1 = none */
	int err_fd;              /* owned; -1 = none */
	void *data;              /* the device's own */

	/* the serving side's own */
	_Atomic(struct device_group *) group; /* NULL: no thread serves it, or it does not run */
	enum device_wait wait;
	atomic_int drain; /* enum device_drain */
	bool deaf;        /* its kicks are not listened to for a moment */
};

/** struct device_group - what one thread serves */
struct device_group {
	struct device *device;
	unsigned int index;
	int host_fd; /* what DEVICE_HOST waits for, borrowed; -1 = none; set by ops->resume() */
	void *data;  /* the device's own */
	struct device_queue **queues; /* that run, the highest index first */
	unsigned int n_queues;

	/* the serving side's own */
	struct turnstile turnstile;
	pthread_t thread;
	bool has_thread;
	int epoll_fd;
	int wake_fd;
	bool host_armed;
};

#define DEVICE_GROUP_LOOP UINT32_MAX /* as a group's number: the loop's thread serves the ring */
#define DEVICE_GROUP_NONE (UINT32_MAX - 1) /* nobody does */

/** device_queue_broken() - the driver broke this ring (or guest memory went away under it): its err
 * descriptor is signalled, it is stopped and reported at the loop's next turn. Any thread; the
 * caller serves the ring no more. why: a static text. */
void device_queue_broken(struct device_queue *queue, const char *why);

/** device_queue_may_take() - how many chains of the ring may be taken now. UINT_MAX, but of a ring
 * that is disabled or comes to rest (ops->drain()): of that only those that a former instance had
 * taken. In ops->serve() and drain(). */
unsigned int device_queue_may_take(const struct device_queue *queue);

/** device_drained() - the answer to ops->drain(). Any thread, in ops->drain() itself, too; of no
 * effect if unasked. */
void device_drained(struct device_queue *queue);

/** device_queue_call() - notify the driver if it wants to be; counts. The queue's serving
 * thread. */
void device_queue_call(struct device_queue *queue);

/** device_queue_wake() - have the ring served again soon, whatever it waits for. Any thread, while
 * the ring runs. */
void device_queue_wake(struct device_queue *queue);

#define DEVICE_WAIT_MS 20
/** device_queue_waits() - whether the ring was started disabled less than DEVICE_WAIT_MS ago: what
 * lies in it may be meant for after it is enabled, which the VMM says next; who has to empty a
 * disabled ring waits until then (DEVICE_SOON) */
bool device_queue_waits(const struct device_queue *queue);

/** device_pause() - when it returns no thread is in ops->serve(), and none gets there before
 * device_resume(). Nests; the loop's thread. Chains that were taken stay valid. */
void device_pause(struct device *device);
/** device_resume() - ops->resume() for each group that goes on, which looks at its rings without
 * waiting for a kick */
void device_resume(struct device *device);

#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "device/polling.h"
#include "device/turnstile.h"
#include "virtq/virtq.h"

/*
 * The rings of a device, as seen by the code that serves them. A group is the set of rings that one
 * thread serves. The thread gives each ring a turn (ops->serve()), enables kicks when no ring has
 * more to do, and sleeps until a kick, an event of the group's host descriptor, or
 * device_queue_wake().
 */

struct device;
struct device_group;
struct loop_ring;

/** enum device_wait - returned by ops->serve(): what the ring waits for after its turn */
enum device_wait {
	/* nothing: there may be more to do, after the turns of the group's other rings */
	DEVICE_MORE,
	DEVICE_KICK, /* the driver: its kicks are enabled */
	DEVICE_HOST, /* the group's host descriptor; kicks stay disabled */
	DEVICE_SOON, /* at most DEVICE_WAIT_MS */
	/* a turn of another ring of the group, or device_queue_wake(); kicks stay disabled */
	DEVICE_OTHER,
};

/** enum device_drain - progress of a drain */
enum device_drain { DRAIN_NONE, DRAIN_ASKED, DRAIN_DONE };

/** struct device_queue - one ring; written only while its group is paused */
struct device_queue {
	struct device *device;
	unsigned int index;
	struct virtq *vq; /* NULL = not running */
	bool enabled;
	bool poll;               /* started without a kick descriptor */
	uint64_t waits_until_ns; /* see device_queue_waits() */
	int kick_fd;             /* owned; -1 = none */
	int call_fd;             /* owned; -1 = none */
	int err_fd;              /* owned; -1 = none */
	void *data;              /* the device's own */

	/* private to the serving code */
	_Atomic(struct device_group *) group; /* NULL: not running, or not served by a thread */
	enum device_wait wait;
	atomic_int drain;     /* enum device_drain */
	bool deaf;            /* its kicks are ignored for a moment */
	uint32_t hold_chains; /* see device_queue_hold_calls(); 0 = no notification is held back */
	uint64_t hold_ns;
	uint64_t told_chains;   /* the ring's chain count when the driver was last asked */
	uint64_t owed_until_ns; /* a notification is held back until then; 0 = none is */
};

/** struct device_group - the rings of one thread */
struct device_group {
	struct device *device;
	unsigned int index;
	int host_fd; /* for DEVICE_HOST, borrowed; -1 = none; set by ops->resume() */
	void *data;  /* the device's own */
	struct device_queue **queues; /* running ones, highest index first */
	unsigned int n_queues;

	/* private to the serving code */
	struct turnstile turnstile;
	pthread_t thread;
	bool has_thread;
	int epoll_fd;
	int wake_fd;
	bool host_armed;
	bool owes; /* a ring may hold back a notification */
	struct polling polling;
	uint64_t n_chains; /* of all rings, when work was last looked for */
};

#define DEVICE_GROUP_LOOP UINT32_MAX /* instead of a group's number: served by the loop thread */
#define DEVICE_GROUP_NONE (UINT32_MAX - 1) /* not served */

/** device_queue_broken() - the driver broke this ring, or its guest memory was unmapped. The loop
 * then signals its err descriptor, stops it and reports it. Any thread; the caller must stop
 * serving the ring. why: a static text. */
void device_queue_broken(struct device_queue *queue, const char *why);

/** device_queue_may_take() - how many chains of the ring may be taken now: UINT_MAX for an
 * enabled ring. For a ring that is disabled or draining (ops->drain()), only the chains that a
 * previous instance had taken. Called in ops->serve() and drain(). */
unsigned int device_queue_may_take(const struct device_queue *queue);

/** device_drained() - completes ops->drain(). Any thread, also from within ops->drain(); without
 * effect if no drain was requested. */
void device_drained(struct device_queue *queue);

/** device_queue_call() - notify the driver unless it suppresses notifications, now or when it is
 * due (device_queue_hold_calls()); counts. The queue's serving thread. */
void device_queue_call(struct device_queue *queue);

#define DEVICE_HOLD_MS 1000
/** device_queue_hold_calls() - hold back each notification of the ring until max_chains chains were
 * published, or max_us have passed since the first of them; 0 = none is held back. Chains beyond
 * the ring's size and time beyond DEVICE_HOLD_MS count as those. What was held back before a change
 * is notified at once, and so it is when the ring stops or the worker ends; to be called again when
 * it was started. The ring runs, a group's thread serves it, and its group is paused. */
void device_queue_hold_calls(struct device_queue *queue, uint32_t max_chains, uint32_t max_us);

/** device_queue_call_now() - notify of what is held back, because the device cannot go on before
 * the driver does. The queue's serving thread. */
void device_queue_call_now(struct device_queue *queue);

/** device_queue_wake() - have the ring served soon, whatever it waits for. Any thread, while the
 * ring is running; for a ring of the loop thread, that thread. */
void device_queue_wake(struct device_queue *queue);

#define DEVICE_WAIT_MS 20
/** device_queue_waits() - whether the ring was started disabled less than DEVICE_WAIT_MS ago. The
 * VMM may be about to enable it, and its chains may be meant for that state. A device that must
 * empty disabled rings waits until then (DEVICE_SOON). */
bool device_queue_waits(const struct device_queue *queue);

/** device_pause() - on return, no thread is in ops->serve(), and none enters it before
 * device_resume(). Nests. Chains already taken stay valid. Loop thread. */
void device_pause(struct device *device);
/** device_resume() - undo device_pause(): ops->resume() for each group that continues, which then
 * polls its rings once without waiting for a kick. Loop thread. */
void device_resume(struct device *device);

#pragma once

#include "device/queue.h"

/* What a serving thread sleeps on. All of it is the group's thread's, but kicks_open(), while that
 * stands still. */

#define DEVICE_DEAF_MS 1 /* a ring that is kicked for nothing is looked at so often instead */

/** kicks_open() - listen to the kicks of the group's rings, as they are now; what was listened to
 * before is not any more, even where its descriptor lives on elsewhere */
void kicks_open(struct device_group *group);

/** kicks_ask() - have the drivers of those rings kick that wait for one; true: chains came
 * meanwhile */
bool kicks_ask(struct device_group *group);

/** kicks_sleep() - until a ring may have something to do; the drivers need not kick after it */
void kicks_sleep(struct device_group *group);

/** device_queue_drain_kick() - reset the kick eventfd to 0; counts. The queue's serving thread.
 * false: it was kicked many times for nothing, or its descriptor is ready for ever: the caller does
 * not listen to it for DEVICE_DEAF_MS, and looks at the ring after that. */
bool device_queue_drain_kick(struct device_queue *queue);

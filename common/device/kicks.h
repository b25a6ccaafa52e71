#pragma once

#include "device/queue.h"

/* What a serving thread sleeps on. For the group's thread only, except kicks_open(), which is
 * called while that thread is paused. */

#define DEVICE_DEAF_MS 1 /* a ring with useless kicks is polled at this interval instead */

/** kicks_open() - listen to the kick descriptors of the group's current rings. Former ones are no
 * longer listened to, even if another process keeps them open. */
void kicks_open(struct device_group *group);

/** kicks_ask() - enable kicks for rings that wait for the driver; true: new chains have arrived */
bool kicks_ask(struct device_group *group);

/** kicks_sleep() - sleep until a ring may have work, then disable kicks */
void kicks_sleep(struct device_group *group);

/** device_queue_drain_kick() - reset the kick eventfd to 0; counts. Serving thread. false: too
 * many kicks without a new chain, or the descriptor is always readable; the caller must ignore it
 * for DEVICE_DEAF_MS and then poll the ring. */
bool device_queue_drain_kick(struct device_queue *queue);

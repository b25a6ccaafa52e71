#pragma once

#include "device/queue.h"

/* Notifications that are held back: device_queue_hold_calls(). */

/** calls_look() - notify of what is due in a group that owes something; its thread */
void calls_look(struct device_group *group);

/** calls_left_ns() - how long nothing is due in a group that owes something; its thread */
uint64_t calls_left_ns(const struct device_group *group);

/** calls_start() - notify of what was published before the ring was started; its group is paused */
void calls_start(struct device_queue *queue);

/** calls_stop() - the ring stops, or leaves its group: none is held back any more. Notifies of what
 * is, without asking the driver, whose memory may be gone. Its group is paused, or has ended */
void calls_stop(struct device_queue *queue);

#pragma once

#include "device/device.h"

/* The serving threads. All functions are for the loop thread only. */

/** serve_new() - create the groups that ops->prepare() asked for, without threads; 0 | negative
 * errno */
int serve_new(struct device *device);
/** serve_start() - create the threads, which wait for their first resume; 0 | negative errno */
int serve_start(struct device *device);
/** serve_stop() - end the threads; no ring is served afterwards */
void serve_stop(struct device *device);
/** serve_free() - free the groups, after serve_stop() */
void serve_free(struct device *device);

/** group_of() - the group of a ring; NULL = no thread serves it */
struct device_group *group_of(const struct device *device, uint32_t index);
/** group_pause(), group_resume() - device_pause(), device_resume() for one group; all four
 * nest */
void group_pause(struct device_group *group);
void group_resume(struct device_group *group);
/** group_go_on() - undo group_pause() if nothing that the thread caches has changed */
void group_go_on(struct device_group *group);

/* loop-rings.c */

/** loop_rings_assign() - listen to the kicks of the rings that the loop thread serves now */
void loop_rings_assign(struct device *device);
/** loop_rings_serve() - give each of them a turn without waiting for a kick; not paused */
void loop_rings_serve(struct device *device);
/** loop_ring_wake() - give a ring a turn soon; without effect if the loop does not serve it */
void loop_ring_wake(struct device_queue *queue);
/** loop_rings_free() - free them; none is served afterwards */
void loop_rings_free(struct device *device);

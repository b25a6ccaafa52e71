#pragma once

#include "device/device.h"

/* The threads that serve rings, seen from the loop's thread, which alone calls these. */

/** serve_new() - groups as ops->prepare() has ordered them, without threads; 0 | negative errno */
int serve_new(struct device *device);
/** serve_start() - their threads, which wait until they are let go first; 0 | negative errno */
int serve_start(struct device *device);
/** serve_stop() - the threads end; no ring is served any more */
void serve_stop(struct device *device);
/** serve_free() - behind serve_stop() */
void serve_free(struct device *device);

/** group_of() - of the rings with this number: NULL: none of a thread's */
struct device_group *group_of(const struct device *device, uint32_t index);
/** group_pause(), group_resume() - as device_pause() and device_resume(), for one group; they nest
 * with those */
void group_pause(struct device_group *group);
void group_resume(struct device_group *group);
/** group_go_on() - undo group_pause(), and nothing has changed that the thread remembers */
void group_go_on(struct device_group *group);

/* loop-rings.c */

/** loop_rings_assign() - listen to the kicks of those rings that the loop's thread serves, as they
 * are now */
void loop_rings_assign(struct device *device);
/** loop_rings_serve() - a turn for each of them, without waiting for a kick; not paused */
void loop_rings_serve(struct device *device);
/** loop_rings_free() - none is served any more */
void loop_rings_free(struct device *device);

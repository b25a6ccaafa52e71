#pragma once

#include <pthread.h>

struct device;

/** device_thread_start() - start a thread that blocks all signals but those of faults; 0 |
 * negative errno */
int device_thread_start(pthread_t *ret_thread, void *(*main)(void *data), void *data);
/** device_thread_begin() - called by the i-th thread (i < 64) before it touches a ring; a later
 * instance waits for its end */
void device_thread_begin(struct device *device, unsigned int i);
/** device_thread_end() - called by the thread last */
void device_thread_end(struct device *device, unsigned int i);

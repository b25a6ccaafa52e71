#pragma once

#include <pthread.h>

struct device;

/** device_thread_start() - one that never runs a signal's handler but those of faults; 0 | negative
 * errno */
int device_thread_start(pthread_t *ret_thread, void *(*main)(void *data), void *data);
/** device_thread_begin() - the i-th thread (i < 64), before it touches a ring: a later instance
 * waits for its end */
void device_thread_begin(struct device *device, unsigned int i);
/** device_thread_end() - its last */
void device_thread_end(struct device *device, unsigned int i);

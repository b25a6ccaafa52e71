#pragma once

#include <stdbool.h>

/*
 * I/O on descriptors that the VMM passed. The VMM can change their flags at any time, so any call
 * may block; these are interrupted after at most FOREIGN_TICK_MS.
 */

#define FOREIGN_TICK_MS 50

/** foreign_write() - add 1 to an eventfd; false: the counter was full, nothing was added. Any
 * thread. */
bool foreign_write(int fd);

/** foreign_read() - read and reset an eventfd; false: it was 0. Any thread. */
bool foreign_read(int fd);

/** foreign_end() - free the calling thread's timer; called before a thread that used these ends */
void foreign_end(void);

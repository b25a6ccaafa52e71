#pragma once

#include <stdbool.h>

/*
 * Reading and writing what the VMM handed over. Its flags are the VMM's at any moment, so that each
 * call may turn out to be one that waits; none here waits for longer than FOREIGN_TICK_MS.
 */

#define FOREIGN_TICK_MS 50

/** foreign_write() - add one to an event counter; false: it was full, and the call was given up.
 * Any thread. */
bool foreign_write(int fd);

/** foreign_read() - take what the counter holds; false: there was nothing. Any thread. */
bool foreign_read(int fd);

/** foreign_end() - a thread that used these is about to end */
void foreign_end(void);

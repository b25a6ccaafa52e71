#ifndef TESTS_FAULT_MOVES_H
#define TESTS_FAULT_MOVES_H

#include "world.h"

/*
 * Transfers of the device's state, while processes die: one completes, or fails cleanly, and the
 * one after it completes, since nobody dies then. Rings are stopped before it, and go on after it
 * where they were. 0 or a negative errno, and then w->why tells.
 */
int moves_save(struct world *w);
/* loads what moves_prepare() has saved */
int moves_load(struct world *w);
/* while nobody dies */
int moves_prepare(struct world *w);

#endif

#pragma once

#include "peers.h"

/*
 * The side links, over which descriptors travel. Each peer has a listening socket of its own, so
 * that the socket tells who asks. Requests are answered from the event loop, one at a time.
 */

/** links_open() - listen for the peer, on the socket that the fd store has if it can still be used
 * Errors: 0 | negative errno, logged; -EPERM: we are not in the peer's group. */
int links_open(struct peer *peer);

/** links_open_ctl(), links_close_ctl() - likewise for bulkheadctl, which only root or our own user
 * runs: up to CTL_MAX at a time */
int links_open_ctl(struct memory *memory);
void links_close_ctl(struct memory *memory);

/** links_close() - hang up and stop listening; the listening socket stays in the fd store */
void links_close(struct peer *peer);

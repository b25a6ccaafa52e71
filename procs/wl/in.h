#pragma once

#include "wl.h"

/* The in ring: what the host sends. */

/** in_serve() - ops->serve() */
enum device_wait in_serve(struct device_queue *queue);

/** in_started() - the ring was started: settle what a former instance was about */
void in_started(struct wl *wl, struct virtq *vq);

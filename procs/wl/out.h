#pragma once

#include "wl.h"

/* The out ring: the guest's commands, and their answers. */

/** out_serve() - ops->serve() */
enum device_wait out_serve(struct device_queue *queue);

/** out_started() - the ring was started: settle what a former instance was about */
void out_started(struct wl *wl, struct virtq *vq);

/** out_stopped() - chains that were held are not ours any more */
void out_stopped(struct wl *wl);

/** out_answered() - the VMM has answered: a command may go on */
void out_answered(struct wl *wl);

/** out_drain() - ops->drain(): answer all chains that were taken */
void out_drain(struct device_queue *queue);

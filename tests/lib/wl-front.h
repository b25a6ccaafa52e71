#ifndef TESTS_LIB_WL_FRONT_H
#define TESTS_LIB_WL_FRONT_H

/*
 * virtio-wl by our front-end: a session on a vhost-user socket whose shared memory region is
 * mapped as the device asks for it, and a guest's two rings. The back-end's channel is served
 * whenever the guest's side waits for something.
 */

#include "client.h"
#include "guest.h"
#include "ring.h"
#include "window.h"
#include "wl-guest.h"

#define WL_FRONT_SLOTS 16
#define WL_FRONT_EVENTS 64

struct wl_front {
	struct wl_link link; /* first: the ops are given this */
	struct vu_client c;
	struct guest g;
	struct ring rings[2];             /* "in" and "out" */
	uint32_t bases[2];                /* where the rings were stopped */
	uint64_t slots[WL_FRONT_SLOTS];   /* guest addresses of requests; 0 while not made */
	uint64_t replies[WL_FRONT_SLOTS]; /* and of their answers */
	int answers[WL_FRONT_SLOTS];      /* bytes of an answer; -1 free, -2 under way */
	struct window window;
	uint64_t features; /* beyond what it needs: of rings, and LOG_ALL */
	bool no_map;       /* says that it maps, and does not */
	bool refuse;       /* refuses every map */
	char why[800];
};

/* All return 0, a negative errno or VU_E_REFUSED; `why` then describes the error. */

/* connects, negotiates (the channel, SHMEM) and starts both rings; what follows may be closed in
 * any case. features, no_map and refuse may be set before. */
int wl_front_open(struct wl_front *f, const char *path);
void wl_front_close(struct wl_front *f);
/* both rings are stopped: GET_VRING_BASE */
int wl_front_pause(struct wl_front *f);
/* both rings are started where they were stopped */
int wl_front_resume(struct wl_front *f);
/* the guest starts again on the same connection: the VMM drops every map, the rings begin at 0 */
int wl_front_reboot(struct wl_front *f);
/* what the back-end asks of the VMM, until it asks for nothing */
int wl_front_serve(struct wl_front *f);
/* 0 | -EBADMSG the device wrote where it must not; see the rings' faults */
int wl_front_check(struct wl_front *f);

#endif

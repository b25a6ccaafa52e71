#pragma once

#include "wl.h"

/* The guest's connections to the compositors. */

enum {
	CONTEXT_OK,
	CONTEXT_E_UNKNOWN,   /* no compositor has that name */
	CONTEXT_E_GONE,      /* it does not answer */
	CONTEXT_E_RESOURCES, /* for want of descriptors or the like */
};

/** context_connect() - connect a new context to the compositor that it names. A compositor that is
 * busy is connected to later: what the guest sends is queued.
 * Errors: CONTEXT_OK | CONTEXT_E_*. */
int context_connect(struct wl *wl, struct vfd *vfd);

/** contexts_retry() - connect those that wait; one that cannot be connected hangs up */
void contexts_retry(struct wl *wl);

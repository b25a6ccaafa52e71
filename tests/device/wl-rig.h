#pragma once

#include "lib/recorder.h"
#include "rig.h"

/* The rig with a Wayland device, and a place for its compositor. */

#define WL_RIG_VFDS 100 /* the device's quota */

/* main() of a test program, as rig_main(); 1 without a place */
int wl_rig_main(const char *name, void (*add)(Suite *suite));
/* a compositor at that place, to be freed */
struct recorder *wl_rig_compositor(void);

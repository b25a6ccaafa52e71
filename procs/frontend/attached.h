#pragma once

#include "frontend.h"

/* A file in the frontend's runtime directory that tells the unit's ExecStopPost= which devices had
 * a VMM when the frontend was asked to end: deploy/frontend-stopped. */

/** attached_write() - list them; no file if there are none */
void attached_write(const struct frontend *frontend);

/** attached_remove() - a former process may have left one */
void attached_remove(const struct frontend *frontend);

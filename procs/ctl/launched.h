#pragma once

#include "seen.h"

/* What a launcher tells of a guest that it serves (launcher/told.h). */

/**
 * launched_look() - add the processes of a guest and its file, if a launcher serves it
 *
 * Returns: false: none does, or we may not know (seen->hidden). A launcher that was killed is a
 *          fault of the guest.
 */
bool launched_look(const char *runtime_dir, struct seen *seen);

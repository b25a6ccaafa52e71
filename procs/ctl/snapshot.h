#pragma once

#include <stdbool.h>

/** snapshot_run() - the command: save the state of a guest's devices, or of one, to a file
 * @which:    [in] GUEST or GUEST:DEVICE
 * @counters: [in] false: leave the counters out
 *
 * Errors: 0 | negative errno, already reported: what was in the file before is there. */
int snapshot_run(const char *runtime_dir, const char *which, const char *path, bool counters);

/** restore_run() - the command: load the state of a guest's devices, or of one, from a file
 * @counters: [in] false: the devices keep their own counters
 *
 * All of the file is judged, and compared with the guest's devices, before the first one is loaded.
 * Errors: 0 | negative errno, already reported, with what was loaded by then. */
int restore_run(const char *runtime_dir, const char *which, const char *path, bool counters);

#pragma once

#include <stdbool.h>

/**
 * upgrade_run() - replace running processes by the installed release, one at a time
 * @which: [in] GUEST, or GUEST:PROCESS where PROCESS is a device's name, "memory", "frontend", or
 *              "launcher"
 *
 * Whether new processes could read the guest's configuration is judged before anything ends
 * (check.h). Prints a line for each process. Stops at the first one that does not come back.
 * Errors: 0 | negative errno, already reported.
 */
int upgrade_run(const char *runtime_dir, const char *which);

/** upgrade_replace() - as upgrade_run(), without judging the guest's configuration before */
int upgrade_replace(const char *runtime_dir, const char *which);

/** upgrade_is_launched() - whether a launcher serves the guest */
bool upgrade_is_launched(const char *runtime_dir, const char *guest);

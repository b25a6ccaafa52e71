#pragma once

/**
 * upgrade_run() - replace running processes by the installed release, one at a time
 * @which: [in] GUEST, or GUEST:PROCESS where PROCESS is a device's name, "memory", "frontend", or
 *              "launcher"
 *
 * Prints a line for each process. Stops at the first one that does not come back.
 * Errors: 0 | negative errno, already reported.
 */
int upgrade_run(const char *runtime_dir, const char *which);

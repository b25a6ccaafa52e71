#pragma once

/**
 * level_run() - change the level of the log of running processes
 * @which: GUEST, or GUEST:PROCESS
 * @level: "debug", or "info", the usual one
 *
 * Errors: 0 | negative errno, said on standard error: other processes may have been changed.
 */
int level_run(const char *runtime_dir, const char *which, const char *level);

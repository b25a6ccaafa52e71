#pragma once

/**
 * program_probe() - whether a program can be run, before one that runs is replaced by it
 * @option: its only argument; it must do nothing and end with 0
 *
 * Waits for its end, some seconds at most. Errors: 0 | -ENOEXEC | negative errno.
 */
int program_probe(const char *path, const char *option);

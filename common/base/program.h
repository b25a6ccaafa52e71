#pragma once

/**
 * program_probe() - find out whether a program can be run, before it replaces a running one
 * @option: its only argument, with which it must exit with status 0 at once
 *
 * Blocks until the program exits, a few seconds at most.
 * Errors: 0 | -ENOEXEC: it does not exit with 0 | negative errno.
 */
int program_probe(const char *path, const char *option);

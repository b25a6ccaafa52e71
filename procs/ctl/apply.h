#pragma once

#include <stdbool.h>
#include <stddef.h>

/**
 * apply_run() - the command: make what runs look like the files
 * @guests:  [in] none: all that have a file, or run
 * @dry_run: [in] only say what would be done
 *
 * Nothing is done if any of their files is faulty. Prints a line for each thing that it does.
 * Errors: 0 | negative errno, already reported.
 */
int apply_run(const char *runtime_dir, char *guests[], size_t n, bool dry_run);

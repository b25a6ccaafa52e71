#pragma once

#include <stdbool.h>
#include <stdint.h>

/** file_sealed() - a new memfd of n_bytes zeros that nobody can make longer or shorter; negative errno */
int file_sealed(const char *name, uint64_t n_bytes);

/** file_same() - whether two descriptors are of one open file; false also where that cannot be told */
bool file_same(int a, int b);

/** file_compare() - less than, equal to or more than 0: an order of open files that holds as long as they are
 * open. Where the kernel does not tell, each descriptor counts as a file of its own. */
int file_compare(int a, int b);

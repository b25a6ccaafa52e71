#pragma once

#include <stdbool.h>
#include <stdint.h>

/** file_fixed() - as file_sealed(), to which further seals can be added; negative errno */
int file_fixed(const char *name, uint64_t n_bytes);

/** file_sealed() - a new memfd of n_bytes zeros that nobody can make longer or shorter; negative errno */
int file_sealed(const char *name, uint64_t n_bytes);

/** file_same() - whether two descriptors are of one open file; false also where that cannot be told */
bool file_same(int a, int b);

/** file_order() - an order of open files: 0 the same, negative, or positive; positive also where that cannot be told.
 * It stays for as long as they are open. */
int file_order(int a, int b);

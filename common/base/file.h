#pragma once

#include <stdbool.h>
#include <stdint.h>

/** file_fixed() - like file_sealed(), but more seals can be added later
 * Errors: the descriptor, the caller's | negative errno. */
int file_fixed(const char *name, uint64_t n_bytes);

/** file_sealed() - create a memfd of n_bytes zeros whose size cannot be changed
 * Errors: the descriptor, the caller's | negative errno. */
int file_sealed(const char *name, uint64_t n_bytes);

/** file_open_again() - the same file, as another open file description
 * @flags: O_RDONLY, O_WRONLY or O_RDWR
 * Errors: the descriptor, the caller's | negative errno. */
int file_open_again(int fd, int flags);

/** file_same() - whether two descriptors refer to the same open file description; false also if the
 * kernel cannot tell */
bool file_same(int a, int b);

/** file_order() - compare open file descriptions, for sorting: 0 the same, negative or positive.
 * The order is stable for as long as both are open. Positive also if the kernel cannot tell. */
int file_order(int a, int b);

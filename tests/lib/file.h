#pragma once

#include <stdint.h>

/* Files that a VMM might hand over. All functions fail the test on an error. */

/** file_make() - an anonymous file; the caller's
 * @flags: of memfd_create(), beside MFD_CLOEXEC
 * @seals: F_SEAL_*; 0 = none */
int file_make(uint64_t n_bytes, unsigned int flags, unsigned int seals);

/** file_reopen() - the same file, opened once more
 * @fd:    consumed
 * @flags: O_RDONLY, O_WRONLY or O_RDWR */
int file_reopen(int fd, int flags);

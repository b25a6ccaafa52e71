#pragma once

#include <stddef.h>
#include <sys/uio.h>

struct virtq_chain;

/* Chain payload by copy, for devices that read headers or commands. Bounds are checked. */

/** virtq_read() - copy n bytes at offset of the readable part; returns the bytes copied (less at its end) */
size_t virtq_read(const struct virtq_chain *chain, size_t offset, void *buf, size_t n);

/** virtq_write() - the same into the writable part */
size_t virtq_write(const struct virtq_chain *chain, size_t offset, const void *buf, size_t n);

/** virtq_slice() - the spans of iov behind the first `skip` bytes, at most max_bytes in all;
 * returns how many spans were put into ret (room for n_iov) */
unsigned int virtq_slice(const struct iovec *iov, unsigned int n_iov, size_t skip, size_t max_bytes,
	struct iovec *ret);

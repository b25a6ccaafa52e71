#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* A chain as a device sees it, and its payload by copy, for devices that read headers or
 * commands. */

/** struct virtq_chain - one buffer of the driver's; filled by virtq, read by the device */
struct virtq_chain {
	struct iovec *iov; /* n_out device-readable spans, then n_in device-writable ones */
	uint16_t n_out;
	uint16_t n_in;
	uint32_t out_bytes;
	uint32_t in_bytes;
	uint16_t id;      /* split: head; packed: buffer id */
	uint16_t n_slots; /* ring slots it takes */
	bool bad;         /* broke a rule of one request: complete it with 0 bytes, and go on */
	const char *rule; /* which, when bad; a static text */
};

/**
 * virtq_read() - copy out of the readable part
 * @offset: [in] into the readable part; any value
 * @buf:    [out] n bytes of room
 *
 * Returns the bytes copied: fewer than n where the readable part ends.
 */
size_t virtq_read(const struct virtq_chain *chain, size_t offset, void *buf, size_t n);

/**
 * virtq_write() - copy into the writable part
 * @offset: [in] into the writable part; any value
 *
 * Returns the bytes copied: fewer than n where the writable part ends. The length given to
 * virtq_complete() must reach to the last byte that was written.
 */
size_t virtq_write(const struct virtq_chain *chain, size_t offset, const void *buf, size_t n);

/**
 * virtq_slice() - a part of an array of spans
 * @skip:      [in]  bytes to leave out at the beginning
 * @max_bytes: [in]  how many to keep behind them
 * @ret:       [out] room for n_iov spans
 *
 * Returns how many spans were put into ret; they point where those of iov do.
 */
unsigned int virtq_slice(const struct iovec *iov, unsigned int n_iov, size_t skip, size_t max_bytes,
	struct iovec *ret);

#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * What a descriptor is that came from the host. To find it out, nothing is asked that could wait
 * for a file server or for a peer (fd/kind.h).
 */

#define RECEIVED_COPY_MAX (16u << 20)

enum received_kind {
	RECEIVED_FOREIGN, /* nothing that a guest can use */
	RECEIVED_MEMORY,  /* a file to be mapped, or a dma-buf */
	RECEIVED_PIPE,
	RECEIVED_SOCKET, /* a connected stream */
	RECEIVED_FENCE,
};

/** struct received - by received_judge() */
struct received {
	enum received_kind kind;
	bool readable;       /* as it was opened */
	bool writable;       /* likewise; for memory, whether it can be mapped for writing */
	uint64_t size_bytes; /* of memory */
};

/**
 * received_judge() - determine what it is
 * @fd:  [in,out] the caller's; a foreign one is replaced by the reading end of a pipe to which
 *       nobody writes, so that it can be kept and closed like any other. -1 if that is not possible
 *       either.
 */
void received_judge(int *fd, struct received *ret);

/** received_copy() - a file that can be mapped with whole pages, with the contents of one that
 * cannot: it is read-only, sealed or short. The source is RECEIVED_MEMORY, and stays the caller's.
 * Returns: the new file, the caller's | -EFBIG: more than RECEIVED_COPY_MAX | other negative
 * errno */
int received_copy(int fd, uint64_t size_bytes);

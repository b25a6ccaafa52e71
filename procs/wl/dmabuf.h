#pragma once

#include <stdint.h>

/* Buffers of the GPU, for NEW_DMABUF and DMABUF_SYNC. A build without libgbm has none. */

#define DMABUF_N_PLANES 3

enum {
	_DMABUF_E_OK = 0,
	DMABUF_E_NONE = 1,    /* no render node, or a build without libgbm */
	DMABUF_E_REFUSED = 2, /* the driver makes no such buffer */
	DMABUF_E_FLAGS = 3,
	DMABUF_E_TYPE = 4, /* this descriptor is no dma-buf */
};

struct dmabuf_device;

/** struct dmabuf - a buffer with rows one after the other, which the CPU may map */
struct dmabuf {
	int fd; /* the caller's */
	uint64_t size_bytes;
	uint32_t stride_bytes[DMABUF_N_PLANES];
	uint32_t offset_bytes[DMABUF_N_PLANES];
};

/* dmabuf-gbm.c, or dmabuf-none.c */

/** dmabuf_open() - open the render node; NULL: that is not possible, *ret_error says why (a
 * negative errno; -ENOTSUP: a build without libgbm) */
struct dmabuf_device *dmabuf_open(const char *render_node, int *ret_error);
/** dmabuf_close() - NULL is fine; returns NULL. Buffers live on. */
struct dmabuf_device *dmabuf_close(struct dmabuf_device *device);

/** dmabuf_new() - a buffer of so many pixels, in a format of DRM's (fourcc)
 * @device: NULL: there is none
 * Errors: 0 | DMABUF_E_NONE | DMABUF_E_REFUSED. */
int dmabuf_new(struct dmabuf_device *device, uint32_t width, uint32_t height, uint32_t fourcc,
	struct dmabuf *ret);

/* dmabuf.c */

/** dmabuf_sync() - begin or end access by the CPU
 * @flags: as in DMABUF_SYNC: 1 read, 2 write, 4 end
 * Errors: 0 | DMABUF_E_FLAGS | DMABUF_E_TYPE | negative errno. */
int dmabuf_sync(int fd, uint32_t flags);

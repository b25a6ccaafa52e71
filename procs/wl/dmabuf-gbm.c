#include "dmabuf.h"

#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

struct dmabuf_device {
	int fd;
	struct gbm_device *gbm;
};

struct dmabuf_device *dmabuf_open(const char *render_node, int *ret_error)
{
	struct dmabuf_device *device = calloc(1, sizeof(*device));

	*ret_error = -ENOMEM;
	if (!device)
		return NULL;
	device->fd = open(render_node, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	*ret_error = -errno;
	if (device->fd >= 0) {
		device->gbm = gbm_create_device(device->fd);
		*ret_error = -ENODEV;
	}
	return device->gbm ? device : dmabuf_close(device);
}

struct dmabuf_device *dmabuf_close(struct dmabuf_device *device)
{
	if (!device)
		return NULL;
	if (device->gbm)
		gbm_device_destroy(device->gbm);
	fd_close(device->fd);
	free(device);
	return NULL;
}

/* The size comes from the driver, and so are strides and offsets: a plane lies in it. */
static int describe(struct gbm_bo *bo, struct dmabuf *ret)
{
	int n_planes = gbm_bo_get_plane_count(bo);
	off_t size;

	*ret = (struct dmabuf){ .fd = gbm_bo_get_fd(bo) };
	size = ret->fd < 0 ? -1 : lseek(ret->fd, 0, SEEK_END);
	if (size <= 0) {
		ret->fd = fd_close(ret->fd);
		return DMABUF_E_REFUSED;
	}
	ret->size_bytes = (uint64_t)size;
	for (int i = 0; i < MIN(n_planes, DMABUF_N_PLANES); i++) {
		ret->stride_bytes[i] = gbm_bo_get_stride_for_plane(bo, i);
		ret->offset_bytes[i] = gbm_bo_get_offset(bo, i);
	}
	return 0;
}

int dmabuf_new(struct dmabuf_device *device, uint32_t width, uint32_t height, uint32_t fourcc,
	struct dmabuf *ret)
{
	struct gbm_bo *bo;
	int r;

	if (!device)
		return DMABUF_E_NONE;
	bo = gbm_bo_create(device->gbm, width, height, fourcc, GBM_BO_USE_LINEAR);
	if (!bo)
		return DMABUF_E_REFUSED;
	r = describe(bo, ret);
	gbm_bo_destroy(bo);
	return r;
}

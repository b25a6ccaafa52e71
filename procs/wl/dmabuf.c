#include "dmabuf.h"

#include <assert.h>
#include <errno.h>
#include <sys/ioctl.h>

#include <linux/dma-buf.h>

static_assert(DMA_BUF_SYNC_READ == 1 && DMA_BUF_SYNC_WRITE == 2 && DMA_BUF_SYNC_END == 4,
	"the flags of DMABUF_SYNC are the kernel's");

int dmabuf_sync(int fd, uint32_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	if (flags & ~(uint32_t)DMA_BUF_SYNC_VALID_FLAGS_MASK)
		return DMABUF_E_FLAGS;
	if (ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync) == 0)
		return 0;
	return errno == ENOTTY || errno == EINVAL ? DMABUF_E_TYPE : -errno;
}

#include "contexts.h"

#include <string.h>

#include "compositor.h"
#include "ends.h"

static int take(struct wl *wl, struct vfd *vfd, int fd)
{
	struct stream stream;

	vfd_files(&wl->vfds, vfd)->fd = fd;
	stream = ends_stream(wl, vfd);
	if (stream_begin(&stream) < 0 || ends_keep(wl, vfd) < 0)
		return CONTEXT_E_RESOURCES;
	vfd->is_connecting = 0;
	ends_watch(wl, vfd);
	return CONTEXT_OK;
}

int context_connect(struct wl *wl, struct vfd *vfd)
{
	int fd = -1;

	switch (compositors_connect(wl->compositors, vfd->name,
		strnlen(vfd->name, sizeof(vfd->name)), &fd)) {
	case 0:
		return take(wl, vfd, fd);
	case COMPOSITOR_E_WAIT:
		return CONTEXT_OK;
	case COMPOSITOR_E_UNKNOWN:
		return CONTEXT_E_UNKNOWN;
	default:
		return CONTEXT_E_GONE;
	}
}

static void retry(struct wl *wl, struct vfd *vfd)
{
	if (context_connect(wl, vfd) != CONTEXT_OK) {
		vfd->is_connecting = 0;
		ends_end(wl, vfd);
	} else if (!vfd->is_connecting) {
		(void)ends_flush(wl, vfd);
	}
	wl_wake(wl, VIRTWL_VQ_OUT);
}

void contexts_retry(struct wl *wl)
{
	for (unsigned int slot = 0; slot < VFDS_MAX; slot++) {
		struct vfd *vfd = vfd_at(&wl->vfds, slot);

		if (vfd && vfd->is_connecting)
			retry(wl, vfd);
	}
}

/*
 * Descriptors that come from the host. The guest is told of one when the VMM has mapped it, or does
 * not: a file that it cannot map is read-only, sealed or too short, as keymaps are, and does not
 * change, so that a copy does as well. What cannot be mapped at all is told without memory.
 */
#include "incoming.h"

#include "base/cleanup.h"
#include "ends.h"
#include "received.h"

#define PAGE_BYTES (UINT64_C(1) << VIRTWL_PFN_SHIFT)

/* --- Making --- */

static enum vfd_kind kind_of(const struct received *received)
{
	switch (received->kind) {
	case RECEIVED_MEMORY:
		return VFD_MEMORY;
	case RECEIVED_SOCKET:
		return VFD_SOCKET;
	case RECEIVED_FENCE:
		return VFD_FENCE;
	default:
		return received->writable ? VFD_PIPE_WRITE : VFD_PIPE_READ;
	}
}

static uint32_t flags_of(const struct wl *wl, enum vfd_kind kind)
{
	bool trans = wl_has_trans_flags(wl);

	switch (kind) {
	case VFD_SOCKET:
		return trans ? VIRTIO_WL_VFD_WRITE | VIRTIO_WL_VFD_READ : VIRTIO_WL_VFD_CONTROL;
	case VFD_PIPE_READ:
		return VIRTIO_WL_VFD_READ;
	case VFD_PIPE_WRITE:
		return VIRTIO_WL_VFD_WRITE;
	case VFD_FENCE:
		return VIRTIO_WL_VFD_FENCE;
	default:
		return trans ? 0 : VIRTIO_WL_VFD_WRITE | VIRTIO_WL_VFD_MAP;
	}
}

static bool begin_stream(struct wl *wl, const struct vfd *vfd)
{
	struct stream stream = ends_stream(wl, vfd);

	if (vfd->kind != VFD_SOCKET && vfd->kind != VFD_PIPE_READ && vfd->kind != VFD_PIPE_WRITE)
		return true;
	return stream.fd >= 0 && stream_begin(&stream) == 0;
}

static struct vfd *make(struct wl *wl, int *fd)
{
	struct received received;
	struct vfd *vfd;

	received_judge(fd, &received);
	vfd = vfd_add(&wl->vfds, vfd_host_id(&wl->vfds), kind_of(&received));
	wl->lacks_room = !vfd;
	if (!vfd)
		return NULL;
	vfd->flags = flags_of(wl, (enum vfd_kind)vfd->kind);
	vfd->file_bytes = received.size_bytes;
	vfd->is_readonly = !received.writable;
	vfd_files(&wl->vfds, vfd)->fd = fd_steal(fd);
	if (!begin_stream(wl, vfd))
		vfd->hup = VFD_HUP_DUE;
	return vfd;
}

bool incoming_make(struct wl *wl, struct vfd_message *message, int *fds)
{
	while (message->n_made < message->n_vfds) {
		struct vfd *vfd = make(wl, &fds[message->n_made]);

		if (!vfd)
			return false;
		if (ends_keep(wl, vfd) < 0) {
			ends_close(wl, vfd);
			return false;
		}
		message->vfds[message->n_made] = (uint16_t)vfd_slot(&wl->vfds, vfd);
		atomic_signal_fence(memory_order_seq_cst);
		message->n_made++;
	}
	return true;
}

/* --- Mapping --- */

static bool copy(struct wl *wl, struct vfd *vfd)
{
	struct vfd_files *files = vfd_files(&wl->vfds, vfd);
	int fd = received_copy(files->fd, vfd->file_bytes);

	if (fd < 0)
		return false;
	fd_close(files->fd);
	files->fd = fd;
	if (ends_keep(wl, vfd) < 0)
		return false;
	/* Not before: a successor that takes the kept file for the copy must find the copy. */
	atomic_signal_fence(memory_order_seq_cst);
	vfd->is_readonly = 0;
	vfd->is_copied = 1;
	return true;
}

/* Whether the VMM is asked now. */
static bool ask(struct wl *wl, struct vfd *vfd)
{
	bool is_whole = vfd->file_bytes % PAGE_BYTES == 0;

	if (vfd->file_bytes && vfd->file_bytes <= wl->vfds.quota.mapped_bytes &&
		(is_whole || vfd->is_copied || copy(wl, vfd)) &&
		vfd_map(&wl->vfds, vfd, align_up(vfd->file_bytes, PAGE_BYTES)) && ends_map(wl, vfd))
		return true;
	ends_unmap(wl, vfd);
	vfd->map = VFD_MAP_REFUSED;
	return false;
}

/* The VMM has refused it: if that was the file itself, it may take a copy. A successor that finds
 * it unmapped asks for what it then is. */
static bool ask_for_copy(struct wl *wl, struct vfd *vfd)
{
	bool is_last = vfd->is_copied;

	ends_unmap(wl, vfd);
	if (!is_last && copy(wl, vfd))
		return ask(wl, vfd);
	vfd->map = VFD_MAP_REFUSED;
	return false;
}

/* Whether the VMM has still to answer. */
static bool awaits_map(struct wl *wl, struct vfd *vfd)
{
	if (vfd->kind != VFD_MEMORY || vfd->state != VFD_COMING)
		return false;
	if (vfd->map == VFD_UNMAPPED)
		return ask(wl, vfd);
	if (vfd->map == VFD_MAP_REFUSED && vfd->map_seq)
		return ask_for_copy(wl, vfd);
	return vfd->map == VFD_MAP_ASKED;
}

bool incoming_map(struct wl *wl, const struct vfd_message *message)
{
	bool waits = false;

	for (size_t i = 0; i < message->n_made; i++) {
		struct vfd *vfd = vfd_at(&wl->vfds, message->vfds[i]);

		waits |= vfd && awaits_map(wl, vfd);
	}
	return !waits;
}

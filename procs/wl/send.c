#include "send.h"

#include "base/cleanup.h"
#include "bridge.h"
#include "ends.h"

/** struct parcel - what goes with the data */
struct parcel {
	uint32_t handles[VIRTWL_SEND_MAX_ALLOCS];
	uint32_t n;
};

/* --- What is sent --- */

/* A pipe's own end stays here; one that came from the host has no other. */
static bool can_be_sent(struct wl *wl, const struct vfd *vfd, uint32_t *ret_handle)
{
	const struct vfd_files *files = vfd_files(&wl->vfds, vfd);
	bool is_pipe = vfd->kind == VFD_PIPE_READ || vfd->kind == VFD_PIPE_WRITE;

	*ret_handle = vfd_slot(&wl->vfds, vfd) | (is_pipe ? ENDS_REMOTE : 0);
	return is_pipe ? files->remote_fd >= 0 && !vfd->is_sent : files->fd >= 0;
}

static uint32_t find_local(struct wl *wl, const struct request_item *item, struct wl_note *note,
	uint32_t *ret_handle)
{
	const struct vfd *vfd = vfd_find(&wl->vfds, (uint32_t)item->id);

	if (!vfd || vfd->state != VFD_LIVE)
		return VIRTIO_WL_RESP_INVALID_ID;
	if (!can_be_sent(wl, vfd, ret_handle))
		return VIRTIO_WL_RESP_INVALID_TYPE;
	if (*ret_handle & ENDS_REMOTE)
		note->remotes[note->n_remotes++] = (uint16_t)vfd_slot(&wl->vfds, vfd);
	return 0;
}

/* The bridge gives each answer once, and the command may have to wait for others. */
static int ask_bridge(struct wl *wl, const struct request_item *item, struct wl_foreign *foreign)
{
	enum bridge_what what =
		item->kind == VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU ? BRIDGE_BUFFER : BRIDGE_FENCE;
	uint64_t id =
		item->kind == VIRTIO_WL_CTRL_VFD_SEND_KIND_VIRTGPU_SIGNALED_FENCE ? 0 : item->id;

	if (foreign->fd >= 0 && foreign->kind == item->kind && foreign->id == item->id)
		return 0;
	foreign->fd = fd_close(foreign->fd);
	foreign->kind = item->kind;
	foreign->id = item->id;
	return bridge_ask(wl->bridge, what, id, &foreign->fd);
}

/* It is no VFD of the guest's: only the record names it. */
static uint32_t add_foreign(struct wl *wl, struct wl_foreign *foreign, uint32_t *ret_handle)
{
	struct vfd *vfd = vfd_add(&wl->vfds, vfd_host_id(&wl->vfds), VFD_DMABUF);

	if (!vfd)
		return VIRTIO_WL_RESP_OUT_OF_MEMORY;
	vfd_files(&wl->vfds, vfd)->fd = fd_steal(&foreign->fd);
	*ret_handle = vfd_slot(&wl->vfds, vfd);
	if (ends_keep(wl, vfd) < 0) {
		ends_drop(wl, vfd);
		return VIRTIO_WL_RESP_OUT_OF_MEMORY;
	}
	vfd_hide(&wl->vfds, vfd);
	return 0;
}

static uint32_t find_foreign(struct wl *wl, const struct request_item *item,
	struct wl_foreign *foreign)
{
	switch (ask_bridge(wl, item, foreign)) {
	case 0:
		return 0;
	case BRIDGE_E_WAIT:
		return SEND_WAITS;
	default:
		return VIRTIO_WL_RESP_INVALID_ID;
	}
}

/* All that is sent is found before any of it is added. */
static uint32_t find_items(struct wl *wl, const struct request *request, struct wl_note *note,
	struct parcel *ret)
{
	uint32_t r = 0;

	ret->n = request->n_items;
	for (uint32_t i = 0; r == 0 && i < request->n_items; i++) {
		const struct request_item *item = &request->items[i];

		r = item->kind == VIRTIO_WL_CTRL_VFD_SEND_KIND_LOCAL
			? find_local(wl, item, note, &ret->handles[i])
			: find_foreign(wl, item, &wl->foreign[i]);
	}
	return r;
}

static void drop_foreign(struct wl *wl)
{
	for (size_t i = 0; i < ARRAY_SIZE(wl->foreign); i++)
		wl->foreign[i].fd = fd_close(wl->foreign[i].fd);
}

static void drop_added(struct wl *wl, const struct request *request, const struct parcel *parcel,
	uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (request->items[i].kind != VIRTIO_WL_CTRL_VFD_SEND_KIND_LOCAL)
			ends_release(wl, vfd_at(&wl->vfds, parcel->handles[i]));
}

static uint32_t add_items(struct wl *wl, const struct request *request, struct parcel *parcel)
{
	uint32_t r = 0;

	for (uint32_t i = 0; r == 0 && i < request->n_items; i++) {
		if (request->items[i].kind != VIRTIO_WL_CTRL_VFD_SEND_KIND_LOCAL)
			r = add_foreign(wl, &wl->foreign[i], &parcel->handles[i]);
		if (r != 0)
			drop_added(wl, request, parcel, i);
	}
	return r;
}

/* --- Where it goes --- */

static uint32_t judge_target(struct wl *wl, const struct request *request, const struct vfd *vfd)
{
	if (!vfd || vfd->state != VFD_LIVE)
		return VIRTIO_WL_RESP_INVALID_ID;
	if (vfd->kind != VFD_SOCKET && vfd->kind != VFD_PIPE_WRITE)
		return VIRTIO_WL_RESP_INVALID_TYPE;
	if (request->n_items && vfd->kind != VFD_SOCKET)
		return VIRTIO_WL_RESP_INVALID_TYPE;
	if (request->n_items && !request->data_bytes) /* a descriptor goes with a byte */
		return VIRTIO_WL_RESP_INVALID_CMD;
	return wl->ends[vfd_slot(&wl->vfds, vfd)].over ? VIRTIO_WL_RESP_ERR : 0;
}

static uint32_t append(struct wl *wl, const struct request *request,
	const struct virtq_chain *chain, unsigned int slot, const struct stream_record *record)
{
	size_t at = request->data_at;
	struct iovec room[2];

	if (request->data_bytes > STREAM_RECORD_MAX ||
		stream_reserve(&wl->streams, slot, record->n_fds, record->n_bytes, room) != 0)
		return VIRTIO_WL_RESP_OUT_OF_MEMORY;
	for (unsigned int i = 0; i < 2; i++)
		at += virtq_read(chain, at, room[i].iov_base, room[i].iov_len);
	stream_append(&wl->streams, slot, record);
	ends_name(wl, record->handles, record->n_fds);
	return 0;
}

static uint32_t send(struct wl *wl, const struct request *request, const struct virtq_chain *chain,
	const struct wl_note *note, struct parcel *parcel)
{
	const struct stream_record record = { .n_bytes = (uint32_t)request->data_bytes,
		.n_fds = parcel->n,
		.handles = parcel->handles,
		.cookie = note->cookie };
	uint32_t r = add_items(wl, request, parcel);

	if (r != 0)
		return r;
	r = append(wl, request, chain, note->slot, &record);
	if (r != 0)
		drop_added(wl, request, parcel, parcel->n);
	return r;
}

/* The pipes of a record that a former instance has appended. */
static void find_remotes(struct wl *wl, const struct request *request, struct wl_note *note)
{
	uint32_t handle;

	for (uint32_t i = 0; i < request->n_items; i++)
		if (request->items[i].kind == VIRTIO_WL_CTRL_VFD_SEND_KIND_LOCAL)
			(void)find_local(wl, &request->items[i], note, &handle);
}

uint32_t send_execute(struct wl *wl, const struct request *request, const struct virtq_chain *chain,
	struct wl_note *note)
{
	struct vfd *vfd = vfd_find(&wl->vfds, request->vfd_id);
	struct parcel parcel;
	uint32_t r = judge_target(wl, request, vfd);

	if (r != 0)
		return r;
	note->slot = (uint16_t)vfd_slot(&wl->vfds, vfd);
	note->cookie = wl->saved->n_records + 1;
	if (stream_was_appended(&wl->streams, note->slot, note->cookie)) {
		find_remotes(wl, request, note);
	} else {
		r = find_items(wl, request, note, &parcel);
		if (r == 0 && request->data_bytes)
			r = send(wl, request, chain, note, &parcel);
		if (r != SEND_WAITS)
			drop_foreign(wl);
	}
	if (r != 0)
		return r;
	note->step = (uint8_t)(ends_flush(wl, vfd) ? WL_STEP_SENT : WL_STEP_HOLD);
	return 0;
}

void send_follow(struct wl *wl, const struct wl_note *note)
{
	wl->saved->n_records = note->cookie;
	for (size_t i = 0; i < note->n_remotes && i < ARRAY_SIZE(note->remotes); i++) {
		struct vfd *vfd =
			note->remotes[i] < VFDS_MAX ? vfd_at(&wl->vfds, note->remotes[i]) : NULL;

		if (!vfd || vfd->state != VFD_LIVE)
			continue;
		vfd->is_sent = 1;
		ends_release(wl, vfd);
	}
}

/*
 * The in ring. A message of the host's is peeked, and stays where it is while it is delivered:
 * first an event for each VFD that comes along, then one with the data. Then it is consumed. A
 * message whose VFDs have to be mapped, or for which there are not enough buffers, stays open, and
 * those of other VFDs are delivered meanwhile.
 */
#include "in.h"

#include <endian.h>
#include <string.h>

#include "base/cleanup.h"
#include "ends.h"
#include "incoming.h"

#define BUDGET 64 /* events per turn, and buffers that are too small */
#define PFN_NONE (UINT64_C(1) << (32 - VIRTWL_PFN_SHIFT)) /* the first behind the region */

enum progress {
	DELIVERED, /* there may be more */
	NOTHING,   /* no more of this VFD at present */
	STARVED,   /* there is no buffer */
};

/** struct turn - of the ring */
struct turn {
	struct wl *wl;
	struct device_queue *queue;
	unsigned int budget;
	bool broken;
};

static struct wl_note *note_of(struct wl *wl)
{
	return &wl->saved->notes[VIRTWL_VQ_IN];
}

/* --- Notes --- */

static void tell_new(struct wl *wl, struct vfd_message *message, unsigned int i)
{
	struct vfd *vfd = i < message->n_made ? vfd_at(&wl->vfds, message->vfds[i]) : NULL;

	if (vfd && vfd->state == VFD_COMING)
		vfd->state = VFD_LIVE;
	if (vfd)
		ends_watch(wl, vfd);
	message->n_told = (uint8_t)(i + 1);
}

/* What follows when the event of this note was published. */
static void follow(struct wl *wl, const struct wl_note *note)
{
	struct vfd *vfd = note->slot < VFDS_MAX ? vfd_at(&wl->vfds, note->slot) : NULL;

	if (!vfd)
		return;
	if (note->step == WL_STEP_TELL_NEW)
		tell_new(wl, &vfd->message, note->remotes[0]);
	if (note->step == WL_STEP_TELL_DATA)
		vfd->message.is_told = 1;
	if (note->step == WL_STEP_TELL_HUP)
		vfd->hup = VFD_HUP_TOLD;
}

static void close_note(struct wl *wl)
{
	atomic_signal_fence(memory_order_seq_cst);
	note_of(wl)->step = WL_STEP_NONE;
}

/* --- Buffers --- */

static void give_back(struct virtq *vq, struct virtq_chain *chain)
{
	virtq_counters(vq)->errors++;
	virtq_take(vq, 1);
	virtq_complete(vq, chain, 0);
	virtq_publish(vq);
}

/* The next buffer with that much room; others are given back. NULL: there is none. */
static struct virtq_chain *find_buffer(struct turn *turn, size_t n_bytes)
{
	struct virtq *vq = turn->queue->vq;
	unsigned int n_max = device_queue_may_take(turn->queue) ? 1 : 0;

	for (; turn->budget; turn->budget--) {
		int n = virtq_fill(vq, n_max);
		struct virtq_chain *chain = n > 0 ? virtq_window(vq, 0) : NULL;

		turn->broken |= n < 0;
		if (!chain || (!chain->bad && chain->in_bytes >= n_bytes))
			return chain;
		give_back(vq, chain);
	}
	return NULL;
}

/** struct event - what is written into one buffer */
struct event {
	enum wl_step step;
	unsigned int slot;
	unsigned int i; /* of WL_STEP_TELL_NEW */
	const void *head;
	size_t n_head;
	const void *data;
	size_t n_data;
};

static bool tell(struct turn *turn, const struct event *event)
{
	struct virtq *vq = turn->queue->vq;
	struct wl_note *note = note_of(turn->wl);
	struct virtq_chain *chain = find_buffer(turn, event->n_head + event->n_data);

	if (!chain)
		return false;
	*note = (struct wl_note){ .slot = (uint16_t)event->slot, .base = virtq_base(vq) };
	note->remotes[0] = (uint16_t)event->i;
	atomic_signal_fence(memory_order_seq_cst);
	note->step = (uint8_t)event->step;
	virtq_take(vq, 1);
	virtq_write(chain, 0, event->head, event->n_head);
	if (event->n_data)
		virtq_write(chain, event->n_head, event->data, event->n_data);
	virtq_complete(vq, chain, (uint32_t)(event->n_head + event->n_data));
	virtq_publish(vq);
	virtq_counters(vq)->bytes += event->n_data;
	turn->budget--;
	follow(turn->wl, note);
	close_note(turn->wl);
	return true;
}

/* --- The events of a message --- */

static bool tell_vfd(struct turn *turn, unsigned int slot, unsigned int i, const struct vfd *vfd)
{
	const struct virtio_wl_ctrl_vfd_new new = {
		.hdr.type = htole32(VIRTIO_WL_CMD_VFD_NEW),
		.vfd_id = htole32(vfd->id),
		.flags = htole32(vfd->flags),
		.pfn = htole64(vfd->map == VFD_MAPPED ? vfd->offset_bytes >> VIRTWL_PFN_SHIFT
						      : PFN_NONE),
		.size = htole32((uint32_t)(vfd->map == VFD_MAPPED ? vfd->size_bytes
								  : vfd->file_bytes)),
	};

	return tell(turn,
		&(struct event){ .step = WL_STEP_TELL_NEW,
			.slot = slot,
			.i = i,
			.head = &new,
			.n_head = sizeof(new) });
}

static bool tell_vfds(struct turn *turn, struct vfd *of)
{
	unsigned int slot = vfd_slot(&turn->wl->vfds, of);
	struct vfd_message *message = &of->message;

	while (message->n_told < message->n_vfds) {
		const struct vfd *vfd = vfd_at(&turn->wl->vfds, message->vfds[message->n_told]);

		if (!vfd) /* a guest that closes what it does not know */
			message->n_told++;
		else if (!tell_vfd(turn, slot, message->n_told, vfd))
			return false;
	}
	return true;
}

static bool tell_data(struct turn *turn, struct vfd *of, const struct stream_message *peeked)
{
	struct vfd_message *message = &of->message;
	struct {
		struct virtio_wl_ctrl_vfd_recv recv;
		uint32_t ids[VIRTWL_SEND_MAX_ALLOCS];
	} head = { .recv = { .hdr.type = htole32(VIRTIO_WL_CMD_VFD_RECV),
			   .vfd_id = htole32(of->id),
			   .vfd_count = htole32(message->n_vfds) } };

	for (size_t i = 0; i < message->n_vfds; i++) {
		const struct vfd *vfd = vfd_at(&turn->wl->vfds, message->vfds[i]);

		head.ids[i] = vfd ? htole32(vfd->id) : 0;
	}
	return tell(turn,
		&(struct event){ .step = WL_STEP_TELL_DATA,
			.slot = vfd_slot(&turn->wl->vfds, of),
			.head = &head,
			.n_head = sizeof(head.recv) + message->n_vfds * sizeof(uint32_t),
			.data = peeked->data,
			.n_data = peeked->n_bytes });
}

/* --- A message --- */

static void close_fds(struct stream_message *peeked)
{
	for (uint32_t i = 0; i < peeked->n_fds; i++)
		peeked->fds[i] = fd_close(peeked->fds[i]);
	peeked->n_fds = 0;
}

static void open_message(struct wl *wl, struct vfd *vfd, const struct stream_message *peeked)
{
	vfd->message = (struct vfd_message){ .n_bytes = peeked->n_bytes,
		.n_vfds = (uint8_t)peeked->n_fds };
	atomic_signal_fence(memory_order_seq_cst);
	vfd->message.is_open = 1;
	if (vfd->kind == VFD_PIPE_READ)
		wl->pipe_slot = vfd_slot(&wl->vfds, vfd);
}

static void close_message(struct wl *wl, struct vfd *vfd)
{
	struct stream stream = ends_stream(wl, vfd);

	stream_consume(&wl->streams, &stream);
	atomic_signal_fence(memory_order_seq_cst);
	vfd->message.is_open = 0;
}

/* One of its steps; peeked has its data. Returns how it went. */
static enum progress advance(struct turn *turn, struct vfd *vfd, struct stream_message *peeked)
{
	struct vfd_message *message = &vfd->message;

	if (!incoming_make(turn->wl, message, peeked->fds)) {
		if (!turn->wl->lacks_room)
			ends_read_later(turn->wl, vfd);
		return NOTHING;
	}
	if (!incoming_map(turn->wl, message))
		return NOTHING;
	if (!tell_vfds(turn, vfd) || !tell_data(turn, vfd, peeked))
		return STARVED;
	close_message(turn->wl, vfd);
	return DELIVERED;
}

static enum progress peek(struct turn *turn, struct vfd *vfd, struct stream_message *ret)
{
	struct wl *wl = turn->wl;
	struct stream stream = ends_stream(wl, vfd);
	bool is_open = vfd->message.is_open;
	int r = stream_peek(&wl->streams, &stream,
		is_open ? vfd->message.n_bytes : STREAM_MESSAGE_BYTES, ret);

	if (r == STREAM_E_HANGUP) {
		ends_abandon(wl, vfd);
		vfd->hup = VFD_HUP_DUE;
		return DELIVERED;
	}
	if (r == STREAM_E_AGAIN)
		ends_read(wl, vfd, false);
	if (r == STREAM_E_LATER)
		ends_read_later(wl, vfd);
	if (r != 0)
		return NOTHING;
	if (!is_open)
		open_message(wl, vfd, ret);
	return DELIVERED;
}

/* Whether a message of another pipe is open. */
static bool other_pipe_is_open(const struct wl *wl, const struct vfd *vfd)
{
	const struct vfd *other =
		wl->pipe_slot < VFDS_MAX ? vfd_at(&wl->vfds, wl->pipe_slot) : NULL;

	return other && other != vfd && other->state == VFD_LIVE && other->message.is_open;
}

static enum progress deliver_message(struct turn *turn, struct vfd *vfd)
{
	struct stream_message peeked;
	enum progress progress;

	if (vfd->kind == VFD_PIPE_READ && other_pipe_is_open(turn->wl, vfd))
		return NOTHING;
	if (!find_buffer(turn, 0))
		return STARVED;
	peeked.n_fds = 0;
	progress = peek(turn, vfd, &peeked);
	if (progress == DELIVERED && vfd->message.is_open)
		progress = advance(turn, vfd, &peeked);
	close_fds(&peeked);
	return progress;
}

static enum progress deliver_hup(struct turn *turn, struct vfd *vfd)
{
	const struct virtio_wl_ctrl_vfd hup = { .hdr.type = htole32(VIRTIO_WL_CMD_VFD_HUP),
		.vfd_id = htole32(vfd->id) };

	if (!tell(turn,
		    &(struct event){ .step = WL_STEP_TELL_HUP,
			    .slot = vfd_slot(&turn->wl->vfds, vfd),
			    .head = &hup,
			    .n_head = sizeof(hup) }))
		return STARVED;
	ends_read(turn->wl, vfd, false);
	return NOTHING;
}

/* Of one VFD, whose end is readable or which was not read to its end. */
static enum progress deliver(struct turn *turn, struct vfd *vfd)
{
	if (vfd->state != VFD_LIVE || vfd->hup == VFD_HUP_TOLD) {
		ends_read(turn->wl, vfd, false);
		return NOTHING;
	}
	if (vfd->hup == VFD_UP && vfd->kind != VFD_SOCKET && vfd->kind != VFD_PIPE_READ)
		vfd->hup = VFD_HUP_DUE; /* a fence is signalled, or a pipe has no reader */
	return vfd->hup ? deliver_hup(turn, vfd) : deliver_message(turn, vfd);
}

/* --- The ring --- */

/* A round in which each VFD has its turn. */
static enum progress go_round(struct turn *turn)
{
	struct wl *wl = turn->wl;
	enum progress all = NOTHING;

	for (unsigned int i = 0; i < VFDS_MAX && turn->budget; i++) {
		unsigned int slot = (wl->turn + i) % VFDS_MAX;
		struct vfd *vfd = wl->ends[slot].readable ? vfd_at(&wl->vfds, slot) : NULL;
		enum progress progress = vfd ? deliver(turn, vfd) : NOTHING;

		if (progress == STARVED) {
			wl->turn = slot;
			return STARVED;
		}
		if (progress == DELIVERED)
			all = DELIVERED;
	}
	return all;
}

enum device_wait in_serve(struct device_queue *queue)
{
	struct turn turn = { .wl = queue->device->data, .queue = queue, .budget = BUDGET };
	enum progress progress;

	do
		progress = go_round(&turn);
	while (progress == DELIVERED && turn.budget);
	if (turn.broken) {
		device_queue_broken(queue, virtq_error(queue->vq));
		return DEVICE_OTHER;
	}
	device_queue_call(queue);
	if (turn.budget == 0)
		return DEVICE_MORE;
	if (progress == STARVED)
		return DEVICE_KICK;
	virtq_kick_off(queue->vq);
	return DEVICE_OTHER;
}

void in_started(struct wl *wl, struct virtq *vq)
{
	struct wl_note *note = note_of(wl);

	if (note->step && note->base != virtq_base(vq))
		follow(wl, note);
	close_note(wl);
	for (unsigned int slot = 0; slot < VFDS_MAX; slot++) {
		struct vfd *vfd = vfd_at(&wl->vfds, slot);

		if (vfd && vfd->message.is_open && vfd->message.is_told)
			close_message(wl, vfd);
	}
}

/*
 * The descriptors of VFDs: kept by the memory manager, watched by the loop, mapped by the VMM.
 *
 * A descriptor may outlive its VFD: a queue names it until it was sent. So each record in a queue
 * counts in the ends that it names, and these are counted anew when the worker starts.
 */
#include "ends.h"

#include <stdio.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/timer.h"
#include "device/shmem.h"

#define QUEUED_SOFT (256u << 10) /* bytes in a queue from which the guest's answers are held */
#define RETRY_USEC 10000

/* --- Kept --- */

static const char *kept_name(const struct wl *wl, const struct vfd *vfd, char kind, char name[16])
{
	snprintf(name, 16, "%c.%u", kind, vfd_slot(&wl->vfds, vfd));
	return name;
}

static int keep(struct wl *wl, const struct vfd *vfd, char kind, int fd)
{
	char name[16];

	return fd < 0 ? 0 : device_keep(wl->device, kept_name(wl, vfd, kind, name), fd);
}

static void unkeep(struct wl *wl, const struct vfd *vfd, char kind, int *fd)
{
	char name[16];

	if (*fd < 0)
		return;
	(void)device_unkeep(wl->device, kept_name(wl, vfd, kind, name));
	*fd = fd_close(*fd);
}

int ends_keep(struct wl *wl, const struct vfd *vfd)
{
	const struct vfd_files *files = vfd_files(&wl->vfds, vfd);
	int r = keep(wl, vfd, 'v', files->fd);

	return r < 0 ? r : keep(wl, vfd, 'r', files->remote_fd);
}

void ends_take(struct wl *wl, const struct vfd *vfd)
{
	struct vfd_files *files = vfd_files(&wl->vfds, vfd);
	char name[16];

	files->fd = device_take_kept(wl->device, kept_name(wl, vfd, 'v', name));
	files->remote_fd = device_take_kept(wl->device, kept_name(wl, vfd, 'r', name));
}

/* --- Named by queues --- */

static struct wl_end *end_of(struct wl *wl, const struct vfd *vfd)
{
	return &wl->ends[vfd_slot(&wl->vfds, vfd)];
}

static uint16_t *named_count(struct wl *wl, uint32_t handle)
{
	struct wl_end *end = &wl->ends[handle % VFDS_MAX];

	return handle & ENDS_REMOTE ? &end->n_remote_named : &end->n_named;
}

static void count_named(void *data, uint32_t handle)
{
	++*named_count(data, handle);
}

void ends_forget(struct wl *wl, unsigned int slot)
{
	struct wl_end *end = &wl->ends[slot];

	end->source = sd_event_source_disable_unref(end->source);
	end->retry = sd_event_source_disable_unref(end->retry);
	end->readable = end->full = end->over = false;
}

void ends_unmap(struct wl *wl, struct vfd *vfd)
{
	if (vfd->map_seq)
		device_shmem_unmap(wl->device, vfd->map_seq);
	vfd_unmap(&wl->vfds, vfd);
}

static bool has_queue(const struct wl *wl, const struct vfd *vfd)
{
	return wl->has_streams && stream_queued_bytes(&wl->streams, vfd_slot(&wl->vfds, vfd));
}

/* What nobody needs any more. */
static void drop_unnamed(struct wl *wl, struct vfd *vfd)
{
	struct vfd_files *files = vfd_files(&wl->vfds, vfd);
	const struct wl_end *end = end_of(wl, vfd);

	if (end->n_remote_named == 0 && (vfd->is_sent || vfd->state == VFD_CLOSED))
		unkeep(wl, vfd, 'r', &files->remote_fd);
	if (vfd->state != VFD_CLOSED || end->n_named || end->n_remote_named || has_queue(wl, vfd))
		return;
	ends_forget(wl, vfd_slot(&wl->vfds, vfd));
	unkeep(wl, vfd, 'v', &files->fd);
	vfd_remove(&wl->vfds, vfd);
	if (wl->lacks_room)
		wl_wake(wl, VIRTWL_VQ_IN);
	wl->lacks_room = false;
}

static void uncount_named(void *data, uint32_t handle)
{
	struct wl *wl = data;
	struct vfd *vfd = vfd_at(&wl->vfds, handle % VFDS_MAX);
	uint16_t *n = named_count(wl, handle);

	if (*n)
		--*n;
	if (vfd)
		drop_unnamed(wl, vfd);
}

void ends_name(struct wl *wl, const uint32_t *handles, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		count_named(wl, handles[i]);
}

void ends_release(struct wl *wl, struct vfd *vfd)
{
	drop_unnamed(wl, vfd);
}

void ends_count_named(struct wl *wl)
{
	for (uint32_t slot = 0; slot < VFDS_MAX; slot++)
		stream_for_handles(&wl->streams, slot, count_named, wl);
	for (uint32_t slot = 0; slot < VFDS_MAX; slot++)
		if (vfd_at(&wl->vfds, slot))
			drop_unnamed(wl, vfd_at(&wl->vfds, slot));
}

static void drop_queue(struct wl *wl, unsigned int slot)
{
	if (!wl->has_streams)
		return;
	stream_for_handles(&wl->streams, slot, uncount_named, wl);
	stream_end(&wl->streams, slot);
}

/* --- Sent --- */

static int fd_of(void *data, uint32_t handle)
{
	struct wl *wl = data;
	const struct vfd_files *files = &wl->vfds.files[handle % VFDS_MAX];

	return handle & ENDS_REMOTE ? files->remote_fd : files->fd;
}

static void sent(void *data, const uint32_t *handles, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		uncount_named(data, handles[i]);
}

struct stream ends_stream(struct wl *wl, const struct vfd *vfd)
{
	return (struct stream){ .fd = vfd_files(&wl->vfds, vfd)->fd,
		.kind = vfd->kind == VFD_SOCKET ? STREAM_SOCKET : STREAM_PIPE,
		.slot = vfd_slot(&wl->vfds, vfd) };
}

static int flush(struct wl *wl, const struct vfd *vfd)
{
	const struct stream_source source = { .fd_of = fd_of, .sent = sent, .data = wl };
	struct stream stream = ends_stream(wl, vfd);

	return stream_flush(&wl->streams, &stream, &source);
}

/* An end that hangs up is always ready, so it is not even watched for that. */
static void ask(struct wl *wl, const struct vfd *vfd)
{
	struct wl_end *end = end_of(wl, vfd);
	bool reads = !end->readable && !vfd->hup && vfd->state != VFD_CLOSED;
	uint32_t events = (reads ? EPOLLIN : 0) | (end->full ? EPOLLOUT : 0);

	if (!end->source)
		return;
	(void)sd_event_source_set_io_events(end->source, events);
	(void)sd_event_source_set_enabled(end->source, events ? SD_EVENT_ON : SD_EVENT_OFF);
}

bool ends_has_room(struct wl *wl, const struct vfd *vfd)
{
	return stream_queued_bytes(&wl->streams, vfd_slot(&wl->vfds, vfd)) < QUEUED_SOFT;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct wl_end *end = data;
	struct vfd *vfd = vfd_at(&end->wl->vfds, (unsigned int)(end - end->wl->ends));

	if (vfd && ends_flush(end->wl, vfd))
		wl_wake(end->wl, VIRTWL_VQ_OUT);
	wl_wake(end->wl, VIRTWL_VQ_IN);
	return 0;
}

static void retry_later(struct wl_end *end)
{
	if (!end->retry)
		(void)sd_event_add_time_relative(end->wl->device->event, &end->retry,
			CLOCK_MONOTONIC, RETRY_USEC, RETRY_USEC, on_retry, end);
	else if (sd_event_source_set_time_relative(end->retry, RETRY_USEC) >= 0)
		(void)sd_event_source_set_enabled(end->retry, SD_EVENT_ONESHOT);
}

bool ends_flush(struct wl *wl, struct vfd *vfd)
{
	struct wl_end *end = end_of(wl, vfd);
	unsigned int slot = vfd_slot(&wl->vfds, vfd);
	int r;

	if (vfd_files(&wl->vfds, vfd)->fd < 0 && !end->over) /* not connected yet */
		return ends_has_room(wl, vfd);
	r = end->over ? STREAM_E_HANGUP : flush(wl, vfd);
	end->full = r == STREAM_E_AGAIN;
	end->over = r == STREAM_E_HANGUP;
	if (end->over)
		drop_queue(wl, slot);
	if (r == STREAM_E_LATER)
		retry_later(end);
	ask(wl, vfd);
	if (vfd->state == VFD_CLOSED)
		drop_unnamed(wl, vfd);
	return stream_queued_bytes(&wl->streams, slot) < QUEUED_SOFT;
}

/* --- Watched --- */

static int on_end(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct wl_end *end = data;
	struct wl *wl = end->wl;
	struct vfd *vfd = vfd_at(&wl->vfds, (unsigned int)(end - wl->ends));

	if (end->full && revents & (EPOLLOUT | EPOLLHUP | EPOLLERR) && ends_flush(wl, vfd))
		wl_wake(wl, VIRTWL_VQ_OUT);
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		end->readable = true;
		wl_wake(wl, VIRTWL_VQ_IN);
	}
	ask(wl, vfd);
	return 0;
}

void ends_read_later(struct wl *wl, const struct vfd *vfd)
{
	retry_later(end_of(wl, vfd));
}

void ends_read(struct wl *wl, const struct vfd *vfd, bool more)
{
	end_of(wl, vfd)->readable = more;
	if (!more)
		ask(wl, vfd);
}

void ends_end(struct wl *wl, struct vfd *vfd)
{
	end_of(wl, vfd)->over = end_of(wl, vfd)->readable = true;
	if (vfd->hup == VFD_UP)
		vfd->hup = VFD_HUP_DUE;
	(void)ends_flush(wl, vfd);
	wl_wake(wl, VIRTWL_VQ_IN);
}

void ends_watch(struct wl *wl, const struct vfd *vfd)
{
	struct wl_end *end = end_of(wl, vfd);
	int fd = vfd_files(&wl->vfds, vfd)->fd;

	end->readable =
		vfd->kind == VFD_SOCKET || vfd->kind == VFD_PIPE_READ || vfd->hup == VFD_HUP_DUE;
	if (end->readable)
		wl_wake(wl, VIRTWL_VQ_IN);
	if (end->source || fd < 0 || vfd->kind == VFD_MEMORY || vfd->kind == VFD_DMABUF)
		return;
	(void)sd_event_add_io(wl->device->event, &end->source, fd, 0, on_end, end);
	ask(wl, vfd);
}

/* --- Mapped --- */

static struct shmem_map map_of(const struct vfd *vfd)
{
	return (struct shmem_map){ .seq = vfd->map_seq,
		.region = VIRTWL_SHMEM_ID,
		.offset_bytes = vfd->offset_bytes,
		.size_bytes = vfd->size_bytes,
		.writable = !vfd->is_readonly };
}

bool ends_map(struct wl *wl, const struct vfd *vfd)
{
	const struct shmem_map map = map_of(vfd);

	return device_shmem_map(wl->device, &map, vfd_files(&wl->vfds, vfd)->fd) == 0;
}

bool ends_restore(struct wl *wl, const struct vfd *vfd)
{
	const struct shmem_map map = map_of(vfd);
	int fd = vfd_files(&wl->vfds, vfd)->fd;

	return fd >= 0 && device_shmem_restore(wl->device, &map, fd) == 0;
}

/* --- Closed --- */

void ends_abandon(struct wl *wl, struct vfd *vfd)
{
	struct vfd_message *message = &vfd->message;

	if (!message->is_open)
		return;
	message->is_open = 0;
	for (size_t i = message->n_told; i < message->n_made; i++) {
		struct vfd *other = vfd_at(&wl->vfds, message->vfds[i]);

		if (other && other->state == VFD_COMING && !vfd_is_guests_id(other->id))
			ends_drop(wl, other);
	}
}

void ends_drop(struct wl *wl, struct vfd *vfd)
{
	ends_abandon(wl, vfd);
	ends_unmap(wl, vfd);
	ends_forget(wl, vfd_slot(&wl->vfds, vfd));
	drop_queue(wl, vfd_slot(&wl->vfds, vfd));
	vfd_hide(&wl->vfds, vfd);
	drop_unnamed(wl, vfd);
}

void ends_close(struct wl *wl, struct vfd *vfd)
{
	if (!has_queue(wl, vfd)) {
		ends_drop(wl, vfd);
		return;
	}
	ends_abandon(wl, vfd);
	ends_unmap(wl, vfd);
	vfd_hide(&wl->vfds, vfd);
	ask(wl, vfd);
}

/*
 * The Wayland device: what it offers, its life, and its table, at the end.
 *
 * out.c serves the guest's commands (request.c, commands.c, send.c, contexts.c), in.c what the host
 * sends (incoming.c). Both work on the table of VFDs (vfd.c) and on their ends (ends.c), which are
 * streams (stream.h), or memory that the VMM maps (space.c finds a place).
 */
#include "wl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "bridge.h"
#include "compositor.h"
#include "contexts.h"
#include "device/shmem.h"
#include "dmabuf.h"
#include "ends.h"
#include "in.h"
#include "out.h"
#include "space.h"
#include "state.pb-c.h"

_Static_assert(VFDS_MAX == STREAM_SLOTS, "each VFD can be a stream");

#define FEATURES                                                                                   \
	(BIT(VIRTIO_WL_F_TRANS_FLAGS) | BIT(VIRTIO_WL_F_SEND_FENCES) |                             \
		BIT(VIRTIO_WL_F_USE_SHMEM) | BIT(VIRTIO_RING_F_INDIRECT_DESC) |                    \
		BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VHOST_USER_F_PROTOCOL_FEATURES) |               \
		BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED))
#define PF(name) BIT(VHOST_USER_PROTOCOL_F_##name)
/* Without CONFIGURE_MEM_SLOTS: with it, QEMU 11.1 does not survive a guest that starts anew with
 * buffers mapped. */
#define PROTOCOL_FEATURES (PF(MQ) | PF(REPLY_ACK) | PF(INFLIGHT_SHMFD) | PF(STATUS))
#define POSITION_MASK 0x7fff7fffu /* of a base, without wrap counters */

/* --- Offer --- */

static void open_render_node(struct wl *wl)
{
	const char *path = config_value(wl->device->config, "render-node")->text;
	int error = 0;

	wl->dmabufs = path ? dmabuf_open(path, &error) : NULL;
	if (path && !wl->dmabufs)
		log_warning("render-node = %s: %s; the guest uses shared memory instead", path,
			strerror(-error));
}

/* The render node's driver is a library that is loaded with it. After the start a process may load
 * none, and a standby becomes the one that serves long after that. */
static int wl_prepare(struct device *device)
{
	struct device_offer *offer = &device->offer;
	struct wl *wl = device->data;

	wl->device = device;
	offer->features = FEATURES;
	offer->protocol_features = PROTOCOL_FEATURES;
	offer->n_queues = offer->queue_num = _VIRTWL_VQ_N;
	offer->queue_size_max = WL_RING_SIZE_MAX;
	offer->shmem_bytes[VIRTWL_SHMEM_ID] = SPACE_BYTES;
	open_render_node(wl);
	return 0;
}

/* --- What the host has --- */

static void on_compositor(void *data)
{
	contexts_retry(data);
}

static void on_bridge(void *data)
{
	wl_wake(data, VIRTWL_VQ_OUT);
}

static int add_compositors(struct wl *wl)
{
	const struct config_device *config = wl->device->config;
	const struct config_value *unnamed = config_value(config, "wayland"), *member = NULL;
	int r = unnamed->text ? compositors_add(wl->compositors, "", unnamed->text) : 0;

	while (r == 0 && (member = config_member(config, "wayland", member)))
		r = compositors_add(wl->compositors, member->member, member->text);
	if (r < 0)
		log_error("the compositors' sockets: %s", strerror(-r));
	return r;
}

static int wl_open(struct device *device)
{
	struct wl *wl = device->data;
	const struct compositors_setting setting = { .event = device->event,
		.folder = wl->folder,
		.guest = device->proc->guest,
		.device = device->config->name,
		.on_ready = on_compositor,
		.data = wl };
	const char *bridge = config_value(device->config, "resource-bridge")->text;

	check(asprintf(&wl->folder, "%s/%s", device->proc->runtime_dir, device->proc->peer) >= 0);
	wl->compositors = compositors_new(&setting);
	check(wl->compositors);
	if (bridge) {
		wl->bridge = bridge_new(device->event, bridge, on_bridge, wl);
		check(wl->bridge);
	}
	return add_compositors(wl);
}

/* --- What outlives the process --- */

static int take_streams(struct wl *wl, int fds[STREAMS_N_KEPT])
{
	int r = 0;

	for (size_t i = 0; i < STREAMS_N_KEPT; i++) {
		fds[i] = device_take_kept(wl->device, streams_names[i]);
		if (fds[i] < 0)
			r = -ENOENT;
	}
	for (size_t i = 0; r < 0 && i < STREAMS_N_KEPT; i++)
		fds[i] = fd_close(fds[i]);
	return r;
}

/* The first of them is kept last: if it is there, they all are. */
static int make_streams(struct wl *wl, int fds[STREAMS_N_KEPT])
{
	int r = streams_create(fds);

	for (size_t n = STREAMS_N_KEPT; r == 0 && n > 0; n--)
		r = device_keep(wl->device, streams_names[n - 1], fds[n - 1]);
	return r;
}

static void open_streams(struct wl *wl)
{
	int fds[STREAMS_N_KEPT];
	int r = take_streams(wl, fds);

	if (r < 0)
		r = make_streams(wl, fds);
	if (r == 0)
		r = streams_open(&wl->streams, fds);
	wl->has_streams = r == 0;
	if (r < 0)
		log_error("no stream can be served: %s", strerror(-r));
}

/* The state may come from a process that a guest has taken over. */
static void check_saved(struct wl_saved *saved)
{
	for (size_t i = 0; i < ARRAY_SIZE(saved->notes); i++)
		if (saved->notes[i].step >= _WL_STEPS ||
			saved->notes[i].n_answer > sizeof(saved->notes[i].answer) ||
			saved->notes[i].slot >= VFDS_MAX)
			saved->notes[i].step = WL_STEP_NONE;
	for (size_t i = 0; i < ARRAY_SIZE(saved->held); i++)
		if (saved->held[i] > VFDS_MAX)
			saved->held[i] = 0;
}

static bool has_lost_its_end(const struct vfd *vfd, const struct vfd_files *files)
{
	return files->fd < 0 && !vfd->is_connecting && vfd->hup == VFD_UP;
}

static void restore(struct wl *wl, struct vfd *vfd)
{
	const struct vfd_files *files = vfd_files(&wl->vfds, vfd);

	ends_take(wl, vfd);
	if (files->fd >= 0)
		vfd->is_connecting = 0;
	if (vfd->map_seq && vfd->map != VFD_MAP_REFUSED && !ends_restore(wl, vfd))
		vfd_unmap(&wl->vfds, vfd);
	if (vfd->state == VFD_LIVE && has_lost_its_end(vfd, files))
		ends_end(wl, vfd);
	if (vfd->message.is_open && vfd->kind == VFD_PIPE_READ)
		wl->pipe_slot = vfd_slot(&wl->vfds, vfd);
}

static void mark_coming(const struct vfd *vfd, bool is_coming[VFDS_MAX])
{
	for (size_t i = 0; vfd && vfd->message.is_open && i < vfd->message.n_made; i++)
		is_coming[vfd->message.vfds[i]] = true;
}

/* VFDs that a former instance had only begun to make: the message makes them anew. */
static void drop_begun(struct wl *wl)
{
	bool is_coming[VFDS_MAX] = { false };

	for (unsigned int slot = 0; slot < VFDS_MAX; slot++)
		mark_coming(vfd_at(&wl->vfds, slot), is_coming);
	for (unsigned int slot = 0; slot < VFDS_MAX; slot++) {
		struct vfd *vfd = vfd_at(&wl->vfds, slot);

		if (vfd && vfd->state == VFD_COMING && !vfd_is_guests_id(vfd->id) &&
			!is_coming[slot])
			ends_close(wl, vfd);
	}
}

static void restore_all(struct wl *wl)
{
	for (unsigned int slot = 0; slot < VFDS_MAX; slot++)
		if (vfd_at(&wl->vfds, slot))
			restore(wl, vfd_at(&wl->vfds, slot));
	if (!wl->has_streams)
		return;
	ends_count_named(wl);
	drop_begun(wl);
	for (unsigned int slot = 0; slot < VFDS_MAX; slot++) {
		struct vfd *vfd = vfd_at(&wl->vfds, slot);

		if (vfd && vfd->state != VFD_COMING) {
			ends_watch(wl, vfd);
			(void)ends_flush(wl, vfd);
		}
	}
	contexts_retry(wl);
}

static void wl_begin(struct device *device)
{
	struct wl *wl = device->data;
	const struct config_device *config = device->config;
	const struct vfd_quota quota = {
		.n_vfds = (uint32_t)config_value(config, "vfds")->number,
		.n_contexts = (uint32_t)config_value(config, "contexts")->number,
		.mapped_bytes = config_value(config, "mapped-memory")->number,
	};

	wl->saved = device->state;
	wl->pipe_slot = VFD_NONE;
	check_saved(wl->saved);
	wl->saved->version = WL_SAVED_VERSION;
	vfd_open(&wl->vfds, &wl->saved->vfds, &quota);
	for (unsigned int slot = 0; slot < VFDS_MAX; slot++)
		wl->ends[slot].wl = wl;
	for (size_t i = 0; i < ARRAY_SIZE(wl->foreign); i++)
		wl->foreign[i].fd = -1;
	open_streams(wl);
	restore_all(wl);
}

static void wl_close(struct device *device)
{
	struct wl *wl = device->data;

	for (unsigned int slot = 0; wl->saved && slot < VFDS_MAX; slot++)
		ends_forget(wl, slot);
	if (wl->has_streams)
		streams_close(&wl->streams);
	compositors_free(wl->compositors);
	bridge_free(wl->bridge);
	dmabuf_close(wl->dmabufs);
	free(wl->folder);
	sd_event_source_disable_unref(wl->patience);
}

/* --- The life of the guest --- */

/* All that the guest had is gone, the VMM's maps included. */
static void wl_reset(struct device *device)
{
	struct wl *wl = device->data;

	device_shmem_forget(device);
	out_stopped(wl);
	memset(wl->saved->notes, 0, sizeof(wl->saved->notes));
	for (unsigned int slot = 0; slot < VFDS_MAX; slot++)
		if (vfd_at(&wl->vfds, slot))
			ends_drop(wl, vfd_at(&wl->vfds, slot));
	memset(wl->saved->is_fresh, 0, sizeof(wl->saved->is_fresh));
	wl->pipe_slot = VFD_NONE;
	if (wl->bridge)
		bridge_forget(wl->bridge);
}

/* The windows of a VM that is gone close at once. */
static void wl_desired(struct device *device, const Bh__Desired *desired)
{
	const struct wl *wl = device->data;

	if (!desired->connected && wl->vfds.n_vfds)
		wl_reset(device);
}

static bool both_run(const struct wl *wl)
{
	return wl_queue(wl, VIRTWL_VQ_IN)->vq && wl_queue(wl, VIRTWL_VQ_OUT)->vq;
}

/* A VMM that stops a guest and lets it go on starts the rings where they stopped. If both begin
 * anew, so does the guest's driver, and knows no VFD. A ring alone may stand there because nothing
 * was ever used, so that neither is served before both run. */
static void wl_queue_started(struct device *device, struct device_queue *queue, bool resumed)
{
	struct wl *wl = device->data;
	uint8_t *is_fresh = wl->saved->is_fresh;

	if (!resumed)
		is_fresh[queue->index] = !(virtq_base(queue->vq) & POSITION_MASK);
	if (queue->index == VIRTWL_VQ_OUT)
		out_started(wl, queue->vq);
	else
		in_started(wl, queue->vq);
	if (!both_run(wl))
		return;
	if (is_fresh[VIRTWL_VQ_IN] && is_fresh[VIRTWL_VQ_OUT])
		wl_reset(device);
	is_fresh[VIRTWL_VQ_IN] = is_fresh[VIRTWL_VQ_OUT] = 0;
}

static void wl_queue_changed(struct device *device, struct device_queue *queue)
{
	if (!queue->vq && queue->index == VIRTWL_VQ_OUT)
		out_stopped(device->data);
}

static uint32_t wl_group(const struct device *device, uint32_t index)
{
	return DEVICE_GROUP_LOOP;
}

static enum device_wait wl_serve(struct device_queue *queue)
{
	struct wl *wl = queue->device->data;

	if (!has_bit(queue->device->features, VIRTIO_WL_F_USE_SHMEM) || !wl->has_streams) {
		device_queue_broken(queue,
			wl->has_streams
				? "the driver does not use shared memory regions (USE_SHMEM)"
				: "there are no descriptors left for its streams");
		return DEVICE_OTHER;
	}
	if (!both_run(wl))
		return DEVICE_OTHER;
	return queue->index == VIRTWL_VQ_OUT ? out_serve(queue) : in_serve(queue);
}

/* Only the out ring has chains in flight. */
static void wl_drain(struct device_queue *queue)
{
	struct wl *wl = queue->device->data;

	if (queue->index == VIRTWL_VQ_OUT && wl->has_streams)
		out_drain(queue);
	else
		device_drained(queue);
}

static void wl_shmem_mapped(struct device *device, uint64_t seq, bool refused)
{
	struct wl *wl = device->data;

	for (unsigned int slot = 0; slot < VFDS_MAX; slot++) {
		struct vfd *vfd = vfd_at(&wl->vfds, slot);

		if (vfd && vfd->map_seq == seq && vfd->map == VFD_MAP_ASKED)
			vfd->map = refused ? VFD_MAP_REFUSED : VFD_MAPPED;
	}
	out_answered(wl);
	wl_wake(wl, VIRTWL_VQ_IN);
}

static void wl_describe(struct device *device, char *buf, size_t n)
{
	const struct config_value *path = config_value(device->config, "wayland");
	unsigned int n_named = 0;

	for (const struct config_value *member = NULL;
		(member = config_member(device->config, "wayland", member));)
		n_named++;
	snprintf(buf, n, "compositor %s", path->text ?: "none");
	if (n_named)
		snprintf(buf + strlen(buf), n - strlen(buf), ", and %u with names", n_named);
}

static size_t wl_figures(struct device *device, struct device_figure *ret)
{
	const struct wl *wl = device->data;
	uint64_t queued_bytes = 0;

	for (uint32_t slot = 0; wl->has_streams && slot < VFDS_MAX; slot++)
		queued_bytes += stream_queued_bytes(&wl->streams, slot);
	ret[0] = (struct device_figure){ "contexts", "", wl->vfds.n_contexts };
	ret[1] = (struct device_figure){ "VFDs", "", wl->vfds.n_vfds };
	ret[2] = (struct device_figure){ "mapped", "bytes", wl->vfds.mapped_bytes };
	ret[3] = (struct device_figure){ "queued", "bytes", queued_bytes };
	return 4;
}

/* --- Snapshots --- */

static size_t wl_save(const struct device *device, uint8_t **ret_data)
{
	const struct wl *wl = device->data;
	Bh__WlStage msg = BH__WL_STAGE__INIT;

	msg.next_host_id = wl->saved->vfds.next_host_id;
	msg.n_vfds = wl->vfds.n_vfds;
	*ret_data = malloc(bh__wl_stage__get_packed_size(&msg) + 1);
	check(*ret_data);
	return bh__wl_stage__pack(&msg, *ret_data);
}

/* The form of the stage was judged (form.c). */
static int wl_load(struct device *device, const struct device_stage *stage, char *why, size_t n_why)
{
	struct wl *wl = device->data;
	Bh__WlStage *msg = bh__wl_stage__unpack(NULL, stage->n_bytes, stage->data);
	int r = msg && msg->n_vfds == 0 ? 0 : -EINVAL;

	if (!msg)
		snprintf(why, n_why, "stage wl: there is no memory for it");
	else if (r < 0)
		snprintf(why, n_why,
			"stage wl: n_vfds is %u; sockets, pipes and files cannot leave their host: close the guest's Wayland clients before",
			msg->n_vfds);
	if (r == 0) {
		wl_reset(device);
		wl->saved->vfds.next_host_id = msg->next_host_id;
	}
	if (msg)
		bh__wl_stage__free_unpacked(msg, NULL);
	return r;
}

const struct device_ops wl_ops = {
	.type = "wl",
	.data_bytes = sizeof(struct wl),
	.state_bytes = sizeof(struct wl_saved),
	.state_first_bytes = WL_SAVED_FIRST_BYTES,
	.prepare = wl_prepare,
	.open = wl_open,
	.begin = wl_begin,
	.close = wl_close,
	.serve = wl_serve,
	.group = wl_group,
	.drain = wl_drain,
	.reset = wl_reset,
	.queue_started = wl_queue_started,
	.queue_changed = wl_queue_changed,
	.desired = wl_desired,
	.shmem_mapped = wl_shmem_mapped,
	.describe = wl_describe,
	.figures = wl_figures,
	.state_version = 1,
	.save = wl_save,
	.load = wl_load,
};

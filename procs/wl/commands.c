/*
 * The guest's commands, in the order of the table at the end.
 *
 * A VFD that a command makes is VFD_COMING until the command is answered. When a command is
 * executed again, because it had to wait or a worker has died, a VFD_COMING under its id is its
 * own.
 */
#include "commands.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "contexts.h"
#include "dmabuf.h"
#include "ends.h"
#include "send.h"

#define WAITS 1 /* instead of an answer's code */

/** struct command - a command that is executed */
struct command {
	struct wl *wl;
	const struct request *request;
	const struct virtq_chain *chain;
	struct wl_note *note;
};

/* --- Answers --- */

static void set_answer(struct wl_note *note, const void *answer, size_t n_bytes)
{
	memcpy(note->answer, answer, n_bytes);
	note->n_answer = (uint16_t)n_bytes;
}

static uint32_t answer(const struct command *command, enum wl_step step, const struct vfd *vfd)
{
	const struct virtio_wl_ctrl_hdr ok = { htole32(VIRTIO_WL_RESP_OK), 0 };

	command->note->step = (uint8_t)step;
	command->note->slot = (uint16_t)vfd_slot(&command->wl->vfds, vfd);
	set_answer(command->note, &ok, sizeof(ok));
	return 0;
}

void command_refuse(struct wl_note *note, uint32_t code)
{
	const struct virtio_wl_ctrl_hdr refusal = { htole32(code), 0 };

	*note = (struct wl_note){ .step = WL_STEP_ANSWER };
	set_answer(note, &refusal, sizeof(refusal));
}

/* The VFD that the command has made. */
static uint32_t answer_new(const struct command *command, const struct vfd *vfd)
{
	const struct virtio_wl_ctrl_vfd_new new = {
		.hdr.type = htole32(VIRTIO_WL_RESP_VFD_NEW),
		.vfd_id = htole32(vfd->id),
		.flags = htole32(vfd->flags),
		.pfn = htole64(vfd->offset_bytes >> VIRTWL_PFN_SHIFT),
		.size = htole32((uint32_t)vfd->size_bytes),
	};

	answer(command, WL_STEP_OPEN, vfd);
	set_answer(command->note, &new, sizeof(new));
	return 0;
}

/* --- VFDs to be made --- */

/* Whether the command may make a VFD under its id; *ret_vfd is what it has made of it before. */
static uint32_t find_coming(const struct command *command, struct vfd **ret_vfd)
{
	uint32_t id = command->request->vfd_id;

	*ret_vfd = vfd_find(&command->wl->vfds, id);
	if (!vfd_is_guests_id(id) || (*ret_vfd && (*ret_vfd)->state == VFD_LIVE))
		return VIRTIO_WL_RESP_INVALID_ID;
	return 0;
}

/* A new VFD, in the place of what was begun before; NULL: there are too many. */
static struct vfd *begin(const struct command *command, struct vfd *former, enum vfd_kind kind)
{
	struct wl *wl = command->wl;

	if (former)
		ends_close(wl, former);
	return vfd_add(&wl->vfds, command->request->vfd_id, kind);
}

/* For want of something. */
static uint32_t give_up(const struct command *command, struct vfd *vfd)
{
	ends_close(command->wl, vfd);
	return VIRTIO_WL_RESP_OUT_OF_MEMORY;
}

/* The VFD has a file: the VMM is to map it. */
static uint32_t map(const struct command *command, struct vfd *vfd, uint64_t n_bytes)
{
	struct wl *wl = command->wl;

	if (ends_keep(wl, vfd) < 0 || !vfd_map(&wl->vfds, vfd, n_bytes) || !ends_map(wl, vfd))
		return give_up(command, vfd);
	return WAITS;
}

/* --- NEW --- */

/* Others map the file: nobody can cut it short under them. */
static int make_memory(uint64_t n_bytes)
{
	int fd = memfd_create("bulkhead-wl", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)n_bytes) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return fd_close(fd);
	return fd;
}

static uint32_t begin_memory(const struct command *command, struct vfd *former, uint64_t n_bytes)
{
	struct vfd *vfd = begin(command, former, VFD_MEMORY);
	struct vfd_files *files;

	if (!vfd)
		return VIRTIO_WL_RESP_OUT_OF_MEMORY;
	vfd->flags = command->request->flags;
	files = vfd_files(&command->wl->vfds, vfd);
	files->fd = make_memory(n_bytes);
	return files->fd < 0 ? give_up(command, vfd) : map(command, vfd, n_bytes);
}

/* What has become of the map of a VFD that was begun; WAITS: it is asked for. */
static uint32_t look_at_map(const struct command *command, struct vfd *vfd)
{
	if (vfd->map == VFD_MAP_ASKED && !command->wl->impatient)
		return WAITS;
	return vfd->map == VFD_MAPPED ? 0 : give_up(command, vfd);
}

static uint32_t do_new(const struct command *command)
{
	const struct request *request = command->request;
	uint64_t n_bytes = align_up(request->size, UINT64_C(1) << VIRTWL_PFN_SHIFT);
	struct vfd *vfd;
	uint32_t r = find_coming(command, &vfd);

	if (wl_has_trans_flags(command->wl) && request->flags)
		return VIRTIO_WL_RESP_INVALID_FLAGS;
	if (request->flags & ~(uint32_t)(VIRTIO_WL_VFD_WRITE | VIRTIO_WL_VFD_MAP) || !n_bytes)
		return VIRTIO_WL_RESP_ERR;
	if (r != 0)
		return r;
	if (!vfd || vfd->kind != VFD_MEMORY || !vfd->map_seq || vfd->size_bytes != n_bytes)
		return begin_memory(command, vfd, n_bytes);
	r = look_at_map(command, vfd);
	return r ? r : answer_new(command, vfd);
}

/* --- CLOSE --- */

static uint32_t do_close(const struct command *command)
{
	const struct vfd *vfd = vfd_find(&command->wl->vfds, command->request->vfd_id);

	return vfd ? answer(command, WL_STEP_CLOSE, vfd) : VIRTIO_WL_RESP_INVALID_ID;
}

/* --- NEW_CTX --- */

static uint32_t do_new_ctx(const struct command *command)
{
	struct vfd *vfd;
	uint32_t r = find_coming(command, &vfd);

	if (r != 0)
		return r;
	vfd = begin(command, vfd, VFD_SOCKET);
	if (!vfd)
		return VIRTIO_WL_RESP_OUT_OF_MEMORY;
	vfd->flags = wl_has_trans_flags(command->wl) ? VIRTIO_WL_VFD_WRITE | VIRTIO_WL_VFD_READ
						     : VIRTIO_WL_VFD_CONTROL;
	memcpy(vfd->name, command->request->name, sizeof(vfd->name));
	vfd->is_connecting = 1;
	switch (context_connect(command->wl, vfd)) {
	case CONTEXT_OK:
		return answer_new(command, vfd);
	case CONTEXT_E_UNKNOWN:
		ends_close(command->wl, vfd);
		return VIRTIO_WL_RESP_INVALID_ID;
	case CONTEXT_E_GONE:
		ends_close(command->wl, vfd);
		return VIRTIO_WL_RESP_ERR;
	default:
		return give_up(command, vfd);
	}
}

/* --- NEW_PIPE --- */

static bool make_pipe(struct vfd_files *files, bool guest_writes)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return false;
	files->fd = fds[guest_writes];
	files->remote_fd = fds[!guest_writes];
	return fcntl(files->fd, F_SETFL, O_NONBLOCK) == 0;
}

static uint32_t do_new_pipe(const struct command *command)
{
	uint32_t flags = command->request->flags;
	bool guest_writes = flags == VIRTIO_WL_VFD_WRITE;
	struct wl *wl = command->wl;
	struct stream stream;
	struct vfd *vfd;
	uint32_t r = find_coming(command, &vfd);

	if (!guest_writes && flags != VIRTIO_WL_VFD_READ)
		return VIRTIO_WL_RESP_INVALID_FLAGS;
	if (r != 0)
		return r;
	vfd = begin(command, vfd, guest_writes ? VFD_PIPE_WRITE : VFD_PIPE_READ);
	if (!vfd)
		return VIRTIO_WL_RESP_OUT_OF_MEMORY;
	if (!make_pipe(vfd_files(&wl->vfds, vfd), guest_writes) || ends_keep(wl, vfd) < 0)
		return give_up(command, vfd);
	stream = ends_stream(wl, vfd);
	if (stream_begin(&stream) < 0)
		return give_up(command, vfd);
	ends_watch(wl, vfd);
	return answer_new(command, vfd);
}

/* --- NEW_DMABUF, DMABUF_SYNC --- */

static uint32_t begin_dmabuf(const struct command *command, struct vfd *former)
{
	const struct request *request = command->request;
	struct dmabuf dmabuf;
	struct vfd *vfd;
	int r = dmabuf_new(command->wl->dmabufs, request->width, request->height, request->format,
		&dmabuf);

	if (r != 0)
		return r == DMABUF_E_NONE ? VIRTIO_WL_RESP_INVALID_CMD : VIRTIO_WL_RESP_ERR;
	vfd = begin(command, former, VFD_DMABUF);
	if (!vfd) {
		fd_close(dmabuf.fd);
		return VIRTIO_WL_RESP_OUT_OF_MEMORY;
	}
	vfd_files(&command->wl->vfds, vfd)->fd = dmabuf.fd;
	memcpy(vfd->strides, dmabuf.stride_bytes, sizeof(vfd->strides));
	memcpy(vfd->offsets, dmabuf.offset_bytes, sizeof(vfd->offsets));
	return map(command, vfd, align_up(dmabuf.size_bytes, UINT64_C(1) << VIRTWL_PFN_SHIFT));
}

static uint32_t answer_dmabuf(const struct command *command, const struct vfd *vfd)
{
	struct virtio_wl_ctrl_vfd_new_dmabuf new = {
		.hdr.type = htole32(VIRTIO_WL_RESP_VFD_NEW_DMABUF),
		.vfd_id = htole32(vfd->id),
		.pfn = htole64(vfd->offset_bytes >> VIRTWL_PFN_SHIFT),
		.size = htole32((uint32_t)vfd->size_bytes),
	};

	for (size_t i = 0; i < ARRAY_SIZE(new.stride); i++) {
		new.stride[i] = htole32(vfd->strides[i]);
		new.offset[i] = htole32(vfd->offsets[i]);
	}
	answer(command, WL_STEP_OPEN, vfd);
	set_answer(command->note, &new, sizeof(new));
	return 0;
}

static uint32_t do_new_dmabuf(const struct command *command)
{
	struct vfd *vfd;
	uint32_t r = find_coming(command, &vfd);

	if (!command->wl->dmabufs)
		return VIRTIO_WL_RESP_INVALID_CMD;
	if (r != 0)
		return r;
	if (!vfd || vfd->kind != VFD_DMABUF || !vfd->map_seq)
		return begin_dmabuf(command, vfd);
	r = look_at_map(command, vfd);
	return r ? r : answer_dmabuf(command, vfd);
}

static uint32_t do_dmabuf_sync(const struct command *command)
{
	const struct request *request = command->request;
	const struct vfd *vfd = vfd_find(&command->wl->vfds, request->vfd_id);
	int r;

	if (request->flags & ~(uint32_t)VIRTIO_WL_DMABUF_SYNC_VALID_MASK)
		return VIRTIO_WL_RESP_INVALID_FLAGS;
	if (!vfd)
		return VIRTIO_WL_RESP_INVALID_ID;
	if (vfd->kind != VFD_MEMORY && vfd->kind != VFD_DMABUF)
		return VIRTIO_WL_RESP_ERR;
	r = dmabuf_sync(vfd_files(&command->wl->vfds, vfd)->fd, request->flags);
	if (r == DMABUF_E_FLAGS)
		return VIRTIO_WL_RESP_INVALID_FLAGS;
	return r ? VIRTIO_WL_RESP_ERR : answer(command, WL_STEP_ANSWER, vfd);
}

/* --- SEND --- */

static uint32_t do_send(const struct command *command)
{
	const struct virtio_wl_ctrl_hdr ok = { htole32(VIRTIO_WL_RESP_OK), 0 };
	uint32_t r = send_execute(command->wl, command->request, command->chain, command->note);

	if (r == SEND_WAITS)
		return WAITS;
	if (r == 0)
		set_answer(command->note, &ok, sizeof(ok));
	return r;
}

/* --- The table --- */

#define INDEX(command) (VIRTIO_WL_CMD_##command & 0xff)

static uint32_t (*const commands[])(const struct command *command) = {
	[INDEX(VFD_NEW)] = do_new,
	[INDEX(VFD_CLOSE)] = do_close,
	[INDEX(VFD_SEND)] = do_send,
	[INDEX(VFD_NEW_CTX)] = do_new_ctx,
	[INDEX(VFD_NEW_PIPE)] = do_new_pipe,
	[INDEX(VFD_NEW_DMABUF)] = do_new_dmabuf,
	[INDEX(VFD_DMABUF_SYNC)] = do_dmabuf_sync,
};

bool command_execute(struct wl *wl, const struct request *request, const struct virtq_chain *chain,
	struct wl_note *note)
{
	const struct command command = { wl, request, chain, note };
	uint32_t r;

	*note = (struct wl_note){ .step = WL_STEP_ANSWER };
	r = commands[request->type - VIRTIO_WL_CMD_VFD_NEW](&command);
	if (r != 0 && r != WAITS)
		command_refuse(note, r);
	return r != WAITS;
}

void command_follow(struct wl *wl, const struct wl_note *note)
{
	struct vfd *vfd = note->slot < VFDS_MAX ? vfd_at(&wl->vfds, note->slot) : NULL;

	if (note->step == WL_STEP_OPEN && vfd)
		vfd->state = VFD_LIVE;
	if (note->step == WL_STEP_CLOSE && vfd && vfd->state != VFD_CLOSED)
		ends_close(wl, vfd);
	if (note->step == WL_STEP_OPEN || note->step == WL_STEP_CLOSE) {
		device_report(wl->device);
		wl_wake(wl, VIRTWL_VQ_IN); /* descriptors may wait for room in the table */
	}
	if (note->step == WL_STEP_SENT || note->step == WL_STEP_HOLD)
		send_follow(wl, note);
}

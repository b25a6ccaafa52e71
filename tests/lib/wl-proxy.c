/*
 * One thread, and one request at a time, as a guest's client that waits for its ioctl(). What a
 * client or the compositor hands over becomes a VFD of one of four kinds; memory belongs to the
 * connection that it came on, for nothing tells when a client has no more use for it. Pipes live
 * until either end is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wl-proxy.h"

/* A pool that a client enlarges later finds room in its VFD, which cannot grow. */
#define SMALL_POOL_BYTES 65536
#define ROOMY_POOL_BYTES (1u << 20)

enum kind { CONTEXT, MEMORY, TO_HOST, FROM_HOST, ANNOUNCED };

struct wl_proxy_vfd {
	uint32_t id;
	enum kind kind;
	int fd;                   /* the client's end; owned */
	struct wl_proxy_vfd *ctx; /* of memory */
	uint8_t *map;             /* the client's memory, and how much of it is mapped */
	size_t map_bytes;
	struct wl_msg made;    /* memory, and what is announced */
	int kept[WL_MAX_VFDS]; /* of a context: to go with the next data; owned */
	uint32_t n_kept;
	uint8_t *queue; /* of a pipe from the host: what its client has not read yet */
	size_t n_queued;
	bool ended; /* and nothing more comes */
};

static void tell(const struct wl_proxy *p, const char *what, const struct wl_proxy_vfd *vfd)
{
	static const char *const names[] = { "context", "memory", "pipe to the host",
		"pipe from the host", "announced" };

	if (p->verbose)
		fprintf(stderr, "proxy: %s %s %#x, %u bytes at %#llx\n", what, names[vfd->kind],
			vfd->id, vfd->made.size, (unsigned long long)vfd->made.pfn << 12);
}

static struct wl_proxy_vfd *add(struct wl_proxy *p, uint32_t id, enum kind kind, int fd)
{
	struct wl_proxy_vfd *vfd = p->n_vfds < WL_PROXY_VFDS ? calloc(1, sizeof(*vfd)) : NULL;

	if (!vfd)
		return NULL;
	vfd->id = id;
	vfd->kind = kind;
	vfd->fd = fd;
	return p->vfds[p->n_vfds++] = vfd;
}

static struct wl_proxy_vfd *find(struct wl_proxy *p, uint32_t id)
{
	for (size_t i = 0; i < p->n_vfds; i++)
		if (p->vfds[i]->id == id)
			return p->vfds[i];
	return NULL;
}

/* Forgets it, without a word to the device. */
static void forget(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	for (size_t i = 0; i < p->n_vfds; i++)
		if (p->vfds[i] == vfd)
			p->vfds[i--] = p->vfds[--p->n_vfds];
	if (vfd->map)
		munmap(vfd->map, vfd->map_bytes);
	for (uint32_t i = 0; i < vfd->n_kept; i++)
		close(vfd->kept[i]);
	if (vfd->fd >= 0)
		close(vfd->fd);
	free(vfd->queue);
	free(vfd);
}

static int drop(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	uint32_t id = vfd->id;
	int r;

	tell(p, "closes", vfd);
	for (size_t i = 0; i < p->n_vfds;) {
		struct wl_proxy_vfd *other = p->vfds[i++];

		if (vfd->kind != CONTEXT || other->ctx != vfd)
			continue;
		r = drop(p, other);
		if (r)
			return r;
		i = 0;
	}
	forget(p, vfd);
	r = wl_close(p->link, id);
	return r < 0 ? r : 0;
}

/* ---- from a client ---- */

static int make_memory(struct wl_proxy *p, struct wl_proxy_vfd *vfd, off_t n_bytes)
{
	uint32_t n = n_bytes < SMALL_POOL_BYTES ? ROOMY_POOL_BYTES : (uint32_t)n_bytes;

	vfd->kind = MEMORY;
	return wl_new(p->link, vfd->id, n, &vfd->made);
}

static int make_pipe(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	bool reads = (fcntl(vfd->fd, F_GETFL) & O_ACCMODE) == O_RDONLY;

	vfd->kind = reads ? TO_HOST : FROM_HOST;
	if (!reads)
		fcntl(vfd->fd, F_SETFL, O_NONBLOCK);
	return wl_new_pipe(p->link, vfd->id, reads ? WL_WRITE : WL_READ);
}

/* A VFD for a client's descriptor, which is consumed; 0 and its id. */
static int make_vfd(struct wl_proxy *p, struct wl_proxy_vfd *ctx, int fd, uint32_t *ret_id)
{
	struct wl_proxy_vfd *vfd = add(p, p->next_id++, MEMORY, fd);
	struct stat st;
	int r = -EMFILE;

	if (!vfd) {
		close(fd);
		return r;
	}
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		r = make_memory(p, vfd, st.st_size);
	else if (S_ISFIFO(st.st_mode))
		r = make_pipe(p, vfd);
	else
		r = WL_INVALID_TYPE;
	if (r) {
		fprintf(stderr, "proxy: a client's descriptor is refused: %d\n", r);
		forget(p, vfd);
		return r;
	}
	vfd->ctx = vfd->kind == MEMORY ? ctx : NULL;
	tell(p, "makes", vfd);
	*ret_id = vfd->id;
	return 0;
}

static void copy_memory(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	uint8_t *to = wl_memory(p->link, &vfd->made);
	struct stat st;
	size_t n;

	if (fstat(vfd->fd, &st) < 0)
		return;
	n = (size_t)st.st_size < vfd->made.size ? (size_t)st.st_size : vfd->made.size;
	if (n != vfd->map_bytes) {
		if (vfd->map)
			munmap(vfd->map, vfd->map_bytes);
		vfd->map = mmap(NULL, n, PROT_READ, MAP_SHARED, vfd->fd, 0);
		vfd->map_bytes = vfd->map == MAP_FAILED ? 0 : n;
		vfd->map = vfd->map == MAP_FAILED ? NULL : vfd->map;
	}
	if (vfd->map)
		memcpy(to, vfd->map, vfd->map_bytes);
}

static ssize_t read_client(int fd, void *buf, int *ret_fds, uint32_t *ret_n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(WL_MAX_VFDS * sizeof(int))];
	struct iovec iov = { buf, WL_SEND_BYTES };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*ret_n = 0;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*ret_n = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(ret_fds, CMSG_DATA(c), *ret_n * sizeof(int));
	}
	return n;
}

static int on_client(struct wl_proxy *p, struct wl_proxy_vfd *ctx)
{
	static uint8_t buf[WL_SEND_BYTES];
	int fds[WL_MAX_VFDS], r = 0;
	uint32_t ids[WL_MAX_VFDS], n_fds;
	ssize_t n = read_client(ctx->fd, buf, fds, &n_fds);

	if (n <= 0)
		return drop(p, ctx);
	for (uint32_t i = 0; i < n_fds; i++)
		if (r)
			close(fds[i]);
		else
			r = make_vfd(p, ctx, fds[i], &ids[i]);
	for (size_t i = 0; !r && i < p->n_vfds; i++)
		if (p->vfds[i]->ctx == ctx)
			copy_memory(p, p->vfds[i]);
	if (!r)
		r = wl_send(p->link, ctx->id, ids, n_fds, buf, (size_t)n);
	if (r > 0)
		fprintf(stderr, "proxy: the device refuses a message with %#x\n", r);
	return r > 0 ? drop(p, ctx) : r;
}

static int on_pipe(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	static uint8_t buf[WL_SEND_BYTES];
	ssize_t n = read(vfd->fd, buf, sizeof(buf));
	int r = n > 0 ? wl_send(p->link, vfd->id, NULL, 0, buf, (size_t)n) : 1;

	return r > 0 ? drop(p, vfd) : r;
}

static int on_connect(struct wl_proxy *p, const struct wl_proxy_socket *at)
{
	int fd = accept4(at->fd, NULL, NULL, SOCK_CLOEXEC);
	struct wl_proxy_vfd *vfd = fd < 0 ? NULL : add(p, p->next_id++, CONTEXT, fd);
	int r;

	if (!vfd) {
		close(fd);
		return 0;
	}
	r = wl_new_ctx(p->link, vfd->id, at->name);
	if (r)
		forget(p, vfd);
	else
		tell(p, "makes", vfd);
	return r < 0 ? r : 0;
}

/* ---- from the device ---- */

/* What a client is given for memory of the host: it never changes, as a keymap. */
static int copy_out(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	const uint8_t *from = wl_memory(p->link, &vfd->made);
	int fd = memfd_create("from-host", MFD_CLOEXEC);
	size_t done = 0;

	while (from && fd >= 0 && done < vfd->made.size) {
		ssize_t n = write(fd, from + done, vfd->made.size - done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return fd;
}

static int open_pipe(struct wl_proxy_vfd *vfd)
{
	bool writes = vfd->made.flags & WL_WRITE;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	vfd->kind = writes ? TO_HOST : FROM_HOST;
	vfd->fd = ends[writes ? 0 : 1];
	if (!writes)
		fcntl(vfd->fd, F_SETFL, O_NONBLOCK);
	return ends[writes ? 1 : 0];
}

static int deliver_vfd(struct wl_proxy *p, struct wl_proxy_vfd *ctx, uint32_t id)
{
	struct wl_proxy_vfd *vfd = find(p, id);
	bool memory;

	if (!vfd || vfd->kind != ANNOUNCED || ctx->n_kept == WL_MAX_VFDS) {
		fprintf(stderr, "proxy: RECV names %#x, which nothing announced\n", id);
		return -EPROTO;
	}
	tell(p, "is given", vfd);
	memory = vfd->made.pfn && vfd->made.pfn != WL_NO_PFN;
	/* offset 0 of the region is a place like any other */
	memory |= !vfd->made.pfn && vfd->made.size;
	ctx->kept[ctx->n_kept++] = memory ? copy_out(p, vfd) : open_pipe(vfd);
	return memory ? drop(p, vfd) : 0;
}

static bool write_client(struct wl_proxy_vfd *ctx, const void *data, size_t n_bytes)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(WL_MAX_VFDS * sizeof(int))] = { 0 };
	size_t n_fd_bytes = ctx->n_kept * sizeof(int), done = 0;
	struct iovec iov = { (void *)(uintptr_t)data, n_bytes };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(n_fd_bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	*c = (struct cmsghdr){ CMSG_LEN(n_fd_bytes), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(c), ctx->kept, n_fd_bytes);
	while (done < n_bytes) {
		ssize_t n;

		if (done || !ctx->n_kept)
			msg.msg_control = NULL, msg.msg_controllen = 0;
		n = sendmsg(ctx->fd, &msg, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		done += (size_t)n;
		iov = (struct iovec){ (uint8_t *)(uintptr_t)data + done, n_bytes - done };
	}
	for (uint32_t i = 0; i < ctx->n_kept; i++)
		close(ctx->kept[i]);
	ctx->n_kept = 0;
	return done == n_bytes;
}

/* A client may wait for its compositor before it reads: it is never waited for. */
static int flush_pipe(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	ssize_t n = vfd->n_queued ? write(vfd->fd, vfd->queue, vfd->n_queued) : 0;

	if (n < 0 && errno != EAGAIN)
		return drop(p, vfd);
	if (n > 0) {
		vfd->n_queued -= (size_t)n;
		memmove(vfd->queue, vfd->queue + n, vfd->n_queued);
	}
	return vfd->ended && !vfd->n_queued ? drop(p, vfd) : 0;
}

static int write_pipe(struct wl_proxy *p, struct wl_proxy_vfd *vfd, const void *data,
	size_t n_bytes)
{
	uint8_t *queue = realloc(vfd->queue, vfd->n_queued + n_bytes);

	if (!queue)
		return -ENOMEM;
	memcpy(queue + vfd->n_queued, data, n_bytes);
	vfd->queue = queue;
	vfd->n_queued += n_bytes;
	return flush_pipe(p, vfd);
}

static int on_hup(struct wl_proxy *p, struct wl_proxy_vfd *vfd)
{
	if (vfd->kind != FROM_HOST)
		return drop(p, vfd);
	vfd->ended = true;
	return flush_pipe(p, vfd);
}

static int on_recv(struct wl_proxy *p, const struct wl_data *recv, size_t n_bytes)
{
	struct wl_proxy_vfd *vfd = find(p, recv->id);
	size_t n = 0;
	const void *data = wl_recv_data(recv, n_bytes, &n);
	int r = 0;

	if (!data)
		return -EPROTO;
	if (!vfd)
		return 0; /* closed while this was under way */
	for (uint32_t i = 0; !r && i < recv->n_vfds; i++)
		r = deliver_vfd(p, vfd, recv->ids[i]);
	if (r || !n)
		return r;
	if (vfd->kind == FROM_HOST)
		return write_pipe(p, vfd, data, n);
	return vfd->kind == CONTEXT && write_client(vfd, data, n) ? 0 : drop(p, vfd);
}

static int on_event(struct wl_proxy *p, const void *event, size_t n_bytes)
{
	struct wl_msg msg = { 0 };
	struct wl_proxy_vfd *vfd;

	memcpy(&msg, event, n_bytes < sizeof(msg) ? n_bytes : sizeof(msg));
	if (msg.type == WL_RECV)
		return on_recv(p, event, n_bytes);
	vfd = find(p, msg.id);
	if (msg.type == WL_HUP)
		return vfd ? on_hup(p, vfd) : 0;
	if (msg.type != WL_NEW || vfd || !(msg.id & WL_HOST_ID))
		return -EPROTO;
	vfd = add(p, msg.id, ANNOUNCED, -1);
	if (!vfd)
		return -EMFILE;
	vfd->made = msg;
	return 0;
}

static int take_events(struct wl_proxy *p)
{
	static _Alignas(8) uint8_t event[WL_EVENT_BYTES];
	int r;

	while ((r = p->link->ops->event(p->link, event)) >= 0) {
		r = on_event(p, event, (size_t)r);
		if (r)
			return r;
	}
	return r == -EAGAIN ? 0 : r;
}

/* ---- the loop ---- */

#define N_LINK_FDS 3
#define N_FIXED (N_LINK_FDS + WL_PROXY_SOCKETS)

static short events_of(const struct wl_proxy_vfd *vfd)
{
	if (vfd->kind == FROM_HOST)
		return vfd->n_queued ? POLLOUT : 0;
	return vfd->kind == CONTEXT || vfd->kind == TO_HOST ? POLLIN : 0;
}

static size_t fill_poll(struct wl_proxy *p, struct pollfd *fds)
{
	size_t n = 0;

	for (; n < N_LINK_FDS; n++)
		fds[n] = (struct pollfd){ .fd = p->link->fds[n], .events = POLLIN };
	for (size_t i = 0; i < WL_PROXY_SOCKETS; i++)
		fds[n++] = (struct pollfd){ .fd = i < p->n_sockets ? p->sockets[i].fd : -1,
			.events = POLLIN };
	for (size_t i = 0; i < p->n_vfds; i++)
		if (events_of(p->vfds[i]))
			fds[n++] = (struct pollfd){ .fd = p->vfds[i]->fd,
				.events = events_of(p->vfds[i]) };
	return n;
}

static struct wl_proxy_vfd *find_fd(struct wl_proxy *p, int fd)
{
	for (size_t i = 0; i < p->n_vfds; i++)
		if (p->vfds[i]->fd == fd && p->vfds[i]->kind != MEMORY)
			return p->vfds[i];
	return NULL;
}

static int serve(struct wl_proxy *p, int fd)
{
	struct wl_proxy_vfd *vfd = find_fd(p, fd);
	struct pollfd still = { .fd = fd, .events = vfd ? events_of(vfd) : 0 };

	/* one before it in this turn may have closed it, and another have got its number */
	if (!still.events || poll(&still, 1, 0) != 1)
		return 0;
	if (vfd->kind == FROM_HOST)
		return flush_pipe(p, vfd);
	return vfd->kind == CONTEXT ? on_client(p, vfd) : on_pipe(p, vfd);
}

static int turn(struct wl_proxy *p)
{
	struct pollfd fds[N_FIXED + WL_PROXY_VFDS];
	int r = take_events(p);
	size_t n = fill_poll(p, fds);

	if (r)
		return r;
	if (poll(fds, n, p->link->poll_ms) < 0 && errno != EINTR)
		return -errno;
	for (size_t i = 0; !r && i < p->n_sockets; i++)
		if (fds[N_LINK_FDS + i].revents)
			r = on_connect(p, &p->sockets[i]);
	for (size_t i = N_FIXED; !r && i < n; i++)
		if (fds[i].revents)
			r = serve(p, fds[i].fd);
	return r;
}

int wl_proxy_listen(struct wl_proxy *p, char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char *name = strchr(path, '=');

	if (fd < 0 || p->n_sockets == WL_PROXY_SOCKETS)
		return -EMFILE;
	if (name)
		*name++ = '\0';
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 16) < 0)
		return -errno;
	p->sockets[p->n_sockets++] = (struct wl_proxy_socket){ fd, name };
	return 0;
}

int wl_proxy_run(struct wl_proxy *p)
{
	int r;

	if (!p->next_id)
		p->next_id = 1;
	do {
		r = turn(p);
	} while (!r);
	return r;
}

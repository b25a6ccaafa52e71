/*
 * Each request has a slot: pages that the device reads, as the driver hands them over, and one
 * that it writes. (A slot's answer lies elsewhere than in the real driver, where it is written
 * over the request: the ring's checks fill what the device is to write.)
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/patience.h"
#include "wl-front.h"

#define PAGE 4096u
#define REPLY_BYTES 64u

static int say(struct wl_front *f, int e, const char *what)
{
	if (e && !f->why[0])
		snprintf(f->why, sizeof(f->why), "%s: %s; %s%s%s", what,
			e > 0 ? "refused" : strerror(-e), f->c.why, f->rings[0].fault,
			f->rings[1].fault);
	return e;
}

/* ---- the back-end's channel ---- */

/* The device believes it, and the guest writes where nobody reads. */
static void disconnect(struct wl_front *f, const struct vu_msg *msg)
{
	struct vu_shmem_map map;

	memcpy(&map, msg->body.bytes, sizeof(map));
	if (msg->head.request == VU_BACKEND_SHMEM_MAP &&
		mmap(f->window.mem + map.offset, map.size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		abort();
}

static int serve_one(struct wl_front *f)
{
	struct vu_msg msg;
	int r = vu_backend_recv(&f->c, &msg), value = 1;

	if (r)
		return say(f, r, "the back-end's channel");
	if (!f->refuse || msg.head.request != VU_BACKEND_SHMEM_MAP)
		value = window_do(&f->window, &msg);
	if (!value && f->no_map)
		disconnect(f, &msg);
	r = value < 0 ? value : vu_backend_answer(&f->c, msg.head.request, (uint64_t)value);
	vu_msg_deinit(&msg);
	return say(f, r, f->window.why[0] ? f->window.why : "the back-end's channel");
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

int wl_front_serve(struct wl_front *f)
{
	int r = 0;

	while (!r && is_readable(f->c.back_fd))
		r = serve_one(f);
	return r;
}

/* ---- the link ---- */

static int front_post(struct wl_link *l, const void *request, size_t n_bytes)
{
	struct wl_front *f = (struct wl_front *)l;
	struct ring_seg segs[WL_SLOT_BYTES / PAGE + 1];
	size_t slot = 0, n = 0;
	int r;

	while (slot < WL_FRONT_SLOTS && f->answers[slot] != -1)
		slot++;
	if (slot == WL_FRONT_SLOTS)
		return -EAGAIN;
	if (n_bytes > WL_SLOT_BYTES)
		return -E2BIG;
	memcpy(guest_at(&f->g, f->slots[slot], n_bytes), request, n_bytes);
	for (size_t done = 0; done < n_bytes; done += PAGE)
		segs[n++] = (struct ring_seg){ f->slots[slot] + done,
			n_bytes - done < PAGE ? (uint32_t)(n_bytes - done) : PAGE, false };
	segs[n++] = (struct ring_seg){ f->replies[slot], REPLY_BYTES, true };
	r = ring_post(&f->rings[1], segs, n, (void *)(uintptr_t)(slot + 1));
	if (r)
		return say(f, r, "posting a request");
	f->answers[slot] = -2;
	ring_kick(&f->rings[1]);
	return (int)slot;
}

static int front_answer(struct wl_link *l, int slot, void *ret_answer, size_t n_bytes)
{
	struct wl_front *f = (struct wl_front *)l;
	struct ring_used used;
	int r;

	r = wl_front_serve(f);
	if (r)
		return r;
	ring_drain_calls(&f->rings[1]);
	while ((r = ring_reap(&f->rings[1], &used)) == 1)
		f->answers[(uintptr_t)used.cookie - 1] = (int)used.len;
	if (r)
		return say(f, r, "the out queue");
	r = f->answers[slot];
	if (r < 0)
		return -EAGAIN;
	if ((size_t)r < n_bytes)
		n_bytes = (size_t)r;
	memcpy(ret_answer, guest_at(&f->g, f->replies[slot], REPLY_BYTES), n_bytes);
	f->answers[slot] = -1;
	return r;
}

static int post_event_buffer(struct wl_front *f, uint64_t gpa)
{
	struct ring_seg seg = { gpa, WL_EVENT_BYTES, true };

	return say(f, ring_post(&f->rings[0], &seg, 1, (void *)(uintptr_t)gpa), "the in queue");
}

static int front_event(struct wl_link *l, void *ret_event)
{
	struct wl_front *f = (struct wl_front *)l;
	struct ring_used used;
	int r = wl_front_serve(f);

	if (r)
		return r;
	ring_drain_calls(&f->rings[0]);
	r = ring_reap(&f->rings[0], &used);
	if (r <= 0)
		return r ? say(f, r, "the in queue") : -EAGAIN;
	memcpy(ret_event, guest_at(&f->g, (uintptr_t)used.cookie, used.len), used.len);
	r = post_event_buffer(f, (uintptr_t)used.cookie);
	ring_kick(&f->rings[0]);
	return r ? r : (int)used.len;
}

static void front_wait(struct wl_link *l, int timeout_ms)
{
	struct pollfd fds[3];

	for (int i = 0; i < 3; i++)
		fds[i] = (struct pollfd){ .fd = l->fds[i], .events = POLLIN };
	poll(fds, 3, timeout_ms);
}

static const struct wl_link_ops ops = { front_post, front_answer, front_event, front_wait };

/* ---- the session ---- */

static int negotiate(struct wl_front *f)
{
	uint64_t want = VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES) |
		VU_BIT(WL_F_TRANS_FLAGS) | VU_BIT(WL_F_SEND_FENCES) | VU_BIT(WL_F_USE_SHMEM) |
		f->features;
	uint64_t pf = VU_BIT(VU_PF_MQ) | VU_BIT(VU_PF_REPLY_ACK) | VU_BIT(VU_PF_BACKEND_REQ) |
		VU_BIT(VU_PF_BACKEND_SEND_FD) | VU_BIT(VU_PF_SHMEM) | VU_BIT(VU_PF_DEVICE_STATE) |
		VU_BIT(VU_PF_LOG_SHMFD);
	int e = vu_hello(&f->c, pf);

	if (!e && (~f->c.acked_protocol & pf))
		e = -ENOTSUP;
	if (!e)
		e = vu_set_backend_channel(&f->c);
	if (!e && (want & ~f->c.features))
		e = -ENOTSUP;
	f->c.ack = true;
	return say(f, e ? e : vu_set_features(&f->c, want), "negotiating");
}

static int make_buffers(struct wl_front *f)
{
	for (int i = 0; i < WL_FRONT_SLOTS; i++) {
		f->slots[i] = guest_alloc(&f->g, WL_SLOT_BYTES, PAGE);
		f->replies[i] = guest_alloc(&f->g, REPLY_BYTES, 8);
		f->answers[i] = -1;
		if (!f->slots[i] || !f->replies[i])
			return -ENOSPC;
	}
	return 0;
}

static int fill_events(struct wl_front *f)
{
	int r = 0;

	for (int i = 0; !r && i < WL_FRONT_EVENTS; i++) {
		uint64_t gpa = guest_alloc(&f->g, WL_EVENT_BYTES, PAGE);

		r = gpa ? post_event_buffer(f, gpa) : -ENOSPC;
	}
	ring_kick(&f->rings[0]);
	return r;
}

static int make_rings(struct wl_front *f)
{
	int r = 0;

	for (uint16_t i = 0; !r && i < 2; i++) {
		struct ring_config cfg = {
			.index = i,
			.size = 512,
			.packed = f->features & VU_BIT(VU_F_PACKED),
			.event_idx = f->features & VU_BIT(VU_F_EVENT_IDX),
			.indirect = f->features & VU_BIT(VU_F_INDIRECT),
		};

		f->bases[i] = cfg.base = cfg.packed ? 0x8000 : 0;
		r = ring_init(&f->rings[i], &f->g, &cfg);
	}
	if (r)
		return say(f, r, "making rings");
	f->link.fds[0] = f->rings[0].call_fd;
	f->link.fds[1] = f->rings[1].call_fd;
	f->link.fds[2] = f->c.back_fd;
	return say(f, make_buffers(f), "making buffers");
}

static int start_ring(struct wl_front *f, uint16_t index)
{
	struct ring *r = &f->rings[index];
	struct vu_addr addr;
	int e;

	ring_addr(r, &addr);
	e = vu_set_state(&f->c, VU_SET_VRING_NUM, index, r->cfg.size);
	if (!e)
		e = vu_set_state(&f->c, VU_SET_VRING_BASE, index, f->bases[index]);
	if (!e)
		e = vu_set_vring_addr(&f->c, &addr);
	if (!e)
		e = vu_set_vring_fd(&f->c, VU_SET_VRING_KICK, index, r->kick_fd);
	if (!e)
		e = vu_set_vring_fd(&f->c, VU_SET_VRING_CALL, index, r->call_fd);
	if (!e)
		e = vu_set_state(&f->c, VU_SET_VRING_ENABLE, index, 1);
	return say(f, e, "starting a ring");
}

int wl_front_resume(struct wl_front *f)
{
	int e = start_ring(f, 0);

	return e ? e : start_ring(f, 1);
}

int wl_front_pause(struct wl_front *f)
{
	for (uint16_t i = 0; i < 2; i++) {
		int e = vu_get_vring_base(&f->c, i, &f->bases[i]);

		if (e)
			return say(f, e, "GET_VRING_BASE");
	}
	return 0;
}

static int set_memory(struct wl_front *f)
{
	struct vu_region regions[GUEST_MAX_REGIONS];
	int fds[GUEST_MAX_REGIONS];
	size_t n = guest_table(&f->g, regions, fds);

	return say(f, vu_set_mem_table(&f->c, regions, fds, n), "SET_MEM_TABLE");
}

static int start_guest(struct wl_front *f)
{
	int e = make_rings(f);

	if (!e)
		e = set_memory(f);
	if (!e)
		e = wl_front_resume(f);
	return e ? e : fill_events(f);
}

static int open_window(struct wl_front *f)
{
	int e = window_open(&f->window, &f->c, 0);

	f->link.window = f->window.mem;
	f->link.window_bytes = f->window.n_bytes;
	return say(f, e, f->window.why);
}

int wl_front_open(struct wl_front *f, const char *path)
{
	int e;

	f->link.ops = &ops;
	f->link.poll_ms = -1;
	f->link.timeout_ms = test_ms(10000);
	f->c = (struct vu_client)VU_CLIENT_NULL;
	e = say(f, guest_init_plain(&f->g, 64 << 20), "guest memory");
	if (!e)
		e = say(f, vu_connect(&f->c, path), "connecting");
	if (!e)
		e = negotiate(f);
	if (!e)
		e = open_window(f);
	return e ? e : start_guest(f);
}

int wl_front_reboot(struct wl_front *f)
{
	int e = wl_front_pause(f);

	if (!e)
		e = wl_front_serve(f);
	if (!e)
		window_reset(&f->window);
	for (int i = 0; i < 2; i++)
		ring_deinit(&f->rings[i]);
	return e ? e : start_guest(f);
}

int wl_front_check(struct wl_front *f)
{
	int e = ring_check(&f->rings[0]);

	if (!e)
		e = ring_check(&f->rings[1]);
	return say(f, e, "the rings");
}

void wl_front_close(struct wl_front *f)
{
	for (int i = 0; i < 2; i++)
		ring_deinit(&f->rings[i]);
	vu_close(&f->c);
	guest_deinit(&f->g);
	window_close(&f->window);
}

/*
 * Playing a log with sense: order, flags and sizes are the log's; descriptors are ours, of the kind
 * that the log names; memory has the log's addresses, sizes and offsets in files of ours; features
 * are those of the log that this back-end offers, and a message whose feature is not there is left
 * out, as its front-end would have done. Before the log stops its rings, or hangs up, frames go
 * through them; where it asks for the base, the answer must be where the driver stands.
 *
 * A reply comes where the log has one, and nowhere else. Two of ours differ from what is in the
 * logs: the flags are those of the specification, where some back-ends send need_reply back; and a
 * net device has fewer bytes of configuration space than a disk, so that a question for those of a
 * disk is answered with none.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "replay.h"

#define N_FRAMES 600 /* more than twice round every ring that is in a log */

static int fail(struct replay *r, int e, const char *what)
{
	static char text[400];

	if (e && !r->why) {
		snprintf(text, sizeof(text), "%s: %s; %s", what, e > 0 ? "refused" : strerror(-e),
			r->n.c.why[0] ? r->n.c.why : r->n.why);
		r->why = text;
	}
	return e > 0 ? -EPROTO : e;
}

/* --- traffic --- */

static int fill_from_generator(struct replay *r, uint16_t index)
{
	struct ring *ring = &r->n.rings[index];
	struct ring_used used;

	for (uint32_t i = 0; i < N_FRAMES; i++) {
		uint64_t gpa = r->n.bufs[index][i % r->n.n_bufs[index]];
		struct ring_seg seg = { gpa, r->n.p.buf_bytes, true };
		int e = ring_post(ring, &seg, 1, NULL);

		if (!e)
			e = (ring_kick(ring), ring_wait(ring, 5000));
		if (!e)
			e = ring_reap(ring, &used) == 1 ? 0 : -EBADMSG;
		if (!e && used.len != r->generated + NET_HDR_BYTES)
			e = ring->fault[0] ? -EBADMSG : -EMSGSIZE;
		if (e)
			return fail(r, e, ring->fault[0] ? ring->fault : "a generated frame");
	}
	return 0;
}

static int echo(struct replay *r, uint16_t pair)
{
	int e = net_fill(&r->n, pair);

	if (!e)
		e = net_pump(&r->n, pair, N_FRAMES, 300);
	if (!e && (r->n.c.acked & VU_BIT(VU_F_INDIRECT))) {
		r->n.rings[2 * pair + 1].cfg.indirect = true;
		e = net_pump(&r->n, pair, N_FRAMES, 900);
	}
	return fail(r, e, "echo");
}

/* Most front-ends have their last messages unacknowledged, and a frame that comes before these are
 * in force is dropped: one that is said again is acknowledged when all before it are. */
static int settle(struct replay *r)
{
	int e = 0;

	for (uint32_t i = 0; i < r->n.n_rings; i++) {
		if (!r->rings[i].started || !r->rings[i].enabled)
			continue;
		r->n.c.ack = true;
		e = vu_set_state(&r->n.c, VU_SET_VRING_ENABLE, (uint16_t)i, 1);
		r->n.c.ack = false;
		break;
	}
	return fail(r, e, "settling");
}

static int move_frames(struct replay *r)
{
	int e;

	if (r->moved)
		return 0;
	e = settle(r);
	for (uint16_t i = 0; !e && i < r->n.n_rings; i += r->generated ? 1 : 2) {
		bool both = i + 1 < r->n.n_rings && r->rings[i + 1].started;

		if (!r->rings[i].started || (!r->generated && !both))
			continue;
		e = net_make_bufs(&r->n, i);
		if (!e && !r->generated)
			e = net_make_bufs(&r->n, i + 1);
		if (!e)
			e = r->generated ? fill_from_generator(r, i) : echo(r, i / 2);
		/* one that nobody had to wait for counts, too */
		ring_drain_calls(&r->n.rings[i]);
		if (!e && r->rings[i].socket_call && r->n.rings[i].n_calls)
			r->saw |= SAW_SOCKET_CALL;
		r->moved = true;
		r->n_frames += N_FRAMES;
	}
	return fail(r, e, "traffic");
}

/* --- messages --- */

static bool has_feature(const struct replay *r, uint32_t request)
{
	uint64_t pf = r->n.c.acked_protocol;

	switch (request) {
	case VU_GET_STATUS:
	case VU_SET_STATUS:
		return pf & VU_BIT(VU_PF_STATUS);
	case VU_SET_BACKEND_REQ_FD:
		return pf & VU_BIT(VU_PF_BACKEND_REQ);
	case VU_GET_QUEUE_NUM:
		return pf & VU_BIT(VU_PF_MQ);
	default:
		return true;
	}
}

static int make_fd(const struct replay *r, const struct log_event *e)
{
	int pair[2];

	switch (e->request) {
	case VU_SET_MEM_TABLE:
	case VU_ADD_MEM_REG:
		return dup(r->n.g.regions[r->n.g.n_regions - 1].fd);
	case VU_REM_MEM_REG:
		return dup(r->n.g.regions[r->n.g.n_regions - 1].fd);
	case VU_SET_BACKEND_REQ_FD:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return -errno;
		close(pair[0]);
		return pair[1];
	case VU_SET_VRING_KICK:
		return dup(r->n.rings[e->state.index].kick_fd);
	default:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
}

/* a call descriptor of the log's kind; the old one goes when the back-end has the new one */
static int change_call(struct replay *r, const struct log_event *e, int *ret_fd)
{
	struct replay_ring *rr = &r->rings[e->state.index];
	struct ring *ring = &r->n.rings[e->state.index];
	int *call = rr->started ? &ring->call_fd : &rr->call_fd;
	int pair[2];

	rr->socket_call = e->fd_is_socket;
	if (*call >= 0)
		close(*call);
	if (!e->fd_is_socket) {
		*call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		*ret_fd = dup(*call);
		return 0;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	*call = pair[0];
	*ret_fd = pair[1];
	return 0;
}

static int start_ring(struct replay *r, uint32_t index)
{
	struct replay_ring *rr = &r->rings[index];
	struct ring *ring = &r->n.rings[index];
	uint64_t acked = r->n.c.acked;
	struct ring_config cfg = {
		.index = (uint16_t)index,
		.size = (uint16_t)rr->num,
		.base = (uint16_t)rr->base,
		.packed = acked & VU_BIT(VU_F_PACKED),
		.event_idx = acked & VU_BIT(VU_F_EVENT_IDX),
		.in_order = acked & VU_BIT(VU_F_IN_ORDER),
		.desc = guest_from_uva(&r->n.g, rr->addr.desc),
		.avail = guest_from_uva(&r->n.g, rr->addr.avail),
		.used = guest_from_uva(&r->n.g, rr->addr.used),
	};
	int e = rr->addressed ? ring_init(ring, &r->n.g, &cfg) : -EPROTO;

	if (e)
		return e;
	if (rr->call_fd >= 0) {
		close(ring->call_fd);
		ring->call_fd = rr->call_fd;
		rr->call_fd = -1;
	}
	rr->started = true;
	if (r->n.n_rings <= index)
		r->n.n_rings = (uint16_t)(index + 1);
	return 0;
}

static void keep_areas(struct replay *r, const struct log_event *e)
{
	struct replay_ring *rr = &r->rings[e->addr.index];

	rr->addr = e->addr;
	rr->addressed = true;
	guest_keep(&r->n.g, guest_from_uva(&r->n.g, e->addr.desc), 16 * rr->num);
	guest_keep(&r->n.g, guest_from_uva(&r->n.g, e->addr.avail), 6 + 2 * rr->num);
	guest_keep(&r->n.g, guest_from_uva(&r->n.g, e->addr.used), 6 + 8 * rr->num);
}

/* what the message means for our side, before it is sent */
static int prepare(struct replay *r, const struct log_event *e)
{
	switch (e->request) {
	case VU_SET_MEM_TABLE:
	case VU_ADD_MEM_REG:
		return guest_add_region(&r->n.g, &e->region);
	case VU_SET_VRING_NUM:
		r->rings[e->state.index].num = e->state.num;
		return 0;
	case VU_SET_VRING_BASE:
		r->rings[e->state.index].base = e->state.num;
		return 0;
	case VU_SET_VRING_ADDR:
		keep_areas(r, e);
		return 0;
	case VU_SET_VRING_KICK:
		return start_ring(r, e->state.index);
	case VU_SET_VRING_ENABLE:
		r->rings[e->state.index].enabled = e->state.num;
		return 0;
	case VU_SET_STATUS:
		r->status = e->value;
		return 0;
	default:
		return 0;
	}
}

static void build(struct replay *r, const struct log_event *e, uint8_t *body)
{
	uint64_t value = e->value;

	memset(body, 0, e->size);
	switch (e->request) {
	case VU_SET_FEATURES:
		value &= r->n.c.features;
		if (r->n.c.acked & ~value & VU_BIT(VU_F_PROTOCOL_FEATURES))
			r->saw |= SAW_FEATURES_DROPPED;
		r->features_set = true;
		r->n.c.acked = r->n.p.features = value;
		break;
	case VU_SET_PROTOCOL_FEATURES:
		value &= r->n.c.protocol;
		r->n.c.acked_protocol = value;
		break;
	case VU_SET_VRING_ADDR:
		memcpy(body, &e->addr, sizeof(e->addr));
		return;
	case VU_SET_MEM_TABLE:
		body[0] = 1;
		memcpy(body + 8, &e->region, sizeof(e->region));
		return;
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		memcpy(body + 8, &e->region, sizeof(e->region));
		return;
	case VU_GET_CONFIG:
		memcpy(body, &e->config, sizeof(e->config));
		return;
	case VU_SET_STATUS:
		break;
	default:
		if (e->size == 8)
			memcpy(body, &e->state, sizeof(e->state));
		return;
	}
	memcpy(body, &value, sizeof(value));
}

static int check_base(struct replay *r, const struct log_event *e, const struct vu_msg *msg)
{
	uint32_t index = e->state.index;
	uint32_t want = ring_base(&r->n.rings[index]);

	if (!r->rings[index].started)
		return 0;
	r->rings[index].started = false;
	if (msg->body.state.index == index &&
		(msg->body.state.num == want || (r->lax && msg->body.state.num == (want & 0xffff))))
		return 0;
	snprintf(r->n.why, sizeof(r->n.why), "ring %u stopped at %#x, the driver stands at %#x",
		index, msg->body.state.num, want);
	return fail(r, -EBADMSG, "base");
}

static int check_answer(struct replay *r, const struct log_event *e, const struct vu_msg *msg)
{
	switch (e->request) {
	case VU_GET_FEATURES:
		r->n.c.features = msg->body.u64;
		return 0;
	case VU_GET_PROTOCOL_FEATURES:
		r->n.c.protocol = msg->body.u64;
		return 0;
	case VU_GET_QUEUE_NUM:
		return msg->body.u64 ? 0 : fail(r, -EBADMSG, "no queues");
	case VU_GET_STATUS:
		return msg->body.u64 == r->status ? 0 : fail(r, -EBADMSG, "another status");
	case VU_GET_VRING_BASE:
		return check_base(r, e, msg);
	default:
		return 0;
	}
}

/* a configuration that is not there is answered with no payload at all, and fails alone */
static int hear_config(struct replay *r, const struct log_event *e)
{
	struct vu_msg msg;
	int x = vu_recv(&r->n.c, &msg);

	if (x)
		return fail(r, x, "GET_CONFIG");
	if (msg.head.request != VU_GET_CONFIG || msg.head.flags != VU_REPLY_FLAGS)
		return fail(r, -EPROTO, "GET_CONFIG: flags");
	if (e->config.size > 24 ? msg.head.size : msg.head.size && msg.head.size != e->size)
		return fail(r, -EPROTO, "GET_CONFIG: size");
	return 0;
}

static int hear(struct replay *r, const struct log_event *e)
{
	bool own = e->request == VU_GET_FEATURES || e->request == VU_GET_PROTOCOL_FEATURES ||
		e->request == VU_GET_QUEUE_NUM || e->request == VU_GET_STATUS ||
		e->request == VU_GET_MAX_MEM_SLOTS || e->request == VU_GET_VRING_BASE;
	bool ack = e->need_reply && (r->n.c.acked_protocol & VU_BIT(VU_PF_REPLY_ACK));
	struct vu_msg msg;
	char what[32];
	int x;

	snprintf(what, sizeof(what), "message %u", e->request);
	if (e->request == VU_GET_CONFIG)
		return hear_config(r, e);
	if (!own)
		return ack ? fail(r, vu_recv_ack(&r->n.c, e->request), what) : 0;
	x = vu_recv_reply(&r->n.c, e->request, 8, &msg);
	return x ? fail(r, x, what) : check_answer(r, e, &msg);
}

static void note_before(struct replay *r, const struct log_event *e)
{
	if (e->request == VU_SET_VRING_ENABLE && e->state.num && !r->features_set)
		r->saw |= SAW_ENABLE_FIRST;
	if (e->request == VU_SET_VRING_BASE && e->state.num == 0x8000 &&
		(r->n.c.acked & VU_BIT(VU_F_PACKED)))
		r->saw |= SAW_HALF_BASE;
}

static int say_it(struct replay *r, const struct log_event *e)
{
	struct vu_header head = { e->request, VU_VERSION | (e->need_reply ? VU_NEED_REPLY : 0),
		e->size };
	uint8_t body[128];
	int fd = -1;
	int x = prepare(r, e);

	note_before(r, e);
	if (x || e->size > sizeof(body))
		return fail(r, x ? x : -EMSGSIZE, "preparing");
	build(r, e, body);
	if (e->request == VU_SET_VRING_CALL)
		x = change_call(r, e, &fd);
	else if (e->n_fds)
		fd = make_fd(r, e);
	if (!x)
		x = vu_send(&r->n.c, &head, body, &fd, fd >= 0 ? 1 : 0);
	if (fd >= 0)
		close(fd);
	x = x ? fail(r, x, "sending") : hear(r, e);
	if (!x && e->request == VU_REM_MEM_REG && e->n_fds && e->need_reply)
		r->saw |= SAW_REM_FD;
	return x;
}

int replay_open(struct replay *r, const char *socket)
{
	struct net_profile p = { .lax = r->lax, .buf_bytes = 1024, .tx_bytes = 1024 };
	int e = net_init(&r->n, &p);

	guest_deinit(&r->n.g); /* the log brings its own memory */
	memset(r->rings, 0, sizeof(r->rings));
	for (size_t i = 0; i < 2 * NET_MAX_PAIRS; i++)
		r->rings[i].call_fd = r->n.rings[i].kick_fd = r->n.rings[i].call_fd =
			r->n.rings[i].err_fd = r->n.rings[i].call_peer_fd = -1;
	r->moved = r->features_set = false;
	r->status = 0;
	r->why = NULL;
	return fail(r, e ? e : vu_connect(&r->n.c, socket), "connecting");
}

bool replay_ends(const struct log_event *e)
{
	return e->closed || e->request == VU_GET_VRING_BASE || e->request == VU_REM_MEM_REG ||
		(e->request == VU_SET_VRING_ENABLE && !e->state.num) ||
		(e->request == VU_SET_STATUS && !e->value);
}

int replay_event(struct replay *r, const struct log_event *e)
{
	return has_feature(r, e->request) ? say_it(r, e) : 0;
}

void replay_close(struct replay *r)
{
	for (size_t k = 0; k < 2 * NET_MAX_PAIRS; k++) {
		if (r->rings[k].call_fd >= 0)
			close(r->rings[k].call_fd);
	}
	net_close(&r->n);
}

int replay_connection(struct replay *r, const char *socket, const struct log_event *events,
	size_t n)
{
	int x = replay_open(r, socket);
	size_t i;

	for (i = 0; !x && i < n; i++) {
		const struct log_event *e = &events[i];

		if (replay_ends(e))
			x = move_frames(r);
		if (x || e->closed)
			break;
		x = replay_event(r, e);
	}
	if (!x)
		x = fail(r, vu_expect_silence(&r->n.c, 20), "at the end");
	if (!x)
		x = fail(r, net_check(&r->n), "rings");
	replay_close(r);
	return x ? x : (int)i + 1;
}

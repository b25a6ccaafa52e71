/*
 * Receiving, frames and the pump.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net.h"

#define TAKEN_MAX 1100 /* maximum buffers per frame */

struct frame_in {
	uint8_t *to;
	uint32_t at;
	uint8_t hdr[NET_HDR_BYTES];
	uint64_t taken[TAKEN_MAX];
	uint16_t n_taken;
};

static int fail(struct net *n, uint16_t index, int e, const char *what)
{
	const char *fault = n->rings[index].fault;

	if (e && !n->why[0])
		snprintf(n->why, sizeof(n->why), "%s, ring %u: %s", what, index,
			fault[0] ? fault : strerror(-e));
	return e;
}

static int repost(struct net *n, uint16_t pair, uint64_t gpa)
{
	struct ring_seg segs[RING_MAX_SEGS];
	uint32_t part = n->p.buf_bytes / n->p.rx_segs;

	for (uint16_t i = 0; i < n->p.rx_segs; i++) {
		uint32_t len = i + 1 < n->p.rx_segs ? part : n->p.buf_bytes - part * i;

		segs[i] = (struct ring_seg){ gpa + part * i, len, true };
	}
	return ring_post(&n->rings[2 * pair], segs, n->p.rx_segs, (void *)(uintptr_t)gpa);
}

/* appends a used buffer to the frame; the first one starts with the header */
static int take(struct net *n, uint16_t pair, struct frame_in *in)
{
	struct ring *r = &n->rings[2 * pair];
	uint32_t skip = in->n_taken ? 0 : NET_HDR_BYTES;
	struct ring_used used;
	int e = ring_reap(r, &used);
	const uint8_t *p;

	if (e < 0)
		return fail(n, 2 * pair, e, "receiving");
	if (!e || in->n_taken == TAKEN_MAX)
		return fail(n, 2 * pair, -EBADMSG, "a mergeable frame is not complete");
	if (!used.len_known || used.len < skip)
		return fail(n, 2 * pair, -EBADMSG, "received less than a header");
	if (in->at + used.len - skip > NET_FRAME_MAX)
		return fail(n, 2 * pair, -EMSGSIZE, "received too much");
	in->taken[in->n_taken++] = (uint64_t)(uintptr_t)used.cookie;
	p = guest_at(&n->g, in->taken[in->n_taken - 1], used.len);
	memcpy(in->hdr, skip ? p : in->hdr, skip);
	memcpy(in->to + in->at, p + skip, used.len - skip);
	in->at += used.len - skip;
	return 0;
}

static int take_rest(struct net *n, uint16_t pair, struct frame_in *in)
{
	bool mergeable = n->p.features & VU_BIT(VU_NET_F_MRG_RXBUF);
	uint16_t n_buffers = (uint16_t)(in->hdr[10] | in->hdr[11] << 8);
	int e = 0;

	if (!mergeable && n->p.lax)
		return 0;
	if (!n_buffers || (!mergeable && n_buffers != 1))
		return fail(n, 2 * pair, -EBADMSG, "num_buffers is wrong");
	while (!e && in->n_taken < n_buffers)
		e = take(n, pair, in);
	return e;
}

int net_recv(struct net *n, uint16_t pair, void *ret_frame, uint32_t *ret_bytes, int timeout_ms)
{
	struct ring *r = &n->rings[2 * pair];
	struct frame_in in = { .to = ret_frame };
	int e = r->want_calls ? ring_wait(r, timeout_ms) : ring_poll(r, timeout_ms);

	if (e)
		return fail(n, 2 * pair, e, "waiting for a frame");
	e = take(n, pair, &in);
	if (!e)
		e = take_rest(n, pair, &in);
	for (uint16_t i = 0; !e && i < in.n_taken; i++)
		e = fail(n, 2 * pair, repost(n, pair, in.taken[i]), "posting again");
	if (e)
		return e;
	ring_kick(r);
	n->n_received[pair]++;
	*ret_bytes = in.at;
	return 0;
}

static const uint8_t mac_here[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x01 };
static const uint8_t mac_there[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x02 };

void net_frame_make(uint8_t *frame, uint32_t n_bytes, uint32_t seq)
{
	memcpy(frame, mac_there, 6);
	memcpy(frame + 6, mac_here, 6);
	frame[12] = 0x88; /* IEEE 802 local experimental */
	frame[13] = 0xb5;
	for (uint32_t i = 0; i < 4 && 14 + i < n_bytes; i++)
		frame[14 + i] = (uint8_t)(seq >> (24 - 8 * i));
	for (uint32_t i = 18; i < n_bytes; i++)
		frame[i] = (uint8_t)(seq * 31 + i * 7 + (i >> 8));
}

bool net_frame_is_echo(const uint8_t *frame, uint32_t n_bytes, uint32_t seq)
{
	static uint8_t want[NET_FRAME_MAX];

	if (n_bytes < 18 || n_bytes > sizeof(want))
		return false;
	net_frame_make(want, n_bytes, seq);
	return !memcmp(frame, mac_here, 6) && !memcmp(frame + 6, mac_there, 6) &&
		!memcmp(frame + 12, want + 12, n_bytes - 12);
}

/* how many frames can be in flight without the receive ring ever running empty */
static uint32_t window(const struct net *n, uint16_t pair, uint32_t n_bytes)
{
	uint32_t each = (n_bytes + NET_HDR_BYTES + n->p.buf_bytes - 1) / n->p.buf_bytes;
	uint32_t rx = n->n_bufs[2 * pair] / each;
	uint32_t tx = n->n_bufs[2 * pair + 1];
	uint32_t least = rx < tx ? rx : tx;

	return !least ? 1 : least > 64 ? 64 : least;
}

static int recv_echo(struct net *n, uint16_t pair, uint32_t seq, uint32_t n_bytes)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t got;
	int e = net_recv(n, pair, frame, &got, 5000);

	if (e)
		return e;
	if (got == n_bytes && net_frame_is_echo(frame, got, seq))
		return 0;
	snprintf(n->why, sizeof(n->why),
		"pair %u: frame %u of %u bytes wanted, got %u bytes %02x%02x%02x%02x%02x%02x "
		"... %02x%02x%02x%02x",
		pair, seq, n_bytes, got, frame[0], frame[1], frame[2], frame[3], frame[4], frame[5],
		frame[14], frame[15], frame[16], frame[17]);
	return -EBADMSG;
}

int net_pump(struct net *n, uint16_t pair, uint32_t n_frames, uint32_t n_bytes)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t limit = window(n, pair, n_bytes);
	uint32_t sent = 0;
	uint32_t received = 0;
	int e = 0;

	while (!e && received < n_frames) {
		if (sent < n_frames && sent - received < limit) {
			net_frame_make(frame, n_bytes, sent);
			e = net_send(n, pair, frame, n_bytes);
			sent++;
		} else {
			e = recv_echo(n, pair, received, n_bytes);
			received++;
		}
	}
	if (!e)
		e = net_drain_tx(n, pair, 5000);
	for (uint16_t i = 2 * pair; !e && i < 2 * pair + 2; i++)
		e = fail(n, i, ring_check(&n->rings[i]), "check");
	return e;
}

int net_check(struct net *n)
{
	for (uint16_t i = 0; i < n->n_rings; i++) {
		int e = fail(n, i, ring_check(&n->rings[i]), "check");

		if (e)
			return e;
	}
	return 0;
}

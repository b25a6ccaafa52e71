/*
 * Opening follows the usual front-end's order: hello, features, memory table, then for each ring
 * number, base, addresses, err, call, kick, and finally enable.
 *
 * Receive buffers are posted again once a frame has been read from them. A mergeable frame must be
 * complete in the used ring when its first buffer appears there, because drivers rely on it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"

static int __attribute__((format(printf, 3, 4))) say(struct net *n, int e, const char *fmt, ...)
{
	va_list ap;

	if (!e || n->why[0])
		return e;
	va_start(ap, fmt);
	vsnprintf(n->why, 100, fmt, ap);
	va_end(ap);
	snprintf(n->why + strlen(n->why), sizeof(n->why) - strlen(n->why), ": %s%s%s",
		e > 0 ? "refused" : strerror(-e), n->c.why[0] ? "; " : "", n->c.why);
	return e;
}

static int ring_says(struct net *n, uint16_t index, int e, const char *what)
{
	const char *fault = n->rings[index].fault;

	return say(n, e, "%s, ring %u%s%s", what, index, fault[0] ? ": " : "", fault);
}

int net_init(struct net *n, const struct net_profile *profile)
{
	struct net_profile p = *profile;

	memset(n, 0, sizeof(*n));
	p.n_pairs = p.n_pairs ? p.n_pairs : 1;
	p.ring_size = p.ring_size ? p.ring_size : 256;
	p.tx_segs = p.tx_segs ? p.tx_segs : 1;
	p.rx_segs = p.rx_segs ? p.rx_segs : 1;
	p.buf_bytes = p.buf_bytes ? p.buf_bytes : 2048;
	p.tx_bytes = p.tx_bytes ? p.tx_bytes : p.buf_bytes > 2048 ? p.buf_bytes : 2048;
	p.base = p.base_set ? p.base : (p.features & VU_BIT(VU_F_PACKED)) ? 0x8000 : 0;
	n->p = p;
	n->c = (struct vu_client)VU_CLIENT_NULL;
	n->n_rings = 0;
	return say(n, guest_init_plain(&n->g, UINT64_C(1) << 30), "guest memory");
}

void net_close(struct net *n)
{
	for (uint16_t i = 0; i < n->n_rings; i++) {
		ring_deinit(&n->rings[i]);
		free(n->bufs[i]);
		if (i & 1)
			free(n->free_tx[i / 2]);
	}
	n->n_rings = 0;
	vu_close(&n->c);
	guest_deinit(&n->g);
}

int net_negotiate(struct net *n)
{
	uint64_t pf = n->p.protocol | VU_BIT(VU_PF_REPLY_ACK) | VU_BIT(VU_PF_MQ);
	uint64_t want = n->p.features | VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES);
	int e = vu_hello(&n->c, pf);

	if (e)
		return say(n, e, "hello");
	if (want & ~n->c.features) {
		snprintf(n->why, sizeof(n->why), "features %#llx are not offered",
			(unsigned long long)(want & ~n->c.features));
		return -ENOTSUP;
	}
	n->c.ack = !n->p.no_ack;
	return say(n, vu_set_features(&n->c, want), "SET_FEATURES");
}

int net_make_bufs(struct net *n, uint16_t index)
{
	uint32_t n_bytes = index & 1 ? n->p.tx_bytes : n->p.buf_bytes;
	uint16_t segs = index & 1 ? n->p.tx_segs : n->p.rx_segs;
	uint16_t size = n->rings[index].cfg.size;
	uint16_t want = n->p.indirect ? size : size / segs;
	uint64_t *bufs = calloc(want, sizeof(*bufs));
	uint16_t got;

	n->bufs[index] = bufs;
	if (index & 1)
		n->free_tx[index / 2] = calloc(want, sizeof(*bufs));
	if (!bufs || (index & 1 && !n->free_tx[index / 2]))
		return -ENOMEM;
	for (got = 0; got < want; got++) {
		bufs[got] = guest_alloc(&n->g, n_bytes, 1);
		if (!bufs[got])
			break;
		if (index & 1)
			n->free_tx[index / 2][got] = bufs[got];
	}
	n->n_bufs[index] = got;
	if (index & 1)
		n->n_free_tx[index / 2] = got;
	return got ? 0 : -ENOSPC;
}

static int init_ring(struct net *n, uint16_t index)
{
	struct ring_config cfg = {
		.index = index,
		.size = n->p.ring_size,
		.base = n->p.base,
		.packed = n->p.features & VU_BIT(VU_F_PACKED),
		.event_idx = n->p.features & VU_BIT(VU_F_EVENT_IDX),
		.in_order = n->p.features & VU_BIT(VU_F_IN_ORDER),
		.indirect = n->p.indirect,
	};

	return ring_init(&n->rings[index], &n->g, &cfg);
}

static int make_ring(struct net *n, uint16_t index)
{
	int e = init_ring(n, index);

	if (e)
		return e;
	n->n_rings = index + 1;
	return net_make_bufs(n, index);
}

int net_renew_ring(struct net *n, uint16_t index)
{
	ring_deinit(&n->rings[index]);
	for (uint16_t i = 0; index & 1 && i < n->n_bufs[index]; i++)
		n->free_tx[index / 2][i] = n->bufs[index][i];
	if (index & 1)
		n->n_free_tx[index / 2] = n->n_bufs[index];
	return say(n, init_ring(n, index), "making ring %u anew", index);
}

int net_make_rings(struct net *n)
{
	for (uint16_t i = 0; i < 2 * n->p.n_pairs; i++) {
		int e = make_ring(n, i);

		if (e)
			return say(n, e, "making ring %u", i);
	}
	return 0;
}

int net_set_memory(struct net *n)
{
	struct vu_region regions[GUEST_MAX_REGIONS];
	int fds[GUEST_MAX_REGIONS];
	size_t n_regions = guest_table(&n->g, regions, fds);

	return say(n, vu_set_mem_table(&n->c, regions, fds, n_regions), "SET_MEM_TABLE");
}

int net_start_ring(struct net *n, uint16_t index)
{
	struct ring *r = &n->rings[index];
	int call_fd = r->call_peer_fd >= 0 ? r->call_peer_fd : r->call_fd;
	struct vu_addr addr;
	int e;

	ring_addr(r, &addr);
	e = vu_set_state(&n->c, VU_SET_VRING_NUM, index, r->cfg.size);
	if (!e)
		e = vu_set_state(&n->c, VU_SET_VRING_BASE, index, ring_base(r));
	if (!e)
		e = vu_set_vring_addr(&n->c, &addr);
	if (!e)
		e = vu_set_vring_fd(&n->c, VU_SET_VRING_ERR, index, r->err_fd);
	if (!e)
		e = vu_set_vring_fd(&n->c, VU_SET_VRING_CALL, index, call_fd);
	if (!e)
		e = vu_set_vring_fd(&n->c, VU_SET_VRING_KICK, index, r->kick_fd);
	return ring_says(n, index, e, "starting");
}

int net_enable(struct net *n, uint16_t index, bool on)
{
	return ring_says(n, index, vu_set_state(&n->c, VU_SET_VRING_ENABLE, index, on), "enable");
}

static size_t cut(struct ring_seg *segs, uint16_t n_segs, uint64_t gpa, uint32_t n_bytes)
{
	bool write = segs[0].write;
	uint32_t part = n_bytes / n_segs;

	for (uint16_t i = 0; i < n_segs; i++) {
		uint32_t at = part * i;

		segs[i] = (struct ring_seg){ gpa + at, part, write };
		if (i + 1 == n_segs)
			segs[i].len = n_bytes - at;
	}
	return n_segs;
}

static int post_rx(struct net *n, uint16_t pair, uint64_t gpa)
{
	struct ring_seg segs[RING_MAX_SEGS] = { { .write = true } };
	size_t n_segs = cut(segs, n->p.rx_segs, gpa, n->p.buf_bytes);
	int e = ring_post(&n->rings[2 * pair], segs, n_segs, (void *)(uintptr_t)gpa);

	return ring_says(n, 2 * pair, e, "posting a receive buffer");
}

int net_fill(struct net *n, uint16_t pair)
{
	uint16_t index = 2 * pair;

	for (uint16_t i = 0; i < n->n_bufs[index]; i++) {
		int e = post_rx(n, pair, n->bufs[index][i]);

		if (e)
			return e;
	}
	ring_kick(&n->rings[index]);
	return 0;
}

int net_open(struct net *n, const char *path, const struct net_profile *profile)
{
	int e = net_init(n, profile);

	if (!e)
		e = say(n, vu_connect(&n->c, path), "connecting to %s", path);
	if (!e)
		e = net_negotiate(n);
	if (!e)
		e = net_make_rings(n);
	if (!e)
		e = net_set_memory(n);
	for (uint16_t i = 0; !e && i < n->n_rings; i++)
		e = net_start_ring(n, i);
	for (uint16_t i = 0; !e && i < n->n_rings; i++)
		e = net_enable(n, i, true);
	for (uint16_t i = 0; !e && i < n->p.n_pairs; i++)
		e = net_fill(n, i);
	return e;
}

int net_stop_ring(struct net *n, uint16_t index)
{
	struct ring *r = &n->rings[index];
	uint32_t base;
	struct ring_used used;
	int e = vu_get_vring_base(&n->c, index, &base);

	if (e)
		return ring_says(n, index, e, "GET_VRING_BASE");
	/* buffers used before the reply count too: the ring's position is after them */
	if (index & 1) {
		while ((e = ring_reap(r, &used)) == 1)
			n->free_tx[index / 2][n->n_free_tx[index / 2]++] =
				(uint64_t)(uintptr_t)used.cookie;
		if (e)
			return ring_says(n, index, e, "stop");
	}
	if (base == ring_base(r) || (n->p.lax && base == (ring_base(r) & 0xffff)))
		return 0;
	snprintf(n->why, sizeof(n->why), "ring %u stopped at base %#x, the driver stands at %#x",
		index, base, ring_base(r));
	return -EBADMSG;
}

static int reap_tx(struct net *n, uint16_t pair)
{
	struct ring_used used;
	int e;

	while ((e = ring_reap(&n->rings[2 * pair + 1], &used)) == 1)
		n->free_tx[pair][n->n_free_tx[pair]++] = (uint64_t)(uintptr_t)used.cookie;
	return ring_says(n, 2 * pair + 1, e, "reaping");
}

int net_drain_tx(struct net *n, uint16_t pair, int timeout_ms)
{
	struct ring *r = &n->rings[2 * pair + 1];
	int e = reap_tx(n, pair);

	while (!e && ring_in_flight(r)) {
		e = r->want_calls ? ring_wait(r, timeout_ms) : ring_poll(r, timeout_ms);
		if (!e)
			e = reap_tx(n, pair);
	}
	return ring_says(n, 2 * pair + 1, e, "waiting for sent frames");
}

int net_send(struct net *n, uint16_t pair, const void *frame, uint32_t n_bytes)
{
	struct ring_seg segs[RING_MAX_SEGS] = { { .write = false } };
	struct ring *r = &n->rings[2 * pair + 1];
	uint32_t total = n_bytes + NET_HDR_BYTES;
	uint64_t gpa;
	uint8_t *p;
	int e = reap_tx(n, pair);

	if (!e && total > n->p.tx_bytes)
		e = -EMSGSIZE;
	while (!e && !n->n_free_tx[pair]) {
		e = r->want_calls ? ring_wait(r, 5000) : ring_poll(r, 5000);
		e = e ? ring_says(n, 2 * pair + 1, e, "waiting for room") : reap_tx(n, pair);
	}
	if (e)
		return e;
	gpa = n->free_tx[pair][--n->n_free_tx[pair]];
	p = guest_at(&n->g, gpa, total);
	memset(p, 0, NET_HDR_BYTES);
	memcpy(p + NET_HDR_BYTES, frame, n_bytes);
	e = ring_post(r, segs, cut(segs, n->p.tx_segs, gpa, total), (void *)(uintptr_t)gpa);
	if (e)
		return ring_says(n, 2 * pair + 1, e, "sending");
	ring_kick(r);
	n->n_sent[pair]++;
	return 0;
}

/*
 * Back-ends without a host interface, for diagnosis and benchmarks. `echo` returns each frame to
 * its sender with the addresses swapped. `null` drops transmitted frames, copied out or not, and
 * can generate received ones.
 */
#include "net.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define OFFLOADS                                                                                   \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |    \
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) |                       \
		BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |                        \
		BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_USO4) |                        \
		BIT(VIRTIO_NET_F_GUEST_USO6) | BIT(VIRTIO_NET_F_HOST_USO) |                        \
		BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_HOST_UFO))

static int local_open(struct net *net)
{
	net->link_up = true;
	return 0;
}

static void local_nothing(struct net *net)
{
}

static void local_attach(struct net_pair *pair, bool in_use)
{
}

static void describe(struct net *net, char *buf, size_t n)
{
	snprintf(buf, n, "%s", net->backend->name);
}

static void gather(uint8_t *to, const struct iovec *from, size_t n)
{
	size_t part;

	for (; n; n -= part, from++) {
		part = MIN(from->iov_len, n);
		to = mempcpy(to, from->iov_base, part);
	}
}

static void scatter(const struct iovec *to, const uint8_t *from, size_t n)
{
	size_t part;

	for (; n; n -= part, to++) {
		part = MIN(to->iov_len, n);
		memcpy(to->iov_base, from, part);
		from += part;
	}
}

/* --- echo --- */

#define ADDRESSES_BYTES 12

static void copy_spans(struct iovec *to, const struct iovec *from, size_t n)
{
	size_t to_at = 0, from_at = 0;

	while (n) {
		size_t part = MIN(to->iov_len - to_at, from->iov_len - from_at);

		part = MIN(part, n);
		memmove((uint8_t *)to->iov_base + to_at, (const uint8_t *)from->iov_base + from_at,
			part);
		n -= part;
		to_at += part;
		from_at += part;
		if (to_at == to->iov_len) {
			to++;
			to_at = 0;
		}
		if (from_at == from->iov_len) {
			from++;
			from_at = 0;
		}
	}
}

/* In two words, because bytes that were just stored are slow to load by words. */
static void swap_addresses(uint8_t to[ADDRESSES_BYTES], const uint8_t from[ADDRESSES_BYTES])
{
	const uint64_t six_bytes = (UINT64_C(1) << 48) - 1;
	uint64_t first, a, b;
	uint32_t rest;

	memcpy(&first, from, sizeof(first));
	memcpy(&rest, from + sizeof(first), sizeof(rest));
	a = le64toh(first) & six_bytes;
	b = le64toh(first) >> 48 | (uint64_t)le32toh(rest) << 16;
	first = htole64(b | a << 48);
	rest = htole32((uint32_t)(a >> 16));
	memcpy(to, &first, sizeof(first));
	memcpy(to + sizeof(first), &rest, sizeof(rest));
}

static void copy_back_spans(struct iovec *to, const struct iovec *from, size_t n_bytes)
{
	uint8_t head[ADDRESSES_BYTES];

	gather(head, from, sizeof(head));
	swap_addresses(head, head);
	copy_spans(to, from, n_bytes);
	scatter(to, head, sizeof(head));
}

/* The frame, with its addresses swapped. */
static void copy_back(struct iovec *to, const struct iovec *from, size_t n_bytes)
{
	uint8_t *to_mem = to->iov_base;
	const uint8_t *from_mem = from->iov_base;

	if (unlikely(from->iov_len < n_bytes) || unlikely(to->iov_len < n_bytes)) {
		copy_back_spans(to, from, n_bytes);
		return;
	}
	swap_addresses(to_mem, from_mem);
	memmove(to_mem + ADDRESSES_BYTES, from_mem + ADDRESSES_BYTES, n_bytes - ADDRESSES_BYTES);
}

static int echo_send(struct net_pair *pair, struct net_hdr *hdr, struct iovec *iov, unsigned int n,
	size_t frame_bytes)
{
	struct net_rx *rx = &pair->rx;
	enum rx_status status;
	size_t room;

	status = rx_load(pair, frame_bytes, &room);
	if (status == RX_STARVED)
		return -EAGAIN;
	if (status == RX_OFF)
		return -ENETDOWN;
	if (room < frame_bytes) {
		rx_drop(pair, LEDGER_DROP_ROOM);
		return -EMSGSIZE;
	}
	rx->hdr = *hdr;
	copy_back(&rx->iov[rx->first], iov + 1, frame_bytes);
	if (header_fit_rx(&rx->hdr, pair->net->offloads, &rx->iov[rx->first], rx->end - rx->first,
		    frame_bytes)) {
		rx_discard(pair, frame_bytes);
		rx_drop(pair, LEDGER_DROP_MALFORMED);
		return -EPROTO;
	}
	rx_deliver(pair, frame_bytes);
	if (rx->n_frames >= NET_BATCH)
		rx_flush(rx);
	return 0;
}

/* Frames come from the transmit ring. While it waits for buffers, a kick of this ring must wake
 * it. */
static enum rx_status echo_receive(struct net_pair *pair)
{
	const struct device_group *group = pair->group;

	rx_flush(&pair->rx);
	for (unsigned int i = 0; i < group->n_queues; i++)
		if (group->queues[i]->index % 2 && virtq_window_len(group->queues[i]->vq))
			return RX_STARVED;
	return RX_OFF;
}

const struct net_backend backend_echo = {
	.name = "echo",
	.features = OFFLOADS,
	.open = local_open,
	.close = local_nothing,
	.negotiated = local_nothing,
	.attach = local_attach,
	.send = echo_send,
	.receive = echo_receive,
	.describe = describe,
};

/* --- null --- */

static int null_send(struct net_pair *pair, struct net_hdr *hdr, struct iovec *iov, unsigned int n,
	size_t frame_bytes)
{
	uint8_t *sinks = pair->net->backend_data;

	if (sinks)
		gather(sinks + pair->index * (size_t)NET_FRAME_MAX, iov + 1, frame_bytes);
	return 0;
}

static int null_open(struct net *net)
{
	const struct config_value *generate = config_value(net->device->config, "generate");

	net->generate = generate->text ? (uint32_t)generate->number : 0;
	if (config_value(net->device->config, "copy")->number) {
		net->backend_data = calloc(net->n_pairs, NET_FRAME_MAX);
		if (!net->backend_data)
			return -ENOMEM;
	}
	return local_open(net);
}

static void null_close(struct net *net)
{
	free(net->backend_data);
}

/* A broadcast from an unassigned source address, with an experimental EtherType */
static uint8_t generated[NET_FRAME_MAX] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1,
	0x88, 0xb5 };

static enum rx_status null_receive(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	size_t n = pair->net->generate, room;
	enum rx_status status = n ? RX_MORE : RX_OFF;

	while (status == RX_MORE && rx->n_frames < NET_BATCH) {
		status = rx_load(pair, n, &room);
		if (status != RX_MORE)
			break;
		if (room < n) {
			rx_give_back(rx);
			continue;
		}
		rx->hdr = (struct net_hdr){ 0 };
		scatter(&rx->iov[rx->first], generated, n);
		rx_deliver(pair, n);
	}
	rx_flush(rx);
	return status;
}

const struct net_backend backend_null = {
	.name = "null",
	.features = OFFLOADS,
	.open = null_open,
	.close = null_close,
	.negotiated = local_nothing,
	.attach = local_attach,
	.send = null_send,
	.receive = null_receive,
	.describe = describe,
};

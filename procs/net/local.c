/*
 * Back-ends without a host interface, for diagnosis and benchmarks. `echo` returns each frame to
 * its sender with the addresses swapped. `null` drops transmitted frames, and can generate received
 * ones.
 */
#include "net.h"

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

/* --- echo --- */

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

static void swap_addresses(const struct iovec *iov)
{
	uint8_t head[12], swapped[12], *at;
	size_t got = 0;

	for (unsigned int i = 0; got < sizeof(head); i++)
		for (size_t j = 0; j < iov[i].iov_len && got < sizeof(head); j++)
			head[got++] = ((uint8_t *)iov[i].iov_base)[j];
	memcpy(swapped, head + 6, 6);
	memcpy(swapped + 6, head, 6);
	got = 0;
	for (unsigned int i = 0; got < sizeof(head); i++)
		for (at = iov[i].iov_base;
			at < (uint8_t *)iov[i].iov_base + iov[i].iov_len && got < sizeof(head);
			at++)
			*at = swapped[got++];
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
	copy_spans(&rx->iov[rx->first], iov + 1, frame_bytes);
	swap_addresses(&rx->iov[rx->first]);
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
	return 0;
}

static int null_open(struct net *net)
{
	const struct config_value *generate = config_value(net->device->config, "generate");

	net->generate = generate->text ? (uint32_t)generate->number : 0;
	return local_open(net);
}

/* A broadcast from an unassigned source address, with an experimental EtherType. */
static void make_frame(const struct iovec *iov, size_t n)
{
	static const uint8_t head[14] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1,
		0x88, 0xb5 };
	size_t at = 0;

	for (; at < n; iov++)
		for (size_t i = 0; i < iov->iov_len && at < n; i++, at++)
			((uint8_t *)iov->iov_base)[i] = at < sizeof(head) ? head[at] : 0;
}

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
		make_frame(&rx->iov[rx->first], n);
		rx_deliver(pair, n);
	}
	rx_flush(rx);
	return status;
}

const struct net_backend backend_null = {
	.name = "null",
	.features = OFFLOADS,
	.open = null_open,
	.close = local_nothing,
	.negotiated = local_nothing,
	.attach = local_attach,
	.send = null_send,
	.receive = null_receive,
	.describe = describe,
};

/*
 * A TAP interface of the host. Frames pass directly between it and guest memory, preceded by our
 * copy of the header: the kernel does the segmentation and checksums that guest and host
 * negotiated.
 *
 * The interface belongs to the operator. tap-queues.c opens and keeps its queues; tap-watch.c
 * follows the interface while it is served.
 */
#include "tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "filter.h"

/* --- Offloads --- */

struct offload {
	unsigned int feature;
	unsigned int flag;
};

static const struct offload offloads[] = {
	{ VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
	{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
	{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
	{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
	{ VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO },
	{ VIRTIO_NET_F_GUEST_USO4, TUN_F_USO4 },
	{ VIRTIO_NET_F_GUEST_USO6, TUN_F_USO6 },
};

static unsigned int offload_flags(uint64_t features)
{
	unsigned int flags = 0;

	if (!has_bit(features, VIRTIO_NET_F_GUEST_CSUM))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (has_bit(features, offloads[i].feature))
			flags |= offloads[i].flag;
	if ((flags & (TUN_F_USO4 | TUN_F_USO6)) != (TUN_F_USO4 | TUN_F_USO6))
		flags &= ~(unsigned int)(TUN_F_USO4 | TUN_F_USO6); /* the kernel requires both */
	if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
		flags &= ~(unsigned int)TUN_F_TSO_ECN;
	return flags;
}

static void tap_negotiated(struct net *net)
{
	unsigned int flags = offload_flags(net->offloads);

	if (net->pairs[0].tap_fd >= 0 && ioctl(net->pairs[0].tap_fd, TUNSETOFFLOAD, flags) < 0)
		log_limited(LOG_WARNING, NULL, 0, "the TAP refuses offloads 0x%x: %s", flags,
			strerror(errno));
}

/* --- Life cycle --- */

static int tap_open(struct net *net)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	int r;

	if (!tap)
		return -ENOMEM;
	tap->trouble_fd = -1;
	net->backend_data = tap;
	r = tap_queues_start(net);
	return r < 0 ? r : tap_watch_start(net);
}

static void tap_close(struct net *net)
{
	if (net->backend_data)
		tap_watch_stop(net);
	tap_queues_close(net);
	free(net->backend_data);
}

/* The kernel steers frames to attached queues only. */
static void tap_attach(struct net_pair *pair, bool in_use)
{
	const struct tap *tap = pair->net->backend_data;
	struct ifreq ifr = { .ifr_flags = in_use ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (!tap->multi_queue || pair->tap_fd < 0 || pair->net->n_pairs == 1)
		return;
	(void)ioctl(pair->tap_fd, TUNSETQUEUE, &ifr);
	pair->tap_failed =
		!in_use; /* I/O on a detached queue fails as if its interface were gone */
}

/* --- Frames --- */

static int tap_send(struct net_pair *pair, struct net_hdr *hdr, struct iovec *iov, unsigned int n,
	size_t frame_bytes)
{
	ssize_t r;

	if (pair->tap_fd < 0 || pair->tap_failed)
		return -ENODEV;
	iov[0] = (struct iovec){ .iov_base = hdr, .iov_len = sizeof(*hdr) };
	do
		r = writev(pair->tap_fd, iov, (int)MIN(n, 1024u));
	while (r < 0 && errno == EINTR);
	if (r >= 0)
		return 0;
	if (errno == EIO)
		tap_is_down(pair->net);
	else if (errno == EBADFD)
		tap_is_gone(pair);
	/* includes EAGAIN: the host is out of buffers, and drops */
	return -EIO;
}

static bool wanted(const struct net *net, const struct net_rx *rx, size_t frame_bytes)
{
	uint8_t head[FILTER_HEAD_BYTES];
	size_t n;

	if (!net->filter_macs && !net->filter_vlans)
		return true;
	n = rx_head(rx, frame_bytes, head, sizeof(head));
	return filter_wants(net->state, head, n, net->filter_macs, net->filter_vlans);
}

/* A frame of n bytes is in the chains, or as much of it as there is room for. */
static void take_frame(struct net_pair *pair, size_t n, size_t room)
{
	struct net_rx *rx = &pair->rx;
	bool has_room = n <= room;
	bool fits = n >= NET_FRAME_MIN && has_room &&
		!header_fit_rx(&rx->hdr, pair->net->offloads, &rx->iov[rx->first],
			rx->end - rx->first, n);

	if (fits && wanted(pair->net, rx, n)) {
		rx_deliver(pair, n);
		return;
	}
	rx_discard(pair, n);
	if (!fits)
		rx_drop(pair, has_room ? LEDGER_DROP_MALFORMED : LEDGER_DROP_ROOM);
}

static enum rx_status receive_one(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	size_t room, n;
	enum rx_status status = rx_load(pair, pair->net->frame_max, &room);
	struct iovec saved = rx->iov[rx->first - 1];
	ssize_t r;

	if (status != RX_MORE)
		return status;
	rx->iov[rx->first - 1] = (struct iovec){ .iov_base = &rx->hdr, .iov_len = sizeof(rx->hdr) };
	rx->iov[rx->end] = (struct iovec){ .iov_base = &rx->spill, .iov_len = 1 };
	do
		r = readv(pair->tap_fd, &rx->iov[rx->first - 1], (int)(rx->end - rx->first) + 2);
	while (r < 0 && errno == EINTR);
	rx->iov[rx->first - 1] = saved;
	if (r < 0 && errno == EAGAIN)
		return RX_IDLE;
	if (r < 0 &&
		errno ==
			/* guest memory has changed: drop this frame, and keep the queue */
			EFAULT) {
		rx_discard(pair, room);
		rx_drop(pair, LEDGER_DROP_MEMORY);
		return RX_MORE;
	}
	if (r < 0) {
		tap_is_gone(pair);
		return RX_OFF;
	}
	n = (size_t)r - MIN((size_t)r, sizeof(rx->hdr));
	take_frame(pair, n, room);
	return RX_MORE;
}

static enum rx_status tap_receive(struct net_pair *pair)
{
	enum rx_status status = RX_MORE;

	if (pair->tap_fd < 0 || pair->tap_failed)
		return RX_OFF;
	for (unsigned int i = 0; i < NET_BATCH && status == RX_MORE; i++)
		status = receive_one(pair);
	rx_flush(&pair->rx);
	return status;
}

static void tap_announce(struct net *net, const uint8_t *frame, size_t n)
{
	struct net_hdr hdr = { 0 };
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { (void *)frame, n } };

	if (net->pairs[0].tap_fd >= 0 && writev(net->pairs[0].tap_fd, iov, 2) < 0)
		log_limited(LOG_WARNING, NULL, 0, "the guest's address cannot be announced: %s",
			strerror(errno));
}

static void tap_describe(struct net *net, char *buf, size_t n)
{
	const struct tap *tap = net->backend_data;

	snprintf(buf, n, "tap %s (%s)", tap->name,
		net->pairs[0].tap_fd < 0 ? "gone"
			: net->link_up   ? "up"
					 : "down");
}

static const char *why_closed(const struct tap *tap)
{
	switch (-tap->open_error) {
	case 0:
		return "is gone";
	case ENODEV:
		return "does not exist";
	case EBUSY:
		return "is in use by another process";
	case EPERM:
		return "belongs to another user";
	default:
		return "cannot be opened";
	}
}

/* The journal says more of the reason, and what to do. */
static void tap_trouble(struct net *net, char *buf, size_t n)
{
	const struct tap *tap = net->backend_data;

	if (net->pairs[0].tap_fd >= 0)
		return;
	snprintf(buf, n, "tap '%s' %s, and the guest's link is down until %s", tap->name,
		why_closed(tap),
		*tap->configured ? "it can be used" : "this device is restarted with another");
}

const struct net_backend backend_tap = {
	.name = "tap",
	.features = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
		BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
		BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_GUEST_UFO) |
		BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
		BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_HOST_UFO) |
		BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6) |
		BIT(VIRTIO_NET_F_HOST_USO),
	.open = tap_open,
	.close = tap_close,
	.negotiated = tap_negotiated,
	.attach = tap_attach,
	.send = tap_send,
	.receive = tap_receive,
	.announce = tap_announce,
	.describe = tap_describe,
	.trouble = tap_trouble,
};

/*
 * A TAP interface of the host. Frames go straight between it and guest memory, with our copy of the header
 * before them: the kernel does the segmentation and the checksums that guest and host agreed on.
 *
 * The interface is the operator's; its queues are kept in the vault, so that it does not notice when this
 * process is replaced: its carrier stays, and frames wait in it.
 */
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "filter.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define REOPEN_USEC 1000000

struct tap {
	char name[IFNAMSIZ];
	unsigned int ifindex;
	bool multi_queue;
	struct mnl_socket *monitor;
	sd_event_source *monitor_source;
	sd_event_source *reopen_timer;
};

/* --- Offloads --- */

struct offload {
	unsigned int feature;
	unsigned int flag;
};

static const struct offload offloads[] = {
	{ NET_F_GUEST_CSUM, TUN_F_CSUM },
	{ NET_F_GUEST_TSO4, TUN_F_TSO4 },
	{ NET_F_GUEST_TSO6, TUN_F_TSO6 },
	{ NET_F_GUEST_ECN, TUN_F_TSO_ECN },
	{ NET_F_GUEST_UFO, TUN_F_UFO },
	{ NET_F_GUEST_USO4, TUN_F_USO4 },
	{ NET_F_GUEST_USO6, TUN_F_USO6 },
};

static unsigned int offload_flags(uint64_t features)
{
	unsigned int flags = 0;

	if (!has_bit(features, NET_F_GUEST_CSUM))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
		if (has_bit(features, offloads[i].feature))
			flags |= offloads[i].flag;
	if ((flags & (TUN_F_USO4 | TUN_F_USO6)) != (TUN_F_USO4 | TUN_F_USO6))
		flags &= ~(unsigned int)(TUN_F_USO4 | TUN_F_USO6); /* the kernel wants both */
	if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
		flags &= ~(unsigned int)TUN_F_TSO_ECN;
	return flags;
}

static void tap_negotiated(struct net *net)
{
	unsigned int flags = offload_flags(net->offloads);

	if (net->pairs[0].tap_fd >= 0 && ioctl(net->pairs[0].tap_fd, TUNSETOFFLOAD, flags) < 0)
		log_limited(LOG_WARNING, NULL, 0, "the TAP refuses offloads 0x%x: %s", flags, strerror(errno));
}

/* --- Opening --- */

static const char *create_hint(const struct net *net)
{
	return net->n_pairs > 1 ? " multi_queue" : "";
}

/* TUNSETIFF on a name that does not exist would make one. */
static int look_up(struct net *net, struct tap *tap)
{
	tap->ifindex = if_nametoindex(tap->name);
	if (tap->ifindex)
		return 0;
	log_error("tap '%s' does not exist; create it: ip tuntap add dev %s mode tap vnet_hdr%s",
		tap->name, tap->name, create_hint(net));
	return -ENODEV;
}

static int set_up(int fd)
{
	int hdr_bytes = NET_HDR_BYTES, one = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &hdr_bytes) < 0 || ioctl(fd, TUNSETVNETLE, &one) < 0)
		return -errno;
	return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int open_queue(struct tap *tap, bool multi_queue)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
					 (multi_queue ? IFF_MULTI_QUEUE : 0)) };
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	r = set_up(fd);
	return r < 0 ? r : fd_steal(&fd);
}

static int explain(const struct net *net, const struct tap *tap, int r)
{
	const char *name = tap->name;

	if (r == -EBUSY)
		log_error("tap '%s' is in use by another process; stop it, or give this device another tap",
			name);
	else if (r == -EINVAL && net->n_pairs > 1)
		log_error("tap '%s' has a single queue, and queue-pairs is %u; make it anew with multi_queue",
			name, net->n_pairs);
	else if (r == -EINVAL)
		log_error("'%s' is not a tap interface", name);
	else if (r == -EPERM)
		log_error("tap '%s' belongs to another user; make it with 'user' set to ours, or start us with CAP_NET_ADMIN",
			name);
	else
		log_error("tap '%s': /dev/net/tun cannot be used: %s", name, strerror(-r));
	return r;
}

/* One queue for each pair. A single queue may as well be one of a multi-queue interface. */
static int open_queues(struct net *net, struct tap *tap)
{
	bool multi_queue = net->n_pairs > 1;

	for (unsigned int i = 0; i < net->n_pairs; i++) {
		int fd = open_queue(tap, multi_queue);

		if (fd == -EINVAL && i == 0 && !multi_queue) {
			multi_queue = true;
			fd = open_queue(tap, true);
		}
		if (fd < 0)
			return explain(net, tap, fd);
		net->pairs[i].tap_fd = fd;
	}
	tap->multi_queue = multi_queue;
	return 0;
}

static void queue_name(unsigned int i, char *buf, size_t n)
{
	snprintf(buf, n, "tap.%u", i);
}

/* What a former instance kept, or whoever started us passed: all queues, or it is opened anew. */
static bool take_kept(struct net *net, struct tap *tap)
{
	struct ifreq ifr = { 0 };
	char name[16];

	for (unsigned int i = 0; i < net->n_pairs; i++) {
		queue_name(i, name, sizeof(name));
		net->pairs[i].tap_fd = device_take_kept(net->device, name);
		if (net->pairs[i].tap_fd < 0 && i == 0)
			net->pairs[i].tap_fd = device_take_kept(net->device, "tap");
		if (net->pairs[i].tap_fd < 0 || ioctl(net->pairs[i].tap_fd, TUNGETIFF, &ifr) < 0 ||
			set_up(net->pairs[i].tap_fd) < 0 ||
			(*tap->name && strcmp(ifr.ifr_name, tap->name) != 0))
			return false;
	}
	memcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
	tap->multi_queue = ifr.ifr_flags & IFF_MULTI_QUEUE;
	tap->ifindex = if_nametoindex(tap->name);
	return true;
}

static void close_queues(struct net *net)
{
	for (unsigned int i = 0; i < net->n_pairs; i++)
		net->pairs[i].tap_fd = fd_close(net->pairs[i].tap_fd);
}

static void keep_queues(struct net *net)
{
	char name[16];

	for (unsigned int i = 0; i < net->n_pairs; i++) {
		queue_name(i, name, sizeof(name));
		if (device_keep(net->device, name, net->pairs[i].tap_fd) < 0)
			log_warning("the TAP cannot be kept across a restart of this process");
	}
}

/* What the host's kernel can do, tried out once. */
static void probe(struct net *net)
{
	unsigned int uso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6;
	uint64_t usos = BIT(NET_F_GUEST_USO4) | BIT(NET_F_GUEST_USO6) | BIT(NET_F_HOST_USO);
	int fd = net->pairs[0].tap_fd;

	if (net->saved) /* a successor: offloads are in force; what was offered stays offered */
		return;
	if (ioctl(fd, TUNSETOFFLOAD, uso) < 0)
		net->device->offer.features &= ~usos;
}

static void read_interface(struct net *net, const struct tap *tap)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { 0 };

	memcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
	if (!tap->ifindex) { /* of another network namespace, whence it was passed to us: it cannot be seen */
		net->link_up = true;
		return;
	}
	if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0)
		net->link_up = ifr.ifr_flags & IFF_UP;
	if (fd >= 0 && ioctl(fd, SIOCGIFMTU, &ifr) == 0)
		net->mtu = (uint32_t)ifr.ifr_mtu;
}

/* --- Watching the interface --- */

static void vanished(struct net *net, struct tap *tap)
{
	log_limited(LOG_WARNING, NULL, 0, "tap '%s' is gone; the guest's link is down until it is there again", tap->name);
	net_pause(net);
	close_queues(net);
	for (unsigned int i = 0; i < net->n_pairs; i++)
		net->pairs[i].tap_failed = true;
	pairs_assign(net);
	net_resume(net);
	net_set_link(net, false);
	sd_event_source_set_time_relative(tap->reopen_timer, REOPEN_USEC);
	sd_event_source_set_enabled(tap->reopen_timer, SD_EVENT_ONESHOT);
}

static int on_reopen(sd_event_source *source, uint64_t usec, void *data)
{
	struct net *net = data;
	struct tap *tap = net->backend_data;

	tap->ifindex = if_nametoindex(tap->name);
	net_pause(net);
	if (tap->ifindex && open_queues(net, tap) == 0) {
		log_limited(LOG_NOTICE, NULL, 0, "tap '%s' is there again", tap->name);
		for (unsigned int i = 0; i < net->n_pairs; i++)
			net->pairs[i].tap_failed = false;
		keep_queues(net);
		read_interface(net, tap);
		net_apply(net);
		pairs_assign(net);
		net_set_link(net, net->link_up);
	} else {
		close_queues(net);
		sd_event_source_set_time_relative(source, REOPEN_USEC);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	net_resume(net);
	return 0;
}

static int on_link_message(const struct nlmsghdr *msg, void *data)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct net *net = data;
	struct tap *tap = net->backend_data;
	uint32_t mtu = net->mtu;

	if ((unsigned int)info->ifi_index != tap->ifindex)
		return MNL_CB_OK;
	if (msg->nlmsg_type == RTM_DELLINK) {
		tap->ifindex = 0;
		vanished(net, tap);
		return MNL_CB_OK;
	}
	net_set_link(net, info->ifi_flags & IFF_UP);
	read_interface(net, tap);
	if (mtu != net->mtu) {
		net_pause(net);
		net_apply(net);
		pairs_assign(net);
		net_resume(net);
	}
	return MNL_CB_OK;
}

static int on_monitor(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	struct net *net = data;
	struct tap *tap = net->backend_data;
	char buf[8192];
	ssize_t n;

	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		(void)mnl_cb_run(buf, (size_t)n, 0, 0, on_link_message, net);
	else if (n < 0 && errno == ENOBUFS) /* messages were lost: look instead */
		read_interface(net, tap);
	return 0;
}

static int open_monitor(struct net *net, struct tap *tap)
{
	sd_event *event = net->device->event;
	int r;

	tap->monitor = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!tap->monitor || mnl_socket_bind(tap->monitor, 1 << (RTNLGRP_LINK - 1), MNL_SOCKET_AUTOPID) < 0) {
		log_warning("the TAP's state cannot be watched: %s; the guest's link will stay as it is",
			strerror(errno));
		return 0;
	}
	r = sd_event_add_io(event, &tap->monitor_source, mnl_socket_get_fd(tap->monitor), EPOLLIN,
		on_monitor, net);
	if (r < 0)
		return r;
	r = sd_event_add_time_relative(event, &tap->reopen_timer, CLOCK_MONOTONIC, 0, 0, on_reopen, net);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(tap->reopen_timer, SD_EVENT_OFF);
}

static int tap_open(struct net *net)
{
	const struct config_value *name = config_value(net->device->config, "tap");
	struct tap *tap = calloc(1, sizeof(*tap));
	int r;

	if (!tap)
		return -ENOMEM;
	net->backend_data = tap;
	snprintf(tap->name, sizeof(tap->name), "%s", name->text ?: "");
	if (!take_kept(net, tap)) {
		close_queues(net);
		snprintf(tap->name, sizeof(tap->name), "%s", name->text ?: "");
		r = look_up(net, tap);
		if (r == 0)
			r = open_queues(net, tap);
		if (r < 0)
			return r;
		probe(net);
	}
	keep_queues(net);
	read_interface(net, tap);
	return open_monitor(net, tap);
}

static void tap_close(struct net *net)
{
	struct tap *tap = net->backend_data;

	close_queues(net);
	if (!tap)
		return;
	tap->monitor_source = sd_event_source_disable_unref(tap->monitor_source);
	tap->reopen_timer = sd_event_source_disable_unref(tap->reopen_timer);
	if (tap->monitor)
		mnl_socket_close(tap->monitor);
	free(tap);
}

/* The kernel steers frames to attached queues only. */
static void tap_attach(struct net_pair *pair, bool in_use)
{
	const struct tap *tap = pair->net->backend_data;
	struct ifreq ifr = { .ifr_flags = in_use ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	if (tap->multi_queue && pair->tap_fd >= 0 && pair->net->n_pairs > 1)
		(void)ioctl(pair->tap_fd, TUNSETQUEUE, &ifr);
}

/* --- Frames --- */

static int tap_send(struct net_pair *pair, struct net_hdr *hdr, struct iovec *iov, unsigned int n,
	size_t frame_bytes)
{
	ssize_t r;

	if (pair->tap_fd < 0)
		return -ENODEV;
	iov[0] = (struct iovec){ .iov_base = hdr, .iov_len = sizeof(*hdr) };
	do
		r = writev(pair->tap_fd, iov, (int)MIN(n, 1024u));
	while (r < 0 && errno == EINTR);
	/* EAGAIN as well: the host has no room for it, and a full host drops */
	return r < 0 ? -EIO : 0;
}

static bool wanted(const struct net *net, const struct net_rx *rx, size_t frame_bytes)
{
	uint8_t head[FILTER_HEAD_BYTES];
	size_t n = 0;

	if (!net->filter_macs && !net->filter_vlans)
		return true;
	for (unsigned int i = rx->first; i < rx->end && n < sizeof(head) && n < frame_bytes; i++) {
		size_t part = MIN(rx->iov[i].iov_len, MIN(sizeof(head), frame_bytes) - n);

		memcpy(head + n, rx->iov[i].iov_base, part);
		n += part;
	}
	return filter_wants(net->state, head, n, net->filter_macs, net->filter_vlans);
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
	if (r < 0) {
		pair->tap_failed = true; /* the loop's thread hears of it from the kernel, and opens it again */
		return RX_OFF;
	}
	n = (size_t)r - MIN((size_t)r, sizeof(rx->hdr));
	if (n < NET_FRAME_MIN || n > room ||
		header_fit_rx(&rx->hdr, pair->net->offloads, &rx->iov[rx->first], rx->end - rx->first, n))
		rx_drop(pair);
	else if (wanted(pair->net, rx, n))
		rx_deliver(pair, n);
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
		log_limited(LOG_WARNING, NULL, 0, "the guest's address cannot be announced: %s", strerror(errno));
}

static void tap_describe(struct net *net, char *buf, size_t n)
{
	const struct tap *tap = net->backend_data;

	snprintf(buf, n, "tap %s (%s)", tap->name,
		net->pairs[0].tap_fd < 0 ? "gone" : net->link_up ? "up" : "down");
}

const struct net_backend backend_tap = {
	.name = "tap",
	.features = BIT(NET_F_CSUM) | BIT(NET_F_GUEST_CSUM) | BIT(NET_F_GUEST_TSO4) |
		BIT(NET_F_GUEST_TSO6) | BIT(NET_F_GUEST_ECN) | BIT(NET_F_GUEST_UFO) |
		BIT(NET_F_HOST_TSO4) | BIT(NET_F_HOST_TSO6) | BIT(NET_F_HOST_ECN) |
		BIT(NET_F_HOST_UFO) | BIT(NET_F_GUEST_USO4) | BIT(NET_F_GUEST_USO6) |
		BIT(NET_F_HOST_USO),
	.open = tap_open,
	.close = tap_close,
	.negotiated = tap_negotiated,
	.attach = tap_attach,
	.send = tap_send,
	.receive = tap_receive,
	.announce = tap_announce,
	.describe = tap_describe,
};

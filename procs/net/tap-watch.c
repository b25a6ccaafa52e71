/*
 * Follows a TAP interface while it is served. The interface may go down, be renamed, or be moved to
 * another network namespace and back; its queues stay usable. If it is deleted, they are useless,
 * and this code waits for an interface of the configured name.
 *
 * The queue itself tells the state of its interface, in whatever namespace: TUNGETIFF returns the
 * name, or fails if the interface is gone; a writable queue means that it is up. Everything else is
 * only a hint to look: a netlink message or a netlink overrun, the queue becoming writable, or a
 * failed read or write in a thread.
 */
#include "tap.h"

#include <errno.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/timer.h"

#define RETRY_MIN_USEC UINT64_C(50000)
#define RETRY_MAX_USEC UINT64_C(30000000)
#define RETRIES_QUIET 6 /* 1.5 s */
#define MESSAGES_MAX 64 /* of netlink, per turn of the loop */

#ifndef TUNGETDEVNETNS
#define TUNGETDEVNETNS _IO('T', 227)
#endif

/* --- Reading --- */

/* false: the interface was deleted */
static bool read_name(struct net *net, struct tap *tap)
{
	struct ifreq ifr = { 0 };

	if (ioctl(net->pairs[0].tap_fd, TUNGETIFF, &ifr) < 0)
		return false;
	memcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
	return true;
}

static bool read_link(const struct net *net)
{
	int fd = net->pairs[0].tap_fd, room;
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (poll(&p, 1, 0) == 1 && p.revents & POLLOUT)
		return true;
	/* only the parent process can have limited its send buffer; then it may just be full */
	return ioctl(fd, TUNGETSNDBUF, &room) == 0 && room != INT_MAX && net->link_up;
}

/* 1: in ours | 0: in another | negative: unknown, as for any process without administrative
 * rights in that namespace */
static int compare_namespace(int fd)
{
	_cleanup_close_ int other = ioctl(fd, TUNGETDEVNETNS);
	struct stat theirs, ours;

	if (other < 0 || fstat(other, &theirs) < 0 || stat("/proc/self/ns/net", &ours) < 0)
		return -errno;
	return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

static bool has_same_address(int fd, const struct tap *tap, int sock)
{
	struct ifreq queue = { 0 }, ours = { 0 };

	memcpy(ours.ifr_name, tap->name, sizeof(ours.ifr_name));
	return ioctl(fd, SIOCGIFHWADDR, &queue) == 0 && ioctl(sock, SIOCGIFHWADDR, &ours) == 0 &&
		memcmp(&queue.ifr_hwaddr, &ours.ifr_hwaddr, sizeof(ours.ifr_hwaddr)) == 0;
}

/* Finds the interface in our network namespace. A handed-over one is there only if the kernel
 * says so. One that was moved away and has come back may be recognized by name and address. Only
 * the MTU and the selection of netlink messages depend on this. */
static void locate(struct net *net, struct tap *tap, int sock)
{
	int fd = net->pairs[0].tap_fd, here = compare_namespace(fd);
	char name[IFNAMSIZ];

	if (here < 0 && tap->ifindex && if_indextoname(tap->ifindex, name) &&
		strcmp(name, tap->name) == 0)
		return;
	if (here < 0)
		here = *tap->configured && has_same_address(fd, tap, sock);
	tap->ifindex = here ? if_nametoindex(tap->name) : 0;
}

static uint32_t read_mtu(const struct tap *tap, int sock)
{
	struct ifreq ifr = { 0 };

	memcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
	return tap->ifindex && ioctl(sock, SIOCGIFMTU, &ifr) == 0 ? (uint32_t)ifr.ifr_mtu : 0;
}

static void read_interface(struct net *net, struct tap *tap)
{
	_cleanup_close_ int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	locate(net, tap, sock);
	net->link_up = read_link(net);
	net->mtu = read_mtu(tap, sock);
}

/* --- Looking --- */

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *data);

/* Edge-triggered and without EPOLLIN: incoming frames do not wake the loop thread. */
static void watch_queue(struct net *net, struct tap *tap)
{
	tap->queue_source = sd_event_source_disable_unref(tap->queue_source);
	if (net->pairs[0].tap_fd >= 0 &&
		sd_event_add_io(net->device->event, &tap->queue_source, net->pairs[0].tap_fd,
			EPOLLOUT | EPOLLET, on_writable, net) < 0)
		log_warning("the TAP's queue cannot be watched");
}

static void say_gone(struct tap *tap)
{
	if (*tap->configured)
		LOG_EVENT(TAP_GONE,
			log_limited(LOG_WARNING, NULL, 0,
				"tap '%s' is gone; the guest's link is down until one called '%s' exists again",
				tap->name, tap->configured));
	else
		LOG_EVENT(TAP_GONE,
			log_limited(LOG_WARNING, NULL, 0,
				"tap '%s', which was passed in, is gone; the guest's link is down until this device is restarted with another",
				tap->name));
}

static void let_go(struct net *net, struct tap *tap)
{
	say_gone(tap);
	tap->ifindex = 0;
	tap->queue_source = sd_event_source_disable_unref(tap->queue_source);
	device_pause(net->device);
	tap_queues_close(net);
	device_resume(net->device);
	net_set_link(net, false);
	device_report(net->device);
}

/* Netlink does not tell when an existing interface becomes available. Its creator holds it for a
 * moment, so a failure is not an error yet. */
static void retry_later(struct net *net, struct tap *tap, int r)
{
	uint64_t usec = MIN(RETRY_MIN_USEC << MIN(tap->n_retries, 16u), RETRY_MAX_USEC);

	if (sd_event_source_get_enabled(tap->retry_timer, NULL) > 0)
		return;
	if (++tap->n_retries == RETRIES_QUIET)
		tap_queues_explain(net, r);
	timer_after(tap->retry_timer, usec);
}

static void put_in_force(struct net *net)
{
	device_pause(net->device);
	net_apply(net);
	device_resume(net->device);
}

static void open_again(struct net *net, struct tap *tap)
{
	int r;

	if (!*tap->configured)
		return;
	device_pause(net->device);
	r = tap_queues_open(net);
	device_resume(net->device);
	if (r < 0 && r != -ENODEV)
		return retry_later(net, tap, r);
	tap->n_retries = 0;
	if (r < 0)
		return;
	LOG_EVENT(TAP_BACK, log_limited(LOG_NOTICE, NULL, 0, "tap '%s' is there again", tap->name));
	watch_queue(net, tap);
	read_interface(net, tap);
	atomic_store(&tap->down_told, !net->link_up);
	put_in_force(net);
	net_set_link(net, net->link_up);
	device_report(net->device);
}

static void look_at_interface(struct net *net, struct tap *tap)
{
	uint32_t mtu = net->mtu;

	atomic_store(&tap->down_told, false);
	read_interface(net, tap);
	if (!net->link_up)
		atomic_store(&tap->down_told, true);
	net_set_link(net, net->link_up);
	if (mtu != net->mtu)
		put_in_force(net);
}

static void look(struct net *net)
{
	struct tap *tap = net->backend_data;
	char before[IFNAMSIZ];

	memcpy(before, tap->name, sizeof(before));
	if (net->pairs[0].tap_fd >= 0 && !read_name(net, tap))
		let_go(net, tap);
	if (net->pairs[0].tap_fd < 0)
		open_again(net, tap);
	else
		look_at_interface(net, tap);
	if (strcmp(before, tap->name) != 0)
		device_report(net->device);
}

/* --- Hints --- */

static int on_writable(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	look(data);
	return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct net *net = data;

	if (net->pairs[0].tap_fd < 0)
		look(net);
	return 0;
}

static int on_trouble(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) == sizeof(n))
		look(data);
	return 0;
}

static void tell_loop(const struct tap *tap)
{
	uint64_t one = 1;

	if (write(tap->trouble_fd, &one, sizeof(one)) < 0)
		return; /* counter is full: already told */
}

void tap_is_down(struct net *net)
{
	struct tap *tap = net->backend_data;

	if (!atomic_exchange(&tap->down_told, true))
		tell_loop(tap);
}

void tap_is_gone(struct net_pair *pair)
{
	pair->tap_failed = true;
	tell_loop(pair->net->backend_data);
}

static int on_link_message(const struct nlmsghdr *msg, void *data)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct net *net = data;
	struct tap *tap = net->backend_data;
	bool ours = (unsigned int)info->ifi_index == tap->ifindex;

	if (ours && msg->nlmsg_type == RTM_DELLINK)
		tap->ifindex = 0;
	/* if its index is unknown, any interface may be the one */
	return ours || !tap->ifindex ? MNL_CB_STOP : MNL_CB_OK;
}

/* Whether there is a reason to look. A dropped message may have been the relevant one. */
static bool is_hint(struct net *net, const char *buf, ssize_t n)
{
	if (n < 0)
		return errno == ENOBUFS;
	return mnl_cb_run(buf, (size_t)n, 0, 0, on_link_message, net) == MNL_CB_STOP;
}

static int on_monitor(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	char buf[8192];
	bool hint = false;

	for (unsigned int i = 0; i < MESSAGES_MAX; i++) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno == EAGAIN))
			break;
		hint |= is_hint(data, buf, n);
	}
	if (hint)
		look(data);
	return 0;
}

/* --- Life cycle --- */

static int open_monitor(struct net *net, struct tap *tap)
{
	tap->monitor = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!tap->monitor ||
		mnl_socket_bind(tap->monitor, 1 << (RTNLGRP_LINK - 1), MNL_SOCKET_AUTOPID) < 0) {
		log_warning("the TAP's state cannot be watched: %s; the guest's link will stay as it is",
			strerror(errno));
		return 0;
	}
	return sd_event_add_io(net->device->event, &tap->monitor_source,
		mnl_socket_get_fd(tap->monitor), EPOLLIN, on_monitor, net);
}

static int make_sources(struct net *net, struct tap *tap)
{
	sd_event *event = net->device->event;
	int r;

	if ((r = sd_event_add_io(event, &tap->trouble_source, tap->trouble_fd, EPOLLIN, on_trouble,
		     net)) < 0 ||
		(r = sd_event_add_time(event, &tap->retry_timer, CLOCK_MONOTONIC, 0, 0, on_retry,
			 net)) < 0)
		return r;
	return sd_event_source_set_enabled(tap->retry_timer, SD_EVENT_OFF);
}

int tap_watch_start(struct net *net)
{
	struct tap *tap = net->backend_data;
	int r;

	tap->trouble_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (tap->trouble_fd < 0)
		return -errno;
	r = make_sources(net, tap);
	if (r >= 0)
		r = open_monitor(net, tap);
	if (r < 0)
		return r;
	watch_queue(net, tap);
	if (net->pairs[0].tap_fd >= 0)
		read_interface(net, tap);
	else
		retry_later(net, tap, 0); /* it may have appeared before the monitor was opened */
	return 0;
}

void tap_watch_stop(struct net *net)
{
	struct tap *tap = net->backend_data;

	tap->queue_source = sd_event_source_disable_unref(tap->queue_source);
	tap->monitor_source = sd_event_source_disable_unref(tap->monitor_source);
	tap->retry_timer = sd_event_source_disable_unref(tap->retry_timer);
	tap->trouble_source = sd_event_source_disable_unref(tap->trouble_source);
	tap->trouble_fd = fd_close(tap->trouble_fd);
	if (tap->monitor)
		mnl_socket_close(tap->monitor);
}

/*
 * How the queues of a TAP are obtained.
 *
 * They are kept in the vault, so the interface does not notice when this process is replaced: its
 * carrier stays up, and frames wait in its queues. A note kept with them says what they were opened
 * for. It tells an interface that was merely renamed, which is still the right one, from one that
 * the operator has replaced in the configuration.
 */
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "fd/fdstore.h"

#define NOTE_NAME "tap.note"
#define NOTE_VERSION 1
/* depend on the host's kernel */
#define PROBED_FEATURES                                                                            \
	(BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6) | BIT(VIRTIO_NET_F_HOST_USO))

/** struct note - what a successor must know about the queues it takes over */
struct note {
	uint32_t version;
	uint32_t handed_over; /* by the parent process; configured is then unused */
	char configured[IFNAMSIZ];
	uint64_t refused; /* features that the host's kernel lacks */
};

static void queue_name(unsigned int i, char *buf, size_t n)
{
	snprintf(buf, n, "tap.%u", i);
}

/* --- One queue --- */

static int set_up(int fd)
{
	int hdr_bytes = NET_HDR_BYTES, one = 1;

	if (ioctl(fd, TUNSETVNETHDRSZ, &hdr_bytes) < 0 || ioctl(fd, TUNSETVNETLE, &one) < 0)
		return -errno;
	return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int open_queue(const struct tap *tap, bool multi_queue)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
				     (multi_queue ? IFF_MULTI_QUEUE : 0)) };
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, tap->configured, sizeof(ifr.ifr_name));
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	r = set_up(fd);
	return r < 0 ? r : fd_steal(&fd);
}

/* Attaches the queue, to tell a detached queue from one whose interface is gone. */
static int adopt_queue(int fd, struct ifreq *ret_ifr)
{
	struct ifreq attach = { .ifr_flags = IFF_ATTACH_QUEUE };

	if (ioctl(fd, TUNGETIFF, ret_ifr) < 0 &&
		(ioctl(fd, TUNSETQUEUE, &attach) < 0 || ioctl(fd, TUNGETIFF, ret_ifr) < 0))
		return -errno;
	return set_up(fd);
}

/* --- All queues --- */

/* One queue per pair. A single queue may belong to a multi-queue interface, too. */
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
			return fd;
		net->pairs[i].tap_fd = fd;
		net->pairs[i].tap_failed = false;
	}
	tap->multi_queue = multi_queue;
	return 0;
}

void tap_queues_close(struct net *net)
{
	for (unsigned int i = 0; i < net->n_pairs; i++) {
		net->pairs[i].tap_fd = fd_close(net->pairs[i].tap_fd);
		net->pairs[i].tap_failed = true;
	}
}

static void keep(struct net *net, const char *name, int fd)
{
	int r = device_keep(net->device, name, fd);

	if (r < 0)
		log_warning("the TAP cannot be kept across a restart of this process: %s",
			strerror(-r));
}

static void keep_queues(struct net *net)
{
	char name[16];

	for (unsigned int i = 0; i < net->n_pairs && net->pairs[i].tap_fd >= 0; i++) {
		queue_name(i, name, sizeof(name));
		keep(net, name, net->pairs[i].tap_fd);
	}
}

static int take_queue(struct net *net, unsigned int i)
{
	char name[16];
	int fd;

	queue_name(i, name, sizeof(name));
	fd = device_take_kept(net->device, name);
	return fd < 0 && i == 0 ? device_take_kept(net->device, "tap") : fd;
}

/* Takes all queues, if all are alive, or none. */
static bool take_queues(struct net *net, struct tap *tap)
{
	struct ifreq ifr = { 0 };

	for (unsigned int i = 0; i < net->n_pairs; i++) {
		net->pairs[i].tap_fd = take_queue(net, i);
		if (net->pairs[i].tap_fd < 0 || adopt_queue(net->pairs[i].tap_fd, &ifr) < 0)
			return false;
	}
	memcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
	tap->multi_queue = ifr.ifr_flags & IFF_MULTI_QUEUE;
	return true;
}

/* A queue in the vault still receives frames from the kernel, and keeps a single-queue interface
 * busy. */
static void drop_kept_from(struct net *net, unsigned int first)
{
	char name[16];

	for (unsigned int i = first; i < NET_PAIRS_MAX; i++) {
		_cleanup_close_ int fd = take_queue(net, i);

		if (fd < 0 && i >= net->n_pairs)
			break;
		queue_name(i, name, sizeof(name));
		(void)device_unkeep(net->device, name);
	}
}

/* --- The note --- */

/* The note comes from a previous instance, which may have been compromised. */
static bool read_note(int fd, struct note *note)
{
	return pread(fd, note, sizeof(*note), 0) == sizeof(*note) &&
		note->version == NOTE_VERSION &&
		memchr(note->configured, 0, sizeof(note->configured));
}

static void keep_note(struct net *net, const struct note *note)
{
	_cleanup_close_ int fd = memfd_create("tap-note", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, note, sizeof(*note), 0) != sizeof(*note))
		log_warning("the TAP cannot be kept across a restart of this process: %s",
			strerror(errno));
	else
		keep(net, NOTE_NAME, fd);
}

/* The parent process passes the TAP at each start, but not to a standby, which uses the note. */
static bool was_passed(const struct net *net)
{
	const char *device = net->device->config->name, *name;
	char one[128], first[128];
	int at = 0;

	snprintf(one, sizeof(one), "tap.%s", device);
	snprintf(first, sizeof(first), "tap.0.%s", device);
	while ((name = fdstore_next("tap.", &at)))
		if (strcmp(name, one) == 0 || strcmp(name, first) == 0)
			return true;
	return false;
}

/* --- Opening by name --- */

/* For a name that does not exist, TUNSETIFF would create an interface. */
static int open_by_name(struct net *net, struct tap *tap)
{
	unsigned int index = if_nametoindex(tap->configured);
	int r = index ? open_queues(net, tap) : -ENODEV;

	tap->open_error = r;
	if (r < 0) {
		tap_queues_close(net);
		return r;
	}
	memcpy(tap->name, tap->configured, sizeof(tap->name));
	tap->ifindex = index;
	return 0;
}

/* --- Start --- */

/* Tests what the host's kernel supports, before frames flow. */
static uint64_t probe(const struct net *net)
{
	unsigned int uso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6;

	return ioctl(net->pairs[0].tap_fd, TUNSETOFFLOAD, uso) == 0 ? 0 : PROBED_FEATURES;
}

static void keep_what_it_is(struct net *net, bool handed_over, uint64_t refused)
{
	const struct tap *tap = net->backend_data;
	struct note note = {
		.version = NOTE_VERSION, .handed_over = handed_over, .refused = refused
	};

	memcpy(note.configured, tap->configured, sizeof(note.configured));
	keep_note(net, &note);
}

/* What a device offers does not change while its process runs, so what this interface can do
 * besides is offered from the next start on. */
int tap_queues_open(struct net *net)
{
	struct tap *tap = net->backend_data;
	int r = open_by_name(net, tap);

	if (r < 0)
		return r;
	keep_queues(net);
	if (!tap->probed)
		keep_what_it_is(net, false, probe(net));
	tap->probed = true;
	return 0;
}

/* Whether the kept queues are the ones to be served now. */
static bool is_meant(const struct tap *tap, const struct note *note)
{
	if (!*tap->configured)
		return true;
	/* an older release kept no note: only the interface's name is known */
	return strcmp(note->version ? note->configured : tap->name, tap->configured) == 0;
}

/* A guest that was being served is better off with its link down than without the device. So is one
 * that systemd starts at boot, where the TAP may come later; whoever runs the launcher by hand
 * wants to know at once. */
static int begin_by_name(struct net *net, struct tap *tap, struct note *note)
{
	int r = open_by_name(net, tap);

	if (r == 0) {
		note->refused = probe(net);
		tap->probed = true;
		return 0;
	}
	tap_queues_explain(net, r);
	if (tap->served_before)
		return 0;
	if (!getenv("BULKHEAD_WAIT_FOR_TAP"))
		return r;
	note->refused = PROBED_FEATURES;
	log_notice("the guest's link is down until then; no restart is needed");
	return 0;
}

static int begin_anew(struct net *net, struct tap *tap, struct note *note)
{
	tap_queues_close(net);
	drop_kept_from(net, 0);
	if (*tap->configured)
		return begin_by_name(net, tap, note);
	log_error("the tap that was passed in is gone; the guest's link is down until this device is restarted with another");
	return 0;
}

int tap_queues_start(struct net *net)
{
	struct tap *tap = net->backend_data;
	struct note note = { 0 };
	_cleanup_close_ int note_fd = device_take_kept(net->device, NOTE_NAME);
	bool handed_over = was_passed(net);
	int r = 0;

	if (note_fd < 0 || !read_note(note_fd, &note))
		note = (struct note){ 0 };
	handed_over |= note.version && note.handed_over;
	snprintf(tap->name, sizeof(tap->name), "%s",
		config_value(net->device->config, "tap")->text ?: "");
	if (!handed_over)
		memcpy(tap->configured, tap->name, sizeof(tap->configured));
	tap->served_before = note.version;
	tap->probed = note.version && note.refused != PROBED_FEATURES;
	if (take_queues(net, tap) && is_meant(tap, &note))
		drop_kept_from(net, net->n_pairs);
	else
		r = begin_anew(net, tap, &note);
	if (r < 0)
		return r;
	net->device->offer.features &= ~note.refused;
	keep_what_it_is(net, handed_over, note.refused);
	keep_queues(net);
	return 0;
}

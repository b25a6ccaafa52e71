#include <errno.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/patience.h"
#include "control.h"

#define WAIT_MS 5000
#define CMD_BYTES 8192
#define MAX_ANSWER_BYTES 64
#define PIECES_MAX 8

struct net control_net;
static uint16_t control_ring;
static uint64_t cmd_gpa, answer_gpa;
static int packet_fd = -1, tso_fd = -1;

const uint8_t mac_own[6] = { 0x52, 0x54, 0, 0x12, 0x34, 1 };
const uint8_t mac_other[6] = { 0x52, 0x54, 0, 0x99, 0x99, 9 };
const uint8_t mac_third[6] = { 0x52, 0x54, 0, 0x99, 0x99, 10 };
const uint8_t mac_group[6] = { 0x33, 0x33, 0, 0, 0, 1 };
const uint8_t mac_group2[6] = { 0x01, 0, 0x5e, 0, 0, 0xfb };
const uint8_t mac_broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* --- the network --- */

static int make_tap(void)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
				     IFF_MULTI_QUEUE) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	int e = 0;

	if (fd < 0)
		return -errno;
	strcpy(ifr.ifr_name, CONTROL_TAP);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		e = -errno;
	close(fd);
	return e;
}

/* a kernel that speaks IPv6 sends on every interface that comes up */
static int hush(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/" CONTROL_TAP "/disable_ipv6", O_WRONLY | O_CLOEXEC);
	int e;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	e = write(fd, "1", 1) == 1 ? 0 : -errno;
	close(fd);
	return e;
}

static int bring_up(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP | IFF_NOARP };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int e;

	strcpy(ifr.ifr_name, CONTROL_TAP);
	e = fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	return e;
}

int wire_make(void)
{
	int e;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	e = make_tap();
	if (!e)
		e = hush();
	return e ? e : bring_up();
}

static int open_packet(void)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	addr.sll_ifindex = (int)if_nametoindex(CONTROL_TAP);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

void wire_open(void)
{
	int one = 1;

	packet_fd = open_packet();
	tso_fd = open_packet();
	ck_assert_int_eq(setsockopt(tso_fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
}

void wire_close(void)
{
	close(packet_fd);
	close(tso_fd);
}

void wire_send(const void *frame, size_t n_bytes)
{
	ck_assert_int_eq(send(packet_fd, frame, n_bytes, 0), (ssize_t)n_bytes);
}

void wire_send_tso4(const void *frame, size_t n_bytes, uint16_t gso_bytes)
{
	struct virtio_net_hdr hdr = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = gso_bytes,
		.csum_start = 34,
		.csum_offset = 16 };
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { (void *)(uintptr_t)frame, n_bytes } };

	ck_assert_int_eq(writev(tso_fd, iov, 2), (ssize_t)(sizeof(hdr) + n_bytes));
}

size_t wire_recv(uint8_t *ret_frame, size_t max)
{
	struct pollfd p = { .fd = packet_fd, .events = POLLIN };

	for (;;) {
		struct sockaddr_ll from = { 0 };
		socklen_t n_from = sizeof(from);
		ssize_t n;

		ck_assert_msg(poll(&p, 1, test_ms(WAIT_MS)) == 1,
			"no frame came out of the device");
		n = recvfrom(packet_fd, ret_frame, max, 0, (struct sockaddr *)&from, &n_from);
		ck_assert_int_gt(n, 0);
		if (from.sll_pkttype != PACKET_OUTGOING)
			return (size_t)n;
	}
}

void wire_expect_rarp(const uint8_t *mac)
{
	uint8_t frame[1600];
	size_t n_bytes = wire_recv(frame, sizeof(frame));

	ck_assert_uint_eq(n_bytes, 60);
	ck_assert_mem_eq(frame, mac_broadcast, 6);
	ck_assert_mem_eq(frame + 6, mac, 6);
	ck_assert_mem_eq(frame + 12, "\x80\x35\0\1\x08\0\6\4\0\3",
		10); /* a reverse request, Ethernet for IPv4 */
	ck_assert_mem_eq(frame + 22, mac, 6);
	ck_assert_mem_eq(frame + 32, mac, 6);
}

/* --- the driver --- */

static void make_control_ring(void)
{
	struct net *n = &control_net;
	struct ring_config cfg = {
		.index = control_ring,
		.size = 64,
		.base = n->p.base,
		.packed = n->p.features & VU_BIT(VU_F_PACKED),
		.event_idx = n->p.features & VU_BIT(VU_F_EVENT_IDX),
		.indirect = n->p.indirect,
	};

	rig_ok(ring_init(&n->rings[control_ring], &n->g, &cfg), "the control ring");
	n->n_rings = control_ring + 1;
	cmd_gpa = guest_alloc(&n->g, CMD_BYTES, 1);
	answer_gpa = guest_alloc(&n->g, MAX_ANSWER_BYTES, 1);
}

void control_open(const struct net_profile *profile)
{
	struct net *n = &control_net;
	struct net_profile p = *profile;

	p.features |= VU_BIT(VU_NET_F_CTRL_VQ);
	rig_ok(net_init(n, &p), n->why);
	control_ring = 2 * n->p.n_pairs;
	rig_ok(vu_connect(&n->c, rig_socket()), n->c.why);
	rig_ok(net_negotiate(n), n->why);
	rig_ok(net_make_rings(n), n->why);
	make_control_ring();
	control_wake();
	for (uint16_t i = 0; i < n->p.n_pairs; i++)
		rig_ok(net_fill(n, i), n->why);
}

void control_connect_anew(void)
{
	struct net *n = &control_net;

	vu_close(&n->c);
	n->c = (struct vu_client)VU_CLIENT_NULL;
	rig_ok(vu_connect(&n->c, rig_socket()), n->c.why);
}

void control_negotiate_anew(void)
{
	control_connect_anew();
	rig_ok(net_negotiate(&control_net), control_net.why);
}

void control_wake(void)
{
	struct net *n = &control_net;

	rig_ok(net_set_memory(n), n->why);
	for (uint16_t i = 0; i < n->n_rings; i++) {
		rig_ok(net_start_ring(n, i), n->why);
		rig_ok(net_enable(n, i, true), n->why);
	}
}

void control_stop(void)
{
	for (uint16_t i = 0; i < control_net.n_rings; i++)
		rig_ok(net_stop_ring(&control_net, i), control_net.why);
}

void control_close(void)
{
	rig_ok(net_check(&control_net), control_net.why);
	net_close(&control_net);
}

void control_post(const struct control_piece *out, size_t n_out, uint32_t n_in_bytes)
{
	struct ring *r = &control_net.rings[control_ring];
	struct ring_seg segs[PIECES_MAX + 1];
	uint64_t gpa = cmd_gpa;
	size_t n = 0;

	ck_assert_uint_le(n_out, PIECES_MAX);
	for (; n < n_out; n++) {
		segs[n] = (struct ring_seg){ gpa, out[n].n_bytes, false };
		memcpy(guest_at(&control_net.g, gpa, out[n].n_bytes), out[n].bytes, out[n].n_bytes);
		gpa += out[n].n_bytes;
	}
	ck_assert_uint_le(gpa - cmd_gpa, CMD_BYTES);
	memset(guest_at(&control_net.g, answer_gpa, 1), RING_FILL, 1);
	if (n_in_bytes)
		segs[n++] = (struct ring_seg){ answer_gpa, n_in_bytes, true };
	rig_ok(ring_post(r, segs, n, NULL), r->fault);
	ring_kick(r);
}

/* the device has written n_bytes */
static const uint8_t *wait_for_bytes(uint32_t n_bytes)
{
	struct ring *r = &control_net.rings[control_ring];
	struct ring_used used;

	rig_ok(ring_wait(r, WAIT_MS), r->fault);
	ck_assert_msg(ring_reap(r, &used) == 1, "%s", r->fault);
	ck_assert_uint_eq(used.len, n_bytes);
	return guest_at(&control_net.g, answer_gpa, MAX_ANSWER_BYTES);
}

uint8_t control_wait(uint32_t n_in_bytes)
{
	return *wait_for_bytes(n_in_bytes ? 1 : 0);
}

uint8_t control_chain(const struct control_piece *out, size_t n_out, uint32_t n_in_bytes)
{
	control_post(out, n_out, n_in_bytes);
	return control_wait(n_in_bytes);
}

uint8_t control_ask(uint8_t class, uint8_t number, const void *data, uint32_t n_bytes,
	void *ret_result, uint32_t n_result)
{
	uint8_t head[2] = { class, number };
	struct control_piece out[2] = { { head, 2 }, { data, n_bytes } };
	const uint8_t *answer;

	control_post(out, 2, n_result + 1);
	answer = wait_for_bytes(n_result + 1);
	memcpy(ret_result, answer, n_result);
	return answer[n_result];
}

uint8_t control_command(uint8_t class, uint8_t number, const void *data, uint32_t n_bytes)
{
	uint8_t head[2] = { class, number };
	struct control_piece out[2] = { { head, 2 }, { data, n_bytes } };

	return control_chain(out, n_bytes ? 2 : 1, 1);
}

/* --- what it shows --- */

struct net_profile control_layout(int i, uint64_t features)
{
	struct net_profile p = { .features = features | (i & 1 ? VU_BIT(VU_F_PACKED) : 0) };

	return p;
}

void control_expect(uint8_t want, uint8_t class, uint8_t number, const void *data, uint32_t n_bytes)
{
	uint8_t got = control_command(class, number, data, n_bytes);

	ck_assert_msg(got == want, "class %u number %u with %u bytes: answer %u", class, number,
		n_bytes, got);
}

static size_t make_frame(uint8_t *frame, const uint8_t *to, int vlan)
{
	static const uint8_t from[6] = { 2, 0, 0, 0, 0, 0x77 };
	static uint32_t seq;
	size_t at = 12;

	memset(frame, 0x5a, 80);
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	if (vlan >= 0) {
		frame[at++] = 0x81;
		frame[at++] = 0;
		frame[at++] =
			(uint8_t)(0xa0 | vlan >> 8); /* with a priority, which is not part of it */
		frame[at++] = (uint8_t)vlan;
	}
	frame[at++] = 0x88;
	frame[at++] = 0xb5;
	seq++;
	memcpy(frame + at, &seq, sizeof(seq));
	return 80;
}

bool control_passes(const uint8_t *to, int vlan, const uint8_t *always)
{
	static uint8_t got[NET_FRAME_MAX];
	uint8_t probe[80], marker[80];
	uint32_t n_got;
	bool passed;

	wire_send(probe, make_frame(probe, to, vlan));
	wire_send(marker, make_frame(marker, always, VLAN_NONE));
	rig_ok(net_recv(&control_net, 0, got, &n_got, WAIT_MS), control_net.why);
	passed = n_got == sizeof(probe) && !memcmp(got, probe, sizeof(probe));
	if (passed)
		rig_ok(net_recv(&control_net, 0, got, &n_got, WAIT_MS), control_net.why);
	ck_assert_msg(n_got == sizeof(marker) && !memcmp(got, marker, sizeof(marker)),
		"a frame that must pass did not");
	return passed;
}

void control_await_config(uint32_t offset, const void *want, uint32_t n_bytes)
{
	struct vu_config_head head = { .offset = offset, .size = n_bytes };
	uint8_t got[32];

	for (int ms = 0;; ms += 5) {
		rig_ok(vu_get_config(&control_net.c, &head, got), control_net.c.why);
		if (!memcmp(got, want, n_bytes))
			return;
		ck_assert_msg(ms < test_ms(WAIT_MS), "configuration space at %u did not change",
			offset);
		poll(NULL, 0, 5);
	}
}

void control_add_macs(struct control_table *t, const uint8_t *macs, uint32_t count)
{
	memcpy(t->bytes + t->n_bytes, &count, 4);
	t->n_bytes += 4;
	for (uint32_t i = 0; macs && i < count; i++, t->n_bytes += 6)
		memcpy(t->bytes + t->n_bytes, macs + 6 * i, 6);
}

void control_set_promisc(uint8_t on)
{
	control_expect(CTRL_OK, CTRL_RX, 0, &on, 1);
}

int control_main(const char *name, const struct suite_device *net0, void (*add)(Suite *suite))
{
	int e = wire_make();

	if (e == -EPERM || e == -ENOENT) {
		printf("1..0 # SKIP no network namespace or no TAP can be made: %s\n",
			strerror(-e));
		return 0;
	}
	if (e) {
		fprintf(stderr, "%s: the TAP: %s\n", name, strerror(-e));
		return 1;
	}
	return rig_main(name, net0, add);
}

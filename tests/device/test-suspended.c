/*
 * A device no ring of which runs is suspended: whatever comes from its network, its operator or its
 * VMM, nothing is written to guest memory, nobody is notified, and the VMM gets no message but the
 * replies to its own. What there is to tell is told when a ring starts.
 *
 * Spec: vhost-user, "Suspended device state".
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "lib/patience.h"

#define QUIET_MS 60
#define CONFIG_STATUS 6 /* of the configuration space */

static struct net *const n = &control_net;

static struct net_profile profile(int i)
{
	struct net_profile p = control_layout(i,
		VU_BIT(VU_NET_F_STATUS) | VU_BIT(NET_F_GUEST_ANNOUNCE) | VU_BIT(NET_F_CTRL_RX));

	p.protocol = VU_BIT(VU_PF_CONFIG) | VU_BIT(VU_PF_BACKEND_REQ) | VU_BIT(VU_PF_RARP) |
		VU_BIT(VU_PF_MTU);
	return p;
}

/* --- What the device might say --- */

static uint8_t *kept; /* guest memory */
static size_t n_kept;

static void keep_memory(void)
{
	const struct guest_region *region = &n->g.regions[0];

	ck_assert_uint_eq(n->g.n_regions, 1);
	n_kept = region->next; /* what is behind it was never handed out */
	kept = malloc(n_kept);
	ck_assert_ptr_nonnull(kept);
	memcpy(kept, region->map, n_kept);
}

/* What came before the last ring stopped is the driver's and the VMM's to take. */
static void drain(void)
{
	uint8_t bytes[256];
	uint64_t value;

	while (recv(n->c.back_fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	for (uint16_t i = 0; i < n->n_rings; i++) {
		(void)fcntl(n->rings[i].call_fd, F_SETFL, O_NONBLOCK);
		while (read(n->rings[i].call_fd, &value, sizeof(value)) == sizeof(value))
			;
	}
}

/* Frames may be on their way to the driver, who does not look. */
static void stop(void)
{
	uint32_t base;

	for (uint16_t i = 0; i < n->n_rings; i++)
		rig_ok(vu_get_vring_base(&n->c, i, &base), n->c.why);
}

static void expect_unread(int fd, const char *what)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	ck_assert_msg(poll(&p, 1, 0) == 0, "%s has something to be read", what);
}

static void expect_quiet(void)
{
	rig_ok(vu_expect_silence(&n->c, QUIET_MS), n->c.why);
	expect_unread(n->c.back_fd, "the back-end channel");
	for (uint16_t i = 0; i < n->n_rings; i++) {
		expect_unread(n->rings[i].call_fd, "a call descriptor");
		expect_unread(n->rings[i].err_fd, "an err descriptor");
	}
	ck_assert_msg(memcmp(kept, n->g.regions[0].map, n_kept) == 0,
		"guest memory was written to");
}

/* --- What happens meanwhile --- */

static void set_link(bool up)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_NOARP | (up ? IFF_UP : 0)) };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", CONTROL_TAP);
	ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

static void send_frames(void)
{
	uint8_t frame[80] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x77, 0x88, 0xb5 };

	for (int i = 0; i < 50; i++)
		wire_send(frame, sizeof(frame));
}

static void replace_calls(void)
{
	for (uint16_t i = 0; i < n->n_rings; i++) {
		close(n->rings[i].call_fd);
		n->rings[i].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		rig_ok(vu_set_vring_fd(&n->c, VU_SET_VRING_CALL, i, n->rings[i].call_fd), n->c.why);
	}
}

static void announce(void)
{
	uint64_t mac = 0;

	memcpy(&mac, mac_own, sizeof(mac_own));
	rig_ok(vu_set_u64(&n->c, VU_SEND_RARP, mac), n->c.why);
}

/* Where the link is in the configuration space, the worker has seen it. */
static void await_link(bool up)
{
	struct vu_config_head head = { .offset = CONFIG_STATUS, .size = 1 };
	uint8_t status = 0;

	for (int ms = 0; ms < test_ms(5000); ms += 5) {
		rig_ok(vu_get_config(&n->c, &head, &status), n->c.why);
		if ((status & 1) == up)
			return;
		poll(NULL, 0, 5);
	}
	ck_abort_msg("the link did not change");
}

/* A socket that has seen its interface go down says so once. */
static void wire_reopen(void)
{
	wire_close();
	wire_open();
}

static void do_everything(void)
{
	send_frames();
	replace_calls();
	rig_ok(vu_set_u64(&n->c, VU_NET_SET_MTU, 1400), n->c.why);
	announce();
	set_link(false);
	await_link(false);
	set_link(true);
	await_link(true);
	wire_reopen();
	send_frames();
	replace_calls();
}

/* The VMM is told of what has changed now that a ring runs. */
static void expect_news(void)
{
	struct vu_msg msg;

	rig_ok(net_start_ring(n, 0), n->why);
	rig_ok(vu_backend_request(&n->c, 0, &msg), n->c.why);
	ck_assert_uint_eq(msg.head.request, 2); /* CONFIG_CHANGE_MSG */
	vu_msg_deinit(&msg);
}

static void end(void)
{
	free(kept);
	net_close(n);
}

START_TEST(test_nothing_is_said_after_the_last_ring_has_stopped)
{
	struct net_profile p = profile(_i);

	control_open(&p);
	rig_ok(vu_set_backend_channel(&n->c), n->c.why);
	send_frames();
	stop();
	drain();
	keep_memory();
	expect_quiet();
	do_everything();
	expect_quiet();
	expect_news();
	end();
}
END_TEST

/* No ring has ever run: sizes, addresses and call descriptors are there. */
START_TEST(test_nothing_is_said_at_birth)
{
	struct net_profile p = profile(_i);

	rig_open_stopped(n, &p);
	rig_ok(vu_set_backend_channel(&n->c), n->c.why);
	for (uint16_t i = 0; i < n->n_rings; i++) {
		struct vu_addr addr;

		ring_addr(&n->rings[i], &addr);
		rig_ok(vu_set_state(&n->c, VU_SET_VRING_NUM, i, n->rings[i].cfg.size), n->c.why);
		rig_ok(vu_set_vring_addr(&n->c, &addr), n->c.why);
		rig_ok(vu_set_state(&n->c, VU_SET_VRING_ENABLE, i, 1), n->c.why);
	}
	rig_ok(net_fill(n, 0), n->why);
	keep_memory();
	do_everything();
	expect_quiet();
	expect_news();
	end();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "suspended");

	tcase_add_checked_fixture(tc, wire_open, wire_close);
	tcase_add_loop_test(tc, test_nothing_is_said_after_the_last_ring_has_stopped, 0, 2);
	tcase_add_loop_test(tc, test_nothing_is_said_at_birth, 0, 2);
}

int main(void)
{
	struct suite_device net0 = {
		.backend = "tap", .tap = CONTROL_TAP, .mac = "52:54:00:12:34:01"
	};

	return control_main("suspended", &net0, add);
}

/*
 * Notifications in band: the VMM hands over no kick, call or err descriptor, but says and hears
 * messages. A thread stands between the driver, which knows eventfds alone, and the connection.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/patience.h"
#include "rig.h"

#define N_RINGS 2

static struct net n;
static pthread_t vmm;
static int quit_fd;
static unsigned int n_calls[N_RINGS], n_errs[N_RINGS]; /* heard */

/* --- The VMM --- */

static void pass_on(const struct vu_msg *msg)
{
	uint32_t index = msg->body.state.index;
	uint64_t one = 1;

	ck_assert(index < N_RINGS && msg->head.size == 8 && msg->head.flags == VU_VERSION);
	ck_assert(msg->head.request == VU_BACKEND_VRING_CALL ||
		msg->head.request == VU_BACKEND_VRING_ERR);
	if (msg->head.request == VU_BACKEND_VRING_CALL) {
		n_calls[index]++;
		ck_assert_int_eq(write(n.rings[index].call_fd, &one, 8), 8);
	} else {
		n_errs[index]++;
		ck_assert_int_eq(write(n.rings[index].err_fd, &one, 8), 8);
	}
}

static void kick(uint32_t index)
{
	struct vu_header head = { VU_VRING_KICK, VU_VERSION, 8 };
	struct vu_state state = { index, 0 };
	uint64_t count;

	if (read(n.rings[index].kick_fd, &count, 8) == 8)
		rig_ok(vu_send(&n.c, &head, &state, NULL, 0), n.c.why);
}

static void *be_vmm(void *data)
{
	struct vu_msg msg;

	for (;;) {
		struct pollfd p[] = { { quit_fd, POLLIN, 0 }, { n.c.back_fd, POLLIN, 0 },
			{ n.rings[0].kick_fd, POLLIN, 0 }, { n.rings[1].kick_fd, POLLIN, 0 } };

		ck_assert_int_gt(poll(p, 4, -1), 0);
		if (p[0].revents)
			return NULL;
		if (p[1].revents) {
			rig_ok(vu_backend_recv(&n.c, &msg), n.c.why);
			pass_on(&msg);
			vu_msg_deinit(&msg);
		}
		for (uint32_t i = 0; i < N_RINGS; i++)
			if (p[2 + i].revents)
				kick(i);
	}
}

static void begin_vmm(void)
{
	quit_fd = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_eq(pthread_create(&vmm, NULL, be_vmm, NULL), 0);
}

static void end_vmm(void)
{
	uint64_t one = 1;

	ck_assert_int_eq(write(quit_fd, &one, 8), 8);
	ck_assert_int_eq(pthread_join(vmm, NULL), 0);
	close(quit_fd);
}

static void pump(uint32_t n_frames)
{
	begin_vmm();
	rig_ok(net_pump(&n, 0, n_frames, 200), n.why);
	end_vmm();
}

static void set_up_ring(uint16_t index)
{
	struct ring *r = &n.rings[index];
	struct vu_addr addr;

	ring_addr(r, &addr);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_NUM, index, r->cfg.size), n.c.why);
	rig_ok(vu_set_state(&n.c, VU_SET_VRING_BASE, index, ring_base(r)), n.c.why);
	rig_ok(vu_set_vring_addr(&n.c, &addr), n.c.why);
}

static void start_ring(uint16_t index)
{
	static const uint32_t notifiers[] = { VU_SET_VRING_CALL, VU_SET_VRING_ERR,
		VU_SET_VRING_KICK };

	set_up_ring(index);
	for (size_t i = 0; i < 3; i++)
		rig_ok(vu_set_vring_fd(&n.c, notifiers[i], index, -1), n.c.why);
}

/* i: bit 0: packed; bit 1: with the event index */
static void open_by(int i, void (*start)(uint16_t index))
{
	struct net_profile p = { .features = (i & 1 ? VU_BIT(VU_F_PACKED) : 0) |
			(i & 2 ? VU_BIT(VU_F_EVENT_IDX) : 0),
		.protocol = VU_BIT(VU_PF_INBAND) | VU_BIT(VU_PF_BACKEND_REQ) };

	memset(n_calls, 0, sizeof(n_calls));
	memset(n_errs, 0, sizeof(n_errs));
	rig_open_stopped(&n, &p);
	ck_assert(n.c.acked_protocol & VU_BIT(VU_PF_INBAND));
	rig_ok(vu_set_backend_channel(&n.c), n.c.why);
	for (uint16_t k = 0; k < N_RINGS; k++) {
		start(k);
		rig_ok(net_enable(&n, k, true), n.why);
	}
	rig_ok(net_fill(&n, 0), n.why);
}

static void open_running(int i)
{
	open_by(i, start_ring);
}

static void finish(void)
{
	pump(300);
	rig_stop_rings(&n);
	rig_ok(net_check(&n), n.why);
	net_close(&n);
}

/* --- As it should be --- */

/* uses: protocol:INBAND_NOTIFICATIONS */
START_TEST(test_rings_are_kicked_and_called_by_messages)
{
	open_running(_i);
	for (uint16_t round = 0; round < 3; round++) {
		pump(200);
		rig_stop_rings(&n);
		for (uint16_t i = 0; i < N_RINGS; i++)
			start_ring(i);
	}
	ck_assert_uint_gt(n_calls[0], 0);
	finish();
}
END_TEST

/* A call for what was used goes to a descriptor as soon as there is one, and back. */
START_TEST(test_descriptors_take_turns_with_messages)
{
	open_running(_i);
	for (int round = 0; round < 3; round++) {
		pump(50);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 0, n.rings[0].call_fd), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, 1, n.rings[1].kick_fd), n.c.why);
		ck_assert_int_eq(vu_set_state(&n.c, VU_VRING_KICK, 1, 0), VU_E_REFUSED);
		rig_ok(net_pump(&n, 0, 50, 200), n.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_CALL, 0, -1), n.c.why);
		rig_ok(vu_set_vring_fd(&n.c, VU_SET_VRING_KICK, 1, -1), n.c.why);
	}
	finish();
}
END_TEST

START_TEST(test_broken_ring_is_told_of_by_a_message)
{
	open_running(0);
	pump(50);
	begin_vmm();
	n.rings[1].avail[1] = (uint16_t)(n.rings[1].avail[1] + 2 * n.rings[1].cfg.size);
	ring_kick_always(&n.rings[1]);
	rig_ok(ring_wait_err(&n.rings[1], test_ms(5000)), "no word of what has happened");
	end_vmm();
	ck_assert_uint_eq(n_errs[1], 1);
	ck_assert_uint_eq(n_errs[0], 0);
	net_close(&n);
	rig_check_net0();
}
END_TEST

/* A stopped device says nothing, and one that goes on makes up for it. */
START_TEST(test_stopped_rings_say_nothing)
{
	struct pollfd p;

	open_running(0);
	pump(50);
	rig_stop_rings(&n);
	p = (struct pollfd){ n.c.back_fd, POLLIN, 0 };
	while (poll(&p, 1, 100) > 0) {
		struct vu_msg msg;

		rig_ok(vu_backend_recv(&n.c, &msg), n.c.why); /* from before */
		pass_on(&msg);
	}
	ck_assert_int_eq(vu_set_state(&n.c, VU_VRING_KICK, 0, 0), VU_E_REFUSED);
	ck_assert_int_eq(poll(&p, 1, 100), 0);
	for (uint16_t i = 0; i < N_RINGS; i++)
		start_ring(i);
	finish();
}
END_TEST

/* User Mode Linux sends neither SET_VRING_KICK nor SET_VRING_CALL. */
START_TEST(test_first_kick_starts_a_ring_that_was_set_up)
{
	open_by(_i, set_up_ring);
	pump(50);
	ck_assert_uint_gt(n_calls[0] + n_calls[1], 0);
	finish();
}
END_TEST

/* --- As it should not be --- */

START_TEST(test_kick_that_is_wrong_fails_alone)
{
	static const uint32_t sizes[] = { 0, 4, 7, 9, 16 };
	static const uint8_t zeros[16];
	struct vu_state state = { 0, 0 };

	open_running(0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		ck_assert_int_eq(vu_set(&n.c, VU_VRING_KICK, zeros, sizes[i], -1), VU_E_REFUSED);
	ck_assert_int_eq(vu_set(&n.c, VU_VRING_KICK, &state, 8, n.rings[0].call_fd), VU_E_REFUSED);
	for (uint32_t index = 3; index; index <<= 3)
		ck_assert_int_eq(vu_set_state(&n.c, VU_VRING_KICK, index, 0), VU_E_REFUSED);
	/* acknowledged if it wants to be, again and again */
	for (int i = 0; i < 100; i++)
		rig_ok(vu_set_state(&n.c, VU_VRING_KICK, i & 1, 0), n.c.why);
	finish();
}
END_TEST

START_TEST(test_kick_is_refused_unless_it_was_agreed_on)
{
	struct net_profile p = { .protocol = VU_BIT(VU_PF_BACKEND_REQ) };

	rig_open(&n, &p);
	ck_assert_int_eq(vu_set_state(&n.c, VU_VRING_KICK, 0, 0), VU_E_REFUSED);
	rig_finish(&n);
}
END_TEST

/* Without the channel, or answers, it means nothing: by the specification that is the end. */
START_TEST(test_agreement_without_what_it_needs_ends_the_session)
{
	static const uint64_t lacking[] = { 0, VU_BIT(VU_PF_REPLY_ACK), VU_BIT(VU_PF_BACKEND_REQ) };
	struct vu_client c;

	rig_hello(&c, 0);
	rig_ok(vu_set_protocol_features(&c, VU_BIT(VU_PF_INBAND) | lacking[_i]), c.why);
	rig_ok(vu_expect_close(&c), c.why);
	vu_close(&c);
	rig_check_net0();
}
END_TEST

/* A VMM that never reads what is said to it harms itself. */
START_TEST(test_vmm_that_does_not_listen_harms_nobody)
{
	open_running(0);
	for (int i = 0; i < 20000; i++) {
		struct vu_header head = { VU_VRING_KICK, VU_VERSION, 8 };
		struct vu_state state = { i & 1, 0 };

		rig_ok(vu_send(&n.c, &head, &state, NULL, 0), n.c.why);
	}
	rig_ok(vu_get_features(&n.c), n.c.why);
	net_close(&n);
	rig_check_net0();
}
END_TEST

/* --- Deaths --- */

static void kill_one(unsigned int which)
{
	static const char *const roles[] = { "frontend", "memory" };

	rig_ok(which < 2 ? suite_kill(&rig, roles[which]) : suite_kill_worker(&rig, "net0"),
		rig.why);
}

START_TEST(test_no_notification_is_lost_whoever_dies)
{
	open_running(_i);
	n.c.timeout_ms = test_ms(30000);
	for (unsigned int round = 0; round < 9; round++) {
		begin_vmm();
		rig_ok(net_pump(&n, 0, 100, 200), n.why);
		kill_one(round % 3);
		rig_ok(net_pump(&n, 0, 100, 200), n.why);
		end_vmm();
	}
	finish();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "inband"), *deaths = tcase_create("deaths");

	tcase_add_loop_test(tc, test_rings_are_kicked_and_called_by_messages, 0, 4);
	tcase_add_loop_test(tc, test_descriptors_take_turns_with_messages, 0, 2);
	tcase_add_test(tc, test_broken_ring_is_told_of_by_a_message);
	tcase_add_test(tc, test_stopped_rings_say_nothing);
	tcase_add_loop_test(tc, test_first_kick_starts_a_ring_that_was_set_up, 0, 4);
	tcase_add_test(tc, test_kick_that_is_wrong_fails_alone);
	tcase_add_test(tc, test_kick_is_refused_unless_it_was_agreed_on);
	tcase_add_loop_test(tc, test_agreement_without_what_it_needs_ends_the_session, 0, 3);
	tcase_add_test(tc, test_vmm_that_does_not_listen_harms_nobody);
	/* who runs is not compared after these */
	tcase_set_timeout(deaths, 60);
	tcase_add_loop_test(deaths, test_no_notification_is_lost_whoever_dies, 0, 2);
	suite_add_tcase(suite, deaths);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo" };

	return rig_main("inband", &net0, add);
}

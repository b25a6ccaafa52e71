/*
 * Messages of a session as a whole: features, protocol features, owner, queue number, status,
 * configuration, the back-end channel, and what need_reply does to each of them.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"

#define ALL_PF UINT64_MAX

static struct vu_client c;

START_TEST(test_offer_has_what_every_front_end_needs)
{
	uint64_t need = VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES) |
		VU_BIT(VU_NET_F_MRG_RXBUF) | VU_BIT(VU_F_INDIRECT) | VU_BIT(VU_F_EVENT_IDX) |
		VU_BIT(VU_F_PACKED);

	rig_hello(&c, ALL_PF);
	ck_assert_uint_eq(c.features & need, need);
	ck_assert(c.protocol & VU_BIT(VU_PF_MQ));
	/* an in-band notification needs both its conditions; unknown bits must not be offered */
	ck_assert_uint_eq(c.protocol >> 24, 0);
	vu_close(&c);
}
END_TEST

/* covers: M15 */
START_TEST(test_features_not_offered_are_refused)
{
	uint64_t odd;

	rig_hello(&c, 0);
	c.ack = true;
	odd = ~c.features & (c.features ^ UINT64_MAX);
	ck_assert_int_eq(vu_set_features(&c, c.features | (odd & -odd)), VU_E_REFUSED);
	rig_ok(vu_set_features(&c, c.features & ~VU_BIT(VU_F_LOG_ALL)), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M16 */
START_TEST(test_protocol_features_not_offered_are_refused)
{
	rig_hello(&c, 0);
	c.ack = true;
	ck_assert_int_eq(vu_set_u64(&c, VU_SET_PROTOCOL_FEATURES, c.acked_protocol | VU_BIT(63)),
		VU_E_REFUSED);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M26 */
START_TEST(test_no_acknowledgement_before_reply_ack)
{
	struct vu_header head = { VU_SET_OWNER, VU_VERSION | VU_NEED_REPLY, 0 };

	c = (struct vu_client)VU_CLIENT_NULL;
	rig_ok(vu_connect(&c, rig_socket()), c.why);
	rig_ok(vu_send(&c, &head, NULL, NULL, 0), c.why);
	/* the next reply is that of GET_FEATURES: none was sent for SET_OWNER */
	rig_ok(vu_get_features(&c), c.why);
	rig_ok(vu_get_protocol_features(&c), c.why);
	vu_close(&c);
}
END_TEST

START_TEST(test_protocol_features_before_features_and_alone)
{
	c = (struct vu_client)VU_CLIENT_NULL;
	rig_ok(vu_connect(&c, rig_socket()), c.why);
	rig_ok(vu_get_protocol_features(&c), c.why);
	rig_ok(vu_set_protocol_features(&c, VU_BIT(VU_PF_REPLY_ACK)), c.why);
	c.ack = true;
	rig_ok(vu_set(&c, VU_SET_OWNER, NULL, 0, -1), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M26 */
START_TEST(test_need_reply_on_a_get_changes_nothing)
{
	static const uint32_t gets[] = { VU_GET_FEATURES, VU_GET_PROTOCOL_FEATURES,
		VU_GET_QUEUE_NUM };
	struct vu_msg msg;

	rig_hello(&c, VU_BIT(VU_PF_MQ));
	for (size_t i = 0; i < 3; i++) {
		struct vu_header head = { gets[i], VU_VERSION | VU_NEED_REPLY, 0 };

		rig_ok(vu_send(&c, &head, NULL, NULL, 0), c.why);
		rig_ok(vu_recv_reply(&c, gets[i], 8, &msg), c.why);
	}
	rig_ok(vu_expect_silence(&c, 50), c.why);
	vu_close(&c);
}
END_TEST

START_TEST(test_owner_again_and_reset_owner_keep_the_session)
{
	rig_hello(&c, 0);
	c.ack = true;
	rig_ok(vu_set(&c, VU_RESET_OWNER, NULL, 0, -1), c.why);
	rig_ok(vu_set(&c, VU_SET_OWNER, NULL, 0, -1), c.why);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
	rig_check_net0();
}
END_TEST

/* uses: protocol:MQ */
START_TEST(test_queue_number_serves_those_who_count_pairs_and_queues)
{
	uint64_t n;

	rig_hello(&c, VU_BIT(VU_PF_MQ));
	rig_ok(vu_get_u64(&c, VU_GET_QUEUE_NUM, &n), c.why);
	/* net0 has two pairs: QEMU wants 2 at least, who counts queues wants 4 */
	ck_assert_uint_ge(n, 4);
	ck_assert_uint_le(n, 256);
	vu_close(&c);
}
END_TEST

/* uses: protocol:STATUS */
START_TEST(test_status_is_what_was_set)
{
	uint64_t status;

	rig_hello(&c, VU_BIT(VU_PF_STATUS));
	if (!(c.acked_protocol & VU_BIT(VU_PF_STATUS)))
		return vu_close(&c);
	c.ack = true;
	rig_ok(vu_get_u64(&c, VU_GET_STATUS, &status), c.why);
	ck_assert_uint_eq(status, 0);
	rig_ok(vu_set_u64(&c, VU_SET_STATUS, 0xb), c.why);
	rig_ok(vu_get_u64(&c, VU_GET_STATUS, &status), c.why);
	ck_assert_uint_eq(status, 0xb);
	rig_ok(vu_set_u64(&c, VU_SET_STATUS, 0), c.why);
	rig_ok(vu_get_u64(&c, VU_GET_STATUS, &status), c.why);
	ck_assert_uint_eq(status, 0);
	vu_close(&c);
}
END_TEST

/* covers: M25 */
START_TEST(test_backend_channel_taken_twice)
{
	rig_hello(&c, VU_BIT(VU_PF_BACKEND_REQ) | VU_BIT(VU_PF_BACKEND_SEND_FD));
	if (!(c.acked_protocol & VU_BIT(VU_PF_BACKEND_REQ)))
		return vu_close(&c);
	c.ack = true;
	rig_ok(vu_set_backend_channel(&c), c.why);
	rig_ok(vu_set_backend_channel(&c), c.why);
	close(c.back_fd);
	c.back_fd = -1;
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M9 */
START_TEST(test_backend_channel_without_descriptor_is_refused)
{
	rig_hello(&c, VU_BIT(VU_PF_BACKEND_REQ));
	if (!(c.acked_protocol & VU_BIT(VU_PF_BACKEND_REQ)))
		return vu_close(&c);
	c.ack = true;
	ck_assert_int_eq(vu_set(&c, VU_SET_BACKEND_REQ_FD, NULL, 0, -1), VU_E_REFUSED);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M23 */
START_TEST(test_config_reads_inside_and_refuses_outside)
{
	struct vu_config_head whole = { 0, 12, 0 };
	struct vu_config_head part = { 6, 4, 1 };
	struct vu_config_head full = { 0, 24, 0 }; /* all that virtio has for a net device */
	struct vu_config_head beyond = { 0, 25, 0 };
	struct vu_config_head behind = { 24, 1, 0 };
	struct vu_config_head far = { 0xffffff00, 200, 0 };
	uint8_t bytes[256], again[256];

	rig_hello(&c, VU_BIT(VU_PF_CONFIG));
	if (!(c.acked_protocol & VU_BIT(VU_PF_CONFIG)))
		return vu_close(&c);
	rig_ok(vu_get_config(&c, &whole, bytes), c.why);
	rig_ok(vu_get_config(&c, &part, again), c.why);
	ck_assert_mem_eq(bytes + 6, again, 4);
	ck_assert_int_eq(bytes[8] | bytes[9] << 8, 2); /* max_virtqueue_pairs */
	rig_ok(vu_get_config(&c, &full, again), c.why);
	ck_assert_mem_eq(bytes, again, 12);
	ck_assert_mem_eq(again + 12, "\xff\xff\xff\xff\xff\x28\0\0\xff\1\0\0", 12);
	ck_assert_int_eq(vu_get_config(&c, &beyond, again), VU_E_REFUSED);
	ck_assert_int_eq(vu_get_config(&c, &behind, again), VU_E_REFUSED);
	ck_assert_int_eq(vu_get_config(&c, &far, again), VU_E_REFUSED);
	rig_ok(vu_get_config(&c, &whole, again), c.why);
	ck_assert_mem_eq(bytes, again, 12);
	vu_close(&c);
}
END_TEST

/* covers: M23 */
START_TEST(test_config_write_of_what_is_read_only_is_refused)
{
	struct vu_config_head mtu = { 10, 2, 0 };
	struct vu_config_head whole = { 0, 12, 0 };
	uint8_t before[12], after[12];

	rig_hello(&c, VU_BIT(VU_PF_CONFIG));
	if (!(c.acked_protocol & VU_BIT(VU_PF_CONFIG)))
		return vu_close(&c);
	c.ack = true;
	rig_ok(vu_get_config(&c, &whole, before), c.why);
	ck_assert_int_eq(vu_set_config(&c, &mtu, "\x01\x00"), VU_E_REFUSED);
	rig_ok(vu_get_config(&c, &whole, after), c.why);
	ck_assert_mem_eq(before, after, 12);
	vu_close(&c);
}
END_TEST

/* uses: protocol:MTU */
START_TEST(test_mtu_in_range_is_taken_and_others_are_refused)
{
	rig_hello(&c, VU_BIT(VU_PF_MTU));
	if (!(c.acked_protocol & VU_BIT(VU_PF_MTU)))
		return vu_close(&c);
	c.ack = true;
	rig_ok(vu_set_u64(&c, VU_NET_SET_MTU, 1400), c.why);
	ck_assert_int_eq(vu_set_u64(&c, VU_NET_SET_MTU, 0), VU_E_REFUSED);
	ck_assert_int_eq(vu_set_u64(&c, VU_NET_SET_MTU, 1u << 20), VU_E_REFUSED);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
}
END_TEST

/* covers: M27 */
START_TEST(test_session_after_session)
{
	struct net_profile p = { .features = VU_BIT(VU_NET_F_MRG_RXBUF) };
	static struct net n;

	for (int i = 0; i < 40; i++) {
		rig_open(&n, &p);
		rig_ok(net_pump(&n, 0, 4, 100), n.why);
		net_close(&n);
	}
	rig_ok(suite_no_leak(&rig), rig.why);
}
END_TEST

/* What does not fit stands in the log with the key that says so. */
START_TEST(test_more_queues_than_there_are_is_said)
{
	uint64_t n_queues;

	rig_hello(&c, VU_BIT(VU_PF_MQ));
	rig_ok(vu_get_u64(&c, VU_GET_QUEUE_NUM, &n_queues), c.why);
	vu_close(&c);
	rig_hello(&c, VU_BIT(VU_PF_MQ));
	c.ack = true;
	ck_assert_int_eq(vu_set_state(&c, VU_SET_VRING_NUM, (uint32_t)n_queues * 2, 256),
		VU_E_REFUSED);
	ck_assert(suite_logged(&rig, "than queue-pairs = "));
	ck_assert(suite_logged(&rig, "with queue-pairs = "));
	vu_close(&c);
}
END_TEST

/* No device of ours serves a guest of the other byte order under the old rules: the bit is not
 * offered. */
START_TEST(test_byte_order_of_a_ring_is_refused)
{
	rig_hello(&c, ~UINT64_C(0));
	ck_assert(!(c.protocol & VU_BIT(6)));
	c.ack = true;
	for (uint32_t big = 0; big < 2; big++)
		ck_assert_int_eq(vu_set_state(&c, VU_SET_VRING_ENDIAN, 0, big), VU_E_REFUSED);
	rig_ok(vu_get_features(&c), c.why);
	vu_close(&c);
	rig_check_net0();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "session");

	tcase_add_test(tc, test_more_queues_than_there_are_is_said);
	tcase_add_test(tc, test_byte_order_of_a_ring_is_refused);
	tcase_add_test(tc, test_offer_has_what_every_front_end_needs);
	tcase_add_test(tc, test_features_not_offered_are_refused);
	tcase_add_test(tc, test_protocol_features_not_offered_are_refused);
	tcase_add_test(tc, test_no_acknowledgement_before_reply_ack);
	tcase_add_test(tc, test_protocol_features_before_features_and_alone);
	tcase_add_test(tc, test_need_reply_on_a_get_changes_nothing);
	tcase_add_test(tc, test_owner_again_and_reset_owner_keep_the_session);
	tcase_add_test(tc, test_queue_number_serves_those_who_count_pairs_and_queues);
	tcase_add_test(tc, test_status_is_what_was_set);
	tcase_add_test(tc, test_backend_channel_taken_twice);
	tcase_add_test(tc, test_backend_channel_without_descriptor_is_refused);
	tcase_add_test(tc, test_config_reads_inside_and_refuses_outside);
	tcase_add_test(tc, test_config_write_of_what_is_read_only_is_refused);
	tcase_add_test(tc, test_mtu_in_range_is_taken_and_others_are_refused);
	tcase_add_test(tc, test_session_after_session);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("session", &net0, add);
}

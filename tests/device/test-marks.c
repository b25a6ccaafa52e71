/*
 * The marks by which driver and device tell each other what is whose: indices, ids, flags, event
 * fields. Pair 0 has a driver that gets them wrong, pair 1 an honest one.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "raw.h"
#include "rig.h"

#define FRAME_BYTES 200
#define CHAIN_BYTES (NET_HDR_BYTES + FRAME_BYTES)
#define QUIET_MS 60 /* how long nothing must happen */
#define BOTH (RING_DESC_AVAIL | RING_DESC_USED)

static struct net n;
static uint64_t good_gpa;

static void make_frame(uint64_t gpa, uint32_t seq)
{
	memset(guest_at(&n.g, gpa, NET_HDR_BYTES), 0, NET_HDR_BYTES);
	net_frame_make((uint8_t *)guest_at(&n.g, gpa, CHAIN_BYTES) + NET_HDR_BYTES, FRAME_BYTES,
		seq);
}

static void open_two_pairs(bool packed, uint64_t features)
{
	struct net_profile p = { .features = features, .n_pairs = 2, .ring_size = 64 };

	p.features |= packed ? VU_BIT(VU_F_PACKED) : 0;
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 70, FRAME_BYTES), n.why);
	good_gpa = guest_alloc(&n.g, 2048, 16);
	make_frame(good_gpa, 1);
}

static void expect_frame(uint32_t seq)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
	ck_assert_msg(net_frame_is_echo(frame, n_bytes, seq), "frame %u is another", seq);
}

/* Both rings of pair 0 start anew, with a driver that behaves; pair 1 never noticed. */
static void go_on_anew(void)
{
	uint32_t base;

	rig_ok(net_pump(&n, 1, 50, FRAME_BYTES), n.why);
	for (uint16_t i = 0; i < 2; i++) {
		rig_ok(vu_get_vring_base(&n.c, i, &base), n.c.why);
		rig_ok(net_renew_ring(&n, i), n.why);
		rig_ok(net_start_ring(&n, i), n.why);
	}
	rig_ok(net_fill(&n, 0), n.why);
	rig_ok(net_pump(&n, 0, 100, FRAME_BYTES), n.why);
	net_close(&n);
}

static void put_twice(struct ring *r, bool write)
{
	struct raw_desc good = { good_gpa, write ? 2048 : CHAIN_BYTES, write ? RING_DESC_WRITE : 0,
		7 };
	uint16_t second;

	if (!r->cfg.packed) {
		raw_put_head(r, 0, true);
		good.link = 0;
		raw_put(r, &good, 1);
		return;
	}
	/* the second one first, so that both are there when the device looks */
	second = (uint16_t)((r->next_avail + 1) % r->cfg.size);
	r->desc[second] = (struct ring_desc){ good_gpa, good.len, 7, good.flags };
	r->desc[second].b |= (r->avail_wrap == (second > 0)) ? RING_DESC_AVAIL : RING_DESC_USED;
	raw_put(r, &good, 1);
}

/* --- In use already --- */

/* covers: G2 G8 */
START_TEST(test_chain_that_is_in_use_already_stops_its_ring)
{
	open_two_pairs(_i, 0);
	put_twice(&n.rings[1], false);
	ring_kick_always(&n.rings[1]);
	rig_ok(ring_wait_err(&n.rings[1], 5000), "no word of what has happened to the ring");
	go_on_anew();
}
END_TEST

/* A buffer may be given again as soon as the device has written into it, so the ring need not
 * stop. */
/* covers: G2 G8 */
START_TEST(test_receive_buffer_given_twice_costs_its_ring_at_most)
{
	uint8_t frame[FRAME_BYTES];
	uint32_t base;

	open_two_pairs(_i, 0);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	rig_ok(net_renew_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 0), n.why);
	put_twice(&n.rings[0], true);
	ring_kick_always(&n.rings[0]);
	for (uint32_t i = 0; i < 2; i++) {
		net_frame_make(frame, FRAME_BYTES, i);
		rig_ok(net_send(&n, 0, frame, FRAME_BYTES), n.why);
	}
	ck_assert_int_ne(raw_wait(&n.rings[0], 5000), RAW_NOTHING);
	go_on_anew();
}
END_TEST

/* --- Flags of a packed ring --- */

/* What is marked as used, or of the other turn, is not there: nothing happens, and nobody waits in
 * a circle for it. */
/* covers: G8 */
START_TEST(test_packed_chain_with_marks_of_another_turn_is_not_there)
{
	static const uint16_t turns[] = { RING_DESC_AVAIL, RING_DESC_USED, BOTH };
	struct raw_desc good = { good_gpa, CHAIN_BYTES, 0, 7 };
	struct ring *r = &n.rings[1];
	uint16_t at;

	open_two_pairs(true, 0);
	good.gpa = good_gpa;
	at = r->next_avail;
	raw_put_marked(r, &good, 1, turns[_i]);
	ring_kick_always(r);
	poll(NULL, 0, QUIET_MS);
	ck_assert(!ring_has_used(&n.rings[0]));
	ck_assert_int_eq(ring_wait_err(r, 0), -ETIMEDOUT);
	rig_ok(net_pump(&n, 1, 50, FRAME_BYTES), n.why);
	/* and with the right marks it is */
	__atomic_store_n(&r->desc[at].b, r->desc[at].b ^ turns[_i], __ATOMIC_RELEASE);
	ring_kick_always(r);
	expect_frame(1);
	ck_assert_int_eq(raw_wait(r, 5000), RAW_BACK);
	raw_settle(r);
	go_on_anew();
}
END_TEST

/* The first descriptor says that another one follows, and that one's marks are of another turn. */
/* covers: G8 */
START_TEST(test_packed_chain_that_is_there_in_part_costs_its_ring_at_most)
{
	struct raw_desc descs[2] = { { 0, NET_HDR_BYTES, RING_DESC_NEXT, 7 },
		{ 0, FRAME_BYTES, 0, 7 } };
	struct ring *r = &n.rings[1];
	uint16_t second;

	open_two_pairs(true, 0);
	descs[0].gpa = good_gpa;
	descs[1].gpa = good_gpa + NET_HDR_BYTES;
	second = (uint16_t)((r->next_avail + 1) % r->cfg.size);
	r->desc[second] =
		(struct ring_desc){ descs[1].gpa, descs[1].len, 7, (uint16_t)(_i ? BOTH : 0) };
	raw_put(r, descs, 1);
	ring_kick_always(r);
	ck_assert_int_ne(raw_wait(r, 5000), RAW_NOTHING);
	go_on_anew();
}
END_TEST

/* The id counts in the last descriptor of a chain. */
/* covers: G8 */
START_TEST(test_packed_id_outside_the_ring_at_the_end_of_a_chain)
{
	static const uint16_t ids[] = { 64, 0x8000, 0xffff };
	struct raw_desc descs[2] = { { 0, NET_HDR_BYTES, RING_DESC_NEXT, 7 },
		{ 0, FRAME_BYTES, 0, ids[_i] } };

	open_two_pairs(true, 0);
	descs[0].gpa = good_gpa;
	descs[1].gpa = good_gpa + NET_HDR_BYTES;
	raw_put(&n.rings[1], descs, 2);
	ring_kick_always(&n.rings[1]);
	rig_ok(ring_wait_err(&n.rings[1], 5000), "no word of what has happened to the ring");
	go_on_anew();
}
END_TEST

/* --- A table over two regions --- */

/* Its second entry begins in one region and ends in the next one, which lies elsewhere in our
 * memory. */
/* covers: G3 */
START_TEST(test_indirect_table_over_two_regions)
{
	struct vu_region second = { UINT64_C(1) << 30, 1 << 20, UINT64_C(0x7e0000000000), 0x2000 };
	uint64_t at = second.gpa - 24;
	struct raw_desc table = { at, 4 * sizeof(struct ring_desc), RING_DESC_INDIRECT, 7 };
	struct ring_desc entries[4];

	open_two_pairs(_i, VU_BIT(VU_F_INDIRECT));
	ck_assert_int_eq(guest_add_region(&n.g, &second), 0);
	rig_ok(net_set_memory(&n), n.why);
	for (uint16_t i = 0; i < 4; i++) {
		uint32_t from = i ? NET_HDR_BYTES + 60u * (i - 1) : 0;
		uint16_t next = i < 3 ? RING_DESC_NEXT : 0;

		entries[i] = (struct ring_desc){ good_gpa + from,
			i == 0          ? NET_HDR_BYTES
				: i < 3 ? 60
					: 80,
			_i ? 0 : next, _i ? 0 : (uint16_t)(i + 1) };
	}
	memcpy(guest_at(&n.g, at, 24), entries, 24);
	memcpy(guest_at(&n.g, second.gpa, 40), (uint8_t *)entries + 24, 40);
	raw_put(&n.rings[1], &table, 1);
	ring_kick_always(&n.rings[1]);
	ck_assert_int_eq(raw_wait(&n.rings[1], 5000), RAW_BACK);
	raw_settle(&n.rings[1]);
	expect_frame(1);
	go_on_anew();
}
END_TEST

/* --- Event fields --- */

/* The driver's wish for calls, in both rings, is whatever it is; nobody waits for a call. */
static void scribble_events(uint32_t *dice)
{
	for (uint16_t i = 0; i < 2; i++) {
		struct ring *r = &n.rings[i];

		*dice = *dice * 1664525 + 1013904223;
		r->want_calls = false;
		if (r->cfg.packed)
			memcpy(r->avail, dice, 4);
		else
			r->avail[2 + r->cfg.size] = (uint16_t)(*dice >> 8);
	}
}

/* covers: G9 */
START_TEST(test_event_fields_of_any_value_keep_frames_moving)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t dice = 3, n_bytes;

	open_two_pairs(_i, VU_BIT(VU_F_EVENT_IDX));
	for (uint32_t seq = 0; seq < 3000; seq++) {
		scribble_events(&dice);
		net_frame_make(frame, FRAME_BYTES, seq);
		rig_ok(net_send(&n, 0, frame, FRAME_BYTES), n.why);
		rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
		ck_assert(net_frame_is_echo(frame, n_bytes, seq));
	}
	go_on_anew();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "marks");

	tcase_add_loop_test(tc, test_chain_that_is_in_use_already_stops_its_ring, 0, 2);
	tcase_add_loop_test(tc, test_receive_buffer_given_twice_costs_its_ring_at_most, 0, 2);
	tcase_add_loop_test(tc, test_packed_chain_with_marks_of_another_turn_is_not_there, 0, 3);
	tcase_add_loop_test(tc, test_packed_chain_that_is_there_in_part_costs_its_ring_at_most, 0,
		2);
	tcase_add_loop_test(tc, test_packed_id_outside_the_ring_at_the_end_of_a_chain, 0, 3);
	tcase_add_loop_test(tc, test_indirect_table_over_two_regions, 0, 2);
	tcase_add_loop_test(tc, test_event_fields_of_any_value_keep_frames_moving, 0, 2);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("marks", &net0, add);
}

/*
 * A hostile driver on pair 0, an honest one on pair 1, and the witness on another device.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hostile.h"
#include "rig.h"

static struct net n;
static uint64_t table_gpa, good_gpa;

static void open_two_pairs(bool packed, uint64_t features)
{
	struct net_profile p = {
		.features = features | VU_BIT(VU_F_INDIRECT), .n_pairs = 2, .ring_size = 64
	};

	p.features |= packed ? VU_BIT(VU_F_PACKED) : 0;
	rig_open(&n, &p);
	rig_ok(net_pump(&n, 0, 70, 200), n.why);
	table_gpa = guest_alloc(&n.g, 4096, 16);
	good_gpa = guest_alloc(&n.g, 2048, 16);
	net_frame_make((uint8_t *)guest_at(&n.g, good_gpa, 2048) + NET_HDR_BYTES, 1000, 1);
}

static uint64_t address(const struct ring *r, enum hostile_addr at)
{
	const struct vu_region *region = &n.g.regions[0].at;

	switch (at) {
	case AT_NOTHING:
		return UINT64_C(1) << 45;
	case AT_TOP:
		return UINT64_MAX - 15;
	case AT_END:
		return region->gpa + region->size - 8;
	case AT_TABLE:
		return table_gpa;
	case AT_TABLE_ODD:
		return table_gpa + 1;
	case AT_TABLE_END:
		return region->gpa + region->size - 16;
	case AT_DESC:
		return r->cfg.desc;
	default:
		return good_gpa;
	}
}

static void fill_table(const struct ring *r, const struct hostile_row *row)
{
	struct ring_desc *table = guest_at(&n.g, table_gpa, 4096);

	for (size_t i = 0; i < row->n_table; i++) {
		const struct hostile_desc *d = &row->table[i];

		table[i].addr = address(r, d->at);
		table[i].len = d->len;
		table[i].a = r->cfg.packed ? 0 : d->flags;
		table[i].b = r->cfg.packed ? d->flags : d->next;
	}
}

static void post_split(struct ring *r, const struct hostile_row *row)
{
	for (size_t i = 0; i < row->n; i++) {
		const struct hostile_desc *d = &row->d[i];

		r->desc[i] = (struct ring_desc){ address(r, d->at), d->len, d->flags, d->next };
		r->shadow[i] = r->desc[i];
	}
	r->avail[2 + r->next_avail % r->cfg.size] = 0;
	r->next_avail++;
	__atomic_store_n(&r->avail[1], r->next_avail, __ATOMIC_RELEASE);
}

static void step(const struct ring *r, uint16_t *slot, bool *wrap)
{
	if (++*slot == r->cfg.size) {
		*slot = 0;
		*wrap = !*wrap;
	}
}

static void post_packed(struct ring *r, const struct hostile_row *row)
{
	uint16_t first = r->next_avail;
	uint16_t first_flags = 0;

	for (size_t i = 0; i < row->n; i++) {
		const struct hostile_desc *d = &row->d[i];
		uint16_t flags = d->flags | (r->avail_wrap ? RING_DESC_AVAIL : RING_DESC_USED);

		r->desc[r->next_avail].addr = address(r, d->at);
		r->desc[r->next_avail].len = d->len;
		r->desc[r->next_avail].a = 5;
		if (i)
			r->desc[r->next_avail].b = flags;
		else
			first_flags = flags;
		step(r, &r->next_avail, &r->avail_wrap);
	}
	__atomic_store_n(&r->desc[first].b, first_flags, __ATOMIC_RELEASE);
}

static bool came_back(const struct ring *r, uint32_t *ret_len)
{
	if (!r->cfg.packed) {
		const uint32_t *elem = (const void *)&r->used[2 + 4 * (r->next_used % r->cfg.size)];

		*ret_len = elem[1];
		return __atomic_load_n(&r->used[1], __ATOMIC_ACQUIRE) != r->next_used;
	}
	uint16_t flags = __atomic_load_n(&r->desc[r->next_used].b, __ATOMIC_ACQUIRE);

	*ret_len = flags & RING_DESC_WRITE ? r->desc[r->next_used].len : 0;
	return !(flags & RING_DESC_AVAIL) == !(flags & RING_DESC_USED) &&
		!!(flags & RING_DESC_USED) == r->used_wrap;
}

/* what followed: SERVED (came back, with a length), FAILS_ALONE (without), STOPS; EITHER:
 * nothing */
static enum hostile_follow watch(struct ring *r)
{
	uint32_t len;

	for (int i = 0; i < 2500; i++) {
		if (came_back(r, &len))
			return len ? SERVED : FAILS_ALONE;
		if (!ring_wait_err(r, 2))
			return came_back(r, &len) ? FAILS_ALONE : STOPS;
	}
	return EITHER;
}

static const char *const names[] = { "fails alone", "stops the ring", "nothing", "is served" };

static void judge(const struct hostile_row *row, enum hostile_follow got)
{
	bool fits = got == row->follow || (row->follow == EITHER && got != EITHER) ||
		(row->follow == SERVED && got == FAILS_ALONE) ||
		(row->follow == EITHER && got == SERVED);

	ck_assert_msg(got != EITHER, "%s: neither came back nor stopped the ring", row->what);
	ck_assert_msg(fits, "%s: %s, it should be that it %s", row->what, names[got],
		names[row->follow]);
}

/* the ring starts anew with a driver that behaves; the other pair never noticed */
static void go_on_anew(uint16_t index)
{
	uint32_t base;

	rig_ok(net_pump(&n, 1, 50, 200), n.why);
	rig_ok(vu_get_vring_base(&n.c, index, &base), n.c.why);
	rig_ok(net_renew_ring(&n, index), n.why);
	rig_ok(net_start_ring(&n, index), n.why);
	if (!(index & 1))
		rig_ok(net_fill(&n, index / 2), n.why);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	net_close(&n);
}

/* after a chain of ours came back the driver's own books have to move on, too */
static void go_on(struct ring *r)
{
	r->next_used = r->next_avail;
	r->used_wrap = r->avail_wrap;
	rig_ok(net_pump(&n, 1, 50, 200), n.why);
	rig_ok(net_pump(&n, 0, 100, 200), n.why);
	rig_ok(net_stop_ring(&n, 1), n.why);
	net_close(&n);
}

/* covers: G2 G3 G4 G5 G6 G13 */
START_TEST(test_transmit_chain)
{
	const struct hostile_row *row = &hostile_tx[_i / 2];
	bool packed = _i & 1;
	struct ring *r = &n.rings[1];
	enum hostile_follow got;

	if (packed && row->split_only)
		return;
	open_two_pairs(packed, 0);
	fill_table(r, row);
	if (packed)
		post_packed(r, row);
	else
		post_split(r, row);
	ring_kick_always(r);
	got = watch(r);
	judge(row, got);
	/* a frame that went out after all has come in: begin anew on that side as well */
	if (got == STOPS || row->follow == EITHER || row->follow == SERVED) {
		uint32_t base;

		rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
		rig_ok(net_renew_ring(&n, 0), n.why);
		rig_ok(net_start_ring(&n, 0), n.why);
		rig_ok(net_fill(&n, 0), n.why);
		go_on_anew(1);
	} else {
		go_on(r);
	}
}
END_TEST

/* covers: G3 G4 G5 G6 G11 */
START_TEST(test_receive_chain)
{
	const struct hostile_row *row = &hostile_rx[_i / 2];
	bool packed = _i & 1;
	struct ring *r = &n.rings[0];
	uint8_t frame[200];
	uint32_t base;

	open_two_pairs(packed, _i % 3 ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0);
	/* an empty receive ring, then the bad chain alone in it */
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	rig_ok(net_renew_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 0), n.why);
	fill_table(r, row);
	if (packed)
		post_packed(r, row);
	else
		post_split(r, row);
	ring_kick_always(r);
	net_frame_make(frame, sizeof(frame), 3);
	rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	/* a mergeable frame may begin in a short buffer and wait for another one: that is no
	 * fault */
	if (strcmp(row->what, "less than the frame") != 0 &&
		strcmp(row->what, "less than a header") != 0)
		judge(row, watch(r));
	rig_ok(net_pump(&n, 1, 50, 200), n.why);
	rig_ok(vu_get_vring_base(&n.c, 1, &base), n.c.why);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	rig_ok(net_renew_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 0), n.why);
	rig_ok(net_fill(&n, 0), n.why);
	go_on_anew(1);
}
END_TEST

/* --- the ring's own structure --- */

static void jump(struct ring *r, uint16_t by)
{
	__atomic_store_n(&r->avail[1], (uint16_t)(r->next_avail + by), __ATOMIC_RELEASE);
}

static void structure_split(struct ring *r, int which)
{
	uint16_t slot = 2 + r->next_avail % r->cfg.size;

	switch (which) {
	case 0:
		return jump(r, r->cfg.size + 1);
	case 1:
		return jump(r, 0x8000);
	case 2:
		return jump(r, (uint16_t)-1);
	case 3:
		r->avail[slot] = r->cfg.size;
		return jump(r, 1);
	default:
		r->avail[slot] = 0xffff;
		return jump(r, 1);
	}
}

/* covers: G1 G2 */
START_TEST(test_broken_split_ring_stops_and_says_so)
{
	open_two_pairs(false, 0);
	structure_split(&n.rings[1], _i);
	ring_kick_always(&n.rings[1]);
	ck_assert_int_eq(watch(&n.rings[1]), STOPS);
	go_on_anew(1);
}
END_TEST

/* covers: G8 */
START_TEST(test_broken_packed_ring_stops_and_says_so)
{
	struct ring *r = &n.rings[1];
	uint16_t n_desc;

	open_two_pairs(true, 0);
	n_desc = _i == 0 ? 1 : r->cfg.size;
	/* an id outside the ring; or one chain that never ends, all round the ring */
	for (uint16_t i = 0; i < n_desc; i++) {
		uint16_t flags = r->avail_wrap ? RING_DESC_AVAIL : RING_DESC_USED;

		r->desc[r->next_avail].addr = good_gpa;
		r->desc[r->next_avail].len = 20;
		r->desc[r->next_avail].a = _i == 0 ? r->cfg.size : 1;
		flags |= _i == 0 ? 0 : RING_DESC_NEXT;
		__atomic_store_n(&r->desc[r->next_avail].b, flags, __ATOMIC_RELEASE);
		step(r, &r->next_avail, &r->avail_wrap);
	}
	ring_kick_always(r);
	ck_assert_int_eq(watch(r), STOPS);
	go_on_anew(1);
}
END_TEST

/* covers: G9 */
START_TEST(test_kick_storm_starves_nobody)
{
	open_two_pairs(_i, 0);
	for (int i = 0; i < 50000; i++)
		ring_kick_always(&n.rings[1]);
	rig_ok(net_pump(&n, 1, 300, 200), n.why);
	rig_check_witness();
	rig_ok(net_pump(&n, 0, 300, 200), n.why);
	net_close(&n);
}
END_TEST

/* covers: G1 G8 */
START_TEST(test_ring_memory_cleared_under_traffic)
{
	uint8_t frame[200];
	uint32_t base;

	open_two_pairs(_i, 0);
	for (uint32_t i = 0; i < 20; i++) {
		net_frame_make(frame, sizeof(frame), i);
		rig_ok(net_send(&n, 0, frame, sizeof(frame)), n.why);
	}
	memset(n.rings[1].desc, 0xff, 16u * n.rings[1].cfg.size);
	memset(n.rings[0].desc, 0, 16u * n.rings[0].cfg.size);
	memset(n.rings[0].avail, 0xff, 4);
	ring_kick_always(&n.rings[1]);
	ring_kick_always(&n.rings[0]);
	rig_ok(net_pump(&n, 1, 300, 200), n.why);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	rig_ok(net_renew_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 0), n.why);
	rig_ok(vu_get_vring_base(&n.c, 1, &base), n.c.why);
	rig_ok(net_fill(&n, 0), n.why);
	go_on_anew(1);
}
END_TEST

/* --- everything changes while the device looks at it --- */

static atomic_bool scribbling;

static void *scribble(void *data)
{
	struct ring *r = data;
	uint32_t dice = 7;

	while (atomic_load(&scribbling)) {
		struct ring_desc *d;

		dice = dice * 1664525 + 1013904223;
		d = &r->desc[(dice >> 8) % r->cfg.size];
		d->addr = dice & 1 ? good_gpa : dice & 2 ? UINT64_MAX - 100 : table_gpa;
		d->len = dice & 4 ? 0xffffff00 : dice >> 24;
		d->a = (uint16_t)(dice >> 13);
		d->b = (uint16_t)(dice >> 9);
		if (!(dice & 0xff00))
			memcpy(guest_at(&n.g, table_gpa, 16), d, 16);
	}
	return NULL;
}

/* covers: G7 */
START_TEST(test_descriptors_change_while_they_are_read)
{
	struct ring *r = &n.rings[_i >> 1];
	pthread_t thread;

	open_two_pairs(_i & 1, _i & 1 ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0);
	atomic_store(&scribbling, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, scribble, r), 0);
	for (int round = 0; round < 30; round++) {
		uint32_t base;

		for (int i = 0; i < 200; i++) {
			if (!r->cfg.packed)
				jump(r, (uint16_t)(i % r->cfg.size));
			ring_kick_always(r);
		}
		rig_ok(vu_get_vring_base(&n.c, r->cfg.index, &base), n.c.why);
		rig_ok(vu_get_features(&n.c), n.c.why);
		rig_ok(net_start_ring(&n, r->cfg.index), n.why);
	}
	atomic_store(&scribbling, false);
	pthread_join(thread, NULL);
	rig_ok(net_pump(&n, 1, 50, 200), n.why);
	net_close(&n);
	rig_check_net0();
}
END_TEST

/* --- two regions that meet in guest addresses --- */

/* covers: G4 */
START_TEST(test_frame_across_two_regions)
{
	struct vu_region second = { UINT64_C(1) << 30, 1 << 20, UINT64_C(0x7e0000000000), 0x2000 };
	uint64_t at = second.gpa - 50;
	uint8_t image[NET_HDR_BYTES + 200] = { 0 };
	struct hostile_row row = { "across", { { AT_GOOD, sizeof(image), 0, 0 } }, 1, { { 0 } }, 0,
		SERVED, false };
	struct ring *r = &n.rings[1];

	open_two_pairs(_i, 0);
	ck_assert_int_eq(guest_add_region(&n.g, &second), 0);
	rig_ok(net_set_memory(&n), n.why);
	net_frame_make(image + NET_HDR_BYTES, 200, 77);
	memcpy(guest_at(&n.g, at, 50), image, 50);
	memcpy(guest_at(&n.g, second.gpa, 162), image + 50, 162);
	good_gpa = at;
	if (_i)
		post_packed(r, &row);
	else
		post_split(r, &row);
	ring_kick_always(r);
	judge(&row, watch(r));
	{
		static uint8_t back[NET_FRAME_MAX];
		uint32_t n_bytes;

		rig_ok(net_recv(&n, 0, back, &n_bytes, 5000), n.why);
		ck_assert(net_frame_is_echo(back, n_bytes, 77));
	}
	go_on(r);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "hostile");

	tcase_add_loop_test(tc, test_transmit_chain, 0, 2 * (int)n_hostile_tx);
	tcase_add_loop_test(tc, test_receive_chain, 0, 2 * (int)n_hostile_rx);
	tcase_add_loop_test(tc, test_broken_split_ring_stops_and_says_so, 0, 5);
	tcase_add_loop_test(tc, test_broken_packed_ring_stops_and_says_so, 0, 2);
	tcase_add_loop_test(tc, test_kick_storm_starves_nobody, 0, 2);
	tcase_add_loop_test(tc, test_ring_memory_cleared_under_traffic, 0, 2);
	tcase_add_loop_test(tc, test_descriptors_change_while_they_are_read, 0, 4);
	tcase_add_loop_test(tc, test_frame_across_two_regions, 0, 2);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("hostile", &net0, add);
}

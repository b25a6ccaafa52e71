/*
 * Frames and their headers as no honest driver sends them: cut anywhere, asking for nonsense,
 * changing while they are judged, too long, and without end. Pair 1 belongs to an honest driver.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "raw.h"
#include "rig.h"

#define FRAME_BYTES 200
#define BIG_BYTES (1 << 20)
#define LONGEST 65589 /* Ethernet and IPv6 header, and the longest payload of IPv6 */

enum {
	NET_F_GUEST_TSO4 = 7,
	NET_F_GUEST_TSO6 = 8,
	NET_F_GUEST_ECN = 9,
	NET_F_GUEST_UFO = 10,
	NET_F_HOST_TSO6 = 12,
	NET_F_HOST_ECN = 13,
	NET_F_HOST_UFO = 14,
	NET_F_GUEST_USO4 = 54,
	NET_F_GUEST_USO6 = 55,
	NET_F_HOST_USO = 56,
	HDR_NEEDS_CSUM = 1,
	GSO_TCPV4 = 1,
	GSO_UDP = 3,
	GSO_TCPV6 = 4,
	GSO_UDP_L4 = 5,
	GSO_ECN = 0x80,
};

struct header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

static struct net n;
static uint64_t big_gpa;

/* _i & 1: packed */
static void open_two_pairs(int i, uint64_t features)
{
	struct net_profile p = { .features = features, .n_pairs = 2 };

	p.features |= i & 1 ? VU_BIT(VU_F_PACKED) : 0;
	rig_open(&n, &p);
	big_gpa = guest_alloc(&n.g, BIG_BYTES, 16);
	ck_assert(big_gpa);
}

static uint8_t *big(void)
{
	return guest_at(&n.g, big_gpa, BIG_BYTES);
}

/* A frame of pair 0 that the library does not watch. */
static void put_frame(uint32_t n_bytes)
{
	struct raw_desc desc = { big_gpa, NET_HDR_BYTES + n_bytes, 0, 3 };

	raw_put(&n.rings[1], &desc, 1);
	ring_kick_always(&n.rings[1]);
	ck_assert_int_eq(raw_wait(&n.rings[1], 5000), RAW_BACK);
	raw_settle(&n.rings[1]);
}

static void close_well(void)
{
	rig_ok(net_pump(&n, 1, 100, FRAME_BYTES), n.why);
	rig_ok(net_pump(&n, 0, 100, FRAME_BYTES), n.why);
	for (uint16_t i = 0; i < n.n_rings; i++)
		rig_ok(net_stop_ring(&n, i), n.why);
	rig_ok(net_check(&n), n.why);
	net_close(&n);
}

/* --- Cut --- */

/* Header and frame at gpa: the header in n_cuts pieces, all but the last of one byte. */
static void cut_header(struct ring_seg *segs, uint64_t gpa, uint32_t n_cuts, bool write)
{
	uint32_t rest = NET_HDR_BYTES - (n_cuts - 1);

	for (uint32_t i = 0; i < n_cuts; i++)
		segs[i] = (struct ring_seg){ gpa + i, i + 1 < n_cuts ? 1 : rest, write };
	segs[n_cuts] = (struct ring_seg){ gpa + NET_HDR_BYTES, FRAME_BYTES, write };
}

static void send_cut(uint64_t to_gpa, uint32_t rx_cuts, uint32_t tx_cuts)
{
	struct ring_seg segs[NET_HDR_BYTES + 1];
	uint8_t *to = guest_at(&n.g, to_gpa, NET_HDR_BYTES + FRAME_BYTES);
	uint64_t gpa = n.free_tx[0][--n.n_free_tx[0]];
	uint8_t *from = guest_at(&n.g, gpa, NET_HDR_BYTES + FRAME_BYTES);
	struct ring_used used;

	cut_header(segs, to_gpa, rx_cuts, true);
	rig_ok(ring_post(&n.rings[0], segs, rx_cuts + 1, NULL), n.rings[0].fault);
	ring_kick(&n.rings[0]);
	memset(from, 0, NET_HDR_BYTES);
	net_frame_make(from + NET_HDR_BYTES, FRAME_BYTES, rx_cuts * 16 + tx_cuts);
	cut_header(segs, gpa, tx_cuts, false);
	rig_ok(ring_post(&n.rings[1], segs, tx_cuts + 1, (void *)(uintptr_t)gpa), n.rings[1].fault);
	ring_kick(&n.rings[1]);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	rig_ok(ring_wait(&n.rings[0], 5000), n.rings[0].fault);
	ck_assert_msg(ring_reap(&n.rings[0], &used) == 1, "%s", n.rings[0].fault);
	ck_assert_uint_eq(used.len, NET_HDR_BYTES + FRAME_BYTES);
	ck_assert_mem_eq(to, "\0\0\0\0\0\0\0\0\0\0\1\0", NET_HDR_BYTES);
	ck_assert(net_frame_is_echo(to + NET_HDR_BYTES, FRAME_BYTES, rx_cuts * 16 + tx_cuts));
}

/* covers: G6 */
/* uses: net:ANY_LAYOUT net:MRG_RXBUF */
START_TEST(test_header_in_as_many_pieces_as_it_has_bytes)
{
	uint32_t base;

	open_two_pairs(_i, _i & 2 ? VU_BIT(VU_NET_F_MRG_RXBUF) : 0);
	rig_ok(vu_get_vring_base(&n.c, 0, &base), n.c.why);
	rig_ok(net_renew_ring(&n, 0), n.why);
	rig_ok(net_start_ring(&n, 0), n.why);
	for (uint32_t rx_cuts = 1; rx_cuts <= NET_HDR_BYTES; rx_cuts++)
		for (uint32_t tx_cuts = 1; tx_cuts <= NET_HDR_BYTES; tx_cuts++)
			send_cut(big_gpa, rx_cuts, tx_cuts);
	rig_ok(net_fill(&n, 0), n.why);
	close_well();
}
END_TEST

/* --- Segments --- */

static const struct {
	const char *what;
	uint64_t features; /* beside the checksums */
	struct header header;
} agreed[] = {
	{ "a checksum", 0, { HDR_NEEDS_CSUM, 0, 0, 0, 34, 16, 0 } },
	{ "TCP over IPv4", VU_BIT(VU_NET_F_HOST_TSO4) | VU_BIT(NET_F_GUEST_TSO4),
		{ HDR_NEEDS_CSUM, GSO_TCPV4, 54, 100, 34, 16, 0 } },
	{ "TCP over IPv6", VU_BIT(NET_F_HOST_TSO6) | VU_BIT(NET_F_GUEST_TSO6),
		{ HDR_NEEDS_CSUM, GSO_TCPV6, 74, 100, 54, 16, 0 } },
	{ "congestion over IPv4",
		VU_BIT(VU_NET_F_HOST_TSO4) | VU_BIT(NET_F_GUEST_TSO4) | VU_BIT(NET_F_HOST_ECN) |
			VU_BIT(NET_F_GUEST_ECN),
		{ HDR_NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 54, 100, 34, 16, 0 } },
	{ "UDP fragments", VU_BIT(NET_F_HOST_UFO) | VU_BIT(NET_F_GUEST_UFO),
		{ HDR_NEEDS_CSUM, GSO_UDP, 42, 100, 34, 6, 0 } },
	{ "UDP segments over IPv4",
		VU_BIT(NET_F_HOST_USO) | VU_BIT(NET_F_GUEST_USO4) | VU_BIT(NET_F_GUEST_USO6),
		{ HDR_NEEDS_CSUM, GSO_UDP_L4, 42, 100, 34, 6, 0 } },
	{ "UDP segments over IPv6",
		VU_BIT(NET_F_HOST_USO) | VU_BIT(NET_F_GUEST_USO4) | VU_BIT(NET_F_GUEST_USO6),
		{ HDR_NEEDS_CSUM, GSO_UDP_L4, 62, 100, 54, 6, 0 } },
};

#define N_AGREED ((int)(sizeof(agreed) / sizeof(agreed[0])))

/* The header of the next frame that comes to pair 0; its buffer is posted again. */
static struct header take_header(void)
{
	struct ring_seg seg = { 0, n.p.buf_bytes, true };
	struct header header;
	struct ring_used used;

	rig_ok(ring_wait(&n.rings[0], 5000), n.rings[0].fault);
	ck_assert_msg(ring_reap(&n.rings[0], &used) == 1, "%s", n.rings[0].fault);
	ck_assert_uint_eq(used.len, NET_HDR_BYTES + FRAME_BYTES);
	seg.gpa = (uint64_t)(uintptr_t)used.cookie;
	memcpy(&header, guest_at(&n.g, seg.gpa, sizeof(header)), sizeof(header));
	rig_ok(ring_post(&n.rings[0], &seg, 1, used.cookie), n.rings[0].fault);
	ring_kick(&n.rings[0]);
	return header;
}

/* What the driver asks for as the sender comes to it as the receiver: nothing was cut on the
 * way. */
/* uses: net:CSUM net:GUEST_CSUM net:HOST_TSO4 net:GUEST_TSO4 net:HOST_TSO6 net:GUEST_TSO6 */
/* uses: net:HOST_ECN net:GUEST_ECN net:HOST_UFO net:GUEST_UFO */
/* uses: net:HOST_USO net:GUEST_USO4 net:GUEST_USO6 */
START_TEST(test_segments_come_as_they_were_sent)
{
	const struct header *sent = &agreed[_i / 2].header;
	const char *what = agreed[_i / 2].what;
	struct header came;

	open_two_pairs(_i,
		VU_BIT(VU_NET_F_CSUM) | VU_BIT(VU_NET_F_GUEST_CSUM) | agreed[_i / 2].features);
	memcpy(big(), sent, sizeof(*sent));
	net_frame_make(big() + NET_HDR_BYTES, FRAME_BYTES, 1);
	put_frame(FRAME_BYTES);
	came = take_header();
	ck_assert_msg(came.flags == sent->flags && came.gso_type == sent->gso_type,
		"%s: flags %u, type %u", what, came.flags, came.gso_type);
	ck_assert_msg(came.gso_size == sent->gso_size && came.csum_start == sent->csum_start &&
			came.csum_offset == sent->csum_offset,
		"%s: size %u, checksum from %u at %u", what, came.gso_size, came.csum_start,
		came.csum_offset);
	close_well();
}
END_TEST

/* --- Nonsense --- */

#define NONE 0
#define CSUM VU_BIT(VU_NET_F_CSUM)
#define TSO4                                                                                       \
	(CSUM | VU_BIT(VU_NET_F_HOST_TSO4) | VU_BIT(VU_NET_F_GUEST_CSUM) | VU_BIT(NET_F_GUEST_TSO4))

static const struct {
	const char *what;
	uint64_t features;
	struct header header;
} nonsense[] = {
	{ "checksum that was not agreed on", NONE, { HDR_NEEDS_CSUM, 0, 0, 0, 34, 16, 0 } },
	{ "checksum behind the frame", CSUM, { HDR_NEEDS_CSUM, 0, 0, 0, 34, FRAME_BYTES - 34, 0 } },
	{ "half of the checksum behind the frame", CSUM,
		{ HDR_NEEDS_CSUM, 0, 0, 0, 34, FRAME_BYTES - 35, 0 } },
	{ "checksum of nothing", CSUM, { HDR_NEEDS_CSUM, 0, 0, 0, FRAME_BYTES + 1, 0, 0 } },
	{ "checksum far away", CSUM, { HDR_NEEDS_CSUM, 0, 0, 0, 0xffff, 0xffff, 0 } },
	{ "place of the checksum wraps", CSUM, { HDR_NEEDS_CSUM, 0, 0, 0, 34, 0xffff, 0 } },
	{ "checksum of the Ethernet header", CSUM, { HDR_NEEDS_CSUM, 0, 0, 0, 0, 16, 0 } },
	{ "segments without a size", TSO4, { HDR_NEEDS_CSUM, GSO_TCPV4, 54, 0, 34, 16, 0 } },
	{ "segments without a checksum", TSO4, { 0, GSO_TCPV4, 54, 100, 34, 16, 0 } },
	{ "segments that were not agreed on", CSUM,
		{ HDR_NEEDS_CSUM, GSO_TCPV4, 54, 100, 34, 16, 0 } },
	{ "TCP over IPv6", TSO4, { HDR_NEEDS_CSUM, GSO_TCPV6, 74, 100, 54, 16, 0 } },
	{ "UDP fragments", TSO4, { HDR_NEEDS_CSUM, GSO_UDP, 42, 100, 34, 6, 0 } },
	{ "UDP segments", TSO4, { HDR_NEEDS_CSUM, GSO_UDP_L4, 42, 100, 34, 6, 0 } },
	{ "congestion", TSO4, { HDR_NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 54, 100, 34, 16, 0 } },
	{ "congestion of nothing", TSO4, { HDR_NEEDS_CSUM, GSO_ECN, 54, 100, 34, 16, 0 } },
	{ "unknown segments", TSO4, { HDR_NEEDS_CSUM, 2, 54, 100, 34, 16, 0 } },
	{ "more unknown segments", TSO4, { HDR_NEEDS_CSUM, 0x7f, 54, 100, 34, 16, 0 } },
};

#define N_NONSENSE ((int)(sizeof(nonsense) / sizeof(nonsense[0])))

/* The next frame to come back is the good one behind it. */
/* covers: G10 */
START_TEST(test_header_that_asks_for_nonsense_loses_its_frame_alone)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	open_two_pairs(_i, nonsense[_i / 2].features);
	memcpy(big(), &nonsense[_i / 2].header, sizeof(struct header));
	net_frame_make(big() + NET_HDR_BYTES, FRAME_BYTES, 1);
	put_frame(FRAME_BYTES);
	net_frame_make(frame, FRAME_BYTES, 2);
	rig_ok(net_send(&n, 0, frame, FRAME_BYTES), n.why);
	rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
	ck_assert_msg(net_frame_is_echo(frame, n_bytes, 2), "%s: the frame came back",
		nonsense[_i / 2].what);
	close_well();
}
END_TEST

/* --- Changes --- */

static atomic_bool scribbling;

static void *scribble(void *data)
{
	volatile struct header *header = data;
	uint32_t dice = 5;

	while (atomic_load(&scribbling)) {
		dice = dice * 1664525 + 1013904223;
		header->flags = dice >> 30 ? HDR_NEEDS_CSUM : (uint8_t)(dice >> 8);
		header->gso_type =
			dice >> 24 & 3 ? GSO_TCPV4 * (dice >> 26 & 1) : (uint8_t)(dice >> 9);
		header->gso_size = (uint16_t)(dice >> 10);
		header->csum_start = (uint16_t)(dice >> 11 & (dice & 0x100000 ? 0xff : 0xffff));
		header->csum_offset = (uint16_t)(dice >> 12 & (dice & 0x200000 ? 0xff : 0xffff));
		header->hdr_len = (uint16_t)(dice >> 13);
		header->num_buffers = (uint16_t)(dice >> 14);
	}
	return NULL;
}

/* The last one is known by its content. */
static void take_all(void)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	memset(big(), 0, NET_HDR_BYTES);
	net_frame_make(big() + NET_HDR_BYTES, FRAME_BYTES, 2);
	put_frame(FRAME_BYTES);
	do
		rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
	while (!net_frame_is_echo(frame, n_bytes, 2));
}

/* What reaches the driver keeps the rules that the frame was judged by. */
static void check_header(const struct header *header)
{
	bool open = header->flags & HDR_NEEDS_CSUM;

	ck_assert_uint_eq(header->num_buffers, 1);
	ck_assert((n.p.features & TSO4) == TSO4 || (!open && !header->gso_type));
	ck_assert(!open ||
		(header->csum_start >= 14 &&
			header->csum_start + header->csum_offset + 2 <= FRAME_BYTES));
	ck_assert(!header->gso_type || (header->gso_type == GSO_TCPV4 && open && header->gso_size));
}

static unsigned int take_what_came(void)
{
	struct ring *r = &n.rings[0];
	unsigned int n_frames = 0;
	struct ring_used used;

	for (; ring_has_used(r); n_frames++) {
		struct ring_seg seg = { 0, n.p.buf_bytes, true };
		struct header header;

		ck_assert_msg(ring_reap(r, &used) == 1, "%s", r->fault);
		ck_assert_uint_eq(used.len, NET_HDR_BYTES + FRAME_BYTES);
		seg.gpa = (uint64_t)(uintptr_t)used.cookie;
		memcpy(&header, guest_at(&n.g, seg.gpa, sizeof(header)), sizeof(header));
		check_header(&header);
		rig_ok(ring_post(r, &seg, 1, used.cookie), r->fault);
		ring_kick(r);
	}
	return n_frames;
}

/* _i & 2: what has no checksum yet is given one, in memory that the guest may write as well */
/* covers: G7 */
START_TEST(test_header_changes_while_it_is_judged)
{
	unsigned int n_back = 0, n_put = 0;
	pthread_t thread;

	open_two_pairs(_i, _i & 2 ? CSUM : TSO4);
	net_frame_make(big() + NET_HDR_BYTES, FRAME_BYTES, 1);
	atomic_store(&scribbling, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, scribble, big()), 0);
	/* until some were found good and some were not: the other thread may have to wait for a
	 * processor */
	while (n_put < 3000 || !n_back || n_back + 64 > n_put) {
		put_frame(FRAME_BYTES);
		n_put++;
		n_back += take_what_came();
	}
	atomic_store(&scribbling, false);
	pthread_join(thread, NULL);
	take_all();
	close_well();
}
END_TEST

/* --- Lengths --- */

/* covers: G13 */
START_TEST(test_frame_longer_than_any_fails_alone)
{
	static const uint32_t lengths[] = { LONGEST + 1, LONGEST + 2, 81920,
		BIG_BYTES - NET_HDR_BYTES };
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;

	open_two_pairs(_i, VU_BIT(VU_NET_F_MRG_RXBUF));
	net_frame_make(big() + NET_HDR_BYTES, NET_FRAME_MAX, 1);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		put_frame(lengths[i]);
	/* the first one to come back is the longest that this library can read */
	put_frame(NET_FRAME_MAX);
	rig_ok(net_recv(&n, 0, frame, &n_bytes, 5000), n.why);
	ck_assert_uint_eq(n_bytes, NET_FRAME_MAX);
	ck_assert(net_frame_is_echo(frame, n_bytes, 1));
	close_well();
}
END_TEST

/* --- Without end --- */

static atomic_bool hogging;
static atomic_uint n_hogged;

/* Sends on pair 0, as much as goes, and takes what comes back. */
static void *hog(void *data)
{
	static uint8_t frame[NET_FRAME_MAX];
	uint32_t n_bytes;
	int e = 0;

	net_frame_make(frame, 60, 1);
	while (!e && atomic_load(&hogging)) {
		for (int i = 0; !e && i < 64; i++)
			e = net_send(&n, 0, frame, 60);
		ring_kick_always(&n.rings[1]);
		while (!e && ring_has_used(&n.rings[0])) {
			e = net_recv(&n, 0, frame, &n_bytes, 5000);
			atomic_fetch_add(&n_hogged, 1);
			net_frame_make(frame, 60, 1);
		}
	}
	return (void *)(intptr_t)e;
}

/* covers: G16 */
START_TEST(test_guest_that_never_rests_leaves_others_their_share)
{
	unsigned int before = 0, after;
	pthread_t thread;
	void *e;

	open_two_pairs(_i, VU_BIT(VU_F_EVENT_IDX));
	atomic_store(&hogging, true);
	ck_assert_int_eq(pthread_create(&thread, NULL, hog, NULL), 0);
	for (int round = 0; round < 10; round++) {
		while ((after = atomic_load(&n_hogged)) <= before)
			sched_yield();
		before = after;
		rig_ok(net_pump(&n, 1, 100, FRAME_BYTES), n.why);
		rig_check_witness();
		rig_ok(vu_get_features(&n.c), n.c.why);
	}
	atomic_store(&hogging, false);
	pthread_join(thread, &e);
	ck_assert_ptr_null(e);
	rig_ok(net_drain_tx(&n, 0, 5000), n.why);
	net_close(&n);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "frames");

	tcase_add_loop_test(tc, test_header_in_as_many_pieces_as_it_has_bytes, 0, 4);
	tcase_add_loop_test(tc, test_segments_come_as_they_were_sent, 0, 2 * N_AGREED);
	tcase_add_loop_test(tc, test_header_that_asks_for_nonsense_loses_its_frame_alone, 0,
		2 * N_NONSENSE);
	tcase_add_loop_test(tc, test_header_changes_while_it_is_judged, 0, 4);
	tcase_add_loop_test(tc, test_frame_longer_than_any_fails_alone, 0, 2);
	tcase_add_loop_test(tc, test_guest_that_never_rests_leaves_others_their_share, 0, 2);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2 };

	return rig_main("frames", &net0, add);
}

/* The header before each frame: what a driver may ask for, and what it is given. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "header.h"
#include "lib/run.h"

#define FRAME 1514
#define ALL_TX                                                                                     \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |      \
		BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_HOST_UFO) |                          \
		BIT(VIRTIO_NET_F_HOST_USO))
#define ALL_RX                                                                                     \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) |                             \
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) |                       \
		BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_GUEST_USO4) |                       \
		BIT(VIRTIO_NET_F_GUEST_USO6))

/* csum_start, csum_offset of TCP over IPv4 */
#define TCP 34, 16

static struct net_hdr hdr(uint8_t flags, uint8_t gso, uint16_t gso_size, uint16_t start,
	uint16_t offset)
{
	return (struct net_hdr){ .flags = flags,
		.gso_type = gso,
		.hdr_len = htole16(54),
		.gso_size = htole16(gso_size),
		.csum_start = htole16(start),
		.csum_offset = htole16(offset),
		.num_buffers = htole16(0xbeef) };
}

/* --- Sending --- */

static const struct tx_row {
	uint64_t features;
	uint8_t flags, gso;
	uint16_t gso_size, start, offset;
	int result;
} tx_rows[] = {
	{ 0, 0, NET_GSO_NONE, 0, 0, 0, 0 },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, TCP, 0 },
	{ ALL_TX & ~BIT(VIRTIO_NET_F_CSUM), NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, TCP,
		HEADER_E_CSUM },
	/* the place of the checksum: behind the Ethernet header, both its bytes in the frame */
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 13, 16, HEADER_E_CSUM },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 14, 0, 0 },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 34, FRAME - 36, 0 },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 34, FRAME - 35, HEADER_E_CSUM },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 0xffff, 0xffff, HEADER_E_CSUM },
	/* each kind with its own feature bit, and without it */
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_TCPV4, 1460, TCP, 0 },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_TCPV6, 1440, TCP, 0 },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_UDP, 1480, TCP, 0 },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_UDP_L4, 1472, TCP, 0 },
	{ ALL_TX & ~BIT(VIRTIO_NET_F_HOST_TSO4), NET_HDR_NEEDS_CSUM, NET_GSO_TCPV4, 1460, TCP,
		HEADER_E_GSO },
	{ ALL_TX & ~BIT(VIRTIO_NET_F_HOST_TSO6), NET_HDR_NEEDS_CSUM, NET_GSO_TCPV6, 1440, TCP,
		HEADER_E_GSO },
	{ ALL_TX & ~BIT(VIRTIO_NET_F_HOST_UFO), NET_HDR_NEEDS_CSUM, NET_GSO_UDP, 1480, TCP,
		HEADER_E_GSO },
	{ ALL_TX & ~BIT(VIRTIO_NET_F_HOST_USO), NET_HDR_NEEDS_CSUM, NET_GSO_UDP_L4, 1472, TCP,
		HEADER_E_GSO },
	/* the bit of congestion goes with TCP, and has a feature bit of its own */
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_TCPV4 | NET_GSO_ECN, 1460, TCP, 0 },
	{ ALL_TX & ~BIT(VIRTIO_NET_F_HOST_ECN), NET_HDR_NEEDS_CSUM, NET_GSO_TCPV4 | NET_GSO_ECN,
		1460, TCP, HEADER_E_GSO },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_UDP | NET_GSO_ECN, 1480, TCP, HEADER_E_GSO },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_ECN, 1460, TCP, HEADER_E_GSO },
	/* what contradicts itself, and what does not exist */
	{ ALL_TX, 0, NET_GSO_TCPV4, 1460, TCP, HEADER_E_GSO },
	{ ALL_TX, NET_HDR_NEEDS_CSUM, NET_GSO_TCPV4, 0, TCP, HEADER_E_GSO },
	{ ~UINT64_C(0), NET_HDR_NEEDS_CSUM, 2, 1460, TCP, HEADER_E_GSO },
	{ ~UINT64_C(0), NET_HDR_NEEDS_CSUM, 6, 1460, TCP, HEADER_E_GSO },
	{ ~UINT64_C(0), NET_HDR_NEEDS_CSUM, 0x41, 1460, TCP, HEADER_E_GSO },
};

/* covers: G10 */
START_TEST(test_what_a_driver_may_send)
{
	const struct tx_row *row = &tx_rows[_i];
	struct net_hdr h = hdr(row->flags, row->gso, row->gso_size, row->start, row->offset);

	ck_assert_int_eq(header_check_tx(&h, FRAME, row->features), row->result);
	if (row->result)
		return;
	ck_assert_uint_eq(h.num_buffers, 0);
	ck_assert_uint_eq(h.gso_type, row->gso);
	ck_assert_uint_eq(h.flags, row->flags);
	ck_assert_uint_eq(le16toh(h.csum_start), row->flags ? row->start : 0);
	ck_assert_uint_eq(le16toh(h.gso_size), row->gso ? row->gso_size : 0);
}
END_TEST

/* covers: G10 */
START_TEST(test_fields_without_meaning_become_zero)
{
	struct net_hdr none = { 0 }, h = hdr(0, NET_GSO_NONE, 1460, TCP);

	ck_assert_int_eq(header_check_tx(&h, FRAME, ALL_TX), 0);
	ck_assert_mem_eq(&h, &none, sizeof(h));
	/* a driver has no say in DATA_VALID and the bits above it */
	h = hdr((uint8_t)~NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, TCP);
	ck_assert_int_eq(header_check_tx(&h, FRAME, ALL_TX), 0);
	ck_assert_mem_eq(&h, &none, sizeof(h));
	h = hdr(0xff, NET_GSO_NONE, 1460, TCP);
	ck_assert_int_eq(header_check_tx(&h, FRAME, ALL_TX), 0);
	ck_assert_uint_eq(h.flags, NET_HDR_NEEDS_CSUM);
	ck_assert_uint_eq(h.hdr_len, 0);
	ck_assert_uint_eq(h.gso_size, 0);
}
END_TEST

/* covers: G10 */
START_TEST(test_length_of_headers_is_a_hint)
{
	struct net_hdr h = hdr(NET_HDR_NEEDS_CSUM, NET_GSO_TCPV4, 1460, TCP);

	ck_assert_int_eq(header_check_tx(&h, FRAME, ALL_TX), 0);
	ck_assert_uint_eq(le16toh(h.hdr_len), 54);
	h.hdr_len = htole16(FRAME + 1);
	ck_assert_int_eq(header_check_tx(&h, FRAME, ALL_TX), 0);
	ck_assert_uint_eq(h.hdr_len, 0);
}
END_TEST

/* --- Receiving --- */

static uint8_t frame[64];
static struct iovec whole = { frame, sizeof(frame) };

static int fit(struct net_hdr *h, uint64_t offloads)
{
	return header_fit_rx(h, offloads, &whole, 1, sizeof(frame));
}

START_TEST(test_what_a_driver_did_not_accept_it_does_not_get)
{
	static const struct {
		uint8_t gso;
		uint64_t feature;
	} rows[] = { { NET_GSO_TCPV4, BIT(VIRTIO_NET_F_GUEST_TSO4) },
		{ NET_GSO_TCPV6, BIT(VIRTIO_NET_F_GUEST_TSO6) },
		{ NET_GSO_UDP, BIT(VIRTIO_NET_F_GUEST_UFO) },
		{ NET_GSO_UDP_L4, BIT(VIRTIO_NET_F_GUEST_USO4) | BIT(VIRTIO_NET_F_GUEST_USO6) },
		{ NET_GSO_TCPV6 | NET_GSO_ECN, BIT(VIRTIO_NET_F_GUEST_ECN) }, { 2, ~UINT64_C(0) } };

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct net_hdr h = hdr(NET_HDR_NEEDS_CSUM, rows[i].gso, 1460, 14, 6);

		ck_assert_int_eq(fit(&h, ALL_RX & ~rows[i].feature), HEADER_E_GSO);
		ck_assert_int_eq(fit(&h, ALL_RX), rows[i].gso == 2 ? HEADER_E_GSO : 0);
	}
}
END_TEST

START_TEST(test_flags_pass_where_the_driver_knows_them)
{
	struct net_hdr h = hdr(NET_HDR_DATA_VALID, NET_GSO_NONE, 0, 0, 0);

	ck_assert_int_eq(fit(&h, ALL_RX), 0);
	ck_assert_uint_eq(h.flags, NET_HDR_DATA_VALID);
	h = hdr(0xff, NET_GSO_NONE, 0, 14, 6);
	ck_assert_int_eq(fit(&h, ALL_RX), 0);
	ck_assert_uint_eq(h.flags, NET_HDR_DATA_VALID | NET_HDR_NEEDS_CSUM);
	ck_assert_uint_eq(le16toh(h.csum_start), 14);
	h = hdr(NET_HDR_DATA_VALID, NET_GSO_NONE, 0, 0, 0);
	ck_assert_int_eq(fit(&h, 0), 0);
	ck_assert_uint_eq(h.flags, 0);
}
END_TEST

/* The numbers of RFC 1071, section 3: 0001 f203 f4f5 f6f7 add up to ddf2. */
static const uint8_t words[8] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

START_TEST(test_open_checksum_is_completed_for_others)
{
	struct net_hdr h = hdr(NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 14, 8);

	memset(frame, 0, sizeof(frame));
	memcpy(frame + 14, words, sizeof(words));
	ck_assert_int_eq(fit(&h, 0), 0);
	ck_assert_uint_eq(frame[22], 0x22); /* the complement of ddf2 */
	ck_assert_uint_eq(frame[23], 0x0d);
	ck_assert_uint_eq(h.flags | h.csum_start | h.csum_offset, 0);
}
END_TEST

START_TEST(test_checksum_over_spans_of_any_length)
{
	struct net_hdr h = hdr(NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 15, 8);

	/* it begins at an odd place, and ends with half a word */
	for (size_t a = 0; a <= 26; a++)
		for (size_t b = a; b <= 26; b++) {
			struct iovec iov[4] = { { frame, a }, { frame + a, 0 },
				{ frame + a, b - a }, { frame + b, sizeof(frame) - b } };

			memset(frame, 0xee, sizeof(frame));
			memcpy(frame + 15, words, sizeof(words));
			frame[23] = frame[24] = 0;
			frame[25] = 0x11;
			header_finish_csum(&h, iov, 4, 26);
			ck_assert_uint_eq(frame[23], 0x11); /* ~(ddf2 + 1100) = 110d */
			ck_assert_uint_eq(frame[24], 0x0d);
			ck_assert_uint_eq(frame[25], 0x11);
			ck_assert_uint_eq(frame[26], 0xee);
		}
}
END_TEST

START_TEST(test_checksum_zero_is_written_as_ones)
{
	struct net_hdr h = hdr(NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 14, 2);

	memset(frame, 0, sizeof(frame));
	frame[14] = frame[15] = 0xff;
	header_finish_csum(&h, &whole, 1, sizeof(frame));
	ck_assert_uint_eq(frame[16], 0xff);
	ck_assert_uint_eq(frame[17], 0xff);
}
END_TEST

START_TEST(test_checksum_outside_the_frame_is_left_alone)
{
	uint8_t before[sizeof(frame)];
	struct net_hdr h = hdr(NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 40, 23);

	memset(frame, 0x5a, sizeof(frame));
	memcpy(before, frame, sizeof(frame));
	header_finish_csum(&h, &whole, 1, sizeof(frame));
	h = hdr(NET_HDR_NEEDS_CSUM, NET_GSO_NONE, 0, 12, 2);
	header_finish_csum(&h, &whole, 1, sizeof(frame));
	ck_assert_mem_eq(frame, before, sizeof(frame));
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("net-header");

	tcase_add_loop_test(tc, test_what_a_driver_may_send, 0, ARRAY_SIZE(tx_rows));
	tcase_add_test(tc, test_fields_without_meaning_become_zero);
	tcase_add_test(tc, test_length_of_headers_is_a_hint);
	tcase_add_test(tc, test_what_a_driver_did_not_accept_it_does_not_get);
	tcase_add_test(tc, test_flags_pass_where_the_driver_knows_them);
	tcase_add_test(tc, test_open_checksum_is_completed_for_others);
	tcase_add_test(tc, test_checksum_over_spans_of_any_length);
	tcase_add_test(tc, test_checksum_zero_is_written_as_ones);
	tcase_add_test(tc, test_checksum_outside_the_frame_is_left_alone);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("net-header", add_tests);
}

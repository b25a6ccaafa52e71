/*
 * The hash of received frames. Expected values are those of Microsoft's verification suite for
 * receive-side scaling, "Verifying the RSS Hash Calculation", with its key.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "hash.h"
#include "lib/run.h"

enum { IPV4 = 1, TCPV4, UDPV4, IPV6, TCPV6, UDPV6, IPV6_EX, TCPV6_EX, UDPV6_EX };

#define TYPE(report) (1u << ((report)-1))

static const uint8_t key[HASH_KEY_MAX] = { 0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41,
	0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4,
	0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01,
	0xfa };

static const struct vector {
	const char *from, *to;
	uint16_t from_port, to_port;
	uint32_t addresses, all;
} vectors[] = {
	{ "66.9.149.187", "161.142.100.80", 2794, 1766, 0x323e8fc2, 0x51ccc178 },
	{ "199.92.111.2", "65.69.140.83", 14230, 4739, 0xd718262a, 0xc626b0ea },
	{ "24.19.198.95", "12.22.207.184", 12898, 38024, 0xd2d0a5de, 0x5c2b394a },
	{ "38.27.205.30", "209.142.163.6", 48228, 2217, 0x82989176, 0xafc7327f },
	{ "153.39.163.191", "202.188.127.2", 44251, 1303, 0x5d1809c5, 0x10e828a2 },
	{ "3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x2cc18cd5, 0x40207d3d },
	{ "3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 14230, 4739, 0x0f0c461c, 0xdde51bbf },
	{ "3ffe:1900:4545:3:200:f8ff:fe21:67cf", "fe80::200:f8ff:fe21:67cf", 44251, 38024,
		0x4b61e985, 0x02d1feef },
};

#define N_VECTORS ((int)ARRAY_SIZE(vectors))
#define FIRST_IPV6 5

static struct hash hash;
static uint8_t frame[HASH_HEAD_BYTES];
static size_t n_frame;

static void set_types(uint32_t types)
{
	hash_prepare(&hash, types, key, sizeof(key));
}

/* --- Frames --- */

static bool is_ipv6(int i)
{
	return i >= FIRST_IPV6;
}

static void put(const void *bytes, size_t n)
{
	ck_assert_uint_le(n_frame + n, sizeof(frame));
	memcpy(frame + n_frame, bytes, n);
	n_frame += n;
}

static void put_address(int family, const char *text)
{
	uint8_t address[16];

	ck_assert_int_eq(inet_pton(family, text, address), 1);
	put(address, family == AF_INET6 ? 16 : 4);
}

static void put_ports(const struct vector *v)
{
	uint16_t ports[2] = { htons(v->from_port), htons(v->to_port) };

	put(ports, sizeof(ports));
	put("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
}

static void begin_frame(unsigned int n_tags)
{
	n_frame = 0;
	put("\2\0\0\0\0\1\2\0\0\0\0\2", 12);
	for (; n_tags; n_tags--)
		put(n_tags > 1 ? "\x88\xa8\0\5" : "\x81\0\0\6", 4);
}

/* offset: the word of flags and offset of fragments; n_options: bytes in fours */
static void make_ipv4(const struct vector *v, uint8_t protocol, uint16_t offset, size_t n_options)
{
	uint8_t head[12] = { (uint8_t)(0x45 + n_options / 4), [6] = (uint8_t)(offset >> 8),
		(uint8_t)offset, 64, protocol };
	uint8_t options[40] = { 1 };

	put("\x08\0", 2);
	put(head, sizeof(head));
	put_address(AF_INET, v->from);
	put_address(AF_INET, v->to);
	put(options, n_options);
	put_ports(v);
}

/* Extension headers stand before the ports. */
static void make_ipv6(const struct vector *v, const char *from, const char *to, uint8_t next,
	const void *extensions, size_t n)
{
	uint8_t head[8] = { 0x60, [6] = next, 64 };

	put("\x86\xdd", 2);
	put(head, sizeof(head));
	put_address(AF_INET6, from);
	put_address(AF_INET6, to);
	put(extensions, n);
	put_ports(v);
}

static void make(int i, uint8_t protocol)
{
	const struct vector *v = &vectors[i];

	if (is_ipv6(i))
		make_ipv6(v, v->from, v->to, protocol, "", 0);
	else
		make_ipv4(v, protocol, 0x4000, 0);
}

static void expect(uint16_t report, uint32_t value)
{
	uint32_t got_value;
	uint16_t got = hash_frame(&hash, frame, n_frame, &got_value);

	ck_assert_msg(got == report && got_value == value, "report %u, value 0x%x", got, got_value);
}

/* --- The suite --- */

START_TEST(test_published_values_are_calculated)
{
	const struct vector *v = &vectors[_i];
	uint16_t ip = is_ipv6(_i) ? IPV6 : IPV4;

	for (unsigned int n_tags = 0; n_tags < 3; n_tags++) {
		begin_frame(n_tags);
		make(_i, 6);
		set_types(HASH_TYPES);
		expect(ip + 1, v->all);
		set_types(TYPE(ip + 1));
		expect(ip + 1, v->all);
		set_types(HASH_TYPES & ~TYPE(ip + 1));
		expect(ip, v->addresses);
		set_types(TYPE(ip));
		expect(ip, v->addresses);
		set_types(HASH_TYPES & ~TYPE(ip) & ~TYPE(ip + 1));
		expect(HASH_REPORT_NONE, 0);
		set_types(0);
		expect(HASH_REPORT_NONE, 0);
	}
}
END_TEST

START_TEST(test_datagrams_have_types_of_their_own)
{
	const struct vector *v = &vectors[_i];
	uint16_t ip = is_ipv6(_i) ? IPV6 : IPV4;

	begin_frame(0);
	make(_i, 17);
	set_types(HASH_TYPES);
	expect(ip + 2, v->all);
	set_types(TYPE(ip) | TYPE(ip + 1));
	expect(ip, v->addresses);
	set_types(TYPE(ip + 1));
	expect(HASH_REPORT_NONE, 0);
	begin_frame(0);
	make(_i, 132); /* another protocol has no ports */
	set_types(HASH_TYPES);
	expect(ip, v->addresses);
}
END_TEST

START_TEST(test_fragments_and_options)
{
	static const uint16_t fragments[] = { 0x2000, 0x2001, 1, 0x1f00, 0x3fff };
	const struct vector *v = &vectors[0];

	set_types(HASH_TYPES);
	for (size_t i = 0; i < ARRAY_SIZE(fragments); i++) {
		begin_frame(0);
		make_ipv4(v, 6, fragments[i], 0);
		expect(IPV4, v->addresses);
	}
	for (size_t n = 0; n <= 40; n += 4) {
		begin_frame(0);
		make_ipv4(v, 6, 0, n);
		expect(TCPV4, v->all);
	}
	begin_frame(0);
	make_ipv6(&vectors[5], vectors[5].from, vectors[5].to, 44, "\6\0\0\1\0\0\0\1", 8);
	expect(IPV6_EX, vectors[5].addresses);
}
END_TEST

/* --- Extension headers --- */

#define DESTINATION 60
#define ROUTING 43

/* A home address, behind padding, and a route of type 2, then TCP. */
static size_t make_extensions(uint8_t *bytes, const struct vector *v)
{
	static const uint8_t destination[8] = { ROUTING, 2, 0, 1, 1, 0, 0xc9, 16 };
	static const uint8_t routing[8] = { 6, 2, 2, 1 };

	memcpy(bytes, destination, 8);
	ck_assert_int_eq(inet_pton(AF_INET6, v->from, bytes + 8), 1);
	memcpy(bytes + 24, routing, 8);
	ck_assert_int_eq(inet_pton(AF_INET6, v->to, bytes + 32), 1);
	return 48;
}

START_TEST(test_home_address_and_route_take_the_place_of_addresses)
{
	const struct vector *v = &vectors[6], *other = &vectors[7];
	uint8_t bytes[48];
	size_t n = make_extensions(bytes, v);

	begin_frame(0);
	make_ipv6(v, other->from, other->to, DESTINATION, bytes, n);
	set_types(HASH_TYPES);
	expect(TCPV6_EX, v->all);
	set_types(TYPE(IPV6_EX) | TYPE(TCPV6) | TYPE(UDPV6_EX));
	expect(IPV6_EX, v->addresses);
	set_types(TYPE(IPV6));
	expect(IPV6, other->addresses);
	set_types(TYPE(TCPV6_EX));
	begin_frame(0);
	make_ipv6(v, v->from, v->to, 6, "", 0); /* without any it is not of this type */
	expect(HASH_REPORT_NONE, 0);
	begin_frame(0);
	make_ipv6(v, v->from, v->to, 0, "\6\0\0\0\0\0\0\0", 8); /* hop by hop: nothing instead */
	expect(TCPV6_EX, v->all);
	bytes[24 + 2] = 0; /* a route of another type */
	begin_frame(0);
	make_ipv6(v, other->from, v->to, DESTINATION, bytes, n);
	expect(TCPV6_EX, v->all);
}
END_TEST

/* --- What is cut, and what lies --- */

/* Memory of its own, so that sanitizers see a byte too many. */
static uint16_t cut_at(size_t n, uint32_t *ret_value)
{
	uint8_t *copy = malloc(n + 1);
	uint16_t report;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy + 1, frame, n);
	report = hash_frame(&hash, copy + 1, n, ret_value);
	free(copy);
	return report;
}

START_TEST(test_frame_that_ends_anywhere_is_hashed_as_far_as_it_goes)
{
	uint8_t bytes[48];
	size_t n_before = 14 + (_i == 0 ? 20 : 40);
	uint32_t value;

	begin_frame(0);
	if (_i < 2)
		make(_i ? 5 : 0, 6);
	else
		make_ipv6(&vectors[6], vectors[7].from, vectors[7].to, DESTINATION, bytes,
			make_extensions(bytes, &vectors[6]));
	set_types(HASH_TYPES);
	for (size_t n = 0; n <= n_frame; n++) {
		uint16_t report = cut_at(n, &value);

		ck_assert_int_eq(report == HASH_REPORT_NONE, n < n_before);
		if (_i < 2 && n >= n_before)
			ck_assert_int_eq(report, (_i ? IPV6 : IPV4) + (n >= n_before + 4));
	}
}
END_TEST

START_TEST(test_nonsense_in_a_frame_does_no_harm)
{
	uint8_t bytes[48];
	uint32_t value, dice = 1;

	set_types(HASH_TYPES);
	for (int i = 0; i < 20000; i++) {
		begin_frame((unsigned int)i % 3);
		make_ipv6(&vectors[6], vectors[7].from, vectors[7].to, DESTINATION, bytes,
			make_extensions(bytes, &vectors[6]));
		for (int k = 0; k < 3; k++) {
			dice = dice * 1664525 + 1013904223;
			frame[12 + (dice >> 8) % (n_frame - 12)] = (uint8_t)(dice >> 24);
		}
		ck_assert_uint_le(cut_at(n_frame - (dice >> 20) % 3, &value), UDPV6_EX);
	}
}
END_TEST

START_TEST(test_zeros_follow_a_short_key)
{
	uint8_t padded[HASH_KEY_MAX] = { 0 };
	static struct hash other;

	for (size_t n = 0; n <= sizeof(key); n++) {
		memcpy(padded, key, n);
		hash_prepare(&hash, 1, key, n);
		hash_prepare(&other, 1, padded, sizeof(padded));
		ck_assert_mem_eq(&hash, &other, sizeof(hash));
	}
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = tcase_create("net-hash");

	tcase_add_loop_test(tc, test_published_values_are_calculated, 0, N_VECTORS);
	tcase_add_loop_test(tc, test_datagrams_have_types_of_their_own, 0, N_VECTORS);
	tcase_add_test(tc, test_fragments_and_options);
	tcase_add_test(tc, test_home_address_and_route_take_the_place_of_addresses);
	tcase_add_loop_test(tc, test_frame_that_ends_anywhere_is_hashed_as_far_as_it_goes, 0, 3);
	tcase_add_test(tc, test_nonsense_in_a_frame_does_no_harm);
	tcase_add_test(tc, test_zeros_follow_a_short_key);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("net-hash", add);
}

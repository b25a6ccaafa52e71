/*
 * What a snapshot may say. covers: M24
 *
 * Every byte that is changed, every length that is cut and every number out of range is refused,
 * with a sentence; what was asked for is untouched then.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "lib/run.h"
#include "snapshot/snapshot.h"
#include "snapshot/stage.h"
#include "snapshots.h"
#include "virtio/vhost-user.h"
#include "virtio/virtio.h"

static const char *const names[] = { "0.2.0/net-split.state", "0.2.0/net-packed.state",
	"0.2.0/null.state" };

static struct golden golden;
static struct snapshot_image image;
static struct snapshot_fault fault;

/* Each bit, and all of them; with BULKHEAD_FULL=1 each value. */
static uint8_t change_at(size_t i)
{
	static const uint8_t some[] = { 1, 2, 4, 8, 16, 32, 64, 128, 255 };

	if (getenv("BULKHEAD_FULL"))
		return i < 255 ? (uint8_t)(i + 1) : 0;
	return i < ARRAY_SIZE(some) ? some[i] : 0;
}

static const struct snapshot_image untouched = { (const uint8_t *)names, 4711 };

static void set_up(void)
{
	golden_read(&golden, names[0]);
	image = untouched;
	fault = (struct snapshot_fault){ "" };
}

/* The bytes in a block of their own, where a sanitizer sees every step over the end. */
static int check_copy(const uint8_t *bytes, size_t n)
{
	_cleanup_free_ uint8_t *copy = malloc(n ? n : 1);
	int r;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, bytes, n);
	r = snapshot_check(copy, n, &image, &fault);
	ck_assert_int_eq(memcmp(copy, bytes, n), 0);
	return r;
}

static void check_refused(const uint8_t *bytes, size_t n, const char *text)
{
	ck_assert_int_eq(check_copy(bytes, n), SNAPSHOT_E_REFUSED);
	ck_assert_mem_eq(&image, &untouched, sizeof(image));
	ck_assert_msg(strstr(fault.text, text), "'%s' does not say '%s'", fault.text, text);
}

/* As somebody would do who changed the rest on purpose. */
static void seal(struct golden *file)
{
	uint64_t n_body = htole64(file->n - SNAPSHOT_HEADER_BYTES);
	uint32_t crc;

	memcpy(file->bytes + 16, &n_body, sizeof(n_body));
	crc = (uint32_t)crc32(0, file->bytes, 24);
	crc = (uint32_t)crc32(crc, file->bytes + SNAPSHOT_HEADER_BYTES,
		(uInt)(file->n - SNAPSHOT_HEADER_BYTES));
	crc = htole32(crc);
	memcpy(file->bytes + 24, &crc, sizeof(crc));
}

/* --- The header --- */

START_TEST(test_what_is_packed_is_found_again)
{
	uint8_t *buf;
	size_t n, at = 0;

	ck_assert_int_eq(snapshot_check(golden.bytes, golden.n, &image, &fault), 0);
	ck_assert_int_eq(snapshot_pack(image.state, image.n_state, &buf, &n), 0);
	ck_assert_uint_eq(n, golden.n);
	ck_assert_mem_eq(buf, golden.bytes, n);
	ck_assert_int_eq(snapshot_next(buf, n, &at, &image, &fault), 0);
	ck_assert_uint_eq(at, n);
	ck_assert_int_eq(snapshot_next(buf, n, &at, &image, &fault), SNAPSHOT_E_END);
	free(buf);
}
END_TEST

START_TEST(test_a_body_has_a_limit)
{
	_cleanup_free_ uint8_t *state = calloc(1, SNAPSHOT_BODY_MAX + 1), *buf = NULL;
	size_t n, at = 0;

	ck_assert_int_eq(snapshot_pack(state, SNAPSHOT_BODY_MAX + 1, &buf, &n), -EMSGSIZE);
	ck_assert_ptr_null(buf);
	ck_assert_int_eq(snapshot_pack(state, SNAPSHOT_BODY_MAX, &buf, &n), 0);
	ck_assert_int_eq(snapshot_next(buf, n, &at, &image, &fault), 0);
	image = untouched;
	buf[18] |= 16;
	check_refused(buf, n, "its body has 1572864 bytes; at most 524288 are possible");
}
END_TEST

START_TEST(test_every_byte_that_is_changed_is_noticed)
{
	golden_read(&golden, names[_i]);
	for (size_t i = 0; i < golden.n; i++)
		for (size_t k = 0; change_at(k); k++) {
			golden.bytes[i] ^= change_at(k);
			check_refused(golden.bytes, golden.n, "it");
			golden.bytes[i] ^= change_at(k);
		}
	ck_assert_int_eq(check_copy(golden.bytes, golden.n), 0);
}
END_TEST

START_TEST(test_every_length_that_is_cut_is_refused)
{
	golden_read(&golden, names[_i]);
	check_refused(golden.bytes, 0, "it is empty");
	for (size_t n = 1; n < golden.n; n++)
		check_refused(golden.bytes, n, "it is truncated by ");
	check_refused(golden.bytes, 20, "it is truncated by 8 of its header's 28 bytes");
	check_refused(golden.bytes, golden.n - 3, "it is truncated by 3 of its body's ");
	golden.bytes[golden.n] = 0;
	check_refused(golden.bytes, golden.n + 1, "bytes behind its end: 1");
}
END_TEST

START_TEST(test_the_header_is_judged_before_the_checksum)
{
	static const struct {
		size_t at;
		uint8_t value;
		const char *text;
	} cases[] = {
		{ 0, 'b', "its magic is another one" },
		{ 7, '\r', "its magic is another one" },
		{ 8, 2, "its format has version 2, which is newer than this release" },
		{ 8, 0, "its format has version 0" },
		{ 12, 1, "its flags are 0x1; they must be 0" },
		{ 15, 0x80, "its flags are 0x80000000; they must be 0" },
		{ 23, 0x80, "its body has 92233720368547" },
		{ 19, 1, "its body has 16777" },
		{ 24, 0, "its checksum is 0x" },
	};

	ck_assert_uint_ne(golden.bytes[24], 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct golden bad = golden;

		bad.bytes[cases[i].at] = cases[i].value;
		check_refused(bad.bytes, bad.n, cases[i].text);
	}
}
END_TEST

START_TEST(test_a_walk_stops_at_the_image_that_is_damaged)
{
	size_t at = 0, second;

	golden_read(&golden, "0.2.0/guest.state");
	ck_assert_int_eq(snapshot_next(golden.bytes, golden.n, &at, &image, &fault), 0);
	second = at;
	golden.bytes[second + 40] ^= 1;
	image = untouched;
	ck_assert_int_eq(snapshot_next(golden.bytes, golden.n, &at, &image, &fault),
		SNAPSHOT_E_REFUSED);
	ck_assert_uint_eq(at, second);
	ck_assert_mem_eq(&image, &untouched, sizeof(image));
	check_refused(golden.bytes, golden.n, "bytes behind its end: ");
}
END_TEST

/* --- Whoever changes a file on purpose makes its checksum right --- */

START_TEST(test_a_changed_body_with_a_right_checksum_is_judged_whole)
{
	golden_read(&golden, names[_i]);
	for (size_t i = SNAPSHOT_HEADER_BYTES; i < golden.n; i++)
		for (size_t k = 0; change_at(k); k++) {
			struct golden bad = golden;

			bad.bytes[i] ^= change_at(k);
			seal(&bad);
			image = untouched;
			if (check_copy(bad.bytes, bad.n) == 0)
				continue; /* another value, but a possible one */
			ck_assert_mem_eq(&image, &untouched, sizeof(image));
			ck_assert_uint_gt(strlen(fault.text), 10);
		}
}
END_TEST

START_TEST(test_a_cut_body_with_a_right_checksum_is_judged_whole)
{
	golden_read(&golden, names[_i]);
	while (golden.n-- > SNAPSHOT_HEADER_BYTES) {
		seal(&golden);
		image = untouched;
		if (check_copy(golden.bytes, golden.n) == 0)
			continue; /* the last stages are missing, and may be */
		ck_assert_mem_eq(&image, &untouched, sizeof(image));
		ck_assert_uint_gt(strlen(fault.text), 10);
	}
}
END_TEST

/* A body that takes little and unpacks to much. */
START_TEST(test_a_body_that_unpacks_to_too_much_is_refused)
{
	_cleanup_free_ uint8_t *body = malloc(SNAPSHOT_BODY_MAX), *buf = NULL;
	size_t n;

	for (size_t i = 0; i < SNAPSHOT_BODY_MAX; i += 2) {
		body[i] = 7 << 3 | 2;
		body[i + 1] = 0;
	}
	ck_assert_int_eq(snapshot_pack(body, SNAPSHOT_BODY_MAX, &buf, &n), 0);
	check_refused(buf, n, "its body is no message State");
}
END_TEST

/* --- The form --- */

#define LIST_MAX 1100

/* A state in parts, each of which a case may spoil. */
static struct parts {
	Bh__State state;
	Bh__Stage stages[66], *stage_list[66];
	size_t n_own; /* stages that are made of what follows; others are as they are */
	Bh__FeaturesStage features;
	Bh__RingsStage rings;
	Bh__RingStage ring[2], *ring_list[2];
	uint32_t in_flight[2];
	Bh__CountersStage counters;
	Bh__CountersOfRing counter[2], *counter_list[2];
	Bh__NetStage net;
	Bh__CoalesceOfRing coalesce[2], *coalesce_list[2];
	ProtobufCBinaryData macs[LIST_MAX];
	uint32_t vlans[2];
} p;

static const char *const long_name = "123456789012345678901234567890123";
static uint8_t mac[7] = { 0x52, 0x54, 0, 1, 2, 3, 4 };

static void fill_lists(void)
{
	for (size_t i = 0; i < 2; i++) {
		bh__ring_stage__init(&p.ring[i]);
		bh__counters_of_ring__init(&p.counter[i]);
		bh__coalesce_of_ring__init(&p.coalesce[i]);
		p.coalesce[i].index = i ? VHOST_USER_MAX_QUEUES - 1 : 0;
		p.coalesce_list[i] = &p.coalesce[i];
		p.ring[i].index = p.counter[i].index = i ? VHOST_USER_MAX_QUEUES - 1 : 0;
		p.ring[i].size = 32768;
		p.ring[i].position = 65535;
		p.ring_list[i] = &p.ring[i];
		p.counter_list[i] = &p.counter[i];
		p.in_flight[i] = i ? 32767 : 0;
		p.vlans[i] = i ? 4095 : 0;
	}
	p.ring[0].in_flight = p.in_flight;
	p.ring[0].n_in_flight = 2;
	for (size_t i = 0; i < LIST_MAX; i++)
		p.macs[i] = (ProtobufCBinaryData){ 6, mac };
}

static void fill_stages(void)
{
	static const char *const own[] = { "features", "rings", "counters", "net" };

	bh__features_stage__init(&p.features);
	bh__rings_stage__init(&p.rings);
	bh__counters_stage__init(&p.counters);
	bh__net_stage__init(&p.net);
	p.features.features = BIT(VIRTIO_F_VERSION_1) | BIT(7);
	p.rings.rings = p.ring_list;
	p.counters.rings = p.counter_list;
	p.rings.n_rings = p.counters.n_rings = 2;
	p.net.mac = p.net.source = p.macs[0];
	p.net.modes = 0x3f;
	p.net.unicast = p.net.multicast = p.macs;
	p.net.n_unicast = p.net.n_multicast = 1024;
	p.net.vlans = p.vlans;
	p.net.n_vlans = 2;
	p.net.queue_pairs = 128;
	p.net.offloads_set = true;
	p.net.offloads = BIT(7);
	p.net.coalesce = p.coalesce_list;
	p.net.n_coalesce = 2;
	p.net.hash_types = UINT32_MAX;
	p.net.hash_key = (ProtobufCBinaryData){ UINT8_MAX, (uint8_t *)p.macs };
	for (size_t i = 0; i < ARRAY_SIZE(p.stages); i++) {
		bh__stage__init(&p.stages[i]);
		p.stages[i].name = (char *)(i < ARRAY_SIZE(own) ? own[i] : "later");
		p.stages[i].version = 1;
		p.stage_list[i] = &p.stages[i];
	}
	p.n_own = ARRAY_SIZE(own);
}

static void fill(void)
{
	bh__state__init(&p.state);
	p.state.type = (char *)"net";
	p.state.device = (char *)long_name + 1;
	p.state.guest = (char *)"vm1";
	p.state.release = (char *)"0.2.0 \xc3\xa4";
	p.state.suspended = true;
	p.state.stages = p.stage_list;
	fill_lists();
	fill_stages();
	p.state.n_stages = p.n_own;
}

static void pack_stage(Bh__Stage *stage, const ProtobufCMessage *msg)
{
	stage->data.len = protobuf_c_message_get_packed_size(msg);
	stage->data.data = malloc(stage->data.len + 1);
	ck_assert_ptr_nonnull(stage->data.data);
	protobuf_c_message_pack(msg, stage->data.data);
}

static int judge(void)
{
	const ProtobufCMessage *const msgs[] = { &p.features.base, &p.rings.base, &p.counters.base,
		&p.net.base };
	_cleanup_free_ uint8_t *bytes = NULL;
	Bh__State *state = NULL;
	size_t n;
	int r;

	for (size_t i = 0; i < p.n_own; i++)
		if (!p.stages[i].data.data)
			pack_stage(&p.stages[i], msgs[i]);
	n = bh__state__get_packed_size(&p.state);
	bytes = malloc(n);
	ck_assert_ptr_nonnull(bytes);
	bh__state__pack(&p.state, bytes);
	r = snapshot_unpack(bytes, n, &state, &fault);
	ck_assert_int_eq(r == 0, state != NULL);
	if (state)
		bh__state__free_unpacked(state, NULL);
	for (size_t i = 0; i < p.n_own; i++)
		free(p.stages[i].data.data);
	return r;
}

static const char *const long_text =
	"12345678901234567890123456789012345678901234567890123456789012345";

#define PACKED (p.features.features |= BIT(VIRTIO_F_RING_PACKED))
#define JUNK                                                                                       \
	(ProtobufCBinaryData)                                                                      \
	{                                                                                          \
		2, memcpy(malloc(2), "\xff\xff", 2)                                                \
	}

/* What each case spoils, and what is said of it. */
#define BREAK(number, text_, ...)                                                                  \
	case number:                                                                               \
		__VA_ARGS__;                                                                       \
		return text_

static const char *spoil_head(int i)
{
	switch (i) {
		BREAK(0, "type is \"\"", p.state.type = (char *)"");
		BREAK(1, "type is \"../net\"", p.state.type = (char *)"../net");
		BREAK(2, "device is \"net0?[2J\"", p.state.device = (char *)"net0\033[2J");
		BREAK(3, "device is \"1234", p.state.device = (char *)long_name);
		BREAK(4, "guest is \"\"", p.state.guest = (char *)"");
		BREAK(5, "release has 65 bytes", p.state.release = (char *)long_text);
		BREAK(6, "release contains characters that cannot be printed: \"1?2\"",
			p.state.release = (char *)"1\n2");
		BREAK(7, "release contains characters", p.state.release = (char *)"\xe2\x80\xae");
		BREAK(8, "there are 65 stages", p.state.n_stages = 65);
		BREAK(9, "a stage's name is \"\"", p.stages[3].name = (char *)"");
		BREAK(10, "a stage's name is \"a b\"", p.stages[3].name = (char *)"a b");
		BREAK(11, "stage rings is there twice", p.stages[3].name = (char *)"rings");
		BREAK(12, "stage later is there twice", p.state.n_stages = 6);
		BREAK(13, "stage net has version 0", p.stages[3].version = 0);
		BREAK(14, "stage features is missing", p.stages[0].name = (char *)"other");
		BREAK(15, "stage rings is missing", p.stages[1].name = (char *)"other");
		BREAK(16, "stage features is malformed", p.stages[0].data = JUNK);
		BREAK(17, "stage rings is malformed", p.stages[1].data = JUNK);
		BREAK(18, "stage counters is malformed", p.stages[2].data = JUNK);
		BREAK(19, "stage net is malformed", p.stages[3].data = JUNK);
	}
	return NULL;
}

static const char *spoil_rings(int i)
{
	switch (i) {
		BREAK(0, "stage rings: ring 256; the last", p.ring[1].index = 256);
		BREAK(1, "stage rings: ring 0 is there twice", p.ring[1].index = 0);
		BREAK(2, "ring 0: size is 32769; at most", p.ring[0].size = 32769);
		BREAK(3, "ring 0: size is 100; of a split ring", p.ring[0].size = 100);
		BREAK(4, "ring 0 was running, and the device suspended", p.ring[0].running = true);
		BREAK(5, "ring 0: position is 65536; of a split ring", p.ring[0].position = 65536);
		BREAK(6, "ring 0: in_flight has 32768 in a ring", p.in_flight[1] = 32768);
		BREAK(7, "ring 0: in_flight has 0 twice", p.in_flight[1] = 0);
		BREAK(8, "ring 0: in_flight has 2 entries in a ring of 1", p.ring[0].size = 1);
		BREAK(9, "ring 0: in_flight has 2 entries in a ring of 0", p.ring[0].size = 0);
		BREAK(10, "ring 255 was running with size 0", p.ring[1].size = 0;
			p.ring[1].running = true; p.state.suspended = false);
		BREAK(11, "ring 255: position 0xff has available slot 255 in a ring of 255", PACKED;
			p.ring[0].position = 0; p.ring[1].size = 255; p.ring[1].position = 0xff);
		BREAK(12, "ring 255: position 0x80ff0000 has used slot 255 in a ring of 255",
			PACKED;
			p.ring[0].position = 0; p.ring[1].size = 255;
			p.ring[1].position = 0x80ff0000);
		BREAK(13, "the available slot more than a lap of 255", PACKED;
			p.ring[0].position = 0; p.ring[1].size = 255;
			p.ring[1].position = 0x80100011);
		BREAK(14, "stage counters: ring 256; the last", p.counter[0].index = 256);
		BREAK(15, "stage counters: ring 255 is there twice", p.counter[0].index = 255);
	}
	return NULL;
}

static const char *spoil_net(int i)
{
	switch (i) {
		BREAK(0, "stage net: mac has 7 bytes", p.net.mac.len = 7);
		BREAK(1, "stage net: mac has 0 bytes", p.net.mac.len = 0);
		BREAK(2, "stage net: mac is a group's",
			p.net.mac.data = (uint8_t *)"\x01\0\0\0\0\0");
		BREAK(3, "stage net: modes is 0x40; there are 6 bits", p.net.modes = 0x40);
		BREAK(4, "stage net: queue_pairs is 0; possible", p.net.queue_pairs = 0);
		BREAK(5, "stage net: queue_pairs is 129; possible", p.net.queue_pairs = 129);
		BREAK(6, "stage net: offloads is 0x80, and", p.net.offloads_set = false);
		BREAK(7, "stage net: offloads has 0x100, which", p.net.offloads |= BIT(8));
		BREAK(8, "stage net: unicast has 1025 addresses", p.net.n_unicast = 1025);
		BREAK(9, "stage net: multicast has 1025 addresses", p.net.n_multicast = 1025);
		BREAK(10, "stage net: unicast has an address of 5 bytes", p.macs[1023].len = 5);
		BREAK(11, "stage net: vlans has 4096; the last", p.vlans[1] = 4096);
		BREAK(12, "stage net: vlans has 0 twice", p.vlans[1] = 0);
		BREAK(13, "stage net: source has 7 bytes; it has 6 or none", p.net.source.len = 7);
		BREAK(14, "stage net: source is a group's",
			p.net.source.data = (uint8_t *)"\x01\0\0\0\0\0");
		BREAK(15, "stage net: coalesce has ring 256; the last", p.coalesce[1].index++);
		BREAK(16, "stage net: coalesce has ring 0 twice", p.coalesce[1].index = 0);
		BREAK(17, "stage net: hash_key has 256 bytes; at most", p.net.hash_key.len++);
		BREAK(18, "stage net: hash_types is 0xffffffff, and", p.net.hash_key.len = 0);
	}
	return NULL;
}

START_TEST(test_the_most_of_everything_passes)
{
	fill();
	ck_assert_msg(judge() == 0, "%s", fault.text);
	fill();
	p.state.n_stages = 5; /* one that nobody knows */
	p.stages[4].version = UINT32_MAX;
	ck_assert_msg(judge() == 0, "%s", fault.text);
}
END_TEST

/* Whether it can be used is for the device to say. */
START_TEST(test_a_newer_stage_is_not_looked_into)
{
	for (size_t i = 0; i < 4; i++) {
		fill();
		p.stages[i].version = 2;
		p.stages[i].data = JUNK;
		ck_assert_msg(judge() == 0, "%zu: %s", i, fault.text);
	}
}
END_TEST

static const struct {
	const char *(*spoil)(int i);
	int n;
} spoils[] = { { spoil_head, 20 }, { spoil_rings, 16 }, { spoil_net, 19 } };

START_TEST(test_what_is_out_of_range_is_refused)
{
	ck_assert_ptr_null(spoils[_i].spoil(spoils[_i].n));
	for (int i = 0; i < spoils[_i].n; i++) {
		const char *text;

		fill();
		text = spoils[_i].spoil(i);
		ck_assert_ptr_nonnull(text);
		ck_assert_msg(judge() == SNAPSHOT_E_REFUSED, "%d: %s", i, text);
		ck_assert_msg(strncmp(fault.text, text, strlen(text)) == 0 ||
				strstr(fault.text, text),
			"%d: '%s' is not '%s'", i, fault.text, text);
	}
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("snapshot");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_test(tcase, test_what_is_packed_is_found_again);
	tcase_add_test(tcase, test_a_body_has_a_limit);
	tcase_add_loop_test(tcase, test_every_byte_that_is_changed_is_noticed, 0, 3);
	tcase_add_loop_test(tcase, test_every_length_that_is_cut_is_refused, 0, 3);
	tcase_add_test(tcase, test_the_header_is_judged_before_the_checksum);
	tcase_add_test(tcase, test_a_walk_stops_at_the_image_that_is_damaged);
	tcase_add_loop_test(tcase, test_a_changed_body_with_a_right_checksum_is_judged_whole, 0, 3);
	tcase_add_loop_test(tcase, test_a_cut_body_with_a_right_checksum_is_judged_whole, 0, 3);
	tcase_add_test(tcase, test_a_body_that_unpacks_to_too_much_is_refused);
	tcase_add_test(tcase, test_the_most_of_everything_passes);
	tcase_add_test(tcase, test_a_newer_stage_is_not_looked_into);
	tcase_add_loop_test(tcase, test_what_is_out_of_range_is_refused, 0, ARRAY_SIZE(spoils));
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	return run_main("snapshot", add);
}

/*
 * Snapshots of every release, as long as there are releases: what is in them is written down here
 * by hand, and must be read for good. tests/data/snapshots/make.py describes how they are made.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/run.h"
#include "snapshot/snapshot.h"
#include "snapshot/stage.h"
#include "snapshots.h"

#define IMAGES_MAX 3

static struct golden golden;
static Bh__State *states[IMAGES_MAX];
static size_t n_states;
static void *opened[16]; /* stages, to be freed */
static size_t n_opened;

static void close_all(void)
{
	while (n_opened)
		protobuf_c_message_free_unpacked(opened[--n_opened], NULL);
	while (n_states)
		bh__state__free_unpacked(states[--n_states], NULL);
}

static void open_file(const char *name)
{
	struct snapshot_image image;
	struct snapshot_fault fault = { "" };
	size_t at = 0;
	int r;

	golden_read(&golden, name);
	while ((r = snapshot_next(golden.bytes, golden.n, &at, &image, &fault)) == 0) {
		ck_assert_uint_lt(n_states, IMAGES_MAX);
		r = snapshot_unpack(image.state, image.n_state, &states[n_states], &fault);
		ck_assert_msg(r == 0, "%s: %s", name, fault.text);
		n_states++;
	}
	ck_assert_msg(r == SNAPSHOT_E_END, "%s: %s", name, fault.text);
}

static const void *stage(const Bh__State *state, const struct snapshot_stage *row)
{
	ProtobufCMessage *msg = NULL;

	ck_assert_uint_lt(n_opened, ARRAY_SIZE(opened));
	ck_assert_int_eq(snapshot_stage_unpack(state, row, &msg), 0);
	opened[n_opened++] = msg;
	return msg;
}

static void check_head(const Bh__State *state, const char *type, const char *device, bool suspended)
{
	ck_assert_str_eq(state->type, type);
	ck_assert_str_eq(state->device, device);
	ck_assert_str_eq(state->guest, "vm1");
	ck_assert_uint_eq(state->saved_usec, 1700000000123456);
	ck_assert_int_eq(state->suspended, suspended);
}

static void check_stage(const Bh__State *state, size_t i, const char *name, uint32_t version)
{
	ck_assert_uint_lt(i, state->n_stages);
	ck_assert_str_eq(state->stages[i]->name, name);
	ck_assert_uint_eq(state->stages[i]->version, version);
}

static void check_ring(const Bh__RingsStage *rings, uint32_t index, uint32_t size,
	uint32_t position, bool running)
{
	const Bh__RingStage *ring = rings->rings[index];

	ck_assert_uint_eq(ring->index, index);
	ck_assert_uint_eq(ring->size, size);
	ck_assert_uint_eq(ring->position, position);
	ck_assert_int_eq(ring->running, running);
}

static void check_in_flight(const Bh__RingStage *ring, size_t n, const uint32_t *ids)
{
	ck_assert_uint_eq(ring->n_in_flight, n);
	for (size_t i = 0; i < n; i++)
		ck_assert_uint_eq(ring->in_flight[i], ids[i]);
}

static void check_counters(const Bh__CountersOfRing *counters, uint32_t index,
	const uint64_t expected[6])
{
	ck_assert_uint_eq(counters->index, index);
	ck_assert_uint_eq(counters->chains, expected[0]);
	ck_assert_uint_eq(counters->bytes, expected[1]);
	ck_assert_uint_eq(counters->dropped, expected[2]);
	ck_assert_uint_eq(counters->errors, expected[3]);
	ck_assert_uint_eq(counters->kicks, expected[4]);
	ck_assert_uint_eq(counters->calls, expected[5]);
}

static void check_bytes(ProtobufCBinaryData data, const char *expected, size_t n)
{
	ck_assert_uint_eq(data.len, n);
	ck_assert_mem_eq(data.data, expected, n);
}

/* --- Release 0.2.0 --- */

static void check_split_net(const Bh__NetStage *net)
{
	check_bytes(net->mac, "\x52\x54\x00\x12\x34\x56", 6);
	ck_assert_uint_eq(net->modes, 42);
	ck_assert(net->unicast_overflow && net->multicast_overflow);
	ck_assert_uint_eq(net->n_unicast, 2);
	check_bytes(net->unicast[0], "\x02\x00\x00\x00\x00\x01", 6);
	check_bytes(net->unicast[1], "\x02\x00\x00\x00\x00\x02", 6);
	ck_assert_uint_eq(net->n_multicast, 1);
	check_bytes(net->multicast[0], "\x01\x00\x5e\x00\x00\xfb", 6);
	ck_assert_uint_eq(net->n_vlans, 3);
	ck_assert_uint_eq(net->vlans[0], 0);
	ck_assert_uint_eq(net->vlans[1], 5);
	ck_assert_uint_eq(net->vlans[2], 4095);
	ck_assert_uint_eq(net->queue_pairs, 2);
	ck_assert(net->offloads_set);
	ck_assert_uint_eq(net->offloads, 0x82);
	ck_assert(net->announce);
}

static void check_split_counters(const Bh__CountersStage *counters)
{
	ck_assert_uint_eq(counters->n_rings, 2);
	check_counters(counters->rings[0], 0,
		(uint64_t[]){ 0x8000000000000000, 0xffffffffffffffff, 3, 4, 5, 6 });
	check_counters(counters->rings[1], 1, (uint64_t[]){ 11, 12, 13, 14, 15, 16 });
}

static void check_split_rings(const Bh__RingsStage *rings)
{
	ck_assert_uint_eq(rings->n_rings, 5);
	check_ring(rings, 0, 256, 65535, false);
	check_in_flight(rings->rings[0], 3, (uint32_t[]){ 3, 255, 0 });
	check_ring(rings, 1, 1024, 7, false);
	check_ring(rings, 2, 256, 0, false);
	check_ring(rings, 3, 32768, 32769, false);
	check_ring(rings, 4, 64, 12, false);
	for (size_t i = 1; i < 5; i++)
		check_in_flight(rings->rings[i], 0, NULL);
}

static void check_split(const Bh__State *state)
{
	const Bh__FeaturesStage *features = stage(state, &snapshot_stage_features);

	check_head(state, "net", "net0", true);
	ck_assert_str_eq(state->release, "0.2.0");
	ck_assert_uint_eq(state->n_stages, 4);
	check_stage(state, 0, "features", 1);
	check_stage(state, 1, "rings", 1);
	check_stage(state, 2, "counters", 1);
	check_stage(state, 3, "net", 1);
	ck_assert_uint_eq(features->features, 0x170ef81af);
	ck_assert_uint_eq(features->protocol_features, 0x9b63f);
	check_split_rings(stage(state, &snapshot_stage_rings));
	check_split_counters(stage(state, &snapshot_stage_counters));
	check_split_net(stage(state, &snapshot_stage_net));
}

static void check_suspended_net(const Bh__NetStage *net)
{
	check_bytes(net->mac, "\x52\x54\x00\x12\x34\x56", 6);
	ck_assert_uint_eq(net->modes, 6);
	ck_assert(!net->unicast_overflow && !net->multicast_overflow && !net->announce);
	ck_assert_uint_eq(net->n_unicast, 1);
	check_bytes(net->unicast[0], "\x02\x00\x00\x00\x00\x01", 6);
	ck_assert_uint_eq(net->n_multicast, 1);
	check_bytes(net->multicast[0], "\x01\x00\x5e\x00\x00\xfb", 6);
	ck_assert_uint_eq(net->n_vlans, 2);
	ck_assert_uint_eq(net->vlans[0], 1);
	ck_assert_uint_eq(net->vlans[1], 4094);
	ck_assert_uint_eq(net->queue_pairs, 2);
	ck_assert(net->offloads_set);
	ck_assert_uint_eq(net->offloads, 0x80);
}

static void check_suspended(const Bh__State *state)
{
	const Bh__FeaturesStage *features = stage(state, &snapshot_stage_features);
	const Bh__RingsStage *rings = stage(state, &snapshot_stage_rings);
	const Bh__CountersStage *counters = stage(state, &snapshot_stage_counters);

	check_head(state, "net", "net0", true);
	ck_assert_str_eq(state->release, "0.2.0");
	ck_assert_uint_eq(state->n_stages, 4);
	ck_assert_uint_eq(features->features, 0x170ef81a7);
	ck_assert_uint_eq(features->protocol_features, 0x9963f);
	ck_assert_uint_eq(rings->n_rings, 5);
	ck_assert_uint_eq(counters->n_rings, 5);
	for (uint32_t i = 0; i < 5; i++) {
		check_ring(rings, i, i < 4 ? 256 : 64, i < 4 ? 1000 + i : 12, false);
		check_in_flight(rings->rings[i], 0, NULL);
		check_counters(counters->rings[i], i,
			(uint64_t[]){ 10 * i + 1, 10 * i + 2, 3, 4, 5, 6 });
	}
	check_suspended_net(stage(state, &snapshot_stage_net));
}

static void check_packed_net(const Bh__NetStage *net)
{
	check_bytes(net->mac, "\x52\x54\x00\xab\xcd\xef", 6);
	ck_assert_uint_eq(net->modes, 1);
	ck_assert_uint_eq(net->queue_pairs, 1);
	ck_assert(!net->unicast_overflow && !net->multicast_overflow && !net->offloads_set);
	ck_assert(!net->announce);
	ck_assert_uint_eq(net->n_unicast + net->n_multicast + net->n_vlans, 0);
	ck_assert_uint_eq(net->offloads, 0);
}

static void check_packed(const Bh__State *state)
{
	const Bh__FeaturesStage *features = stage(state, &snapshot_stage_features);
	const Bh__RingsStage *rings = stage(state, &snapshot_stage_rings);

	check_head(state, "net", "net1", false);
	ck_assert_str_eq(state->release, "0.2.0");
	ck_assert_uint_eq(state->n_stages, 3);
	check_stage(state, 0, "features", 1);
	check_stage(state, 1, "rings", 1);
	check_stage(state, 2, "net", 1);
	ck_assert_uint_eq(features->features, 0x570ef81af);
	ck_assert_uint_eq(features->protocol_features, 0x9b63f);
	ck_assert_uint_eq(rings->n_rings, 3);
	/* used: slot 99 of the former lap; available: slot 4 of the present one */
	check_ring(rings, 0, 100, 0x00638004, true);
	check_in_flight(rings->rings[0], 5, (uint32_t[]){ 99, 0, 42, 1, 7 });
	check_ring(rings, 1, 256, 0x80ff80ff, true);
	check_ring(rings, 2, 0, 0, false);
	check_packed_net(stage(state, &snapshot_stage_net));
}

static void check_coalesce_of(const Bh__CoalesceOfRing *coalesce, uint32_t index,
	uint32_t max_packets, uint32_t max_usecs)
{
	ck_assert_uint_eq(coalesce->index, index);
	ck_assert_uint_eq(coalesce->max_packets, max_packets);
	ck_assert_uint_eq(coalesce->max_usecs, max_usecs);
}

static void check_coalesce(const Bh__State *state)
{
	const Bh__FeaturesStage *features = stage(state, &snapshot_stage_features);
	const Bh__NetStage *net = stage(state, &snapshot_stage_net);

	check_head(state, "net", "net0", true);
	ck_assert_uint_eq(features->features, 0x30000170ef81af);
	check_bytes(net->source, "\x52\x54\x00\x12\x34\x57", 6);
	ck_assert_uint_eq(net->n_coalesce, 3);
	check_coalesce_of(net->coalesce[0], 0, 16, 50);
	check_coalesce_of(net->coalesce[1], 3, UINT32_MAX, UINT32_MAX);
	check_coalesce_of(net->coalesce[2], 255, 0, 1);
}

static void check_hash(const Bh__State *state)
{
	const Bh__FeaturesStage *features = stage(state, &snapshot_stage_features);
	const Bh__NetStage *net = stage(state, &snapshot_stage_net);

	check_head(state, "net", "net0", true);
	ck_assert_uint_eq(features->features, 0x200000170ef81af);
	ck_assert_uint_eq(net->hash_types, 0x1ff);
	ck_assert_uint_eq(net->hash_key.len, 40);
	for (uint8_t i = 0; i < 40; i++)
		ck_assert_uint_eq(net->hash_key.data[i], i);
}

static void check_null(const Bh__State *state)
{
	const Bh__FeaturesStage *features = stage(state, &snapshot_stage_features);
	const Bh__RingsStage *rings = stage(state, &snapshot_stage_rings);

	check_head(state, "null", "null0", true);
	ck_assert_str_eq(state->release, "0.2.0");
	ck_assert_uint_eq(state->n_stages, 3);
	check_stage(state, 0, "features", 1);
	check_stage(state, 1, "rings", 1);
	check_stage(state, 2, "null", 1);
	(void)stage(state, &snapshot_stage_null);
	ck_assert_uint_eq(features->features, 0);
	ck_assert_uint_eq(features->protocol_features, 0);
	ck_assert_uint_eq(rings->n_rings, 0);
}

/* --- All releases --- */

static const struct {
	const char *name;
	void (*check[IMAGES_MAX])(const Bh__State *state);
} files[] = {
	{ "0.2.0/net-split.state", { check_split } },
	{ "0.2.0/net-packed.state", { check_packed } },
	{ "0.2.0/net-suspended.state", { check_suspended } },
	{ "0.2.0/net-coalesce.state", { check_coalesce } },
	{ "0.2.0/net-hash.state", { check_hash } },
	{ "0.2.0/null.state", { check_null } },
	{ "0.2.0/guest.state", { check_split, check_packed, check_null } },
};

START_TEST(test_snapshots_of_every_release_are_read)
{
	size_t n = 0;

	open_file(files[_i].name);
	for (; n < n_states; n++) {
		ck_assert(files[_i].check[n]);
		files[_i].check[n](states[n]);
	}
	ck_assert(n == IMAGES_MAX || !files[_i].check[n]);
}
END_TEST

/* --- No file is forgotten --- */

static bool is_listed(const char *release, const char *name)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", release, name);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (strcmp(files[i].name, path) == 0)
			return true;
	return false;
}

static size_t count_files(const char *release)
{
	DIR *dir = opendir(golden_path(release));
	struct dirent *entry;
	size_t n = 0;

	for (; dir && (entry = readdir(dir)); n++) {
		if (*entry->d_name == '.')
			n--;
		else
			ck_assert_msg(is_listed(release, entry->d_name), "%s/%s", release,
				entry->d_name);
	}
	if (dir)
		closedir(dir);
	return n;
}

START_TEST(test_every_file_is_in_the_list)
{
	DIR *dir = opendir(golden_path(""));
	struct dirent *entry;
	size_t n = 0;

	ck_assert(dir);
	while ((entry = readdir(dir)))
		if (*entry->d_name != '.')
			n += count_files(entry->d_name);
	closedir(dir);
	ck_assert_uint_eq(n, ARRAY_SIZE(files));
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("golden");

	tcase_add_checked_fixture(tcase, NULL, close_all);
	tcase_add_loop_test(tcase, test_snapshots_of_every_release_are_read, 0, ARRAY_SIZE(files));
	tcase_add_test(tcase, test_every_file_is_in_the_list);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	return run_main("golden", add);
}

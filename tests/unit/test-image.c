/*
 * The state of a device is judged by the device that is to take it over: each rule that it breaks
 * is named with its field, and nothing is changed. The form is judged by common/snapshot, whose
 * tests are their own.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "device/image.h"
#include "lib/run.h"
#include "virtq/ledger.h"

#define N_QUEUES 4
#define FEATURES (BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_EVENT_IDX))
#define OFFERED (FEATURES | BIT(VIRTIO_F_RING_PACKED))

/* --- A device, and its state --- */

static unsigned int n_loads;
static bool load_refuses;

static size_t save(const struct device *device, uint8_t **ret_data)
{
	*ret_data = malloc(3);
	ck_assert_ptr_nonnull(*ret_data);
	memcpy(*ret_data, "own", 3);
	return 3;
}

static int load(struct device *device, const struct device_stage *stage, char *why, size_t n_why)
{
	ck_assert_uint_eq(stage->version, 1);
	ck_assert_uint_eq(stage->features, FEATURES | BIT(VHOST_USER_F_PROTOCOL_FEATURES));
	ck_assert(stage->n_bytes == 3 && memcmp(stage->data, "own", 3) == 0);
	n_loads++;
	if (load_refuses)
		snprintf(why, n_why, "stage toy: it does not fit");
	return load_refuses ? -EINVAL : 0;
}

static const struct device_ops ops = {
	.type = "toy", .state_version = 1, .save = save, .load = load
};
static struct config config = { .guest = (char *)"vm" };
static struct config_device name = { .name = (char *)"toy0", .type = (char *)"toy" };
static struct proc proc = { .config = &config };
static struct device_queue queues[N_QUEUES];
static struct ledger_queue slots[N_QUEUES];
static struct device_core core;
static struct device device;
static Bh__Desired applied;
static Bh__Ring rings[2], *ring_list[2] = { &rings[0], &rings[1] };
static char why[IMAGE_WHY_BYTES];

static void set_up(void)
{
	bh__desired__init(&applied);
	applied.features = FEATURES | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	applied.features_set = true;
	applied.protocol_features = BIT(VHOST_USER_PROTOCOL_F_MQ) |
		BIT(VHOST_USER_PROTOCOL_F_LOG_SHMFD) | BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE);
	for (uint32_t i = 0; i < 2; i++) {
		bh__ring__init(&rings[i]);
		rings[i].index = i;
		rings[i].size = 256;
		rings[i].position = 5 + i;
	}
	applied.rings = ring_list;
	applied.n_rings = 2;
	core.applied = &applied;
	device = (struct device){ .ops = &ops,
		.proc = &proc,
		.config = &name,
		.core = &core,
		.queues = queues,
		.features = FEATURES,
		.ledger = { .queues = slots },
		.offer = { .features = OFFERED,
			.protocol_features = BIT(VHOST_USER_PROTOCOL_F_MQ),
			.n_queues = N_QUEUES,
			.queue_size_max = 1024 } };
	memset(slots, 0, sizeof(slots));
	slots[1].counters = (struct ledger_counters){ .chains = 7, .bytes = 700, .calls = 3 };
	n_loads = 0;
	load_refuses = false;
}

static Bh__State *saved(void)
{
	_cleanup_free_ uint8_t *data = NULL;
	size_t n_bytes;
	Bh__State *state;

	ck_assert_int_eq(image_save(&device, &data, &n_bytes, why), 0);
	state = bh__state__unpack(NULL, n_bytes, data);
	ck_assert_ptr_nonnull(state);
	return state;
}

static Bh__Stage *stage_of(Bh__State *state, const char *stage)
{
	for (size_t i = 0; i < state->n_stages; i++)
		if (strcmp(state->stages[i]->name, stage) == 0)
			return state->stages[i];
	ck_abort_msg("no stage %s", stage);
}

static void put(Bh__Stage *stage, const ProtobufCMessage *msg)
{
	free(stage->data.data);
	stage->data.len = protobuf_c_message_get_packed_size(msg);
	stage->data.data = malloc(stage->data.len + 1);
	ck_assert_ptr_nonnull(stage->data.data);
	protobuf_c_message_pack(msg, stage->data.data);
}

static int open_and_load(Bh__State *state, struct image *image)
{
	size_t n = bh__state__get_packed_size(state);
	_cleanup_free_ uint8_t *data = malloc(n + 1);
	int r;

	ck_assert_ptr_nonnull(data);
	bh__state__pack(state, data);
	bh__state__free_unpacked(state, NULL);
	r = image_open(image, &device, data, n, why);
	return r < 0 ? r : image_load(image, &device, why);
}

/* The sentence has this in it, and the device has not been asked, but to judge its own stage. */
static void expect_refused(Bh__State *state, const char *sentence)
{
	struct ledger_queue before[N_QUEUES];
	struct image image;

	memcpy(before, slots, sizeof(slots));
	ck_assert_int_eq(open_and_load(state, &image), -EINVAL);
	image_close(&image);
	ck_assert_msg(strstr(why, sentence) != NULL, "%s", why);
	ck_assert_uint_eq(n_loads, load_refuses);
	ck_assert_int_eq(memcmp(before, slots, sizeof(slots)), 0);
}

/* --- What is refused --- */

START_TEST(test_state_of_another_type_is_refused)
{
	Bh__State *state = saved();

	free(state->type);
	state->type = strdup("net");
	expect_refused(state, "state of a device of type net; this one's is toy");
}
END_TEST

START_TEST(test_newer_and_unknown_stages_are_refused)
{
	static const char *const stages[] = { "features", "rings", "counters", "toy" };
	char sentence[80];
	Bh__State *state;

	for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
		state = saved();
		stage_of(state, stages[i])->version = 2;
		snprintf(sentence, sizeof(sentence), "stage %s has version 2", stages[i]);
		expect_refused(state, sentence);
	}
	state = saved();
	free(stage_of(state, "counters")->name);
	state->stages[2]->name = strdup("later");
	expect_refused(state, "stage later is unknown");
}
END_TEST

START_TEST(test_missing_stages_are_refused)
{
	static const char *const stages[] = { "features", "rings", "toy" };
	char sentence[80];

	for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
		Bh__State *state = saved();
		Bh__Stage *stage = stage_of(state, stages[i]);

		for (size_t k = 0; k < state->n_stages; k++)
			if (state->stages[k] == stage)
				state->stages[k] = state->stages[--state->n_stages];
		bh__stage__free_unpacked(stage, NULL);
		snprintf(sentence, sizeof(sentence), "stage %s is missing", stages[i]);
		expect_refused(state, sentence);
	}
}
END_TEST

START_TEST(test_feature_that_is_not_offered_is_named)
{
	Bh__FeaturesStage features = BH__FEATURES_STAGE__INIT;
	Bh__State *state = saved();

	features.features = FEATURES | BIT(22);
	put(stage_of(state, "features"), &features.base);
	expect_refused(state, "features has bit 22, which is not offered here");
	state = saved();
	features.features = FEATURES;
	features.protocol_features = BIT(VHOST_USER_PROTOCOL_F_STATUS);
	put(stage_of(state, "features"), &features.base);
	expect_refused(state, "protocol_features has bit 16, which is not offered here");
}
END_TEST

START_TEST(test_other_layout_of_rings_is_refused)
{
	Bh__FeaturesStage features = BH__FEATURES_STAGE__INIT;
	Bh__RingsStage none = BH__RINGS_STAGE__INIT;
	Bh__State *state = saved();

	features.features = FEATURES | BIT(VIRTIO_F_RING_PACKED);
	put(stage_of(state, "features"), &features.base);
	put(stage_of(state, "rings"), &none.base);
	expect_refused(state, "rings are packed (bit 34), and the negotiated ones are not");
}
END_TEST

/* One ring at a time, and what is wrong with it. */
START_TEST(test_rings_that_the_device_does_not_have_are_refused)
{
	static const struct {
		uint32_t index, size, n_in_flight;
		const char *sentence;
	} wrong[] = {
		{ N_QUEUES, 256, 0, "ring 4; the device has 4" },
		{ 3, 2048, 0, "ring 3 has size 2048; at most 1024 is possible here" },
		{ 1, 128, 0, "ring 1 has size 128; the VMM has set it up with 256" },
		{ 1, 256, 2, "ring 1 has 2 chains in flight" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		uint32_t heads[2] = { 3, 1 };
		Bh__RingsStage stage = BH__RINGS_STAGE__INIT;
		Bh__RingStage ring = BH__RING_STAGE__INIT, *list = &ring;
		Bh__State *state = saved();

		ring.index = wrong[i].index;
		ring.size = wrong[i].size;
		ring.in_flight = heads;
		ring.n_in_flight = wrong[i].n_in_flight;
		ring.running = wrong[i].n_in_flight;
		state->suspended = !ring.running;
		stage.rings = &list;
		stage.n_rings = 1;
		put(stage_of(state, "rings"), &stage.base);
		expect_refused(state, wrong[i].sentence);
	}
}
END_TEST

START_TEST(test_counters_of_a_ring_that_is_not_there_are_refused)
{
	Bh__CountersStage stage = BH__COUNTERS_STAGE__INIT;
	Bh__CountersOfRing ring = BH__COUNTERS_OF_RING__INIT, *list = &ring;
	Bh__State *state = saved();

	ring.index = 9;
	stage.rings = &list;
	stage.n_rings = 1;
	put(stage_of(state, "counters"), &stage.base);
	expect_refused(state, "stage counters: ring 9; the device has 4");
}
END_TEST

START_TEST(test_stage_that_the_device_refuses_changes_nothing)
{
	load_refuses = true;
	expect_refused(saved(), "stage toy: it does not fit");
}
END_TEST

/* --- What is loaded --- */

START_TEST(test_state_is_loaded_with_counters_and_positions)
{
	struct ledger_counters counters = slots[1].counters;
	struct image image;
	Bh__State *state = saved();

	ck_assert(state->suspended);
	memset(slots, 0, sizeof(slots));
	ck_assert_msg(open_and_load(state, &image) == 0, "%s", why);
	ck_assert_uint_eq(n_loads, 1);
	ck_assert_int_eq(memcmp(&slots[1].counters, &counters, sizeof(counters)), 0);
	ck_assert_uint_eq(image.rings->n_rings, 2);
	for (uint32_t i = 0; i < 2; i++) {
		ck_assert_uint_eq(image.rings->rings[i]->index, i);
		ck_assert_uint_eq(image.rings->rings[i]->position, 5 + i);
	}
	image_close(&image);
}
END_TEST

/* The dirty log is no matter of the state; a device without counters keeps its own. */
START_TEST(test_state_of_a_device_that_is_logged)
{
	struct image image;
	Bh__State *state;

	applied.features |= BIT(VHOST_F_LOG_ALL);
	state = saved();
	bh__stage__free_unpacked(state->stages[2], NULL);
	state->stages[2] = state->stages[--state->n_stages];
	ck_assert_msg(open_and_load(state, &image) == 0, "%s", why);
	ck_assert_uint_eq(slots[1].counters.chains, 7);
	image_close(&image);
}
END_TEST

/* Features may be negotiated after the load. */
START_TEST(test_layout_counts_when_features_are_set)
{
	struct image image;
	Bh__State *state = saved();

	applied.features = 0;
	applied.features_set = false;
	ck_assert_msg(open_and_load(state, &image) == 0, "%s", why);
	image_close(&image);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = tcase_create("image");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, test_state_of_another_type_is_refused);
	tcase_add_test(tc, test_newer_and_unknown_stages_are_refused);
	tcase_add_test(tc, test_missing_stages_are_refused);
	tcase_add_test(tc, test_feature_that_is_not_offered_is_named);
	tcase_add_test(tc, test_other_layout_of_rings_is_refused);
	tcase_add_test(tc, test_rings_that_the_device_does_not_have_are_refused);
	tcase_add_test(tc, test_counters_of_a_ring_that_is_not_there_are_refused);
	tcase_add_test(tc, test_stage_that_the_device_refuses_changes_nothing);
	tcase_add_test(tc, test_state_is_loaded_with_counters_and_positions);
	tcase_add_test(tc, test_state_of_a_device_that_is_logged);
	tcase_add_test(tc, test_layout_counts_when_features_are_set);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("image", add);
}

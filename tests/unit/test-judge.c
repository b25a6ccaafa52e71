/* What a record may say: the most of everything passes, and one more, or one twice, does not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/run.h"
#include "memory/judge.h"
#include "record/record.h"

#define NOW 1000

static Bh__Desired d;
static Bh__Observed o;
static Bh__Ring rings[VHOST_USER_MAX_QUEUES + 1], *ring_list[VHOST_USER_MAX_QUEUES + 1];
static Bh__RingState states[VHOST_USER_MAX_QUEUES + 1], *state_list[VHOST_USER_MAX_QUEUES + 1];
static Bh__ConfigWrite writes[65], *write_list[65];
static Bh__NetDesired net;
static Bh__Inflight inflight;
static Bh__Log dirty_log;
static Bh__ShmemRegion regions[257], *region_list[257];
static Bh__ShmemMap maps[RECORD_SHMEM_MAPS_MAX + 1], *map_list[RECORD_SHMEM_MAPS_MAX + 1];
static Bh__Figure figures[33], *figure_list[33];
static char figure_names[33][16];
static uint64_t seqs[RECORD_SHMEM_MAPS_MAX + 1];
static char text[256], long_text[300];
static uint8_t bytes[257];

/* Maps fill the last region from its end on. */
static void set_up_shmem(void)
{
	for (uint32_t i = 0; i <= 256; i++) {
		bh__shmem_region__init(&regions[i]);
		regions[i].id = i;
		regions[i].size_bytes = 4096 * RECORD_SHMEM_MAPS_MAX;
		region_list[i] = &regions[i];
	}
	for (uint32_t i = 0; i <= RECORD_SHMEM_MAPS_MAX; i++) {
		bh__shmem_map__init(&maps[i]);
		maps[i].seq = i + 1;
		maps[i].region = 255;
		maps[i].offset_bytes = 4096 * ((uint64_t)RECORD_SHMEM_MAPS_MAX - 1 - i);
		maps[i].size_bytes = 4096;
		map_list[i] = &maps[i];
	}
	d.shmem_mapped = d.shmem_refused = seqs;
	d.n_shmem_mapped = d.n_shmem_refused = RECORD_SHMEM_MAPS_MAX;
	d.shmem_epoch = o.shmem_epoch = UINT64_C(1) << 63;
	o.shmem_regions = region_list;
	o.n_shmem_regions = 256;
	o.shmem_maps = map_list;
	o.n_shmem_maps = RECORD_SHMEM_MAPS_MAX;
}

static void set_up_figures(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
		bh__figure__init(&figures[i]);
		snprintf(figure_names[i], sizeof(figure_names[i]), "mapped %zu", i);
		figures[i].name = figure_names[i];
		figures[i].unit = (char *)"bytes";
		figures[i].value = UINT64_MAX;
		figure_list[i] = &figures[i];
	}
	o.figures = figure_list;
	o.n_figures = 32;
}

/* The fullest that there can be. */
static void set_up(void)
{
	bh__desired__init(&d);
	bh__observed__init(&o);
	bh__inflight__init(&inflight);
	bh__log__init(&dirty_log);
	for (uint32_t i = 0; i <= VHOST_USER_MAX_QUEUES; i++) {
		bh__ring__init(&rings[i]);
		bh__ring_state__init(&states[i]);
		rings[i].index = states[i].index = i;
		rings[i].size = 32768;
		rings[i].start_id = states[i].start_id = states[i].error_start_id = NOW;
		states[i].error = (char *)"the available index is ahead by more than the ring";
		ring_list[i] = &rings[i];
		state_list[i] = &states[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
		bh__config_write__init(&writes[i]);
		writes[i].seq = NOW;
		writes[i].data = (ProtobufCBinaryData){ 256, bytes };
		write_list[i] = &writes[i];
	}
	inflight = (Bh__Inflight){ .base = inflight.base,
		.token = 1,
		.mmap_size = 4096,
		.n_queues = 256,
		.queue_size = 32768 };
	memset(long_text, 'x', sizeof(long_text) - 1);
	d.generation = NOW;
	d.session = d.reset_epoch = d.rarp_seq = UINT64_C(1) << 63;
	d.rings = ring_list;
	d.n_rings = VHOST_USER_MAX_QUEUES;
	d.config_writes = write_list;
	d.n_config_writes = 64;
	d.inflight = &inflight;
	dirty_log.token = 1;
	dirty_log.mmap_size = INT64_MAX - 1;
	dirty_log.mmap_offset = 1;
	d.log = &dirty_log;
	d.mtu = 65535;
	d.rarp_mac = (ProtobufCBinaryData){ 6, bytes };
	bh__net_desired__init(&net);
	net.mtu = 65535;
	net.rarp_seq = d.rarp_seq;
	net.rarp_mac = d.rarp_mac;
	d.net = &net;
	d.quarantine = (char *)"frontend: message SET_VRING_NUM (8) killed it; "
			       "\xc3\xa4\xe2\x82\xac\xf0\x9f\x9a\xa2";
	o.generation = 1;
	o.applied = NOW;
	o.n_queues = o.queue_num = 256;
	o.queue_size_max = 32768;
	o.max_mem_slots = 509;
	o.config = o.config_writable = (ProtobufCBinaryData){ 256, bytes };
	o.rings = state_list;
	o.n_rings = VHOST_USER_MAX_QUEUES;
	o.backend = (char *)"tap tap0 (up)";
	o.trouble = (char *)"interface tap0 is gone";
	set_up_shmem();
	set_up_figures();
}

static int judge(void)
{
	*text = '\0';
	return judge_desired(&d, NOW - 1, text, sizeof(text)) ||
		judge_observed(&o, NOW, text, sizeof(text));
}

/* Each line breaks one rule. */
#define BREAK(n, what)                                                                             \
	case n:                                                                                    \
		what;                                                                              \
		break

#define N_BROKEN 73

static bool break_rule(int i)
{
	switch (i) {
		BREAK(0, d.n_rings = VHOST_USER_MAX_QUEUES + 1);
		BREAK(1, rings[9].index = 8);
		BREAK(2, rings[9].index = VHOST_USER_MAX_QUEUES);
		BREAK(3, rings[9].index = UINT32_MAX);
		BREAK(4, rings[9].size = 32769);
		BREAK(5, rings[9].start_id = NOW + 1);
		BREAK(6, d.n_config_writes = 65);
		BREAK(7, writes[3].data.len = 257);
		BREAK(8, writes[3].offset_bytes = 1);
		BREAK(9, writes[3].offset_bytes = UINT32_MAX);
		BREAK(10, writes[3].seq = NOW + 1);
		BREAK(11, inflight.n_queues = 257);
		BREAK(12, inflight.queue_size = 32769);
		BREAK(13, inflight.mmap_offset = UINT64_MAX);
		BREAK(14, inflight.mmap_size = UINT64_C(1) << 63);
		BREAK(15, d.mtu = 65536);
		BREAK(16, d.rarp_mac.len = 5);
		BREAK(17, d.rarp_mac.len = 7);
		BREAK(18, d.session++);
		BREAK(19, d.reset_epoch = UINT64_MAX);
		BREAK(20, d.rarp_seq = UINT64_MAX);
		BREAK(21, d.quarantine = long_text);
		BREAK(22, d.quarantine = (char *)"\33[2J");
		BREAK(23, d.quarantine = (char *)"two\nlines");
		BREAK(24, d.quarantine = (char *)"\xff");
		BREAK(25,
			d.quarantine = (char *)"\xc2\x9b"
					       "2J");
		BREAK(26, d.quarantine = (char *)"\xe2\x82");
		BREAK(27, d.quarantine = (char *)"\xc0\xaf");
		BREAK(28, d.quarantine = (char *)"\x7f");
		BREAK(29, o.applied = NOW + 1);
		BREAK(30, o.applied = UINT64_MAX);
		BREAK(31, o.n_queues = 257);
		BREAK(32, o.queue_size_max = 32769);
		BREAK(33, o.max_mem_slots = 510);
		BREAK(34, o.config.len = 257);
		BREAK(35, o.n_rings = VHOST_USER_MAX_QUEUES + 1);
		BREAK(36, states[7].index = 6);
		BREAK(37, states[7].start_id = NOW + 1);
		BREAK(38, states[7].error = (char *)"bell\a");
		BREAK(39, o.backend = long_text);
		BREAK(40, net.mtu = 65536);
		BREAK(41, net.rarp_mac.len = 5);
		BREAK(42, net.rarp_seq = UINT64_MAX);
		BREAK(43, dirty_log.mmap_size = 0);
		BREAK(44, dirty_log.mmap_size = INT64_MAX);
		BREAK(45, dirty_log.mmap_size = UINT64_MAX);
		BREAK(46, dirty_log.mmap_offset = UINT64_MAX);
		BREAK(47, dirty_log.token = 0);
		BREAK(48, d.n_shmem_mapped++);
		BREAK(49, d.n_shmem_refused++);
		BREAK(50, d.shmem_epoch++);
		BREAK(51, o.shmem_epoch++);
		BREAK(52, o.n_shmem_maps++);
		BREAK(53, regions[9].id = 8);
		BREAK(54, regions[9].id = 256);
		BREAK(55, regions[9].size_bytes = 4097);
		BREAK(56, regions[9].size_bytes = 2048);
		BREAK(57, o.n_shmem_regions = 255); /* the maps' own is gone */
		BREAK(58, maps[0].seq = 0);
		BREAK(59, maps[3].seq = 3);
		BREAK(60, maps[RECORD_SHMEM_MAPS_MAX - 1].seq = UINT64_MAX);
		BREAK(61, maps[0].size_bytes = 8192);
		BREAK(62, maps[0].size_bytes = 0);
		BREAK(63, maps[0].offset_bytes = UINT64_MAX - 4095);
		BREAK(64, maps[7].size_bytes = 8192); /* into the sixth's */
		BREAK(65, maps[7].offset_bytes++);
		BREAK(66, maps[7].fd_offset_bytes = INT64_MAX - 4095);
		BREAK(67, o.n_figures++);
		BREAK(68, figures[3].name = long_text);
		BREAK(69, figures[3].unit = (char *)"bell\a");
		BREAK(70, figures[31].name = figure_names[3]);
		BREAK(71, o.trouble = long_text);
		BREAK(72, o.trouble = (char *)"two\nlines");
	default:
		return false;
	}
	return true;
}

START_TEST(test_the_most_of_everything_may_be_said)
{
	ck_assert_msg(judge() == 0, "%s", text);
}
END_TEST

/* covers: P1 */
START_TEST(test_each_rule_is_kept_with_words)
{
	ck_assert(break_rule(_i));
	ck_assert_int_eq(judge(), 1);
	ck_assert_uint_gt(strlen(text), 8);
}
END_TEST

static const struct {
	uint64_t now, next;
	int refused;
} leaps[] = {
	{ 0, 1, 0 },
	{ 0, 500, 0 },
	{ 0, UINT64_C(1) << 62, 0 },
	{ 0, (UINT64_C(1) << 62) + 1, 1 },
	{ 0, UINT64_MAX, 1 },
	{ 5, 6, 0 },
	{ 5, 5 + (1 << 20), 0 },
	{ 5, 6 + (1 << 20), 1 },
	{ 5, UINT64_MAX, 1 },
	{ UINT64_C(1) << 62, (UINT64_C(1) << 62) + 1, 0 },
	{ UINT64_C(1) << 63, (UINT64_C(1) << 63) + 1, 1 },
};

START_TEST(test_generations_do_not_leap)
{
	for (size_t i = 0; i < ARRAY_SIZE(leaps); i++) {
		Bh__Desired next = BH__DESIRED__INIT;

		next.generation = leaps[i].next;
		ck_assert_int_eq(judge_desired(&next, leaps[i].now, text, sizeof(text)),
			leaps[i].refused);
	}
}
END_TEST

/* The counters beside the generation, one by one. */
#define N_COUNTERS 7

static void set_counter(int i, uint64_t value)
{
	switch (i) {
		BREAK(0, d.session = value);
		BREAK(1, d.reset_epoch = value);
		BREAK(2, d.rarp_seq = value);
		BREAK(3, net.rarp_seq = value);
		BREAK(4, d.shmem_epoch = value);
		BREAK(5, o.config_seq = value);
		BREAK(6, o.shmem_epoch = value);
	default:
		ck_abort();
	}
}

static int judge_step(int i, uint64_t now, uint64_t next)
{
	Bh__Desired was_desired;
	Bh__NetDesired was_net;
	Bh__Observed was_observed;

	set_counter(i, now);
	was_desired = d;
	was_net = net;
	was_desired.net = &was_net;
	was_observed = o;
	set_counter(i, next);
	*text = '\0';
	return judge_desired_steps(&d, &was_desired, text, sizeof(text)) ||
		judge_observed_steps(&o, &was_observed, text, sizeof(text));
}

/* covers: P1 */
START_TEST(test_counters_do_not_leap)
{
	for (size_t i = 0; i < ARRAY_SIZE(leaps); i++) {
		ck_assert_int_eq(judge_step(_i, leaps[i].now, leaps[i].next), leaps[i].refused);
		ck_assert(!leaps[i].refused || strlen(text) > 8);
	}
}
END_TEST

/* A device without the part of its type has announced nothing. */
START_TEST(test_a_part_that_is_missing_has_counted_nothing)
{
	Bh__Desired without = d;

	without.net = NULL;
	net.rarp_seq = 1;
	ck_assert_int_eq(judge_desired_steps(&d, &without, text, sizeof(text)), 0);
	ck_assert_int_eq(judge_desired_steps(&without, &d, text, sizeof(text)), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("judge");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, test_the_most_of_everything_may_be_said);
	tcase_add_loop_test(tc, test_each_rule_is_kept_with_words, 0, N_BROKEN);
	tcase_add_test(tc, test_generations_do_not_leap);
	tcase_add_loop_test(tc, test_counters_do_not_leap, 0, N_COUNTERS);
	tcase_add_test(tc, test_a_part_that_is_missing_has_counted_nothing);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("judge", add_tests);
}

/* The commands of the control ring: what changes the state, and what is refused and changes
 * nothing. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "header.h"
#include "lib/run.h"
#include "net.h"

#define PAIRS 4
#define FEATURES                                                                                   \
	(BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | \
		BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |                    \
		BIT(VIRTIO_NET_F_MQ) | BIT(VIRTIO_NET_F_GUEST_ANNOUNCE) |                          \
		BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | BIT(VIRTIO_NET_F_GUEST_CSUM) |             \
		BIT(VIRTIO_NET_F_GUEST_TSO4) | NET_COALESCE_FEATURES |                             \
		BIT(VIRTIO_NET_F_HASH_REPORT))
#define DISABLED 5 /* this ring */

static const uint8_t own[6] = { 0x52, 0x54, 0, 0, 0, 1 };
static struct net_settings settings, before;
static struct net_state *const state = &settings.state;
static struct ctrl_answer answer;
static uint8_t command[2048];
static uint32_t n_room; /* for result and ack */

static void set_up(void)
{
	memset(&settings, 0, sizeof(settings));
	state_reset(state, own);
	before = settings;
	n_room = 64;
}

/* n bytes of command, in spans of `span` bytes; refused and changed nothing, or done */
static bool execute(uint64_t features, size_t n, size_t span)
{
	static struct iovec iov[sizeof(command)];
	struct virtq_chain chain = { .iov = iov, .out_bytes = (uint32_t)n, .in_bytes = n_room };
	struct ctrl_context context = { .features = features, .n_pairs = PAIRS };
	bool done;

	for (unsigned int i = 0; i < NET_RINGS_MAX; i++)
		context.enabled[i] = i != DISABLED;
	for (size_t at = 0; at < n; at += span)
		iov[chain.n_out++] = (struct iovec){ command + at, MIN(span, n - at) };
	done = ctrl_execute(&context, &chain, &settings, &answer);
	if (!done)
		ck_assert_mem_eq(&settings, &before, sizeof(settings));
	before = settings;
	return done;
}

static bool run(const char *bytes, size_t n)
{
	memcpy(command, bytes, n);
	return execute(FEATURES, n, n);
}

#define RUN(text) run(text, sizeof(text) - 1)

/* Each command in its shortest right form, the feature without which it is unknown, and a mistake
 * in its content. */
static const struct {
	const char *good;
	size_t n;
	unsigned int feature;
	const char *bad;
} rows[] = {
	{ "\0\0\1", 3, VIRTIO_NET_F_CTRL_RX, "\0\0\2" },
	{ "\0\1\1", 3, VIRTIO_NET_F_CTRL_RX, "\0\1\377" },
	{ "\0\2\1", 3, VIRTIO_NET_F_CTRL_RX_EXTRA, "\0\2\2" },
	{ "\0\3\1", 3, VIRTIO_NET_F_CTRL_RX_EXTRA, "\0\6\1" },
	{ "\0\4\1", 3, VIRTIO_NET_F_CTRL_RX_EXTRA, NULL },
	{ "\0\5\1", 3, VIRTIO_NET_F_CTRL_RX_EXTRA, NULL },
	{ "\1\0\0\0\0\0\0\0\0\0", 10, VIRTIO_NET_F_CTRL_RX, "\1\2\0\0\0\0\0\0\0\0" },
	{ "\1\1\122\124\0\0\0\2", 8, VIRTIO_NET_F_CTRL_MAC_ADDR, "\1\1\123\124\0\0\0\2" },
	{ "\2\0\7\0", 4, VIRTIO_NET_F_CTRL_VLAN, "\2\0\0\20" },
	{ "\2\1\377\17", 4, VIRTIO_NET_F_CTRL_VLAN, "\2\2\7\0" },
	{ "\3\0", 2, VIRTIO_NET_F_GUEST_ANNOUNCE, "\3\1" },
	{ "\4\0\1\0", 4, VIRTIO_NET_F_MQ, "\4\0\0\0" },
	{ "\4\0\4\0", 4, VIRTIO_NET_F_MQ, "\4\0\5\0" },
	{ "\4\2\0\0\0\0\0\0\0\0\0\0\0\0\0", 15, VIRTIO_NET_F_HASH_REPORT,
		"\4\2\1\0\0\0\0\0\0\0\0\0\0\0\0" },
	{ "\4\2\377\1\0\0\1\2\3\4\5\6\7\10\2ke", 17, VIRTIO_NET_F_HASH_REPORT,
		"\4\2\377\3\0\0\1\2\3\4\5\6\7\10\2ke" },
	{ "\5\0\2\0\0\0\0\0\0\0", 10, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, "\5\0\4\0\0\0\0\0\0\0" },
	{ "\5\0\202\0\0\0\0\0\0\0", 10, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, "\5\0\0\1\0\0\0\0\0\0" },
	{ "\6\0\1\0\0\0\2\0\0\0", 10, VIRTIO_NET_F_NOTF_COAL, "\6\4\1\0\0\0\2\0\0\0" },
	{ "\6\1\1\0\0\0\2\0\0\0", 10, VIRTIO_NET_F_NOTF_COAL, "\6\377\1\0\0\0\2\0\0\0" },
	{ "\6\2\7\0\1\1\1\0\0\0\2\0\0\0", 14, VIRTIO_NET_F_VQ_NOTF_COAL,
		"\6\2\10\0\1\1\1\0\0\0\2\0\0\0" },
	{ "\6\2\0\0\0\0\1\0\0\0\2\0\0\0", 14, VIRTIO_NET_F_VQ_NOTF_COAL,
		"\6\2\5\0\0\0\1\0\0\0\2\0\0\0" },
	{ "\6\3\7\0\1\1", 6, VIRTIO_NET_F_VQ_NOTF_COAL, "\6\3\5\0\1\1" },
};

START_TEST(test_command_is_done_however_it_is_cut)
{
	memcpy(command, rows[_i].good, rows[_i].n);
	for (size_t span = 1; span <= rows[_i].n; span++)
		ck_assert(execute(FEATURES, rows[_i].n, span));
}
END_TEST

/* covers: G12 */
START_TEST(test_command_not_negotiated_is_refused)
{
	memcpy(command, rows[_i].good, rows[_i].n);
	ck_assert(!execute(FEATURES & ~BIT(rows[_i].feature), rows[_i].n, rows[_i].n));
}
END_TEST

START_TEST(test_command_too_short_is_refused)
{
	memcpy(command, rows[_i].good, rows[_i].n);
	for (size_t n = 0; n < rows[_i].n; n++)
		ck_assert(!execute(FEATURES, n, 64));
}
END_TEST

/* covers: G12 */
START_TEST(test_command_with_a_wrong_content_is_refused)
{
	if (!rows[_i].bad)
		return;
	memcpy(command, rows[_i].bad, rows[_i].n);
	ck_assert(!execute(FEATURES, rows[_i].n, rows[_i].n));
}
END_TEST

START_TEST(test_unknown_class_is_refused)
{
	memset(command, 0, sizeof(command));
	for (unsigned int class = 7; class < 256; class ++) {
		command[0] = (uint8_t) class;
		ck_assert(!execute(~UINT64_C(0), 10, 10));
	}
}
END_TEST

START_TEST(test_modes_are_switched_one_by_one)
{
	ck_assert(RUN("\0\0\0") && RUN("\0\1\1") && RUN("\0\5\1"));
	ck_assert_uint_eq(state->modes, 1 << NET_RX_ALLMULTI | 1 << NET_RX_NOBCAST);
	ck_assert(RUN("\0\1\0") && RUN("\0\5\1"));
	ck_assert_uint_eq(state->modes, 1 << NET_RX_NOBCAST);
}
END_TEST

START_TEST(test_tables_are_replaced_whole)
{
	static const uint8_t group[6] = { 0x33, 0x33, 0, 0, 0, 9 };

	ck_assert(RUN("\1\0\2\0\0\0\122\124\0\0\0\7\122\124\0\0\0\10\1\0\0\0\63\63\0\0\0\11"));
	ck_assert_uint_eq(state->n_uni, 2);
	ck_assert_uint_eq(state->n_multi, 1);
	ck_assert_uint_eq(state->macs[0][5], 7);
	ck_assert_uint_eq(state->macs[1][5], 8);
	ck_assert_mem_eq(state->macs[2], group, 6);
	ck_assert(RUN("\1\0\0\0\0\0\1\0\0\0\63\63\0\0\0\11"));
	ck_assert_uint_eq(state->n_uni, 0);
	ck_assert_uint_eq(state->n_multi, 1);
	ck_assert_mem_eq(state->macs[0], group, 6);
	/* a byte behind the tables, and a count that is larger than what follows */
	ck_assert(!RUN("\1\0\0\0\0\0\0\0\0\0\0"));
	ck_assert(!RUN("\1\0\2\0\0\0\122\124\0\0\0\7\0\0\0\0"));
	ck_assert(!RUN("\1\0\377\377\377\377\0\0\0\0"));
	ck_assert(!RUN("\1\0\0\0\0\0\377\377\377\377"));
}
END_TEST

static size_t make_tables(uint32_t n_uni, uint32_t n_multi)
{
	uint32_t count = htole32(n_uni);
	size_t at = 2;

	memset(command, 0, sizeof(command));
	command[0] = 1;
	memcpy(command + at, &count, 4);
	at += 4 + 6 * (size_t)n_uni;
	count = htole32(n_multi);
	memcpy(command + at, &count, 4);
	return at + 4 + 6 * (size_t)n_multi;
}

START_TEST(test_table_too_long_lets_all_of_its_kind_in)
{
	ck_assert(execute(FEATURES, make_tables(NET_MACS_MAX, 0), 64));
	ck_assert_uint_eq(state->n_uni, NET_MACS_MAX);
	ck_assert(!state->uni_overflow && !state->multi_overflow);
	ck_assert(execute(FEATURES, make_tables(NET_MACS_MAX, 1), 64));
	ck_assert(!state->uni_overflow && state->multi_overflow);
	ck_assert_uint_eq(state->n_multi, 0);
	ck_assert(execute(FEATURES, make_tables(NET_MACS_MAX + 1, NET_MACS_MAX), 64));
	ck_assert(state->uni_overflow && !state->multi_overflow);
	ck_assert_uint_eq(state->n_uni, 0);
	ck_assert_uint_eq(state->n_multi, NET_MACS_MAX);
	ck_assert(execute(FEATURES, make_tables(0, 0), 64));
	ck_assert(!state->uni_overflow && !state->multi_overflow);
}
END_TEST

START_TEST(test_what_the_others_set)
{
	state->announce = 1;
	before = settings;
	ck_assert(RUN("\1\1\122\124\0\0\0\42") && state->mac[5] == 042);
	ck_assert(RUN("\2\0\1\4") && state->vlans[1025 / 32] == 1u << 1025 % 32);
	ck_assert(RUN("\2\1\1\4") && state->vlans[1025 / 32] == 0);
	ck_assert(RUN("\3\0") && state->announce == 0);
	ck_assert(RUN("\4\0\3\0") && state->pairs == 3);
	ck_assert(!state->offloads_set);
	ck_assert(RUN("\5\0\202\0\0\0\0\0\0\0") && state->offloads_set);
	ck_assert_uint_eq(state->offloads,
		BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4));
	/* none at all is a choice, too */
	ck_assert(RUN("\5\0\0\0\0\0\0\0\0\0") && state->offloads_set && state->offloads == 0);
}
END_TEST

static void check_ring(unsigned int index, uint32_t max_packets, uint32_t max_usecs)
{
	const char get[6] = { 6, 3, (char)index };

	ck_assert(run(get, sizeof(get)));
	ck_assert_uint_eq(answer.n_bytes, 8);
	ck_assert_uint_eq(le32toh(answer.coalesce.max_packets), max_packets);
	ck_assert_uint_eq(le32toh(answer.coalesce.max_usecs), max_usecs);
}

START_TEST(test_coalescing_is_set_by_kind_and_by_ring)
{
	ck_assert(RUN("\6\1\377\377\377\377\1\0\0\200"));
	ck_assert_uint_eq(answer.n_bytes, 0);
	for (unsigned int i = 0; i < NET_RINGS_MAX; i++)
		ck_assert(settings.single.coalesce[i].max_packets == (i % 2 ? 0 : UINT32_MAX) &&
			settings.single.coalesce[i].max_usecs == (i % 2 ? 0 : 0x80000001));
	ck_assert(RUN("\6\2\1\0\0\0\3\0\0\0\4\0\0\0"));
	check_ring(1, 3, 4);
	check_ring(3, 0, 0);
	ck_assert(RUN("\6\0\5\0\0\0\6\0\0\0"));
	check_ring(1, 5, 6);
	check_ring(7, 5, 6);
	check_ring(0, UINT32_MAX, 0x80000001);
	ck_assert_uint_eq(settings.single.coalesce[DISABLED].max_packets, 5);
}
END_TEST

START_TEST(test_result_has_its_place_before_the_answer)
{
	for (n_room = 1; n_room < 9; n_room++) {
		ck_assert(!RUN("\6\3\0\0\0\0"));
		ck_assert_uint_eq(answer.n_bytes, 0);
	}
	ck_assert(!RUN("\6\3\5\0\0\0"));
	ck_assert(answer.n_bytes == 8 && !answer.coalesce.max_packets);
	ck_assert(RUN("\6\3\0\0\0\0"));
	ck_assert_uint_eq(answer.n_bytes, 8);
}
END_TEST

START_TEST(test_without_pairs_there_are_two_rings)
{
	memcpy(command, (const uint8_t[]){ 6, 3, 1, 0, 0, 0 }, 6);
	ck_assert(execute(FEATURES & ~BIT(VIRTIO_NET_F_MQ), 6, 6));
	command[2] = 2;
	ck_assert(!execute(FEATURES & ~BIT(VIRTIO_NET_F_MQ), 6, 6));
	ck_assert(execute(FEATURES, 6, 6));
}
END_TEST

START_TEST(test_hash_is_set_whole)
{
	char config[2 + 13 + 256] = { 4, 2, (char)0xff, 1 };

	for (unsigned int n_key = 0; n_key < 256; n_key++) {
		memset(config + 15, (int)n_key, n_key);
		config[14] = (char)n_key;
		ck_assert_int_eq(run(config, 15 + n_key), n_key >= 1 && n_key <= HASH_KEY_MAX);
		if (n_key < 1 || n_key > HASH_KEY_MAX)
			continue;
		ck_assert_uint_eq(settings.single.hash.types, HASH_TYPES);
		ck_assert_uint_eq(settings.single.hash.n_key, n_key);
		ck_assert_mem_eq(settings.single.hash.key, config + 15, n_key);
		ck_assert(!run(config, 16 + n_key)); /* one byte too many */
	}
	ck_assert(RUN("\4\2\0\0\0\0\0\0\0\0\0\0\0\0\0"));
	ck_assert(!settings.single.hash.types && !settings.single.hash.n_key);
}
END_TEST

/* --- Kept over a death --- */

START_TEST(test_saved_state_is_found_again)
{
	struct net_saved saved = { 0 };
	struct net_state *in_force = state_open(&saved, own);
	struct net_state changed = *in_force;

	ck_assert_uint_eq(in_force->pairs, 1);
	for (uint16_t pairs = 2; pairs < 5; pairs++) {
		changed.pairs = pairs;
		ck_assert_uint_eq(state_commit(&saved, &changed)->pairs, pairs);
		ck_assert_uint_eq(state_open(&saved, own)->pairs, pairs);
	}
}
END_TEST

START_TEST(test_damaged_state_is_begun_anew)
{
	static const struct net_state damages[] = { { .pairs = 0 },
		{ .pairs = 2, .n_uni = NET_MACS_MAX, .n_multi = 1 },
		{ .pairs = 2, .n_uni = 0xffff, .n_multi = 1 }, { .pairs = 2, .modes = 0x40 },
		{ .pairs = 2, .mac = { 1 } } };

	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		struct net_saved saved = { .version = NET_STATE_VERSION,
			.halves = { damages[i], damages[i] } };

		ck_assert_uint_eq(state_open(&saved, own)->pairs, 1);
		ck_assert_mem_eq(state_open(&saved, own)->mac, own, 6);
	}
	for (uint32_t active = 2; active; active <<= 1) {
		struct net_saved saved = { .version = NET_STATE_VERSION, .active = active };

		ck_assert_ptr_eq(state_open(&saved, own), &saved.halves[0]);
	}
}
END_TEST

/* What the guest has set is in force over releases: a later one has left its number. */
START_TEST(test_state_of_another_release_is_read)
{
	static struct net_saved saved;
	struct net_state *opened = state_open(&saved, own), changed = *opened;

	ck_assert_uint_eq(saved.version, NET_STATE_VERSION);
	changed.modes = 0;
	changed.pairs = 3;
	(void)state_commit(&saved, &changed);
	saved.version = NET_STATE_VERSION + 1;
	opened = state_open(&saved, own);
	ck_assert_mem_eq(opened, &changed, sizeof(changed));
	ck_assert_uint_eq(saved.version, NET_STATE_VERSION + 1);
	opened->pairs = 0; /* damaged */
	ck_assert_uint_eq(state_open(&saved, own)->pairs, 1);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("net-ctrl");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_loop_test(tc, test_command_is_done_however_it_is_cut, 0, ARRAY_SIZE(rows));
	tcase_add_loop_test(tc, test_command_not_negotiated_is_refused, 0, ARRAY_SIZE(rows));
	tcase_add_loop_test(tc, test_command_too_short_is_refused, 0, ARRAY_SIZE(rows));
	tcase_add_loop_test(tc, test_command_with_a_wrong_content_is_refused, 0, ARRAY_SIZE(rows));
	tcase_add_test(tc, test_unknown_class_is_refused);
	tcase_add_test(tc, test_modes_are_switched_one_by_one);
	tcase_add_test(tc, test_tables_are_replaced_whole);
	tcase_add_test(tc, test_table_too_long_lets_all_of_its_kind_in);
	tcase_add_test(tc, test_what_the_others_set);
	tcase_add_test(tc, test_coalescing_is_set_by_kind_and_by_ring);
	tcase_add_test(tc, test_hash_is_set_whole);
	tcase_add_test(tc, test_result_has_its_place_before_the_answer);
	tcase_add_test(tc, test_without_pairs_there_are_two_rings);
	tcase_add_test(tc, test_saved_state_is_found_again);
	tcase_add_test(tc, test_damaged_state_is_begun_anew);
	tcase_add_test(tc, test_state_of_another_release_is_read);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("net-ctrl", add_tests);
}

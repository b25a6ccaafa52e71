/*
 * The request table, column by column, and what handlers make of a record: without sockets and
 * without other processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/run.h"
#include "requests.h"

#define N_QUEUES 4
#define ALL_PF (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(9) | BIT(10) | BIT(15) | BIT(16))
#define UVA UINT64_C(0x7f0000000000)

static struct view view;
static struct exchange s;
static struct config_device device = {
	.name = (char *)"net0", .type = (char *)"net", .client = true
};
static Bh__Observed *observed;
static uint64_t n_deposits;
static int deposit_error;

static int deposit(struct session *session, const int *fds, size_t n)
{
	return 0;
}

/* What memory says to that. */
static void answer_deposit(void)
{
	s.deposit_error = deposit_error;
	for (s.n_tokens = 0; s.n_tokens < s.msg.n_fds && !deposit_error; s.n_tokens++)
		s.tokens[s.n_tokens] = ++n_deposits;
}

static int commit(struct session *session, const Bh__Desired *next, bool applied)
{
	ck_abort_msg("a handler commits nothing by itself");
	return 0;
}

static const struct memory_ops ops = { .commit = commit, .deposit = deposit };

static void set_up(void)
{
	static uint8_t config[12], writable[12] = { 1, 1, 1, 1, 1, 1 };
	Bh__Desired empty = BH__DESIRED__INIT;

	memset(&s, 0, sizeof(s));
	s.ops = &ops;
	memset(&view, 0, sizeof(view));
	s.view = &view;
	s.config = &device;
	s.channel = (struct channel)CHANNEL_NULL;
	s.conn_fd = -1;
	observed = calloc(1, sizeof(*observed));
	bh__observed__init(observed);
	observed->features = BIT(28) | BIT(29) | BIT(32) | BIT(34) | 0xffff;
	observed->protocol_features = ALL_PF | BIT(14) | BIT(12);
	observed->n_queues = N_QUEUES;
	observed->queue_num = N_QUEUES;
	observed->queue_size_max = 1024;
	observed->max_mem_slots = 3;
	observed->config.data = config;
	observed->config.len = sizeof(config);
	observed->config_writable.data = writable;
	observed->config_writable.len = sizeof(writable);
	view.observed = observed;
	view.desired = desired_next(&empty);
	view.desired->connected = true;
	view.desired->protocol_features = ALL_PF;
	deposit_error = 0;
}

static void tear_down(void)
{
	wire_drop(&s.msg);
	s.next = desired_free(s.next);
	view.desired = desired_free(view.desired);
	free(observed);
}

static int new_fd(enum fd_kind kind)
{
	int pair[2];

	switch (kind) {
	case FD_MEMORY:
		return memfd_create("handed-over", MFD_CLOEXEC);
	case FD_EVENT:
		return eventfd(0, EFD_CLOEXEC);
	case FD_PIPE:
		ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
		break;
	case FD_CHANNEL:
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		break;
	case FD_DEVICE:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case FD_FOREIGN:
	case FD_BUFFER: /* none can be had without its device */
	case FD_FENCE:
		return open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	}
	close(pair[1]);
	return pair[0];
}

/* One of those that a message takes; an eventfd for one that takes none. */
static int new_fd_for(const struct request_row *row)
{
	unsigned int kinds = row ? row->fd_kinds : 0;

	return new_fd(kinds & FD_MEMORY ? FD_MEMORY : kinds & FD_CHANNEL ? FD_CHANNEL : FD_EVENT);
}

static void prepare(uint32_t request, const void *payload, uint32_t size, size_t n_fds)
{
	wire_drop(&s.msg);
	memset(&s.msg, 0, sizeof(s.msg));
	s.msg.header = (struct header){ request, HEADER_VERSION, size };
	if (payload)
		memcpy(s.msg.payload.bytes, payload, size);
	for (size_t i = 0; i < n_fds; i++)
		s.msg.fds[s.msg.n_fds++] = new_fd_for(requests_find(request));
	s.row = requests_find(request);
	s.n_tokens = 0;
	s.deposit_error = 0;
	*s.why = '\0';
}

static int form(void)
{
	return requests_check(&s, s.row, &s.msg);
}

static enum outcome call_handler(void)
{
	s.next = desired_free(s.next);
	s.next = desired_next(view.desired);
	return s.row->handle(&s, &s.msg, s.next);
}

/* The whole way: form, handler, descriptors, and the change put in force. */
static int say(uint32_t request, const void *payload, uint32_t size, size_t n_fds)
{
	enum outcome outcome;

	prepare(request, payload, size, n_fds);
	if (form())
		return OUTCOME_REFUSED;
	outcome = call_handler();
	if (outcome == OUTCOME_LATER) {
		answer_deposit();
		outcome = call_handler();
	}
	if (outcome == OUTCOME_CHANGED || outcome == OUTCOME_WAIT) {
		desired_free(view.desired);
		view.desired = s.next;
		s.next = NULL;
	}
	return outcome;
}

static int say_u64(uint32_t request, uint64_t value, size_t n_fds)
{
	return say(request, &value, 8, n_fds);
}

static int say_state(uint32_t request, uint32_t index, uint32_t num)
{
	struct vring_state state = { index, num };

	return say(request, &state, 8, 0);
}

static int say_table(uint64_t n_bytes)
{
	struct memory_table table = { .n = 1 };

	table.regions[0] = (struct memory_region){ 0, n_bytes, UVA, 0 };
	return say(SET_MEM_TABLE, &table, 40, 1);
}

static int say_addr(uint32_t index, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct vring_addr addr = { .index = index, .desc = desc, .avail = avail, .used = used };

	return say(SET_VRING_ADDR, &addr, 40, 0);
}

static Bh__Ring *ring(uint32_t index)
{
	return desired_find_ring(view.desired, index);
}

static void start(uint32_t index)
{
	ck_assert_int_eq(say_table(1 << 20), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_NUM, index, 256), OUTCOME_CHANGED);
	ck_assert_int_eq(say_addr(index, UVA, UVA + 0x1000, UVA + 0x2000), OUTCOME_CHANGED);
	ck_assert_int_eq(say_u64(SET_VRING_KICK, index, 1), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_ENABLE, index, 1), OUTCOME_CHANGED);
	ck_assert(ring_runs(view.desired, observed, ring(index)));
}

/* --- The table --- */

START_TEST(test_row_is_consistent)
{
	const struct request_row *row = requests_find((uint32_t)_i);

	ck_assert_ptr_nonnull(row);
	ck_assert_uint_eq(row->request, _i);
	ck_assert_uint_le(row->size_min, row->size_max);
	ck_assert_uint_le(row->fds_min, row->fds_max);
	ck_assert_uint_le(row->fds_max, FDS_MAX);
	ck_assert_uint_le(row->size_max, PAYLOAD_MAX);
	if (row->legal == LEGAL_NEVER)
		ck_assert(!row->handle && !row->reply);
	else
		ck_assert((row->owes != REPLY_NONE) == (row->reply != NULL) &&
			(row->handle || row->reply));
	if (row->owes == REPLY_PAYLOAD)
		ck_assert_uint_le(row->refusal, REPLY_BYTES_MAX);
	if (row->index == INDEX_VRING)
		ck_assert_uint_ge(row->size_min, sizeof(struct vring_state));
}
END_TEST

/* What is laid ready tells, and not who laid it. */
START_TEST(test_only_what_may_be_mapped_comes_with_a_descriptor)
{
	uint64_t (*token)(const Bh__Desired *, const void *, size_t) =
		request_table[GET_INFLIGHT_FD].reply_token;
	struct inflight_area area = { .n_queues = 2 };

	for (uint32_t i = 1; i < _REQUESTS_END; i++)
		ck_assert(!request_table[i].reply_token || request_table[i].owes == REPLY_PAYLOAD);
	ck_assert_uint_eq(token(view.desired, &area, sizeof(area)), TOKEN_NONE);
	area.mmap_size = 4096;
	ck_assert_uint_eq(token(view.desired, &area, sizeof(area)), TOKEN_LOST);
	desired_new_inflight(view.desired)->token = 7;
	ck_assert_uint_eq(token(view.desired, &area, sizeof(area)), 7);
	ck_assert_uint_eq(token(view.desired, &area, sizeof(area) - 1), TOKEN_NONE);
}
END_TEST

/* covers: M1 M3 M7 M9 M19 M22 M24 M28 */
START_TEST(test_wrong_form_is_refused_and_answered_in_form)
{
	const struct request_row *row = requests_find((uint32_t)_i);
	uint8_t buf[REPLY_BYTES_MAX];
	size_t n;

	if (row->fds_max == 0) {
		prepare((uint32_t)_i, NULL, row->size_min, 1);
		ck_assert_int_eq(form(), OUTCOME_REFUSED);
	}
	if (row->fds_min) {
		prepare((uint32_t)_i, NULL, row->size_min, row->fds_min - 1u);
		ck_assert_int_eq(form(), OUTCOME_REFUSED);
	}
	prepare((uint32_t)_i, NULL, row->size_min, row->fds_min);
	s.msg.header.flags |= HEADER_REPLY;
	ck_assert_int_eq(form(), OUTCOME_REFUSED);
	prepare((uint32_t)_i, NULL, row->size_max + 1, row->fds_min);
	ck_assert_int_eq(form(), OUTCOME_REFUSED);
	ck_assert(*s.why);
	if (row->size_min) {
		prepare((uint32_t)_i, NULL, row->size_min - 1, row->fds_min);
		ck_assert_int_eq(form(), OUTCOME_REFUSED);
	}
	n = row->owes != REPLY_NONE ? requests_reply(&s, buf) : 0;
	ck_assert_uint_eq(n,
		row->owes == REPLY_NONE              ? 0
			: row->owes == REPLY_PAYLOAD ? row->refusal
						     : 8);
}
END_TEST

/* covers: M16 */
START_TEST(test_feature_that_is_not_acked_is_missed)
{
	const struct request_row *row = requests_find((uint32_t)_i);

	view.desired->protocol_features = UINT64_MAX & ~BIT(row->needs);
	prepare((uint32_t)_i, NULL, row->size_min, row->fds_min);
	if (row->needs != NO_FEATURE)
		ck_assert_int_eq(form(), OUTCOME_REFUSED);
}
END_TEST

/* covers: M10 */
START_TEST(test_index_is_not_cut)
{
	static const uint32_t bad[] = { N_QUEUES, 255, 256, 65536, UINT32_MAX };
	struct vring_addr addr = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		addr.index = bad[i];
		prepare(SET_VRING_ADDR, &addr, 40, 0);
		ck_assert_int_eq(form(), OUTCOME_REFUSED);
		ck_assert_int_eq(say_state(SET_VRING_NUM, bad[i], 256), OUTCOME_REFUSED);
	}
	ck_assert_int_eq(say_u64(SET_VRING_CALL, N_QUEUES, 1), OUTCOME_REFUSED);
	ck_assert_int_eq(say_u64(SET_VRING_CALL, 0x200, 1), OUTCOME_REFUSED);
	ck_assert_int_eq(say_u64(SET_VRING_CALL, UINT64_C(1) << 32, 1), OUTCOME_REFUSED);
}
END_TEST

START_TEST(test_descriptor_of_a_later_message_is_left_to_it)
{
	prepare(GET_FEATURES, NULL, 0, 1);
	s.msg.doubtful_fds = true;
	ck_assert_int_eq(form(), 0);
	ck_assert_uint_eq(s.msg.n_fds, 0);
}
END_TEST

/* --- Features --- */

/* covers: M15 M16 */
START_TEST(test_features_are_those_offered)
{
	ck_assert_int_eq(say_u64(SET_FEATURES, BIT(33), 0), OUTCOME_REFUSED);
	ck_assert_int_eq(say_u64(SET_FEATURES, BIT(30) | BIT(32), 0), OUTCOME_CHANGED);
	ck_assert_int_eq(say_u64(SET_PROTOCOL_FEATURES, BIT(14), 0), OUTCOME_REFUSED);
	ck_assert_int_eq(say_u64(SET_PROTOCOL_FEATURES, BIT(3), 0), OUTCOME_CHANGED);
	ck_assert_uint_eq(view.desired->protocol_features, BIT(3));
}
END_TEST

/* covers: M15 */
START_TEST(test_without_bit_30_all_rings_are_enabled)
{
	ck_assert_int_eq(say_state(SET_VRING_NUM, 0, 256), OUTCOME_CHANGED);
	ck_assert(!ring(0)->enabled);
	ck_assert_int_eq(say_u64(SET_FEATURES, BIT(30) | BIT(32), 0), OUTCOME_CHANGED);
	ck_assert(!ring(0)->enabled);
	ck_assert_int_eq(say_u64(SET_FEATURES, BIT(32), 0), OUTCOME_CHANGED);
	ck_assert(ring(0)->enabled);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 1, 256), OUTCOME_CHANGED);
	ck_assert(ring(1)->enabled);
	ck_assert_uint_eq(view.desired->protocol_features, ALL_PF);
}
END_TEST

/* covers: M15 */
START_TEST(test_ring_layout_does_not_change_under_a_ring)
{
	ck_assert_int_eq(say_u64(SET_FEATURES, BIT(30) | BIT(32), 0), OUTCOME_CHANGED);
	start(0);
	ck_assert_int_eq(say_u64(SET_FEATURES, BIT(30) | BIT(32) | BIT(34), 0), OUTCOME_REFUSED);
	ck_assert_int_eq(say_u64(SET_FEATURES, BIT(30) | BIT(32) | 1, 0), OUTCOME_CHANGED);
}
END_TEST

/* --- Rings --- */

/* covers: M11 */
START_TEST(test_ring_size)
{
	static const uint32_t bad[] = { 0, 3, 1025, 2048, 32769, 65536, 65536 + 256 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(say_state(SET_VRING_NUM, 0, bad[i]), OUTCOME_REFUSED);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 0, 1024), OUTCOME_CHANGED);
	view.desired->features = BIT(34);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 0, 100), OUTCOME_CHANGED);
}
END_TEST

/* covers: M11 M14 */
START_TEST(test_running_ring_keeps_size_base_and_place)
{
	start(1);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 1, 128), OUTCOME_REFUSED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 1, 3), OUTCOME_REFUSED);
	ck_assert_int_eq(say_addr(1, UVA + 0x4000, UVA + 0x1000, UVA + 0x2000), OUTCOME_REFUSED);
	ck_assert_int_eq(say_addr(1, UVA, UVA + 0x1000, UVA + 0x2000), OUTCOME_CHANGED);
}
END_TEST

/* It stops with the first message that changes it, and starts with all that came when it is
 * enabled. */
START_TEST(test_disabled_ring_is_held_until_it_is_enabled)
{
	uint64_t start_id;

	start(1);
	start_id = ring(1)->start_id;
	ck_assert_int_eq(say_state(SET_VRING_ENABLE, 1, 0), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 1, 100), OUTCOME_REFUSED);
	ck_assert(ring(1)->started && !ring(1)->held);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 1, 128), OUTCOME_WAIT);
	ck_assert(!ring(1)->started && ring(1)->held && ring(1)->start_id == start_id);
	ck_assert_int_eq(say_u64(SET_VRING_KICK, 1, 1), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 1, 3), OUTCOME_CHANGED);
	ck_assert_int_eq(say_addr(1, UVA + 0x4000, UVA + 0x1000, UVA + 0x2000), OUTCOME_CHANGED);
	ck_assert(!ring(1)->started);
	ck_assert_int_eq(say_state(SET_VRING_ENABLE, 1, 1), OUTCOME_CHANGED);
	ck_assert(ring(1)->started && !ring(1)->held && ring(1)->position == 3);
	ck_assert(ring(1)->start_id == view.desired->generation &&
		ring_runs(view.desired, observed, ring(1)));
}
END_TEST

START_TEST(test_ring_that_lacks_something_may_still_change)
{
	ck_assert_int_eq(say_u64(SET_VRING_KICK, 0, 1), OUTCOME_CHANGED);
	ck_assert(ring(0)->started && ring(0)->start_id &&
		!ring_runs(view.desired, observed, ring(0)));
	ck_assert_int_eq(say_state(SET_VRING_NUM, 0, 256), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 7), OUTCOME_CHANGED);
	ck_assert_uint_eq(ring(0)->start_id, view.desired->generation);
	start(0);
}
END_TEST

/* covers: M14 */
START_TEST(test_second_kick_only_brings_a_descriptor)
{
	uint64_t id, token;

	start(0);
	id = ring(0)->start_id;
	token = ring(0)->kick_token;
	ck_assert_int_eq(say_u64(SET_VRING_KICK, 0, 1), OUTCOME_CHANGED);
	ck_assert_uint_eq(ring(0)->start_id, id);
	ck_assert_uint_ne(ring(0)->kick_token, token);
	ck_assert_int_eq(say_u64(SET_VRING_KICK, VHOST_USER_VRING_NOFD_MASK, 0), OUTCOME_CHANGED);
	ck_assert_uint_eq(ring(0)->kick_token, 0);
	ck_assert(ring(0)->poll);
}
END_TEST

/* covers: M12 */
START_TEST(test_addresses)
{
	static const uint64_t bad[][3] = { { UVA + 8, UVA, UVA }, { UVA, UVA + 1, UVA },
		{ UVA, UVA, UVA + 2 }, { UVA + (1 << 20), UVA, UVA }, { UVA - 16, UVA, UVA },
		{ UVA + (1 << 20) - 4080, UVA, UVA }, { UVA, UVA, UVA + (1 << 20) - 2052 },
		{ UINT64_MAX - 15, UVA, UVA }, { UVA, UINT64_MAX - 1, UVA } };

	ck_assert_int_eq(say_table(1 << 20), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 0, 256), OUTCOME_CHANGED);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(say_addr(0, bad[i][0], bad[i][1], bad[i][2]), OUTCOME_REFUSED);
	ck_assert_int_eq(say_addr(0, UVA + (1 << 20) - 4096, UVA, UVA), OUTCOME_CHANGED);
}
END_TEST

/* covers: M13 */
START_TEST(test_base)
{
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 0xffff), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 0x10000), OUTCOME_REFUSED);
	view.desired->features = BIT(34);
	ck_assert_int_eq(say_state(SET_VRING_NUM, 0, 256), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 0x8000), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 0), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 0x80ff80ff), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 256), OUTCOME_REFUSED);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 0, 0x7fff8000), OUTCOME_REFUSED);
}
END_TEST

START_TEST(test_stop_takes_the_workers_word)
{
	Bh__RingState state = BH__RING_STATE__INIT, *list[] = { &state };
	uint8_t buf[REPLY_BYTES_MAX];
	struct vring_state answer;

	start(2);
	ck_assert_int_eq(say_state(GET_VRING_BASE, 2, 0), OUTCOME_WAIT);
	ck_assert(!ring(2)->started);
	state.index = 2;
	state.position = 0x1234;
	observed->rings = list;
	observed->n_rings = 1;
	observed->applied = view.desired->generation;
	ck_assert_uint_eq(requests_reply(&s, buf), sizeof(answer));
	memcpy(&answer, buf, sizeof(answer));
	ck_assert_uint_eq(answer.index, 2);
	ck_assert_uint_eq(answer.num, 0x1234);
	ck_assert_int_eq(say_state(GET_VRING_BASE, 2, 0), OUTCOME_SETTLE);
	ck_assert_int_eq(say_state(SET_VRING_BASE, 2, 5), OUTCOME_CHANGED);
	ck_assert_int_eq(say_state(GET_VRING_BASE, 2, 0), OUTCOME_DONE);
	ck_assert_uint_eq(requests_reply(&s, buf), sizeof(answer));
	memcpy(&answer, buf, sizeof(answer));
	ck_assert_uint_eq(answer.num, 5);
	ck_assert_int_eq(say_state(GET_VRING_BASE, 3, 0), OUTCOME_DONE);
}
END_TEST

/* --- Memory --- */

/* covers: M17 */
START_TEST(test_table_counts_go_together)
{
	struct memory_table table = { .n = 2 };

	ck_assert_int_eq(say(SET_MEM_TABLE, &table, 8 + 64, 2), OUTCOME_CHANGED);
	ck_assert_uint_eq(view.desired->n_regions, 2);
	ck_assert_int_eq(say(SET_MEM_TABLE, &table, 8 + 64, 1), OUTCOME_REFUSED);
	ck_assert_int_eq(say(SET_MEM_TABLE, &table, 8 + 32, 2), OUTCOME_REFUSED);
	table.n = 9;
	ck_assert_int_eq(say(SET_MEM_TABLE, &table, 8 + 256, 8), OUTCOME_REFUSED);
	table.n = UINT32_MAX;
	ck_assert_int_eq(say(SET_MEM_TABLE, &table, 8 + 256, 8), OUTCOME_REFUSED);
	ck_assert_uint_eq(view.desired->n_regions, 2);
}
END_TEST

START_TEST(test_regions_by_one)
{
	struct memory_single one = { .region = { 0x1000, 0x1000, UVA, 0 } };

	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(say(ADD_MEM_REG, &one, 40, 1), OUTCOME_CHANGED);
		one.region.gpa += 0x1000;
	}
	ck_assert_int_eq(say(ADD_MEM_REG, &one, 40, 1), OUTCOME_REFUSED);
	one.region.gpa = 0x2000;
	one.region.offset = 77;
	ck_assert_int_eq(say(REM_MEM_REG, &one, 40, 1), OUTCOME_CHANGED);
	ck_assert_uint_eq(view.desired->n_regions, 2);
	deposit_error = -ETIMEDOUT;
	ck_assert_int_eq(say(ADD_MEM_REG, &one, 40, 1), OUTCOME_REFUSED);
}
END_TEST

START_TEST(test_region_said_twice_is_one)
{
	struct memory_single one = { .region = { 0x1000, 0x1000, UVA, 0 } };

	ck_assert_int_eq(say(ADD_MEM_REG, &one, 40, 1), OUTCOME_CHANGED);
	ck_assert_int_eq(say(ADD_MEM_REG, &one, 40, 1), OUTCOME_SETTLE);
	ck_assert_uint_eq(view.desired->n_regions, 1);
	ck_assert_int_eq(say(REM_MEM_REG, &one, 40, 0), OUTCOME_CHANGED);
	ck_assert_int_eq(say(REM_MEM_REG, &one, 40, 0), OUTCOME_SETTLE);
}
END_TEST

/* covers: M18 */
START_TEST(test_part_of_a_region_is_not_removed)
{
	static const struct memory_region wrong[] = { { 0x10000, 0x800, UVA, 0 },
		{ 0x10000, 0x1000, UVA + 0x800, 0 }, { 0x10800, 0x1000, UVA, 0 },
		{ 0xf000, 0x3000, UVA - 0x10000, 0 }, { 0xffff, UINT64_MAX, 0, 0 } };
	struct memory_single one = { .region = { 0x10000, 0x1000, UVA, 0 } };

	ck_assert_int_eq(say(ADD_MEM_REG, &one, 40, 1), OUTCOME_CHANGED);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		one.region = wrong[i];
		ck_assert_int_eq(say(REM_MEM_REG, &one, 40, 0), OUTCOME_REFUSED);
	}
	ck_assert_uint_eq(view.desired->n_regions, 1);
}
END_TEST

/* --- Device --- */

static int say_config(uint32_t request, struct config_header head, uint32_t n_bytes)
{
	uint8_t buf[sizeof(head) + VHOST_USER_MAX_CONFIG_SIZE] = { 0 };

	memcpy(buf, &head, sizeof(head));
	return say(request, buf, (uint32_t)sizeof(head) + n_bytes, 0);
}

/* covers: M23 */
START_TEST(test_config_is_written_where_it_may_be)
{
	ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ 0, 6, 0 }, 6),
		OUTCOME_WAIT);
	ck_assert_uint_eq(view.desired->n_config_writes, 1);
	ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ 0, 7, 0 }, 7),
		OUTCOME_REFUSED);
	ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ 0, 7, 1 }, 7),
		OUTCOME_WAIT);
	ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ 0, 7, 2 }, 7),
		OUTCOME_REFUSED);
	ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ 6, 7, 1 }, 7),
		OUTCOME_REFUSED);
	ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ 0, 6, 0 }, 5),
		OUTCOME_REFUSED);
	ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ UINT32_MAX - 5, 6, 1 }, 6),
		OUTCOME_REFUSED);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(say_config(SET_CONFIG, (struct config_header){ 0, 1, 0 }, 1),
			OUTCOME_WAIT);
	ck_assert_uint_le(view.desired->n_config_writes, 64);
}
END_TEST

/* covers: M23 */
START_TEST(test_config_read_outside_has_no_payload)
{
	struct config_header heads[] = { { 0, 12, 0 }, { 0, 13, 0 }, { 12, 1, 0 },
		{ UINT32_MAX, 2, 0 }, { 4, 0, 0 } };
	uint8_t buf[sizeof(struct config_header) + VHOST_USER_MAX_CONFIG_SIZE] = { 0 },
						   reply[REPLY_BYTES_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		memcpy(buf, &heads[i], sizeof(heads[i]));
		prepare(GET_CONFIG, buf, (uint32_t)sizeof(heads[i]) + heads[i].size, 0);
		ck_assert_int_eq(form(), 0);
		ck_assert_uint_eq(requests_reply(&s, reply), i == 0 ? 24 : 0);
	}
}
END_TEST

START_TEST(test_mtu_and_rarp)
{
	ck_assert_int_eq(say_u64(NET_SET_MTU, 67, 0), OUTCOME_REFUSED);
	ck_assert_int_eq(say_u64(NET_SET_MTU, 65536, 0), OUTCOME_REFUSED);
	ck_assert_int_eq(say_u64(NET_SET_MTU, 9000, 0), OUTCOME_CHANGED);
	ck_assert_uint_eq(view.desired->mtu, 9000);
	ck_assert_int_eq(say_u64(SEND_RARP, 0x665544332211, 0), OUTCOME_CHANGED);
	ck_assert_int_eq(say_u64(SEND_RARP, 0x665544332211, 0), OUTCOME_CHANGED);
	ck_assert_uint_eq(view.desired->rarp_seq, 2);
	ck_assert_uint_eq(view.desired->rarp_mac.data[5], 0x66);
	/* and as a release that knows the part of its own reads it */
	ck_assert_uint_eq(view.desired->net->mtu, 9000);
	ck_assert_uint_eq(view.desired->net->rarp_seq, 2);
	ck_assert_uint_eq(view.desired->net->rarp_mac.data[5], 0x66);
}
END_TEST

static void add_rows(TCase *tc)
{
	tcase_add_loop_test(tc, test_row_is_consistent, 1, _REQUESTS_END);
	tcase_add_loop_test(tc, test_wrong_form_is_refused_and_answered_in_form, 1, _REQUESTS_END);
	tcase_add_loop_test(tc, test_feature_that_is_not_acked_is_missed, 1, _REQUESTS_END);
	tcase_add_test(tc, test_only_what_may_be_mapped_comes_with_a_descriptor);
	tcase_add_test(tc, test_index_is_not_cut);
	tcase_add_test(tc, test_descriptor_of_a_later_message_is_left_to_it);
}

static void add_handlers(TCase *tc)
{
	tcase_add_test(tc, test_features_are_those_offered);
	tcase_add_test(tc, test_without_bit_30_all_rings_are_enabled);
	tcase_add_test(tc, test_ring_layout_does_not_change_under_a_ring);
	tcase_add_test(tc, test_ring_size);
	tcase_add_test(tc, test_running_ring_keeps_size_base_and_place);
	tcase_add_test(tc, test_disabled_ring_is_held_until_it_is_enabled);
	tcase_add_test(tc, test_ring_that_lacks_something_may_still_change);
	tcase_add_test(tc, test_second_kick_only_brings_a_descriptor);
	tcase_add_test(tc, test_addresses);
	tcase_add_test(tc, test_base);
	tcase_add_test(tc, test_stop_takes_the_workers_word);
	tcase_add_test(tc, test_table_counts_go_together);
	tcase_add_test(tc, test_regions_by_one);
	tcase_add_test(tc, test_region_said_twice_is_one);
	tcase_add_test(tc, test_part_of_a_region_is_not_removed);
	tcase_add_test(tc, test_config_is_written_where_it_may_be);
	tcase_add_test(tc, test_config_read_outside_has_no_payload);
	tcase_add_test(tc, test_mtu_and_rarp);
}

/* --- Kinds of descriptors --- */

/* _i: the row. Its own kinds are not refused for what they are, and each other one is. */
START_TEST(test_each_message_takes_its_kinds_alone)
{
	static const enum fd_kind kinds[] = { FD_FOREIGN, FD_MEMORY, FD_EVENT, FD_PIPE, FD_CHANNEL,
		FD_DEVICE };
	const struct request_row *row = &request_table[_i];

	ck_assert_int_eq(row->fd_kinds != 0, row->fds_max > 0);
	for (size_t i = 0; row->fds_max && i < ARRAY_SIZE(kinds); i++) {
		bool refused;

		prepare((uint32_t)_i, NULL, row->size_min, 0);
		s.msg.payload.u64 = row->request == SET_MEM_TABLE;
		s.msg.fds[s.msg.n_fds++] = new_fd(kinds[i]);
		(void)form();
		refused = strstr(s.why, "its descriptor is") != NULL;
		ck_assert_msg(refused == !(row->fd_kinds & kinds[i]), "%s: kind %u: '%s'",
			row->name, kinds[i], s.why);
	}
}
END_TEST

START_TEST(test_what_was_not_taken_is_named)
{
	uint64_t ring = 0;

	prepare(SET_VRING_KICK, &ring, 8, 0);
	strcpy(s.msg.foreign, "a file on fuse; an eventfd is due");
	ck_assert_int_eq(form(), OUTCOME_REFUSED);
	ck_assert_str_eq(s.why, "its descriptor is a file on fuse; an eventfd is due");
	/* it came with the message behind this one, perhaps */
	prepare(GET_FEATURES, NULL, 0, 0);
	strcpy(s.msg.foreign, "a file on fuse; an eventfd is due");
	s.msg.doubtful_fds = true;
	ck_assert_int_eq(form(), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("requests");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, test_each_message_takes_its_kinds_alone, 1, _REQUESTS_END);
	tcase_add_test(tc, test_what_was_not_taken_is_named);
	add_rows(tc);
	add_handlers(tc);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("requests", add_tests);
}

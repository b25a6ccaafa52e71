/* The table of VFDs: ids, quotas and places; and what is made of a table that another left. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/run.h"
#include "space.h"
#include "vfd.h"

#define PAGE SPACE_PAGE_BYTES

static struct vfd_saved saved;
static struct vfd_table table;

static const struct vfd_quota quota = { .n_vfds = 8, .n_contexts = 2, .mapped_bytes = 16 * PAGE };

static void set_up(void)
{
	memset(&saved, 0, sizeof(saved));
	vfd_open(&table, &saved, &quota);
}

static struct vfd *add(uint32_t id, enum vfd_kind kind)
{
	struct vfd *vfd = vfd_add(&table, id, kind);

	ck_assert_ptr_nonnull(vfd);
	return vfd;
}

/* As a worker does that comes after the death of another. */
static void reopen(void)
{
	vfd_open(&table, &saved, &quota);
}

START_TEST(test_vfd_is_found_until_it_goes)
{
	struct vfd *vfd = add(5, VFD_MEMORY);

	ck_assert_ptr_eq(vfd_find(&table, 5), vfd);
	ck_assert_ptr_eq(vfd_at(&table, vfd_slot(&table, vfd)), vfd);
	ck_assert_int_eq(vfd->state, VFD_COMING);
	ck_assert_ptr_null(vfd_find(&table, 6));
	ck_assert_ptr_null(vfd_find(&table, 0));
	vfd_remove(&table, vfd);
	ck_assert_ptr_null(vfd_find(&table, 5));
	ck_assert_uint_eq(table.n_vfds, 0);
}
END_TEST

START_TEST(test_guest_chooses_ids_of_its_own_half)
{
	ck_assert(vfd_is_guests_id(1));
	ck_assert(vfd_is_guests_id(VIRTWL_VFD_ID_HOST_MASK - 1));
	ck_assert(!vfd_is_guests_id(0));
	ck_assert(!vfd_is_guests_id(VIRTWL_VFD_ID_HOST_MASK));
	ck_assert(!vfd_is_guests_id(VIRTWL_VFD_ID_ILLEGAL_MASK | 1));
}
END_TEST

START_TEST(test_host_ids_wrap_and_leave_out_those_in_use)
{
	ck_assert_uint_eq(vfd_host_id(&table), VIRTWL_VFD_ID_HOST_MASK);
	add(VIRTWL_VFD_ID_HOST_MASK | 1, VFD_FENCE);
	ck_assert_uint_eq(vfd_host_id(&table), VIRTWL_VFD_ID_HOST_MASK | 2);
	saved.next_host_id = VIRTWL_VFD_ID_HOST_MASK - 1;
	ck_assert_uint_eq(vfd_host_id(&table), VIRTWL_VFD_ID_ILLEGAL_MASK - 1);
	ck_assert_uint_eq(vfd_host_id(&table), VIRTWL_VFD_ID_HOST_MASK);
}
END_TEST

START_TEST(test_guest_has_a_quota_and_the_host_the_table)
{
	for (uint32_t id = 1; id <= 8; id++)
		add(id, VFD_MEMORY);
	ck_assert_ptr_null(vfd_add(&table, 9, VFD_MEMORY));
	for (unsigned int i = 8; i < VFDS_MAX; i++)
		add(vfd_host_id(&table), VFD_FENCE);
	ck_assert_ptr_null(vfd_add(&table, vfd_host_id(&table), VFD_FENCE));
	vfd_remove(&table, vfd_find(&table, 3));
	ck_assert_ptr_null(vfd_add(&table, 3, VFD_MEMORY));
}
END_TEST

START_TEST(test_contexts_have_a_quota_of_their_own)
{
	add(1, VFD_SOCKET);
	add(2, VFD_SOCKET);
	ck_assert_ptr_null(vfd_add(&table, 3, VFD_SOCKET));
	add(3, VFD_PIPE_READ);
	add(vfd_host_id(&table), VFD_SOCKET);
	vfd_remove(&table, vfd_find(&table, 1));
	add(4, VFD_SOCKET);
}
END_TEST

START_TEST(test_mapped_memory_has_a_quota)
{
	struct vfd *first = add(1, VFD_MEMORY), *second = add(2, VFD_MEMORY);

	ck_assert(!vfd_map(&table, first, 0));
	ck_assert(!vfd_map(&table, first, 17 * PAGE));
	ck_assert(!vfd_map(&table, first, UINT64_MAX & ~(uint64_t)(PAGE - 1)));
	ck_assert(vfd_map(&table, first, 10 * PAGE));
	ck_assert_uint_eq(first->map_seq, 1);
	ck_assert(!vfd_map(&table, second, 7 * PAGE));
	ck_assert(vfd_map(&table, second, 6 * PAGE));
	ck_assert_uint_eq(second->map_seq, 2);
	ck_assert_uint_eq(table.mapped_bytes, 16 * PAGE);
	vfd_unmap(&table, first);
	vfd_unmap(&table, first);
	vfd_remove(&table, second);
	ck_assert_uint_eq(table.mapped_bytes, 0);
}
END_TEST

START_TEST(test_hidden_one_keeps_its_slot_alone)
{
	struct vfd *vfd = add(1, VFD_SOCKET);

	ck_assert(vfd_map(&table, vfd, PAGE));
	vfd_hide(&table, vfd);
	ck_assert_ptr_null(vfd_find(&table, 1));
	ck_assert_ptr_null(vfd_find(&table, vfd->id));
	ck_assert_uint_eq(table.mapped_bytes, 0);
	ck_assert_uint_eq(table.n_contexts, 0);
	ck_assert_uint_eq(table.n_vfds, 1);
	ck_assert_ptr_ne(add(1, VFD_SOCKET), vfd);
	reopen();
	ck_assert_uint_eq(table.n_vfds, 2);
	ck_assert_int_eq(vfd->state, VFD_CLOSED);
}
END_TEST

START_TEST(test_counts_survive_the_process)
{
	add(1, VFD_SOCKET);
	ck_assert(vfd_map(&table, add(2, VFD_MEMORY), 3 * PAGE));
	add(vfd_host_id(&table), VFD_PIPE_READ);
	reopen();
	ck_assert_uint_eq(table.n_vfds, 3);
	ck_assert_uint_eq(table.n_contexts, 1);
	ck_assert_uint_eq(table.mapped_bytes, 3 * PAGE);
	ck_assert_uint_eq(vfd_host_id(&table), VIRTWL_VFD_ID_HOST_MASK | 1);
}
END_TEST

/* A worker that a guest has taken over may have left anything. */
static void bad_state(struct vfd *vfd)
{
	vfd->state = _VFD_STATES;
}
static void bad_kind(struct vfd *vfd)
{
	vfd->kind = _VFD_KINDS;
}
static void bad_map(struct vfd *vfd)
{
	vfd->map = _VFD_MAPS;
}
static void bad_hup(struct vfd *vfd)
{
	vfd->hup = _VFD_HUPS;
}
static void bad_count(struct vfd *vfd)
{
	vfd->message.n_vfds = VIRTWL_SEND_MAX_ALLOCS + 1;
}
static void bad_slot(struct vfd *vfd)
{
	vfd->message = (struct vfd_message){ .n_vfds = 1, .n_made = 1, .vfds = { VFDS_MAX } };
}
static void bad_order(struct vfd *vfd)
{
	vfd->message = (struct vfd_message){ .n_vfds = 1, .n_told = 1 };
}
static void bad_length(struct vfd *vfd)
{
	vfd->message.n_bytes = VIRTWL_RECV_DATA_MAX + 1;
}
static void bad_place(struct vfd *vfd)
{
	vfd->offset_bytes = SPACE_BYTES;
}
static void bad_size(struct vfd *vfd)
{
	vfd->size_bytes = UINT64_MAX - PAGE + 1;
}
static void bad_page(struct vfd *vfd)
{
	vfd->offset_bytes += 1;
}
static void bad_overlap(struct vfd *vfd)
{
	vfd->offset_bytes = vfd_find(&table, 1)->offset_bytes;
}
static void bad_id(struct vfd *vfd)
{
	saved.ids[vfd_slot(&table, vfd)] = 1;
}

static void (*const faults[])(struct vfd *vfd) = { bad_state, bad_kind, bad_map, bad_hup, bad_count,
	bad_slot, bad_order, bad_length, bad_place, bad_size, bad_page, bad_overlap, bad_id };

START_TEST(test_what_cannot_be_is_dropped_alone)
{
	struct vfd *bad;

	ck_assert(vfd_map(&table, add(1, VFD_MEMORY), PAGE));
	bad = add(2, VFD_MEMORY);
	ck_assert(vfd_map(&table, bad, PAGE));
	faults[_i](bad);
	reopen();
	ck_assert_uint_eq(table.n_vfds, 1);
	ck_assert_ptr_nonnull(vfd_find(&table, 1));
	ck_assert_ptr_null(vfd_find(&table, 2));
	ck_assert_uint_eq(table.mapped_bytes, PAGE);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("wl-vfd");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, test_vfd_is_found_until_it_goes);
	tcase_add_test(tc, test_guest_chooses_ids_of_its_own_half);
	tcase_add_test(tc, test_host_ids_wrap_and_leave_out_those_in_use);
	tcase_add_test(tc, test_guest_has_a_quota_and_the_host_the_table);
	tcase_add_test(tc, test_contexts_have_a_quota_of_their_own);
	tcase_add_test(tc, test_mapped_memory_has_a_quota);
	tcase_add_test(tc, test_hidden_one_keeps_its_slot_alone);
	tcase_add_test(tc, test_counts_survive_the_process);
	tcase_add_loop_test(tc, test_what_cannot_be_is_dropped_alone, 0, ARRAY_SIZE(faults));
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("wl-vfd", add_tests);
}

/* Places in the shared memory region: buffers that come and go do not cut it into pieces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/run.h"
#include "space.h"

#define PIECES_MAX 512
#define USED_MAX (UINT64_C(1) << 30)
#define STEPS 1000000

static struct space_extent pieces[PIECES_MAX];
static size_t n_pieces;
static uint64_t used;
static uint64_t seed;

static uint64_t draw(uint64_t below)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % below;
}

static void set_up(void)
{
	n_pieces = 0;
	used = 0;
	seed = 1;
}

static bool is_apart(uint64_t offset, uint64_t n_bytes)
{
	if (offset > SPACE_BYTES - n_bytes || offset % SPACE_PAGE_BYTES)
		return false;
	for (size_t i = 0; i < n_pieces; i++)
		if (offset < pieces[i].offset_bytes + pieces[i].size_bytes &&
			pieces[i].offset_bytes < offset + n_bytes)
			return false;
	return true;
}

/* Each assertion is a system call of the test's library, so that there is none in the good case. */
static void add_piece(uint64_t n_bytes)
{
	uint64_t offset = space_find(pieces, n_pieces, n_bytes);

	if (offset == SPACE_FULL || !is_apart(offset, n_bytes))
		ck_abort_msg("%#llx bytes at %#llx beside %zu pieces of %#llx bytes",
			(unsigned long long)n_bytes, (unsigned long long)offset, n_pieces,
			(unsigned long long)used);
	pieces[n_pieces++] = (struct space_extent){ offset, n_bytes };
	used += n_bytes;
}

static void drop_piece(size_t i)
{
	used -= pieces[i].size_bytes;
	pieces[i] = pieces[--n_pieces];
}

/* Keymaps and cursors, buffers of windows from a dialog's to a screen's, and rarely a huge one. */
static uint64_t draw_bytes(void)
{
	uint64_t kind = draw(16);

	if (kind < 8)
		return (1 + draw(64)) * SPACE_PAGE_BYTES;
	if (kind < 15)
		return (1 + draw(8192)) * SPACE_PAGE_BYTES;
	return (1 + draw(65536)) * SPACE_PAGE_BYTES;
}

/* Never more than a guest may have by default, and often nearly that. */
START_TEST(test_million_steps_within_the_quota_never_fail)
{
	for (unsigned int i = 0; i < STEPS; i++) {
		uint64_t n_bytes = draw_bytes();

		while (n_pieces == PIECES_MAX || used + n_bytes > USED_MAX)
			drop_piece(draw(n_pieces));
		add_piece(n_bytes);
		if (draw(4) == 0)
			drop_piece(draw(n_pieces));
	}
}
END_TEST

START_TEST(test_whole_region_can_be_used)
{
	add_piece(SPACE_BYTES);
	ck_assert_uint_eq(space_find(pieces, n_pieces, SPACE_PAGE_BYTES), SPACE_FULL);
	drop_piece(0);
	for (unsigned int i = 0; i < 8; i++)
		add_piece(SPACE_BYTES / 8);
	ck_assert_uint_eq(space_find(pieces, n_pieces, SPACE_PAGE_BYTES), SPACE_FULL);
	ck_assert_uint_eq(space_find(pieces, n_pieces, SPACE_BYTES / 8), SPACE_FULL);
}
END_TEST

START_TEST(test_more_than_the_region_is_refused)
{
	ck_assert_uint_eq(space_find(pieces, 0, SPACE_BYTES + SPACE_PAGE_BYTES), SPACE_FULL);
}
END_TEST

/* A small piece between two large ones that go would leave no room for a larger one. */
START_TEST(test_small_pieces_do_not_cut_the_room_of_large_ones)
{
	for (unsigned int i = 0; i < 100; i++) {
		add_piece(SPACE_BYTES / 8);
		add_piece(SPACE_PAGE_BYTES);
		drop_piece(n_pieces - 2);
	}
	add_piece(SPACE_BYTES / 2);
	add_piece(SPACE_BYTES / 4);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("wl-space");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_million_steps_within_the_quota_never_fail);
	tcase_add_test(tc, test_whole_region_can_be_used);
	tcase_add_test(tc, test_more_than_the_region_is_refused);
	tcase_add_test(tc, test_small_pieces_do_not_cut_the_room_of_large_ones);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("wl-space", add_tests);
}

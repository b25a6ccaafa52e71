/*
 * Shared memory regions: what a device (shmem.c) has the VMM map, and what becomes of it.
 */
#include "mapper.h"

#define PAGE UINT64_C(4096)

static struct mapper m;

START_TEST(test_regions_are_told)
{
	struct vu_shmem_config config;

	mapper_open(&m, MAPPER_PROTOCOL, true);
	ck_assert_int_eq(window_get_config(&m.n.c, &config), 0);
	ck_assert_uint_eq(config.n, 1);
	for (unsigned int i = 0; i < VU_SHMEM_REGIONS; i++)
		ck_assert_uint_eq(config.sizes[i], i == SHMEM_REGION ? SHMEM_BYTES : 0);
	mapper_close(&m);
}
END_TEST

START_TEST(test_file_is_mapped_and_unmapped)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 1, SHMEM_MADE);
	mapper_map(&m, 2, SHMEM_BYTES - 4 * PAGE, 4 * PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 2, SHMEM_MADE);
	mapper_check_there(&m, 1, 0, PAGE);
	mapper_check_there(&m, 2, SHMEM_BYTES - 4 * PAGE, 4 * PAGE);
	mapper_unmap(&m, 1);
	mapper_serve(&m, 1);
	ck_assert_ptr_null(window_at(&m.w, 0, PAGE));
	mapper_check_there(&m, 2, SHMEM_BYTES - 4 * PAGE, 4 * PAGE);
	mapper_map(&m, 3, 0, PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 3, SHMEM_MADE);
	mapper_check_there(&m, 3, 0, PAGE);
	ck_assert_uint_eq(m.w.n_refused_maps + m.w.n_refused_unmaps, 0);
	mapper_close(&m);
}
END_TEST

/* _i: SHMEM_F_... */
START_TEST(test_refusal_concerns_that_map_alone)
{
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_map(&m, 1, 0, 2 * PAGE, (uint32_t)_i);
	mapper_map(&m, 2, 2 * PAGE, PAGE, 0);
	mapper_serve(&m, 2);
	mapper_expect(&m, 1, SHMEM_REFUSED);
	mapper_expect(&m, 2, SHMEM_MADE);
	mapper_check_there(&m, 2, 2 * PAGE, PAGE);
	mapper_unmap(&m, 1);
	mapper_map(&m, 3, 0, 2 * PAGE, 0);
	mapper_serve(&m, 1);
	mapper_expect(&m, 3, SHMEM_MADE);
	ck_assert_uint_eq(m.w.n_refused_maps, 1);
	mapper_expect_silence(&m);
	mapper_close(&m);
}
END_TEST

static void add(Suite *s)
{
	TCase *tc = tcase_create("shmem");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_regions_are_told);
	tcase_add_test(tc, test_file_is_mapped_and_unmapped);
	tcase_add_loop_test(tc, test_refusal_concerns_that_map_alone, SHMEM_F_READ_ONLY,
		SHMEM_F_SHORT + 1);
	suite_add_tcase(s, tc);
}

int main(void)
{
	return mapper_main(&m, "shmem", add);
}

/*
 * A small guest that asks for the largest rings there are, and for all of them: what the worker
 * needs for them stays small, what it cannot give it refuses in words, and whoever asks for less is
 * served.
 */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rig.h"

#define RINGS 48 /* 32 of them are as much as a device may have */
#define SIZE 32768
#define MIB UINT64_C(0x100000)
#define RSS_MIB_MAX 64

static struct vu_client c;
static struct guest g;

static void connect_with(uint64_t features)
{
	struct vu_region regions[GUEST_MAX_REGIONS];
	int fds[GUEST_MAX_REGIONS];
	size_t n_regions;

	rig_hello(&c, VU_BIT(VU_PF_MQ));
	rig_ok(vu_set_features(&c,
		       VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_PROTOCOL_FEATURES) | features),
		c.why);
	ck_assert_int_eq(guest_init_plain(&g, 4 * MIB), 0);
	n_regions = guest_table(&g, regions, fds);
	rig_ok(vu_set_mem_table(&c, regions, fds, n_regions), c.why);
}

/* All in the same place. */
static void start(uint32_t index, bool packed)
{
	uint64_t at = g.regions[0].at.uva;
	struct vu_addr addr = {
		.index = index, .desc = at, .avail = at + MIB, .used = at + 2 * MIB
	};
	int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	rig_ok(vu_set_state(&c, VU_SET_VRING_NUM, index, SIZE), c.why);
	rig_ok(vu_set_state(&c, VU_SET_VRING_BASE, index, packed ? 0x8000 : 0), c.why);
	rig_ok(vu_set_vring_addr(&c, &addr), c.why);
	c.ack = false; /* whether it runs is another question */
	rig_ok(vu_set_vring_fd(&c, VU_SET_VRING_KICK, index, kick), c.why);
	c.ack = true;
	close(kick);
}

static unsigned long rss_mib(void)
{
	unsigned long pages = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", suite_pid(&rig, "net", "net0"));
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%*u %lu", &pages), 1);
	fclose(f);
	ck_assert_uint_ne(pages, 0);
	return pages * (unsigned long)sysconf(_SC_PAGESIZE) / MIB;
}

/* _i: packed */
/* covers: P4 */
START_TEST(test_all_rings_as_large_as_they_come)
{
	unsigned long before = rss_mib(), grown;

	connect_with(_i ? VU_BIT(VU_F_PACKED) : 0);
	for (uint32_t i = 0; i < RINGS; i++)
		start(i, _i);
	rig_ok(vu_get_features(&c), c.why);
	grown = rss_mib() - before;
	printf("# %s: the worker grew by %lu MiB\n", _i ? "packed" : "split", grown);
	ck_assert(suite_logged(&rig,
		"the device's rings together are longer than 1048576 descriptors"));
	/* sanitizers keep what is freed, and memory of their own */
	if (!getenv("BULKHEAD_SANITIZED") || *getenv("BULKHEAD_SANITIZED") != '1')
		ck_assert_uint_lt(grown, RSS_MIB_MAX);
	vu_close(&c);
	guest_deinit(&g);
	rig_check_net0();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "large");

	tcase_add_loop_test(tc, test_all_rings_as_large_as_they_come, 0, 2);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 64 };

	return rig_main("large", &net0, add);
}

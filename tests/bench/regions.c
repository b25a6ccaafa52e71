/*
 * How guest memory in many regions grows: what adding one takes, and the rate of chains whose
 * buffers lie in all of them by turns.
 *
 *   bench-regions N [MILLISECONDS]
 *
 * Prints milliseconds for each region that was added, and chains a second.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "net.h"
#include "suite.h"

#define REGION_BYTES (UINT64_C(2) << 20)
#define REGION_GPA(i) ((UINT64_C(4) << 30) + 2 * REGION_BYTES * (i))
#define REGION_UVA(i) (UINT64_C(0x7d0000000000) + 2 * REGION_BYTES * (i))
#define RING_SIZE 256
#define BURST 128
#define FRAME_BYTES 64
#define SLOTS 16 /* buffers in each region, in one page of it */
#define SLOT_BYTES 256
#define WARM 65536 /* chains until every page is there */

static struct net n;

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int add_region(uint64_t i)
{
	struct vu_region at = { .gpa = REGION_GPA(i), .size = REGION_BYTES, .uva = REGION_UVA(i) };
	int fd = memfd_create("region", MFD_CLOEXEC);
	int e;

	if (fd < 0)
		return -errno;
	e = ftruncate(fd, (off_t)REGION_BYTES) < 0 ? -errno : vu_add_mem_reg(&n.c, &at, fd);
	close(fd);
	return e;
}

/* The driver's half of a split ring; the one of tests/lib checks much, and would be measured. */
static void post(struct ring *ring, uint16_t idx, uint64_t n_regions)
{
	for (uint16_t i = 0; i < BURST; i++, idx++) {
		uint16_t slot = idx % RING_SIZE;
		uint64_t region = idx % n_regions;

		ring->desc[slot] = (struct ring_desc){
			.addr = REGION_GPA(region) + (uint64_t)(slot % SLOTS) * SLOT_BYTES,
			.len = NET_HDR_BYTES + FRAME_BYTES,
		};
		ring->avail[2 + slot] = slot;
	}
	__atomic_store_n(&ring->avail[1], idx, __ATOMIC_RELEASE);
}

static int serve(struct ring *ring, uint16_t until)
{
	double limit = now_ms() + 5000;
	uint64_t one = 1;

	if (write(ring->kick_fd, &one, sizeof(one)) < 0)
		return -errno;
	while (__atomic_load_n(&ring->used[1], __ATOMIC_ACQUIRE) != until)
		if (now_ms() > limit)
			return -ETIMEDOUT;
	return 0;
}

static int serve_burst(struct ring *ring, uint16_t *idx, uint64_t n_regions)
{
	post(ring, *idx, n_regions);
	*idx = (uint16_t)(*idx + BURST);
	return serve(ring, *idx);
}

static int measure(uint64_t n_regions, double milliseconds)
{
	struct ring *ring = &n.rings[1];
	double begun = now_ms(), added, end;
	uint64_t done = 0;
	uint16_t idx = 0;
	int e = 0;

	for (uint64_t i = 0; i < n_regions && !e; i++)
		e = add_region(i);
	added = (now_ms() - begun) / (double)n_regions;
	for (size_t i = 0; i < WARM && !e; i += BURST)
		e = serve_burst(ring, &idx, n_regions);
	begun = now_ms();
	for (end = begun + milliseconds; !e && now_ms() < end; done += BURST)
		e = serve_burst(ring, &idx, n_regions);
	if (!e)
		printf("%.4f %.0f\n", added, (double)done * 1e3 / (now_ms() - begun));
	return e;
}

int main(int argc, char **argv)
{
	static const struct suite_device net0 = { .name = "net0", .backend = "null" };
	static const struct net_profile profile = { .ring_size = RING_SIZE,
		.protocol = UINT64_C(1) << VU_PF_MEM_SLOTS };
	static struct suite suite;
	uint64_t n_regions = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	int e;

	if (!n_regions) {
		fprintf(stderr, "bench-regions N [MILLISECONDS]\n");
		return 2;
	}
	e = suite_start(&suite, &net0, 1) ?: suite_wait_ready(&suite);
	if (!e)
		e = net_open(&n, suite_socket(&suite, "net0"), &profile);
	if (!e)
		e = measure(n_regions, argc > 2 ? strtod(argv[2], NULL) : 500);
	if (e)
		fprintf(stderr, "%s: %s %s %s\n", strerror(e < 0 ? -e : EPROTO), suite.why, n.why,
			n.c.why);
	return suite_stop(&suite) || e;
}

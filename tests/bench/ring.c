/*
 * What a chain costs the device: one process is driver and device by turns, in batches of 32, 64
 * bytes each, copied out of (transmit) or into (receive) guest memory. Only the device's turns are
 * timed, and the lower quartile counts: what else the machine does makes turns longer, never
 * shorter.
 *
 * With the path of another build of this program, the two alternate, and the ratio is printed:
 *     bench-ring ../other/tests/bench/bench-ring
 * With "threads" the driver runs on a CPU of its own, and the rate is that of both.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "virtq/virtq.h"

#define BATCH 32
#define FRAME 64
#define RING_SIZE 256
#define BUFFER_BYTES 2048
#define MEM_BYTES ((size_t)RING_SIZE * BUFFER_BYTES * 2)
#define BUFFERS_AT ((uint64_t)RING_SIZE * BUFFER_BYTES)
#define UVA 0x7f0000000000ULL
#define CHAINS_ONCE 2000000u
#define ROUNDS 7

enum { F_WRITE = 2, F_AVAIL = 1 << 7, F_USED = 1 << 15 };

struct raw_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t a, b;
};

struct bench {
	bool packed, receive;
	uint8_t *mem;
	struct map *map;
	struct virtq *vq;
	struct ledger_queue ledger;
	struct raw_desc *desc;
	uint16_t *avail, *used;
	uint16_t avail_idx, used_idx; /* split: free running; packed: laps and slots, see wrap() */
	uint8_t frame[FRAME];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void setup(struct bench *b, bool packed, bool receive)
{
	struct map_region region = { .uva = { UVA }, .size_bytes = MEM_BYTES };
	struct virtq_setup s = { .size = RING_SIZE,
		.packed = packed,
		.desc = { UVA },
		.avail = { UVA + 16 * RING_SIZE },
		.used = { UVA + 24 * RING_SIZE },
		.base = packed ? 0x80008000 : 0,
		.start_id = 1 };
	int fd = memfd_create("bench", MFD_CLOEXEC);

	check(fd >= 0 && ftruncate(fd, MEM_BYTES) == 0);
	b->packed = packed;
	b->receive = receive;
	b->mem = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(b->mem != MAP_FAILED && map_new(&b->map) == 0 && map_add(b->map, &region, fd) == 0);
	close(fd);
	b->desc = (void *)b->mem;
	b->avail = (void *)(b->mem + 16 * RING_SIZE);
	b->used = (void *)(b->mem + 24 * RING_SIZE);
	memset(b->mem, 1, MEM_BYTES);
	memset(b->mem, 0, 64 * RING_SIZE);
	check(virtq_start(&b->vq, &s, b->map, &b->ledger, aligned_alloc(4096, 1 << 20)) == 0);
}

static void teardown(struct bench *b)
{
	virtq_stop(b->vq);
	map_free(b->map);
	munmap(b->mem, MEM_BYTES);
}

/* --- The driver: buffers are used round and round, in order --- */

static bool lap(uint16_t idx)
{
	return !(idx / RING_SIZE & 1);
}

static void post(struct bench *b, unsigned int n)
{
	uint16_t flags = b->receive ? F_WRITE : 0;

	for (unsigned int i = 0; i < n; i++, b->avail_idx++) {
		uint16_t slot = b->avail_idx % RING_SIZE;
		struct raw_desc *desc = &b->desc[slot];

		desc->addr = BUFFERS_AT + (uint64_t)slot * BUFFER_BYTES;
		desc->len = FRAME;
		if (b->packed) {
			desc->a = slot;
			__atomic_store_n(&desc->b,
				(uint16_t)(flags | (lap(b->avail_idx) ? F_AVAIL : F_USED)),
				__ATOMIC_RELEASE);
		} else {
			desc->a = flags;
			b->avail[2 + slot] = slot;
		}
	}
	if (!b->packed)
		__atomic_store_n(&b->avail[1], b->avail_idx, __ATOMIC_RELEASE);
}

static unsigned int reap(struct bench *b)
{
	unsigned int n = 0;

	if (!b->packed) {
		n = (uint16_t)(__atomic_load_n(&b->used[1], __ATOMIC_ACQUIRE) - b->used_idx);
		b->used_idx = (uint16_t)(b->used_idx + n);
		return n;
	}
	for (;; n++, b->used_idx++) {
		uint16_t flags =
			__atomic_load_n(&b->desc[b->used_idx % RING_SIZE].b, __ATOMIC_ACQUIRE);
		bool wrap = lap(b->used_idx);

		if (!!(flags & F_AVAIL) != wrap || !!(flags & F_USED) != wrap)
			return n;
	}
}

/* --- The device --- */

static unsigned int serve(struct bench *b)
{
	struct virtq_chain *chains[BATCH];
	int n = virtq_fill(b->vq, BATCH);

	check(n >= 0);
	if (n == 0)
		return 0;
	for (int i = 0; i < n; i++) {
		chains[i] = virtq_window(b->vq, (unsigned int)i);
		__builtin_prefetch(chains[i]->iov->iov_base);
	}
	virtq_take(b->vq, (unsigned int)n);
	for (int i = 0; i < n; i++) {
		if (b->receive)
			memcpy(chains[i]->iov->iov_base, b->frame, FRAME);
		else
			memcpy(b->frame, chains[i]->iov->iov_base, FRAME);
		virtq_complete(b->vq, chains[i], b->receive ? FRAME : 0);
	}
	virtq_publish(b->vq);
	return (unsigned int)n;
}

static int by_ns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double by_turns(bool packed, bool receive)
{
	static uint32_t turns[CHAINS_ONCE / BATCH + 1];
	struct bench b = { 0 };
	uint64_t start, empty = now_ns();
	uint32_t done = 0, n = 0;

	for (int i = 0; i < 1000; i++)
		(void)now_ns();
	empty = (now_ns() - empty) / 1000; /* the cost of looking at the clock */
	setup(&b, packed, receive);
	while (done < CHAINS_ONCE) {
		post(&b, BATCH);
		start = now_ns();
		done += serve(&b);
		turns[n++] = (uint32_t)(now_ns() - start - empty);
		reap(&b);
	}
	teardown(&b);
	qsort(turns, n, sizeof(*turns), by_ns);
	n /= 4;
	return (double)turns[n] / BATCH;
}

struct threads {
	struct bench b;
	atomic_bool stop;
};

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

static void *drive(void *data)
{
	struct threads *t = data;
	unsigned int room = RING_SIZE;

	pin(1);
	while (!t->stop) {
		room += reap(&t->b);
		if (room < BATCH) {
			relax();
			continue;
		}
		post(&t->b, BATCH);
		room -= BATCH;
	}
	return NULL;
}

static double two_threads(bool packed, bool receive)
{
	struct threads *t = calloc(1, sizeof(*t));
	pthread_t thread;
	uint32_t done = 0;
	uint64_t ns;

	check(t);
	setup(&t->b, packed, receive);
	pin(0);
	check(pthread_create(&thread, NULL, drive, t) == 0);
	ns = now_ns();
	while (done < 2 * CHAINS_ONCE) {
		unsigned int n = serve(&t->b);

		done += n;
		if (n == 0)
			relax();
	}
	ns = now_ns() - ns;
	t->stop = true;
	pthread_join(thread, NULL);
	teardown(&t->b);
	free(t);
	return (double)ns / done;
}

/* --- Series --- */

static const char *const names[4] = { "split  transmit", "split  receive", "packed transmit",
	"packed receive" };

static void once(bool threads)
{
	for (int i = 0; i < 4; i++)
		printf("%f\n", (threads ? two_threads : by_turns)(i & 2, i & 1));
}

static void run(const char *program, bool threads, double ret[4])
{
	char command[600];
	FILE *pipe;

	snprintf(command, sizeof(command), "%s %s", program, threads ? "--once-threads" : "--once");
	pipe = popen(command, "r"); /* NOLINT: our own path */
	check(pipe);
	for (int i = 0; i < 4; i++)
		check(fscanf(pipe, "%lf", &ret[i]) == 1);
	check(pclose(pipe) == 0);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double series[ROUNDS][4], int column)
{
	double sorted[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		sorted[i] = series[i][column];
	qsort(sorted, ROUNDS, sizeof(*sorted), by_value);
	return sorted[ROUNDS / 2];
}

int main(int argc, char **argv)
{
	static double own[ROUNDS][4], other[ROUNDS][4];
	const char *peer = argc > 1 && argv[argc - 1][0] != '-' ? argv[argc - 1] : argv[0];
	bool threads = argc > 1 && strstr(argv[1], "threads");

	if (argc > 1 && strncmp(argv[1], "--once", 6) == 0) {
		once(threads);
		return 0;
	}
	if (strcmp(peer, "threads") == 0)
		peer = argv[0];
	for (int i = 0; i < ROUNDS; i++) {
		run(peer, threads, other[i]);
		run(argv[0], threads, own[i]);
	}
	printf("# %s, ring of %d, batches of %d, %d bytes; median of %d\n",
		threads ? "driver and device on a CPU each" : "the device's turns alone", RING_SIZE,
		BATCH, FRAME, ROUNDS);
	for (int i = 0; i < 4; i++) {
		double ns = median(own, i), peer_ns = median(other, i);

		printf("%s: %6.1f Mpps %5.2f ns a chain; %s %5.2f ns; ratio %.3f\n", names[i],
			1e3 / ns, ns, peer == argv[0] ? "itself again" : "the other one", peer_ns,
			ns / peer_ns);
	}
	return 0;
}

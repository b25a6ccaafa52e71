/*
 * Death at every step. The library is compiled so that it calls virtq_step() between any two stores
 * that a successor must find in order. There the guest's memory, the ledger and the driver are
 * copied, and a second device goes on with the copy, while the driver of the copy goes on, too. It
 * must get back every chain exactly once. The second device dies at every step of its start in
 * turn, and a third goes on.
 *
 * A migration goes on all the while: what the driver writes, and what the log hears of, is copied
 * to another guest at once. In the end the two must be equal, so no death may lose a mark: of the
 * ring, of chains that were taken, and of chains into which the device had written before it took
 * them.
 *
 * Where the device completes in order, the ring is in order, too (VIRTIO_F_IN_ORDER): what comes
 * back by the entry of a batch's last came back.
 *
 * Where the VMM keeps the in-flight region, the ledger may be lost with the device, and the base
 * that the VMM then gives be wrong: the region alone says where the ring stood.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "lib/patience.h"
#include "lib/run.h"

#define MEM_BYTES 32768
#define RING_AT 0
#define RING_BYTES 512 /* at most, for SIZE_MAX_ */
#define TABLES_AT 4096
#define BUFFERS_AT 14336
#define SIZE_MAX_ 16
#define COOKIES 4096
#define INFLIGHT_BYTES 1024

enum { DIRECT, CHAINED, INDIRECT, MIXED };

/* what is different about the second life */
enum {
	DRIVER_RUNS = 1, /* between death and restart */
	SMALL_BITES = 2,
	ONE_BY_ONE = 4,
	WIPED = 8, /* nothing is left but what the VMM has */
	N_VARIANTS = 16,
};

struct world {
	struct map_log log;          /* first: hears of the device's writes */
	uint8_t migrated[MEM_BYTES]; /* the guest at the destination */
	struct memory m;
	struct driver d;
	struct ledger_queue ledger;
	_Alignas(64) uint8_t inflight[INFLIGHT_BYTES];
	uint32_t posted; /* cookies below this one were posted */
	uint8_t reaped[COOKIES];
};

#define must_msg(cond, ...)                                                                        \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg(__VA_ARGS__);                                                 \
	} while (0)

static struct world worlds[3];
static int depth;     /* which world the running device serves */
static bool starting; /* is within virtq_start() */
static int kind, order;
static uint16_t first_index; /* split: where the ring begins */
static bool shared;          /* the VMM keeps the in-flight region */
static unsigned int n_steps, n_deaths, variant_now[3];

void virtq_step(void);

static unsigned int n_rounds(void)
{
	return getenv("BULKHEAD_FULL") ? 24 : test_rounds(12);
}

/* --- The driver --- */

static void migrate(struct map_log *log, struct gpa start, uint64_t n_bytes)
{
	struct world *w = (struct world *)(void *)log;

	must(n_bytes <= MEM_BYTES && start.val <= MEM_BYTES - n_bytes);
	memcpy(w->migrated + start.val, w->m.mem + start.val, n_bytes);
}

/* The driver's own writes are the VMM's to find: those into the ring, and the others. */
static void migrate_changes(struct world *w, const uint8_t *before)
{
	for (unsigned int i = 0; i < RING_BYTES; i += 2)
		if (memcmp(w->m.mem + i, before + i, 2) != 0)
			memcpy(w->migrated + i, w->m.mem + i, 2);
}

static void migrate_written(struct world *w, uint64_t at, size_t n)
{
	memcpy(w->migrated + at, w->m.mem + at, n);
}

static bool is_migrated(const struct world *w)
{
	return memcmp(w->migrated, w->m.mem, MEM_BYTES) == 0;
}

static bool post_chain(struct world *w)
{
	uint32_t cookie = w->posted, n = kind == DIRECT ? 1 : 1 + cookie % 3;
	int form = kind == MIXED ? (int)(cookie % 3) : kind;
	uint64_t at = BUFFERS_AT + (uint64_t)(cookie % 64) * 64;
	struct seg segs[3] = { { at, 16, false }, { at + 16, 32, true }, { at + 48, 8, true } };
	uint64_t table = form == INDIRECT ? TABLES_AT + (uint64_t)(cookie % 64) * 64 : 0;

	if (form == DIRECT)
		n = 1;
	must(cookie < COOKIES);
	if (!driver_post(&w->d, segs, n, table, cookie))
		return false;
	memcpy(w->m.mem + at, &cookie, sizeof(cookie));
	migrate_written(w, at, sizeof(cookie));
	if (table)
		migrate_written(w, table, 64);
	w->posted++;
	return true;
}

static bool post(struct world *w)
{
	uint8_t before[RING_BYTES];
	bool posted;

	memcpy(before, w->m.mem, RING_BYTES);
	posted = post_chain(w);
	migrate_changes(w, before);
	return posted;
}

static void calls_on(struct world *w)
{
	uint8_t before[RING_BYTES];

	memcpy(before, w->m.mem, RING_BYTES);
	driver_calls_on(&w->d);
	migrate_changes(w, before);
}

static unsigned int reap(struct world *w)
{
	unsigned int n = 0;
	uint32_t cookie, len;
	int r;

	while ((r = driver_reap(&w->d, &cookie, &len)) == 1) {
		must_msg(!w->reaped[cookie], "chain %u came back twice", cookie);
		w->reaped[cookie] = 1;
		n++;
	}
	must_msg(r == 0, "%s", driver_fault);
	return n;
}

/* --- The device --- */

static uint32_t cookie_of(const struct virtq_chain *chain)
{
	uint32_t cookie = 0;

	must_msg(!chain->bad, "%s", chain->rule);
	must(virtq_read(chain, 0, &cookie, sizeof(cookie)) == sizeof(cookie));
	return cookie;
}

static void complete(struct virtq *vq, struct virtq_chain **chains, unsigned int n, int how)
{
	for (unsigned int i = 0; i < n; i++) {
		unsigned int k = how == 0 ? i : how == 1 ? n - 1 - i : (i + n / 2) % n;

		virtq_complete(vq, chains[k], chains[k]->in_bytes);
	}
}

/* As complete(), for the first of the window, which are not taken yet. */
static void finish_first(struct virtq *vq, unsigned int n)
{
	uint32_t n_bytes[SIZE_MAX_];

	for (unsigned int i = 0; i < n; i++)
		n_bytes[i] = virtq_window(vq, i)->in_bytes;
	virtq_finish(vq, n, n_bytes);
}

static struct virtq *start(struct world *w, bool wiped)
{
	struct virtq_setup setup = driver_setup(&w->d, wiped ? 3 : 77);
	struct virtq *vq = NULL;
	int r;

	setup.inflight_id = shared ? 9 : 0;
	setup.base += first_index;
	if (wiped) {
		w->ledger = (struct ledger_queue){ 0 };
		setup.base = w->d.packed ? 0x80028001 : 0x7777;
	}
	starting = true;
	r = virtq_start(&vq, &setup, w->m.map, &w->ledger, w->inflight);
	starting = false;
	must(r == 0);
	return vq;
}

/* Serve what there is, in bites: n at a time, published one by one from the last (in order: from
 * the first), or all at once. */
static void serve(struct world *w, struct virtq *vq, unsigned int bite, bool one_by_one)
{
	uint32_t last = 0;
	bool any = false;
	int n;

	while ((n = virtq_fill(vq, bite)) > 0) {
		struct virtq_chain *chains[SIZE_MAX_];

		for (int i = 0; i < n; i++) {
			chains[i] = virtq_window(vq, (unsigned int)i);
			uint32_t cookie = cookie_of(chains[i]);

			must_msg(!w->reaped[cookie], "chain %u, which was done, came again",
				cookie);
			must_msg(!any || cookie > last, "chain %u comes after %u", cookie, last);
			last = cookie;
			any = true;
		}
		virtq_take(vq, (unsigned int)n);
		for (int i = n - 1; i >= 0; i--) {
			virtq_complete(vq, chains[w->d.in_order ? n - 1 - i : i], 0);
			if (!one_by_one)
				continue;
			virtq_publish(vq);
			reap(w);
		}
		virtq_publish(vq);
		reap(w);
	}
	must(n == 0);
}

static void all_back(struct world *w)
{
	for (uint32_t i = 0; i < w->posted; i++)
		must_msg(w->reaped[i], "chain %u was lost", i);
}

/* --- Death --- */

static void copy_world(struct world *to, const struct world *from)
{
	struct memory m = to->m;

	memcpy(m.mem, from->m.mem, MEM_BYTES);
	*to = *from;
	to->m = m;
	driver_copy(&to->d, &from->d, &to->m);
}

/* Whatever the dead one had asked for: the driver kicks for the next chain. */
static void kicks_again(struct world *w, struct virtq *vq)
{
	must(!virtq_kick_on(vq));
	(void)driver_must_kick(&w->d);
	must(post(w));
	must_msg(driver_must_kick(&w->d), "the driver was not asked to kick again");
	serve(w, vq, SIZE_MAX_, false);
}

static void go_on(struct world *w, unsigned int variant)
{
	struct virtq *vq;

	if (variant & DRIVER_RUNS) {
		reap(w);
		while (post(w))
			;
	}
	calls_on(w);
	vq = start(w, variant & WIPED);
	ck_assert_msg(virtq_call_due(vq), "the driver was not told again");
	serve(w, vq, variant & SMALL_BITES ? 1 : SIZE_MAX_, variant & ONE_BY_ONE);
	reap(w);
	all_back(w);
	must_msg(is_migrated(w), "the log did not hear of a write");
	for (int lap = 0; lap < 3; lap++) {
		while (post(w))
			;
		serve(w, vq, SIZE_MAX_, false);
	}
	kicks_again(w, vq);
	all_back(w);
	must(w->d.n_free == w->d.size);
	if (w->d.packed)
		must(virtq_base(vq) == ledger_base(&w->ledger));
	virtq_stop(vq);
}

void virtq_step(void)
{
	bool was_starting = starting;

	if (worlds[depth].posted == 0 || depth == 2 ||
		(depth == 1 && (!starting || variant_now[1] % 5 != 0)))
		return;
	n_steps++;
	depth++;
	for (unsigned int variant = 0; variant < (shared ? N_VARIANTS : WIPED); variant++) {
		if (depth == 2 && variant % WIPED != (DRIVER_RUNS | ONE_BY_ONE) &&
			variant != SMALL_BITES)
			continue;
		variant_now[depth] = variant;
		copy_world(&worlds[depth], &worlds[depth - 1]);
		go_on(&worlds[depth], variant);
		driver_deinit(&worlds[depth].d);
		n_deaths++;
	}
	depth--;
	starting = was_starting;
}

/* --- The life that is cut --- */

/* Into chains of the window, whether they will be taken or not. */
static void write_ahead(struct virtq *vq, unsigned int n, unsigned int round)
{
	uint8_t noise[40];

	memset(noise, (int)round + 1, sizeof(noise));
	for (unsigned int i = 0; i < n; i++)
		(void)virtq_write(virtq_window(vq, i), 0, noise, 8 + round * 7 % 33);
}

static void live(struct world *w)
{
	struct virtq *vq = start(w, false);
	struct virtq_chain *held[SIZE_MAX_];
	unsigned int n_held = 0;

	for (unsigned int round = 0; round < n_rounds(); round++) {
		unsigned int take = 1 + round * 5 % w->d.size, some;
		int n;

		virtq_kick_off(vq);
		while (post(w))
			;
		n = virtq_fill(vq, w->d.size);
		ck_assert_int_ge(n, 0);
		take = take > (unsigned int)n ? (unsigned int)n : take;
		write_ahead(vq, (unsigned int)n, round);
		if (order == 0 && round % 2) {
			finish_first(vq, take);
			take = 0;
		}
		for (unsigned int i = 0; i < take; i++)
			held[n_held++] = virtq_window(vq, i);
		virtq_take(vq, take);
		/* in order: all that is held; else the newer part, and the older stays for a
		 * while */
		some = order == 0 ? n_held : n_held - (round % 3 ? n_held / 2 : 0);
		complete(vq, held + (n_held - some), some, order);
		virtq_publish(vq);
		n_held -= some;
		(void)virtq_call_due(vq);
		if (round % 4 != 3)
			reap(w);
		if (round % 3 == 1)
			(void)virtq_kick_on(vq);
	}
	complete(vq, held, n_held, order);
	virtq_publish(vq);
	reap(w);
	virtq_stop(vq);
}

static void run(bool packed, uint32_t size)
{
	struct world *w = &worlds[0];

	shared = size % 2 == 0;
	for (int i = 0; i < 3; i++) {
		memory_init(&worlds[i].m, MEM_BYTES);
		worlds[i].log.dirty = migrate;
		map_set_log(worlds[i].m.map, &worlds[i].log);
	}
	driver_init(&w->d, &w->m, RING_AT, size, packed);
	w->d.event_idx = size & 1 || order == 1;
	if (order == 0)
		driver_in_order(&w->d);
	first_index = !packed && order != 0 ? 0xffd0 : 0; /* the index passes its end on the way */
	driver_begin_at(&w->d, first_index);
	memcpy(w->migrated, w->m.mem, RING_BYTES);
	n_steps = n_deaths = 0;
	live(w);
	ck_assert_uint_gt(n_steps, 100);
	driver_deinit(&w->d);
	for (int i = 0; i < 3; i++)
		memory_deinit(&worlds[i].m);
	printf("# %s of %u, kind %d, order %d: %u steps, %u deaths\n", packed ? "packed" : "split",
		size, kind, order, n_steps, n_deaths);
}

/* _i: kind x order */
/* covers: P2 */
START_TEST(test_split_ring_survives_death_at_every_step)
{
	kind = _i / 3;
	order = _i % 3;
	run(false, 8);
}
END_TEST

/* covers: P2 */
START_TEST(test_packed_ring_survives_death_at_every_step)
{
	kind = _i / 3;
	order = _i % 3;
	run(true, 8);
}
END_TEST

/* covers: P2 */
START_TEST(test_packed_ring_of_odd_size_survives_death_at_every_step)
{
	kind = _i / 3;
	order = _i % 3;
	run(true, 7);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("death");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, test_split_ring_survives_death_at_every_step, 0, 12);
	tcase_add_loop_test(tc, test_packed_ring_survives_death_at_every_step, 0, 12);
	tcase_add_loop_test(tc, test_packed_ring_of_odd_size_survives_death_at_every_step, 0, 12);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("recovery", add_tests);
}

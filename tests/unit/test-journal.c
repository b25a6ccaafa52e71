/*
 * The journal of the back-end channel, between a VMM that does what it is asked in order and a
 * frontend that dies: at any step, as often as it pleases. What the journal says the VMM has must
 * be what the VMM has, and no answer may be taken for another one's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "journal.h"
#include "lib/patience.h"
#include "lib/run.h"

#define N_MAPS 4
#define QUEUE 4096
#define DEATH 4 /* one in so many steps */

/** struct said - a request on its way to the VMM, or an answer on its way back */
struct said {
	uint32_t request;
	uint64_t offset, value;
};

static struct journal *journal;
static struct said requests[QUEUE], answers[QUEUE];
static size_t n_requests, n_answers;
static bool there[N_MAPS], stubborn[N_MAPS]; /* mapped | the VMM refuses to */
static bool taken;                           /* the answer that is noted is out of the socket */
static unsigned int dice;

static bool chance(unsigned int one_in)
{
	dice = dice * 1103515245 + 12345;
	return (dice >> 16) % one_in == 0;
}

/* --- The VMM --- */

static void push(struct said *list, size_t *n, struct said said)
{
	ck_assert_uint_lt(*n, QUEUE);
	list[(*n)++] = said;
}

static struct said pop(struct said *list, size_t *n)
{
	struct said first = list[0];

	memmove(list, list + 1, --*n * sizeof(*list));
	return first;
}

static void vmm_serve(void)
{
	struct said request = pop(requests, &n_requests);
	bool *map = &there[request.offset];

	if (request.request == BACKEND_SHMEM_MAP) {
		request.value = *map || stubborn[request.offset];
		*map |= !request.value;
	} else {
		request.value = !*map;
		*map = false;
	}
	push(answers, &n_answers, request);
}

/* --- The frontend, which may die --- */

/* As channel.c takes up what it finds. */
static void die(void)
{
	journal_recover(journal);
	if (!journal->heard)
		return;
	if (!taken)
		(void)pop(answers, &n_answers);
	taken = true;
	journal_heard(journal);
}

static void ask(uint32_t request, struct journal_map *map)
{
	const struct said said = { .request = request, .offset = map->offset_bytes };

	journal_sending(journal, request, map);
	if (chance(DEATH)) {
		die();
		return;
	}
	push(requests, &n_requests, said);
	if (chance(DEATH)) {
		die();
		return;
	}
	journal_sent(journal, true);
}

static void hear(void)
{
	journal_hear(journal, answers[0].request, answers[0].value);
	taken = false;
	if (chance(DEATH)) {
		die();
		return;
	}
	(void)pop(answers, &n_answers);
	taken = true;
	if (chance(DEATH))
		die();
	else
		journal_heard(journal);
}

static struct journal_map *find(uint64_t seq)
{
	for (uint32_t i = 0; i < journal->n_maps; i++)
		if (journal->maps[i].state != MAP_FREE && journal->maps[i].seq == seq)
			return &journal->maps[i];
	return NULL;
}

/* One step of shmem.c: maps are wanted, and all others are not. */
static void work(const bool wanted[N_MAPS])
{
	for (uint32_t i = 0; i < journal->n_maps && journal->step == JOURNAL_IDLE; i++) {
		struct journal_map *map = &journal->maps[i];
		bool leaves = map->state == MAP_MADE && !wanted[map->offset_bytes];

		if (map->state == MAP_DOUBTFUL || leaves)
			ask(BACKEND_SHMEM_UNMAP, map);
		else if (map->state == MAP_REFUSED && !wanted[map->offset_bytes])
			journal_drop(journal, map);
	}
	for (uint64_t i = 0; i < N_MAPS && journal->step == JOURNAL_IDLE; i++) {
		const Bh__ShmemMap map = {
			.seq = i + 1, .offset_bytes = i, .size_bytes = 1, .region = 0
		};

		if (wanted[i] && !find(map.seq) && !journal->counts.doubtful)
			ask(BACKEND_SHMEM_MAP, journal_add(journal, &map));
	}
}

static bool is_settled(const bool wanted[N_MAPS])
{
	if (journal->step != JOURNAL_IDLE || n_requests || n_answers)
		return false;
	for (uint64_t i = 0; i < N_MAPS; i++) {
		const struct journal_map *map = find(i + 1);

		if (wanted[i] ? !map || map->state < MAP_MADE || map->state == MAP_DOUBTFUL : !!map)
			return false;
	}
	return true;
}

static void check_truth(const bool wanted[N_MAPS])
{
	for (uint64_t i = 0; i < N_MAPS; i++) {
		const struct journal_map *map = find(i + 1);

		ck_assert_int_eq(there[i], wanted[i] && !stubborn[i]);
		if (wanted[i])
			ck_assert_uint_eq(map->state, stubborn[i] ? MAP_REFUSED : MAP_MADE);
	}
}

/* Nobody waits for anybody: whoever can do something does, in any order. */
static void settle(const bool wanted[N_MAPS])
{
	for (unsigned int i = 0; !is_settled(wanted); i++) {
		ck_assert_msg(i < 100000,
			"step %u, request %u, doubtful %u, behind %u of %u unmaps", journal->step,
			journal->request, journal->counts.doubtful, journal->counts.n_before,
			journal->counts.n_unmaps);
		if (n_requests && chance(3))
			vmm_serve();
		if (n_answers && chance(3))
			hear();
		if (chance(2))
			work(wanted);
		if (chance(50))
			die();
	}
	check_truth(wanted);
}

START_TEST(test_no_death_makes_the_journal_lie)
{
	bool wanted[N_MAPS] = { false };

	dice = (unsigned int)test_seed() + (unsigned int)_i;
	journal = journal_begin("net0", 0);
	memset(there, 0, sizeof(there));
	memset(stubborn, 0, sizeof(stubborn));
	for (int round = 0; round < 200; round++) {
		for (unsigned int i = 0; i < N_MAPS; i++) {
			wanted[i] = chance(2);
			if (!find(i + 1))
				stubborn[i] = chance(4);
		}
		settle(wanted);
	}
	journal = journal_close(journal);
}
END_TEST

static void add(Suite *s)
{
	TCase *tc = tcase_create("journal");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_no_death_makes_the_journal_lie, 0, 8);
	suite_add_tcase(s, tc);
}

int main(void)
{
	return run_main("journal", add);
}

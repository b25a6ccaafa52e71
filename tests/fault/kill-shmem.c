/*
 * The kill matrix of shared memory regions: each process, and all of them at once, is killed before
 * and after every system call that it makes while files are mapped and unmapped, or while its
 * successor takes over. After each kill the VMM has what the device wants and nothing else, and the
 * device knows it.
 *
 *	kill-shmem [PROCESS [FIRST POINT]]
 *
 * An ordinary run tries points spread evenly over each cell, other ones each time, and the same
 * ones again with the BULKHEAD_SEED that it printed; BULKHEAD_FULL=1 tries all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../device/mapper.h"
#include "lib/patience.h"
#include "lib/run.h"
#include "victims.h"

#define PAGE UINT64_C(4096)
#define SAMPLE 5
#define WAIT_MS 10000

/* the last one has no part in this, and dies with all of them */
static const char *const roles[] = { "memory", "frontend", "shmem", "snapshot" };

#define N_ROLES (sizeof(roles) / sizeof(roles[0]))
#define N_VICTIMS N_ROLES
#define ALL (N_ROLES - 1)

static struct mapper m;
static uint64_t next_seq;
static const char *only; /* this process's cells; NULL = all */
static uint32_t first_point;

static const struct victims victims = {
	.suite = &m.suite, .roles = roles, .n_roles = N_ROLES, .wait_ms = WAIT_MS
};

/* --- The work --- */

static uint64_t map(uint64_t offset, uint64_t size, uint32_t flags)
{
	mapper_map(&m, ++next_seq, offset, size, flags);
	return next_seq;
}

/* Mapped, refused, unmapped, mapped at the same place, and all gone at the end; what has come of
 * each is known at each step. */
static void work(void)
{
	uint64_t a = map(0, PAGE, 0), b = map(PAGE, PAGE, 0), short_one, c;

	mapper_expect(&m, a, SHMEM_MADE);
	short_one = map(2 * PAGE, 2 * PAGE, SHMEM_F_SHORT);
	mapper_unmap(&m, a);
	c = map(0, PAGE, 0);
	mapper_expect(&m, short_one, SHMEM_REFUSED);
	mapper_expect(&m, b, SHMEM_MADE);
	mapper_expect(&m, c, SHMEM_MADE);
	mapper_await_maps(&m, 2);
	mapper_check_there(&m, b, PAGE, PAGE);
	mapper_check_there(&m, c, 0, PAGE);
	mapper_unmap(&m, short_one);
	mapper_unmap(&m, b);
	mapper_unmap(&m, c);
	mapper_await_maps(&m, 0);
}

/* --- A point --- */

static const char *name_of(size_t victim)
{
	return victim != ALL ? roles[victim] : "all";
}

/* _i: the victim, and N_VICTIMS: its successor */
START_TEST(test_kill)
{
	size_t victim = (size_t)_i % N_VICTIMS;
	bool restart = (size_t)_i >= N_VICTIMS;
	uint32_t n_steps, every = 1, first = 1;

	if (only && strcmp(only, name_of(victim)) != 0)
		return;
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_begin_vmm(&m);
	n_steps = victims_try(&victims, victim, restart, STEPPER_NEVER, work).n_steps;
	if (first_point) {
		first = first_point;
	} else if (!getenv("BULKHEAD_FULL") && n_steps > SAMPLE) {
		every = n_steps / SAMPLE;
		first += test_seed() % every;
	}
	for (uint32_t point = first; point <= n_steps; point += every) {
		fprintf(stderr, "# kill %s%s at %u of %u\n", name_of(victim),
			restart ? ", again," : "", point, n_steps);
		(void)victims_try(&victims, victim, restart, point, work);
	}
	mapper_end_vmm(&m);
	mapper_close(&m);
}
END_TEST

/* --- At any moment --- */

struct killer {
	size_t victim;
	unsigned int delay_us;
};

static void *kill_later(void *data)
{
	const struct killer *killer = data;

	usleep(killer->delay_us);
	victims_kill(&victims, killer->victim);
	return NULL;
}

/* _i: the victim; not at its own steps, but at those of the others as well */
START_TEST(test_kill_at_any_moment)
{
	struct killer killer = { .victim = (size_t)_i };
	int n = getenv("BULKHEAD_FULL") ? 1000 : 6;
	unsigned int dice = test_seed();
	pthread_t thread;

	if (only && strcmp(only, name_of(killer.victim)) != 0)
		return;
	mapper_open(&m, MAPPER_PROTOCOL, true);
	mapper_begin_vmm(&m);
	for (int i = 0; i < n; i++) {
		victims_await(&victims);
		killer.delay_us = (unsigned int)rand_r(&dice) % 30000;
		ck_assert_int_eq(pthread_create(&thread, NULL, kill_later, &killer), 0);
		work();
		pthread_join(thread, NULL);
	}
	victims_await(&victims);
	work();
	mapper_end_vmm(&m);
	mapper_close(&m);
}
END_TEST

static void add(Suite *s)
{
	TCase *tc = tcase_create("kill-shmem");

	tcase_set_timeout(tc, 36000);
	tcase_add_loop_test(tc, test_kill, 0, 2 * N_VICTIMS);
	tcase_add_loop_test(tc, test_kill_at_any_moment, 0, N_VICTIMS);
	suite_add_tcase(s, tc);
}

int main(int argc, char **argv)
{
	only = argc > 1 ? argv[1] : NULL;
	first_point = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
	return mapper_main(&m, "kill-shmem", add);
}

/* Who holds a ledger's locks, over the deaths of threads and processes. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lib/run.h"
#include "virtq/locks.h"

static struct ledger_locks *locks;

static void set_up(void)
{
	_cleanup_close_ int fd = memfd_create("ledger", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 8192), 0);
	ck_assert_int_eq(ledger_locks_open(&locks, fd), -ENODATA);
	ck_assert_int_eq(ledger_locks_create(fd), 0);
	ck_assert_int_eq(ledger_locks_open(&locks, fd), 0);
}

static void tear_down(void)
{
	locks = ledger_locks_close(locks);
}

/** start_holder() - a process that takes n locks, says so, and stays */
static pid_t start_holder(unsigned int n)
{
	int ready[2];
	char c;
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		for (unsigned int i = 0; i < n; i++)
			ledger_lock_take(locks, i);
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(1);
	}
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void kill_holder(pid_t pid)
{
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(test_a_held_lock_is_not_given_away)
{
	pid_t pid = start_holder(1);

	ck_assert(!ledger_lock_try(locks, LOCK_SERVE));
	ck_assert(ledger_lock_try(locks, LOCK_LOOP));
	kill_holder(pid);
}
END_TEST

START_TEST(test_the_locks_of_the_dead_are_free_any_number_of_times)
{
	for (unsigned int i = 0; i < 50; i++) {
		kill_holder(start_holder(LEDGER_LOCKS_MAX));
		for (unsigned int j = 0; j < LEDGER_LOCKS_MAX; j++)
			ck_assert(ledger_lock_try(locks, j));
		for (unsigned int j = 0; j < LEDGER_LOCKS_MAX; j++)
			ledger_lock_drop(locks, j);
	}
}
END_TEST

static atomic_bool has_it;

static void *wait_for_turn(void *data)
{
	ledger_lock_take(locks, LOCK_SERVE);
	atomic_store(&has_it, true);
	return NULL;
}

START_TEST(test_who_waits_is_next_when_the_holder_is_killed)
{
	pid_t pid = start_holder(1);
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_turn, NULL), 0);
	usleep(20000);
	ck_assert(!atomic_load(&has_it));
	kill_holder(pid);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(atomic_load(&has_it));
	/* it ended with the lock in its hand, as a thread of a killed process does */
	ck_assert(ledger_lock_try(locks, LOCK_SERVE));
}
END_TEST

static char state_of(pid_t pid)
{
	char path[32], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%*d (%*[^)]) %c", &state), 1);
	ck_assert_int_eq(fclose(f), 0);
	return state;
}

/** start_waiter() - a process that waits for the first lock, and says when it has it; it runs where
 * we run, and only when nobody else would */
static pid_t start_waiter(atomic_bool *ret_turn)
{
	const struct sched_param none = { 0 };
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (sched_setscheduler(0, SCHED_IDLE, &none) < 0)
			_exit(1);
		ledger_lock_take(locks, LOCK_SERVE);
		atomic_store(ret_turn, true);
		pause();
		_exit(1);
	}
	while (state_of(pid) != 'S')
		usleep(1000);
	return pid;
}

static atomic_bool *shared_flag(void)
{
	void *mem = mmap(NULL, sizeof(atomic_bool), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(mem, MAP_FAILED);
	return mem;
}

static void stay_on_this_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET((size_t)sched_getcpu(), &cpus);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
}

/* Who waits was woken by the death and has not run yet, when another one asks. */
START_TEST(test_nobody_overtakes_who_waits)
{
	atomic_bool *turn = shared_flag();
	pid_t holder = start_holder(1), waiter;

	stay_on_this_cpu();
	waiter = start_waiter(turn);
	kill(holder, SIGKILL);
	while (!atomic_load(turn))
		if (ledger_lock_try(locks, LOCK_SERVE))
			ck_abort_msg("overtaken");
	ck_assert_int_eq(waitpid(holder, NULL, 0), holder);
	kill_holder(waiter);
	ck_assert(ledger_lock_try(locks, LOCK_SERVE));
	munmap(turn, sizeof(*turn));
}
END_TEST

START_TEST(test_who_dies_while_waiting_is_passed_over)
{
	atomic_bool *turn = shared_flag();
	pid_t holder = start_holder(1), waiter = start_waiter(turn);

	kill_holder(waiter);
	ck_assert(!ledger_lock_try(locks, LOCK_SERVE));
	kill_holder(holder);
	ck_assert(ledger_lock_try(locks, LOCK_SERVE));
	munmap(turn, sizeof(*turn));
}
END_TEST

START_TEST(test_a_file_too_short_has_no_locks)
{
	_cleanup_close_ int fd = memfd_create("short", MFD_CLOEXEC);
	struct ledger_locks *none = NULL;

	ck_assert_int_eq(ftruncate(fd, 100), 0);
	ck_assert_int_lt(ledger_locks_create(fd), 0);
	ck_assert_int_lt(ledger_locks_open(&none, fd), 0);
	ck_assert_ptr_null(none);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("locks");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_a_held_lock_is_not_given_away);
	tcase_add_test(tc, test_the_locks_of_the_dead_are_free_any_number_of_times);
	tcase_add_test(tc, test_who_waits_is_next_when_the_holder_is_killed);
	tcase_add_test(tc, test_nobody_overtakes_who_waits);
	tcase_add_test(tc, test_who_dies_while_waiting_is_passed_over);
	tcase_add_test(tc, test_a_file_too_short_has_no_locks);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("locks", add_tests);
}

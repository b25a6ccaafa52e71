/* Who holds a ledger's locks, over the deaths of threads and processes. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
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

int main(void)
{
	Suite *suite = suite_create("locks");
	TCase *tc = tcase_create("locks");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_a_held_lock_is_not_given_away);
	tcase_add_test(tc, test_the_locks_of_the_dead_are_free_any_number_of_times);
	tcase_add_test(tc, test_who_waits_is_next_when_the_holder_is_killed);
	tcase_add_test(tc, test_a_file_too_short_has_no_locks);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

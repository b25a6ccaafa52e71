/*
 * Processes that die of an input, each a child that shares a mark with us: what the mark says
 * afterwards.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/blame.h"
#include "lib/run.h"

static struct blame_mark *mark;
static int sig;

static void set_up(void)
{
	mark = mmap(NULL, sizeof(*mark), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(mark, MAP_FAILED);
}

/* The signal that a child ended with. */
static int child(void (*live)(void))
{
	const struct rlimit none = { 0, 0 };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)setrlimit(RLIMIT_CORE, &none);
		for (int i = 1; i < 32; i++)
			(void)signal(i,
				SIG_DFL); /* the runner has handlers, and so have sanitizers */
		if (blame_install() == 0)
			live();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void raise_in_work(void)
{
	blame_set(mark, 7, 8);
	(void)raise(sig);
}

static void fault_in_work(void)
{
	blame_set(mark, 7, 8);
	/* as a broken program would: nothing is mapped there */
	memset(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 1);
}

static void raise_behind_work(void)
{
	blame_set(mark, 7, 8);
	blame_unset();
	(void)raise(SIGSEGV);
}

static void raise_in_other_work(void)
{
	blame_set(mark, 7, 9);
	(void)raise(SIGSEGV);
}

static void finish_work(void)
{
	blame_set(mark, 7, 8);
	blame_finish();
}

static void finish_other_work(void)
{
	blame_set(mark, 7, 9);
	blame_finish();
}

/* Deeper than the stack is; the sum keeps the frames apart. */
static unsigned int fill_stack(unsigned int n)
{
	volatile unsigned char frame[4096];

	frame[n % sizeof(frame)] = 1;
	return n ? fill_stack(n - 1) + frame[n % sizeof(frame)] : 0;
}

static void overflow_stack(void)
{
	blame_set(mark, 7, 8);
	_exit((int)fill_stack(1u << 20));
}

static void *thread_main(void *data)
{
	blame_thread_begin();
	((void (*)(void))data)();
	blame_thread_end();
	return NULL;
}

static void in_thread(void (*live)(void))
{
	pthread_t thread;
	sigset_t all;

	sigfillset(&all); /* as the product starts its threads */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	(void)pthread_create(&thread, NULL, thread_main, (void *)live);
	sigemptyset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_join(thread, NULL);
}

static void fault_in_thread(void)
{
	in_thread(fault_in_work);
}

/* The watchdog's signal comes to the thread that is idle. */
static void abort_main_thread(void)
{
	blame_set(mark, 7, 8);
	kill(getpid(), SIGABRT); /* blocked nowhere but here */
	pause();
}

static void *hang_main(void *data)
{
	blame_thread_begin();
	blame_set(mark, 7, 8);
	if (write(*(int *)data, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
	return NULL;
}

static void hang_in_thread(void)
{
	pthread_t thread;
	int ends[2];
	char byte;

	if (pipe(ends) < 0 || pthread_create(&thread, NULL, hang_main, &ends[1]) != 0 ||
		read(ends[0], &byte, 1) != 1)
		return;
	(void)raise(SIGABRT); /* in this thread, which has nothing in work */
}

static const int signals[] = { SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS };

START_TEST(test_death_is_marked_and_happens)
{
	sig = signals[_i];
	for (unsigned int n = 1; n <= BLAME_LIMIT; n++) {
		ck_assert_int_eq(child(raise_in_work), sig);
		ck_assert_uint_eq(mark->deaths, n);
	}
	ck_assert_uint_eq(mark->signal, (unsigned int)sig);
	ck_assert_uint_eq(mark->what, 7);
	ck_assert_uint_eq(mark->which, 8);
	ck_assert_uint_gt(mark->when_usec, UINT64_C(1500000000) * 1000000);
}
END_TEST

static const int others[] = { SIGKILL, SIGTERM, SIGINT, SIGHUP };

START_TEST(test_death_by_others_is_not_marked)
{
	sig = others[_i];
	ck_assert_int_eq(child(raise_in_work), sig);
	ck_assert_uint_eq(mark->deaths, 0);
}
END_TEST

START_TEST(test_faults_are_marked)
{
	static void (*const lives[])(void) = { fault_in_work, overflow_stack, fault_in_thread };

	ck_assert_int_eq(child(lives[_i]), SIGSEGV);
	ck_assert_uint_eq(mark->deaths, 1);
	ck_assert_uint_eq(mark->which, 8);
}
END_TEST

START_TEST(test_who_hangs_is_named_whoever_is_told)
{
	ck_assert_int_eq(child(_i ? hang_in_thread : abort_main_thread), SIGABRT);
	ck_assert_uint_eq(mark->deaths, 1);
	ck_assert_uint_eq(mark->which, 8);
}
END_TEST

START_TEST(test_death_with_nothing_in_work_is_not_marked)
{
	ck_assert_int_eq(child(raise_behind_work), SIGSEGV);
	ck_assert_uint_eq(mark->deaths, 0);
}
END_TEST

START_TEST(test_another_input_starts_the_count_anew)
{
	sig = SIGSEGV;
	child(raise_in_work);
	child(raise_in_work);
	child(raise_in_other_work);
	ck_assert_uint_eq(mark->deaths, 1);
	ck_assert_uint_eq(mark->which, 9);
	child(raise_in_work);
	ck_assert_uint_eq(mark->deaths, 1);
}
END_TEST

START_TEST(test_success_of_the_input_is_an_acquittal)
{
	sig = SIGSEGV;
	child(raise_in_work);
	child(raise_in_work);
	child(finish_other_work);
	ck_assert_uint_eq(mark->deaths, 2);
	child(finish_work);
	ck_assert_uint_eq(mark->deaths, 0);
	for (int i = 0; i < BLAME_LIMIT; i++)
		child(raise_in_work);
	child(finish_work); /* at the limit only an operator helps */
	ck_assert_uint_eq(mark->deaths, BLAME_LIMIT);
}
END_TEST

/* Told to end by somebody else, as a watchdog does it. */
static void hang_at(uint64_t which)
{
	blame_set(mark, 7, which);
	if (fork() == 0) {
		kill(getppid(), SIGABRT);
		_exit(0);
	}
	for (;;)
		pause();
}

static void hang_at_8(void)
{
	hang_at(8);
}
static void hang_at_9(void)
{
	hang_at(9);
}
static void hang_at_10(void)
{
	hang_at(10);
}

START_TEST(test_who_hangs_over_one_input_after_the_other_is_counted)
{
	char how[64];

	child(hang_at_8);
	child(finish_other_work);
	child(hang_at_9);
	ck_assert_uint_eq(mark->deaths, 2);
	ck_assert_uint_eq(mark->which, BLAME_WHICH_ANY);
	ck_assert(!blame_may_acquit(mark)); /* what it has done in between proves nothing */
	child(hang_at_10);
	ck_assert_uint_eq(mark->deaths, BLAME_LIMIT);
	ck_assert_str_eq(blame_describe(mark, how, sizeof(how)),
		"killed it 3 times running, last by SIGABRT");
}
END_TEST

START_TEST(test_hangs_a_long_time_apart_are_not_counted_together)
{
	child(hang_at_8);
	mark->when_usec -= UINT64_C(2000000) * BLAME_HUNG_SEC;
	ck_assert(blame_may_acquit(mark));
	child(hang_at_9);
	ck_assert_uint_eq(mark->deaths, 1);
	ck_assert_uint_eq(mark->which, 9);
}
END_TEST

START_TEST(test_a_fault_is_not_counted_with_hangs_of_others)
{
	child(hang_at_9);
	sig = _i ? SIGABRT : SIGSEGV; /* its own abort() is a fault, too */
	child(raise_in_work);
	ck_assert_uint_eq(mark->deaths, 1);
	ck_assert_uint_eq(mark->which, 8);
	ck_assert(blame_may_acquit(mark));
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("blame");

	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_loop_test(tc, test_death_is_marked_and_happens, 0, 6);
	tcase_add_loop_test(tc, test_death_by_others_is_not_marked, 0, 4);
	tcase_add_loop_test(tc, test_faults_are_marked, 0, 3);
	tcase_add_loop_test(tc, test_who_hangs_is_named_whoever_is_told, 0, 2);
	tcase_add_test(tc, test_death_with_nothing_in_work_is_not_marked);
	tcase_add_test(tc, test_another_input_starts_the_count_anew);
	tcase_add_test(tc, test_success_of_the_input_is_an_acquittal);
	tcase_add_test(tc, test_who_hangs_over_one_input_after_the_other_is_counted);
	tcase_add_test(tc, test_hangs_a_long_time_apart_are_not_counted_together);
	tcase_add_loop_test(tc, test_a_fault_is_not_counted_with_hangs_of_others, 0, 2);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("blame", add_tests);
}

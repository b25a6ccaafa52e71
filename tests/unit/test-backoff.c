/* Starts that came to nothing, as the fd store remembers them: each start is a process of its
 * own. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "lib/notify.h"
#include "lib/run.h"
#include "proc/backoff.h"

static int notify_fd, starts_fd;

static void set_up(void)
{
	uint32_t none = 0;

	notify_fd = notify_listen();
	ck_assert_int_ge(notify_fd, 0);
	starts_fd = memfd_create("starts", MFD_CLOEXEC);
	ck_assert_int_eq(pwrite(starts_fd, &none, sizeof(none), 0), sizeof(none));
}

static void tear_down(void)
{
	fd_close(notify_fd);
	fd_close(starts_fd);
}

static uint32_t n_starts(void)
{
	uint32_t n = 0;

	ck_assert_int_eq(pread(starts_fd, &n, sizeof(n), 0), sizeof(n));
	return n;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A process that is given what was stored, and ends; how long it took to begin. */
static int64_t start(bool ready)
{
	int64_t before = now_ms();
	int status;
	char pid_text[16];
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		snprintf(pid_text, sizeof(pid_text), "%d", (int)getpid());
		setenv("LISTEN_PID", pid_text, 1);
		setenv("LISTEN_FDS", "1", 1);
		setenv("LISTEN_FDNAMES", "starts", 1);
		if (dup2(starts_fd, 3) != 3 || fdstore_init() < 0)
			_exit(1);
		backoff_begin();
		if (ready)
			backoff_done();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	return now_ms() - before;
}

START_TEST(test_the_first_start_stores_its_count)
{
	char text[256] = "";

	ck_assert_int_eq(fdstore_init(), 0);
	backoff_begin();
	ck_assert_int_gt(recv(notify_fd, text, sizeof(text) - 1, MSG_DONTWAIT), 0);
	ck_assert_ptr_nonnull(strstr(text, "FDSTORE=1"));
	ck_assert_ptr_nonnull(strstr(text, "FDNAME=starts"));
}
END_TEST

START_TEST(test_starts_that_came_to_nothing_are_waited_for)
{
	for (uint32_t i = 1; i <= 7; i++) {
		(void)start(false);
		ck_assert_uint_eq(n_starts(), i);
	}
	/* a wait is at least as long as it says, whatever else the machine does */
	ck_assert_int_ge(start(false), 79);
	ck_assert_int_ge(start(false), 159);
}
END_TEST

START_TEST(test_a_process_that_was_ready_has_a_clean_sheet)
{
	for (int i = 0; i < 6; i++)
		(void)start(false);
	(void)start(true);
	ck_assert_uint_eq(n_starts(), 0);
}
END_TEST

START_TEST(test_where_nothing_is_stored_nothing_is_counted)
{
	unsetenv("NOTIFY_SOCKET");
	for (int i = 0; i < 6; i++)
		(void)start(false);
	ck_assert_uint_eq(n_starts(), 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("backoff");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_the_first_start_stores_its_count);
	tcase_add_test(tc, test_starts_that_came_to_nothing_are_waited_for);
	tcase_add_test(tc, test_a_process_that_was_ready_has_a_clean_sheet);
	tcase_add_test(tc, test_where_nothing_is_stored_nothing_is_counted);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("backoff", add_tests);
}

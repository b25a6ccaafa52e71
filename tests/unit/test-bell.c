/* The bell of a worker's record: whoever rings it never waits, and what has rung is heard once. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd/bell.h"
#include "lib/run.h"

#define MANY 200000 /* more than a socket holds */

static int ring_fd, listen_fd;

static void set_up(void)
{
	ck_assert_int_eq(bell_new(&ring_fd, &listen_fd), 0);
}

static void tear_down(void)
{
	close(ring_fd);
	close(listen_fd);
}

static bool has_rung(void)
{
	char c;

	return recv(listen_fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
}

/* _i: so many times */
START_TEST(test_what_has_rung_is_heard_once)
{
	ck_assert(!has_rung());
	for (int i = 0; i < _i; i++)
		bell_ring(ring_fd);
	ck_assert_int_eq(has_rung(), _i > 0);
	ck_assert_int_eq(bell_hear(listen_fd), 0);
	ck_assert(!has_rung());
	bell_ring(ring_fd);
	ck_assert(has_rung());
}
END_TEST

/* covers: P1 P4 */
START_TEST(test_nobody_who_rings_waits_for_one_who_does_not_listen)
{
	/* who has one end has made both block */
	ck_assert_int_eq(fcntl(ring_fd, F_SETFL, 0), 0);
	ck_assert_int_eq(fcntl(listen_fd, F_SETFL, 0), 0);
	for (int i = 0; i < MANY; i++)
		bell_ring(ring_fd);
	ck_assert_int_eq(bell_hear(listen_fd), 0);
	ck_assert(!has_rung());
}
END_TEST

START_TEST(test_end_of_one_side_is_told_and_harms_nobody)
{
	bell_ring(ring_fd);
	close(ring_fd);
	ck_assert_int_eq(bell_hear(listen_fd), 0);
	ck_assert_int_eq(bell_hear(listen_fd), -ECONNRESET);
	close(listen_fd);
	set_up();
	close(listen_fd);
	bell_ring(ring_fd);
	bell_ring(-1);
	listen_fd = dup(ring_fd);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("bell");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, test_what_has_rung_is_heard_once, 0, 4);
	tcase_add_loop_test(tc, test_what_has_rung_is_heard_once, 64, 66);
	tcase_add_test(tc, test_nobody_who_rings_waits_for_one_who_does_not_listen);
	tcase_add_test(tc, test_end_of_one_side_is_told_and_harms_nobody);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("bell", add_tests);
}

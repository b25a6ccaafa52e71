/* What the service manager keeps for a process, and what it does not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "lib/notify.h"
#include "lib/run.h"

static int notify_fd, fd;

static void set_up(void)
{
	notify_fd = notify_listen();
	ck_assert_int_ge(notify_fd, 0);
	fd = memfd_create("kept", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fdstore_init(), 0);
}

static void tear_down(void)
{
	fdstore_close_rest();
	fd_close(notify_fd);
	fd_close(fd);
}

/* What the service manager was told last, and all that was said before it is forgotten; "" =
 * nothing. */
static const char *told(void)
{
	static char text[512];
	ssize_t n;

	*text = '\0';
	while ((n = recv(notify_fd, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0)
		text[n] = '\0';
	return text;
}

static int push(int i)
{
	char name[32];
	int r;

	snprintf(name, sizeof(name), "v.net0.%d", i);
	r = fdstore_push(name, fd);
	if (r == 0)
		ck_assert_ptr_nonnull(strstr(told(), name));
	return r;
}

/* covers: P4 */
START_TEST(test_a_full_store_refuses_and_keeps_what_it_has)
{
	for (int i = 0; i < FDSTORE_MAX; i++)
		ck_assert_int_eq(push(i), 0);
	ck_assert_int_eq(push(FDSTORE_MAX), -ENOSPC);
	ck_assert_str_eq(told(), "");
}
END_TEST

START_TEST(test_what_is_given_back_makes_room)
{
	for (int i = 0; i < FDSTORE_MAX; i++)
		ck_assert_int_eq(push(i), 0);
	ck_assert_int_eq(fdstore_remove("v.net0.7"), 0);
	ck_assert_ptr_nonnull(strstr(told(), "FDSTOREREMOVE=1\nFDNAME=v.net0.7"));
	ck_assert_int_eq(push(7), 0);
	ck_assert_int_eq(push(FDSTORE_MAX), -ENOSPC);
	ck_assert_int_eq(fdstore_remove("unknown"), 0);
	ck_assert_int_eq(push(FDSTORE_MAX), -ENOSPC);
}
END_TEST

/* All names are one string of the next start's environment: more than the kernel takes, and there
 * is no start. */
START_TEST(test_long_names_fill_the_store_earlier)
{
	char name[201] = "";
	size_t n_bytes = 0;
	int i, r = 0;

	memset(name, 'x', sizeof(name) - 1);
	for (i = 0; i < FDSTORE_MAX && r == 0; i++) {
		snprintf(name + 190, 11, "%010d", i);
		r = fdstore_push(name, fd);
		n_bytes += r == 0 ? strlen(name) + 1 : 0;
		(void)told();
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_lt(n_bytes, 128 * 1024 - strlen("LISTEN_FDNAMES="));
	ck_assert_int_gt(i, 500);
}
END_TEST

START_TEST(test_without_a_service_manager_nothing_is_kept_and_nothing_refused)
{
	unsetenv("NOTIFY_SOCKET");
	for (int i = 0; i <= FDSTORE_MAX; i++)
		ck_assert_int_eq(fdstore_push("name", fd), 0);
	ck_assert_str_eq(told(), "");
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("fdstore");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_a_full_store_refuses_and_keeps_what_it_has);
	tcase_add_test(tc, test_what_is_given_back_makes_room);
	tcase_add_test(tc, test_long_names_fill_the_store_earlier);
	tcase_add_test(tc, test_without_a_service_manager_nothing_is_kept_and_nothing_refused);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("fdstore", add_tests);
}

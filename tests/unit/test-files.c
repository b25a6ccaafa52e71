/*
 * Files of the VMM, and what the service manager is told of them: it keeps an open file once, under
 * the first name, whatever it is called later.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "lib/file.h"
#include "lib/notify.h"
#include "lib/run.h"
#include "memory/vault.h"

static int notify_fd;
static struct vault *net0, *net1;
static const Bh__Desired nothing = BH__DESIRED__INIT;

static void set_up(void)
{
	notify_fd = notify_listen();
	ck_assert_int_ge(notify_fd, 0);
	ck_assert_int_eq(vault_open(&net0, "net0"), 0);
	ck_assert_int_eq(vault_open(&net1, "net1"), 0);
}

static void tear_down(void)
{
	vault_close(net0);
	vault_close(net1);
	fd_close(notify_fd);
}

/* How many messages with this key have come since the last look. */
static int n_told(const char *key)
{
	char text[512];
	ssize_t got;
	int n = 0;

	while ((got = recv(notify_fd, text, sizeof(text) - 1, 0)) > 0) {
		text[got] = '\0';
		n += strstr(text, key) != NULL;
	}
	return n;
}

static int new_file(void)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static uint64_t put(struct vault *vault, int fd)
{
	uint64_t token = 0;

	ck_assert_int_eq(vault_put(vault, RECORD_DESIRED, fd, &token), 0);
	ck_assert_uint_ne(token, 0);
	return token;
}

START_TEST(test_the_same_file_has_one_token_and_is_stored_once)
{
	int fd = new_file(), again = dup(fd);
	uint64_t token = put(net0, fd);

	ck_assert_uint_ne(token, 0);
	ck_assert_uint_eq(put(net0, again), token);
	ck_assert_int_eq(fcntl(again, F_GETFD), -1); /* consumed */
	ck_assert_int_eq(n_told("FDSTORE=1"), 1);
	vault_committed(net0, &nothing);
	ck_assert_int_eq(vault_get(net0, token), -ENOENT);
	ck_assert_int_eq(n_told("FDSTOREREMOVE=1"), 1);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

START_TEST(test_files_of_the_same_content_are_two)
{
	int fd = memfd_create("a", MFD_CLOEXEC), other = file_reopen(dup(fd), O_RDONLY);
	uint64_t token;

	token = put(net0, fd);
	ck_assert_uint_ne(put(net0, other), token);
	ck_assert_int_eq(n_told("FDSTORE=1"), 2);
	vault_committed(net0, &nothing);
}
END_TEST

START_TEST(test_the_end_of_one_device_takes_nothing_from_another)
{
	int fd = new_file(), again = dup(fd);
	uint64_t token = put(net0, fd);

	ck_assert_int_eq(vault_get(net1, token),
		-ENOENT); /* it was not handed over for this one yet */
	ck_assert_uint_eq(put(net1, again), token);
	ck_assert_int_eq(n_told("FDSTORE=1"), 1);
	vault_committed(net0, &nothing);
	ck_assert_int_eq(vault_get(net0, token), -ENOENT);
	ck_assert_int_eq(vault_get(net1, token), fd);
	ck_assert_int_eq(n_told("FDSTOREREMOVE=1"), 0);
	vault_committed(net1, &nothing);
	ck_assert_int_eq(n_told("FDSTOREREMOVE=1"), 1);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

/* As the service manager would start us with what it was given: one descriptor, under the name it
 * was told. */
static void come_back_with(int fd)
{
	char text[512], *name = NULL, pid[32];
	ssize_t got;

	while (!name && (got = recv(notify_fd, text, sizeof(text) - 1, 0)) > 0) {
		text[got] = '\0';
		name = strstr(text, "FDNAME=");
	}
	ck_assert_ptr_nonnull(name);
	name[strcspn(name, "\n")] = '\0';
	ck_assert_int_eq(dup2(fd, 3),
		3); /* the place of the first one; the test is a process of its own */
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	ck_assert_int_eq(setenv("LISTEN_PID", pid, 1), 0);
	ck_assert_int_eq(setenv("LISTEN_FDS", "1", 1), 0);
	ck_assert_int_eq(setenv("LISTEN_FDNAMES", name + strlen("FDNAME="), 1), 0);
	ck_assert_int_eq(fdstore_init(), 0);
}

START_TEST(test_what_a_device_keeps_is_not_found_by_one_whose_name_begins_alike)
{
	static const char *const pairs[][2] = { { "a.b", "a" }, { "a", "a.b" }, { "a.b.c", "a.b" },
		{ "a-b", "a" }, { "net", "net0" } };
	struct vault *keeper, *other, *again;
	const char *name;

	ck_assert_int_eq(vault_open(&keeper, pairs[_i][0]), 0);
	ck_assert_int_eq(vault_open(&other, pairs[_i][1]), 0);
	ck_assert_int_eq(vault_open(&again, pairs[_i][0]), 0);
	ck_assert_int_eq(vault_keep_named(keeper, "tap.0", memfd_create("a", MFD_CLOEXEC)), 0);
	come_back_with(vault_named_after(keeper, "", &name));
	vault_restore(other);
	ck_assert_uint_eq(vault_count(other), 0);
	vault_restore(again);
	ck_assert_uint_eq(vault_count(again), 1);
	ck_assert_int_ge(vault_named_after(again, "", &name), 0);
	ck_assert_str_eq(name, "tap.0");
	vault_close(keeper);
	vault_close(other);
	vault_close(again);
	fdstore_close_rest();
}
END_TEST

/* --- Budgets --- */

static int put_new(struct vault *vault, uint64_t *ret_token)
{
	return vault_put(vault, RECORD_DESIRED, new_file(), ret_token);
}

START_TEST(test_one_device_has_so_many_and_no_more)
{
	struct rlimit limit = { 4096, 4096 };
	uint64_t token, first;

	unsetenv("NOTIFY_SOCKET");
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(put_new(net0, &first), 0);
	for (size_t i = 1; i < VAULT_FILES_MAX; i++)
		ck_assert_int_eq(put_new(net0, &token), 0);
	ck_assert_int_eq(put_new(net0, &token), -EDQUOT);
	/* what it has already it may hand over again, and the other device is none the worse */
	ck_assert_int_eq(vault_put(net0, RECORD_DESIRED, dup(vault_get(net0, first)), &token), 0);
	ck_assert_uint_eq(token, first);
	ck_assert_int_eq(put_new(net1, &token), 0);
	vault_committed(net0, &nothing);
	ck_assert_int_eq(put_new(net0, &token), 0);
}
END_TEST

static void report(struct vault *vault, uint64_t *tokens, size_t n)
{
	Bh__Observed observed = BH__OBSERVED__INIT;

	observed.tokens = tokens;
	observed.n_tokens = n;
	vault_reported(vault, &observed);
}

START_TEST(test_each_half_of_the_record_keeps_its_own)
{
	uint64_t own, vmms;

	unsetenv("NOTIFY_SOCKET");
	ck_assert_int_eq(put_new(net0, &vmms), 0);
	ck_assert_int_eq(vault_put(net0, RECORD_OBSERVED, new_file(), &own), 0);
	/* a report that does not name it yet may have been overtaken */
	report(net0, NULL, 0);
	ck_assert_int_ge(vault_get(net0, own), 0);
	ck_assert_int_ge(vault_get(net0, vmms), 0);
	report(net0, &own, 1);
	vault_committed(net0, &nothing);
	ck_assert_int_ge(vault_get(net0, own), 0);
	ck_assert_int_eq(vault_get(net0, vmms), -ENOENT);
	vault_abandoned(net0);
	ck_assert_int_ge(vault_get(net0, own), 0);
	report(net0, NULL, 0);
	ck_assert_int_eq(vault_get(net0, own), -ENOENT);
}
END_TEST

START_TEST(test_worker_cannot_crowd_the_vmm_out)
{
	struct rlimit limit = { 4096, 4096 };
	uint64_t token;

	unsetenv("NOTIFY_SOCKET");
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (size_t i = 0; i < VAULT_WORKER_FILES_MAX; i++)
		ck_assert_int_eq(vault_put(net0, RECORD_OBSERVED, new_file(), &token), 0);
	ck_assert_int_eq(vault_put(net0, RECORD_OBSERVED, new_file(), &token), -EDQUOT);
	for (size_t i = 0; i < VAULT_FILES_MAX; i++)
		ck_assert_int_eq(put_new(net0, &token), 0);
	vault_abandoned(net0);
	ck_assert_int_eq(vault_put(net0, RECORD_OBSERVED, new_file(), &token), 0);
}
END_TEST

/* The largest device that there can be: three descriptors for each of 254 rings, 509 regions, an
 * in-flight region and a dirty log. */
_Static_assert(VAULT_FILES_MAX >= 254 * 3 + 509 + 2, "it fits");

START_TEST(test_room_that_is_left_is_shared)
{
	uint64_t token;
	size_t n = 0;
	int r, lowest = dup(0);

	close(lowest);
	unsetenv("NOTIFY_SOCKET");
	vault_leave_room(100);
	while ((r = put_new(net0, &token)) == 0)
		n++;
	ck_assert_int_eq(r, -EMFILE);
	ck_assert_uint_gt(n, 50);
	ck_assert_uint_lt(n, 100);
	ck_assert_int_eq(vault_keep_named(net0, "tap.0", new_file()), -EMFILE);
	for (size_t i = n; i < 100; i++)
		ck_assert_int_eq(put_new(net1, &token), 0);
	ck_assert_int_eq(put_new(net1, &token), -EMFILE);
	/* what is refused is closed */
	vault_committed(net0, &nothing);
	vault_committed(net1, &nothing);
	r = dup(0);
	ck_assert_int_eq(r, lowest);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("files");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, test_the_same_file_has_one_token_and_is_stored_once);
	tcase_add_test(tc, test_files_of_the_same_content_are_two);
	tcase_add_test(tc, test_the_end_of_one_device_takes_nothing_from_another);
	tcase_add_loop_test(tc,
		test_what_a_device_keeps_is_not_found_by_one_whose_name_begins_alike, 0, 5);
	tcase_add_test(tc, test_one_device_has_so_many_and_no_more);
	tcase_add_test(tc, test_each_half_of_the_record_keeps_its_own);
	tcase_add_test(tc, test_worker_cannot_crowd_the_vmm_out);
	tcase_add_test(tc, test_room_that_is_left_is_shared);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("files", add_tests);
}

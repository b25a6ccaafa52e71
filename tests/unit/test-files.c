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
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "fd/fdstore.h"
#include "lib/file.h"
#include "lib/notify.h"
#include "lib/run.h"
#include "memory/vault.h"

#define ALL (-1)

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

/* --- A service manager --- */

#define STORE_MAX 8
#define FIRST_ITEM 32 /* the first descriptor that is none of the test's */

/** struct item - a descriptor that it has */
static struct item {
	char name[128];
	int fd;
} items[STORE_MAX];
static size_t n_items;

static void add_item(const char *name, int fd)
{
	for (size_t i = 0; i < n_items; i++)
		if (file_same(items[i].fd, fd)) {
			close(fd);
			return;
		}
	ck_assert_uint_lt(n_items, STORE_MAX);
	snprintf(items[n_items].name, sizeof(items[n_items].name), "%s", name);
	items[n_items++].fd = fd;
}

static void remove_items(const char *name)
{
	for (size_t i = n_items; i-- > 0;)
		if (!strcmp(items[i].name, name)) {
			close(items[i].fd);
			items[i] = items[--n_items];
		}
}

static int attached(struct msghdr *msg)
{
	const struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
	int fd;

	ck_assert(cmsg && cmsg->cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/* One notification; false: there is none. */
static bool obey(void)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char text[512], *name;
	struct iovec iov = { text, sizeof(text) - 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(notify_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return false;
	text[n] = '\0';
	name = strstr(text, "FDNAME=");
	ck_assert_ptr_nonnull(name);
	name += strlen("FDNAME=");
	name[strcspn(name, "\n")] = '\0';
	if (strstr(text, "FDSTOREREMOVE=1"))
		remove_items(name);
	else
		add_item(name, attached(&msg));
	return true;
}

/* Start as it starts a process: with what it has. The descriptors of the test itself come first,
 * under a name that nobody takes. */
static void start_with_items(void)
{
	char text[16], list[STORE_MAX * sizeof(items[0].name)];
	size_t n = 0;
	int fd;

	for (fd = 3; fd < FIRST_ITEM; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			ck_assert_int_eq(dup2(0, fd), fd);
		n += (size_t)snprintf(list + n, sizeof(list) - n, "test:");
	}
	for (size_t i = 0; i < n_items; i++)
		items[i].fd = fcntl(items[i].fd, F_DUPFD, FIRST_ITEM + STORE_MAX);
	for (size_t i = 0; i < n_items; i++, fd++) {
		ck_assert_int_eq(dup2(items[i].fd, fd), fd);
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s:", items[i].name);
	}
	list[n - 1] = '\0';
	snprintf(text, sizeof(text), "%d", (int)getpid());
	ck_assert_int_eq(setenv("LISTEN_PID", text, 1), 0);
	snprintf(text, sizeof(text), "%d", fd - 3);
	ck_assert_int_eq(setenv("LISTEN_FDS", text, 1), 0);
	ck_assert_int_eq(setenv("LISTEN_FDNAMES", list, 1), 0);
	ck_assert_int_eq(fdstore_init(), 0);
	vault_restore(net0);
	vault_restore(net1);
}

/* A process that does this, and dies. What it tells the service manager counts up to the message
 * of that number. */
static void live(void (*life)(void), int n_heard)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		start_with_items();
		life();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	while (n_heard-- && obey())
		;
	while (n_told("") > 0)
		;
}

static int numbered(uint64_t number)
{
	int fd = memfd_create("a", MFD_CLOEXEC);

	ck_assert_int_eq(pwrite(fd, &number, sizeof(number), 0), sizeof(number));
	return fd;
}

/* The number of the file of that name; 0: it stands for nothing. */
static uint64_t number_of(const struct vault *vault, const char *name)
{
	const char *found, *at = "";
	uint64_t number;
	int fd;

	while ((fd = vault_named_after(vault, at, &found)) >= 0) {
		at = found;
		if (strcmp(found, name) != 0)
			continue;
		ck_assert_int_eq(pread(fd, &number, sizeof(number), 0), sizeof(number));
		return number;
	}
	return 0;
}

static void keep(struct vault *vault, const char *name, int fd)
{
	ck_assert_int_eq(vault_keep_named(vault, name, dup(fd)), 0);
}

static void keep_under_three_names(void)
{
	int fd = numbered(7);

	keep(net0, "a", fd);
	keep(net0, "b", fd);
	keep(net1, "a", fd);
}

static void drop_the_first(void)
{
	ck_assert_uint_eq(number_of(net0, "a"), 7);
	vault_drop_named(net0, "a");
}

static void find_the_others(void)
{
	ck_assert_uint_eq(number_of(net0, "a"), 0);
	ck_assert_uint_eq(number_of(net0, "b"), 7);
	ck_assert_uint_eq(number_of(net1, "a"), 7);
	keep(net0, "a", numbered(8));
	vault_drop_named(net0, "b");
	vault_drop_named(net1, "a");
}

static void find_the_new_one(void)
{
	ck_assert_uint_eq(number_of(net0, "a"), 8);
	ck_assert_uint_eq(number_of(net0, "b"), 0);
	ck_assert_uint_eq(number_of(net1, "a"), 0);
}

START_TEST(test_a_file_with_several_names_stays_until_the_last_goes)
{
	live(keep_under_three_names, ALL);
	live(drop_the_first, ALL);
	live(find_the_others, ALL);
	live(find_the_new_one, ALL);
	ck_assert_uint_eq(n_items, 3); /* two tables, and a file */
}
END_TEST

static void keep_and_deposit(void)
{
	int fd = numbered(7);

	(void)put(net0, dup(fd));
	keep(net0, "a", fd);
	vault_committed(net0, &nothing);
}

static void find_a(void)
{
	ck_assert_uint_eq(number_of(net0, "a"), 7);
}

START_TEST(test_a_file_stays_when_the_token_goes_under_which_it_was_stored)
{
	live(keep_and_deposit, ALL);
	live(find_a, ALL);
}
END_TEST

static void keep_first(void)
{
	keep(net0, "a", numbered(1));
}

static void keep_second(void)
{
	keep(net0, "a", numbered(2));
}

static void find_second(void)
{
	ck_assert_uint_eq(number_of(net0, "a"), 2);
}

START_TEST(test_the_next_file_is_stored_before_the_former_goes)
{
	live(keep_first, ALL);
	live(keep_second, 1);
	live(find_second, ALL);
}
END_TEST

static uint64_t *former_token; /* shared by all lives */

static void deposit_what_is_kept(void)
{
	int fd = numbered(7);

	(void)put(net0, new_file());
	keep(net0, "a", fd);
	*former_token = put(net0, dup(fd));
}

static void deposit_another(void)
{
	for (int i = 0; i < 3; i++)
		ck_assert_uint_ne(put(net0, new_file()), *former_token);
}

START_TEST(test_a_token_is_not_given_again_by_the_next_process)
{
	former_token = mmap(NULL, sizeof(*former_token), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(former_token, MAP_FAILED);
	live(deposit_what_is_kept, ALL);
	live(deposit_another, ALL);
}
END_TEST

/* As a former release stores it, which has no tables. */
START_TEST(test_what_a_former_release_kept_is_found)
{
	add_item("k.net0.a", numbered(7));
	live(find_a, ALL);
	live(find_a, ALL);
	live(keep_second, 1);
	live(find_second, ALL);
}
END_TEST

static const char *const names[][2] = { { "a.b", "a" }, { "a", "a.b" }, { "a.b.c", "a.b" },
	{ "a-b", "a" }, { "net", "net0" } };
static size_t pair;

static struct vault *restored(const char *device)
{
	struct vault *vault;

	ck_assert_int_eq(vault_open(&vault, device), 0);
	vault_restore(vault);
	return vault;
}

static void keep_for_one(void)
{
	keep(restored(names[pair][0]), "tap.0", numbered(7));
}

static void find_by_one(void)
{
	struct vault *other = restored(names[pair][1]), *one = restored(names[pair][0]);

	ck_assert_uint_eq(vault_count(other), 0);
	ck_assert_uint_eq(vault_count(one), 1);
	ck_assert_uint_eq(number_of(one, "tap.0"), 7);
}

START_TEST(test_what_a_device_keeps_is_not_found_by_one_whose_name_begins_alike)
{
	pair = (size_t)_i;
	live(keep_for_one, ALL);
	live(find_by_one, ALL);
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
	tcase_add_test(tc, test_a_file_with_several_names_stays_until_the_last_goes);
	tcase_add_test(tc, test_a_file_stays_when_the_token_goes_under_which_it_was_stored);
	tcase_add_test(tc, test_the_next_file_is_stored_before_the_former_goes);
	tcase_add_test(tc, test_a_token_is_not_given_again_by_the_next_process);
	tcase_add_test(tc, test_what_a_former_release_kept_is_found);
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

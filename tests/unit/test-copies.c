/*
 * The record's files over restarts of memory: one child after the other is given by name what the
 * store has of the former, as a service manager does it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "fd/fdstore.h"
#include "lib/notify.h"
#include "lib/run.h"
#include "memory/copies.h"
#include "record/record.h"

/* What the store has; -1 = nothing of that name. */
static struct {
	const char *name;
	int fd;
} store[] = { { "t.net0", -1 }, { "r.net0", -1 } };

#define N_STORE ARRAY_SIZE(store)

static struct copies *copies;
static Bh__Desired *desired;
static Bh__Observed *observed;

/* In a child: what libcheck keeps to itself is written to a descriptor that is another one there.
 */
#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "# %s:%d: %s\n", __func__, __LINE__, #x);                  \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* --- A life of memory --- */

static void hand_over(void)
{
	char names[64] = "", text[32];
	int n = 0, moved[N_STORE];

	for (size_t i = 0; i < N_STORE; i++)
		moved[i] = store[i].fd < 0 ? -1 : fcntl(store[i].fd, F_DUPFD, 100);
	for (size_t i = 0; i < N_STORE; i++) {
		if (moved[i] < 0)
			continue;
		must(dup2(moved[i], 3 + n) >= 0);
		n++;
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			n > 1 ? ":" : "", store[i].name);
	}
	if (n == 0)
		return;
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%d", n);
	setenv("LISTEN_FDS", text, 1);
	setenv("LISTEN_FDNAMES", names, 1);
}

/* What is pushed comes to the test by this socket. */
static int manager = -1;

static void take_pushed(void)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char text[512];

	for (;;) {
		struct iovec iov = { text, sizeof(text) - 1 };
		struct msghdr hdr = { .msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.buf,
			.msg_controllen = sizeof(control.buf) };
		ssize_t n = recvmsg(manager, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0)
			return;
		text[n] = '\0';
		for (size_t i = 0; i < N_STORE; i++) {
			if (!strstr(text, store[i].name))
				continue;
			store[i].fd = fd_close(store[i].fd);
			if (CMSG_FIRSTHDR(&hdr))
				memcpy(&store[i].fd, CMSG_DATA(CMSG_FIRSTHDR(&hdr)), sizeof(int));
		}
	}
}

static void in_a_life(void (*live)(void))
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		hand_over();
		if (fdstore_init() < 0 || copies_open(&copies, "net0", &desired, &observed) < 0)
			_exit(2);
		live();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	take_pushed();
}

static void set_up(void)
{
	manager = notify_listen();
	ck_assert_int_ge(manager, 0);
}

static void tear_down(void)
{
	close(manager);
	for (size_t i = 0; i < N_STORE; i++)
		store[i].fd = fd_close(store[i].fd);
}

/* --- Lives --- */

static void write_five(void)
{
	must(desired->generation == 0 && observed->generation == 0);
	desired->generation = 5;
	observed->generation = 2;
	observed->applied = 4;
	must(copies_write_desired(copies, desired) == 0 &&
		copies_write_observed(copies, observed) == 0);
}

static void find_five(void)
{
	struct record_file *worker;
	Bh__Desired *read;

	must(desired->generation == 5 && observed->generation == 2 && observed->applied == 4);
	must(record_open(&worker, copies_fd(copies, true)) == 0);
	must(record_read_desired(worker, &read) == 0 && read->generation == 5);
}

static void find_nothing(void)
{
	must(desired->generation == 0 && observed->generation == 0);
}

static void find_no_report(void)
{
	must(desired->generation == 5 && observed->generation == 0 && observed->applied == 0);
}

static void find_unbelieved_report(void)
{
	must(desired->generation == 5 && observed->n_queues == 2 && observed->applied == 0);
}

/* The worker of a former release has the former memory's file, and goes on with it. */
static void find_handed_out(void)
{
	struct record_file *worker;
	struct stat a, b;
	Bh__Desired *read;

	find_five();
	must(fstat(3, &a) == 0 && fstat(copies_fd(copies, false), &b) == 0 && a.st_ino == b.st_ino);
	must(copies_id(copies) == a.st_ino);
	must((fcntl(copies_fd(copies, false), F_GETFL) & O_ACCMODE) == O_RDONLY);
	must(record_open(&worker, copies_fd(copies, false)) == 0);
	desired->generation = 6;
	must(copies_write_desired(copies, desired) == 0);
	must(record_read_desired(worker, &read) == 0 && read->generation == 6);
}

static void find_none_handed_out(void)
{
	must(copies_fd(copies, false) == copies_fd(copies, true));
}

/* --- Tests --- */

START_TEST(test_a_record_outlives_memory)
{
	in_a_life(write_five);
	in_a_life(find_five);
	in_a_life(find_five);
	in_a_life(find_none_handed_out);
}
END_TEST

START_TEST(test_identity_stays_until_all_is_lost)
{
	struct stat before, after;

	in_a_life(write_five);
	ck_assert_int_eq(fstat(store[1].fd, &before), 0);
	in_a_life(find_five);
	ck_assert_int_eq(fstat(store[1].fd, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	ck_assert_int_eq(pwrite(store[0].fd, "forged!!", 8, 0), 8);
	ck_assert_int_eq(pwrite(store[1].fd, "forged!!", 8, 0), 8);
	in_a_life(find_nothing);
	ck_assert_int_eq(fstat(store[1].fd, &after), 0);
	ck_assert_uint_ne(before.st_ino, after.st_ino);
}
END_TEST

/* Whatever was done to what others can read. */
/* covers: P1 */
START_TEST(test_copies_are_not_believed)
{
	in_a_life(write_five);
	ck_assert_int_eq(pwrite(store[1].fd, "forged!!", 8, 0), 8);
	in_a_life(find_five);
	in_a_life(find_five);
}
END_TEST

static void write_as_former_release(const Bh__Desired *d, const Bh__Observed *o)
{
	struct record_file *file;

	store[1].fd = record_create("net0");
	ck_assert_int_ge(store[1].fd, 0);
	ck_assert_int_eq(fcntl(store[1].fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
	ck_assert_int_eq(record_open(&file, store[1].fd), 0);
	ck_assert_int_eq(record_write_desired(file, d), 0);
	ck_assert_int_eq(record_write_observed(file, o), 0);
	record_close(file);
}

START_TEST(test_record_of_the_former_release_is_taken_over)
{
	Bh__Desired d = BH__DESIRED__INIT;
	Bh__Observed o = BH__OBSERVED__INIT;

	d.generation = 5;
	o.generation = 2;
	o.applied = 4;
	write_as_former_release(&d, &o);
	in_a_life(find_handed_out);
	ck_assert_int_ge(store[0].fd, 0);
}
END_TEST

/* A child that opens the record, and is killed at its n-th stop at a system call; false: it has not
 * that many. */
static bool killed_at(unsigned int n)
{
	pid_t pid = fork();
	int status = 0;
	bool ended = false;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		hand_over();
		if (fdstore_init() < 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ||
			raise(SIGSTOP) != 0 ||
			copies_open(&copies, "net0", &desired, &observed) < 0)
			_exit(2);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	for (unsigned int i = 0; i < n && !ended; i++) {
		ck_assert(WIFSTOPPED(status));
		ck_assert_int_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ended = WIFEXITED(status);
	}
	if (!ended) {
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	}
	ck_assert(!ended || WEXITSTATUS(status) == 0);
	take_pushed();
	return !ended;
}

START_TEST(test_death_at_any_step_of_a_take_over_loses_nothing)
{
	Bh__Desired d = BH__DESIRED__INIT;
	Bh__Observed o = BH__OBSERVED__INIT;
	unsigned int n = 0;
	bool killed;

	d.generation = 5;
	o.generation = 2;
	o.applied = 4;
	do {
		for (size_t i = 0; i < N_STORE; i++)
			store[i].fd = fd_close(store[i].fd);
		write_as_former_release(&d, &o);
		killed = killed_at(++n);
		in_a_life(find_five);
	} while (killed);
	ck_assert_uint_gt(n, 20);
}
END_TEST

static Bh__Ring ring = BH__RING__INIT;

static void forge_many_rings(Bh__Desired *d, Bh__Observed *o)
{
	static Bh__Ring *many[3000];

	ring.start_id = 1;
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = &ring;
	d->rings = many;
	d->n_rings = ARRAY_SIZE(many);
}

static void forge_ring_twice(Bh__Desired *d, Bh__Observed *o)
{
	forge_many_rings(d, o);
	d->n_rings = 2;
}

static void forge_generation(Bh__Desired *d, Bh__Observed *o)
{
	d->generation = UINT64_MAX;
}

static void forge_applied(Bh__Desired *d, Bh__Observed *o)
{
	o->applied = UINT64_MAX;
}

static void forge_report(Bh__Desired *d, Bh__Observed *o)
{
	o->n_queues = UINT32_MAX;
}

static const struct {
	void (*forge)(Bh__Desired *d, Bh__Observed *o);
	void (*find)(void);
} forgeries[] = {
	{ forge_many_rings, find_nothing },
	{ forge_ring_twice, find_nothing },
	{ forge_generation, find_nothing },
	{ forge_applied, find_unbelieved_report },
	{ forge_report, find_no_report },
};

/* A worker of the former release could write the file that it had to read. */
/* covers: P1 */
START_TEST(test_what_cannot_be_is_found_when_it_is_opened)
{
	Bh__Desired d = BH__DESIRED__INIT;
	Bh__Observed o = BH__OBSERVED__INIT;

	d.generation = 5;
	o.generation = 7;
	o.n_queues = 2;
	forgeries[_i].forge(&d, &o);
	write_as_former_release(&d, &o);
	in_a_life(forgeries[_i].find);
	in_a_life(forgeries[_i].find); /* and it stays as it was repaired */
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("copies");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_a_record_outlives_memory);
	tcase_add_test(tc, test_identity_stays_until_all_is_lost);
	tcase_add_test(tc, test_copies_are_not_believed);
	tcase_add_test(tc, test_record_of_the_former_release_is_taken_over);
	tcase_add_test(tc, test_death_at_any_step_of_a_take_over_loses_nothing);
	tcase_add_loop_test(tc, test_what_cannot_be_is_found_when_it_is_opened, 0,
		ARRAY_SIZE(forgeries));
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("copies", add_tests);
}

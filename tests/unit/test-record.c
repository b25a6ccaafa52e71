/*
 * The record file: what is read is what was written, whole, whatever happens to the writer. A
 * writer is held after every instruction of a write, where it might as well have been killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "lib/run.h"
#include "record/record.h"

#define PATTERN 0x0101010101010101ULL
#define LENGTHS 60
#define STRETCH_MAX 4000
#define TEXT_MAX (LENGTHS * STRETCH_MAX)
#define STEPS_MAX 10000000

static int fd;
static struct record_file *file;
static size_t stretch = 1; /* of the texts */

static void set_up(void)
{
	fd = record_create("net0");
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(record_open(&file, fd), 0);
}

static void tear_down(void)
{
	file = record_close(file);
	fd = fd_close(fd);
}

/* Fields that lie apart and say the same, and a text of so many bytes. */
static int write_text(struct record_file *to, enum record_half half, uint64_t generation,
	const char *text)
{
	Bh__Desired desired = BH__DESIRED__INIT;
	Bh__Observed observed = BH__OBSERVED__INIT;

	desired.generation = observed.generation = generation;
	desired.features = observed.features = generation * PATTERN;
	desired.rarp_seq = observed.config_seq = generation * PATTERN;
	desired.quarantine = observed.quarantine = (char *)text;
	return half == RECORD_DESIRED ? record_write_desired(to, &desired)
				      : record_write_observed(to, &observed);
}

/* Another length for every generation. */
static int write_half(struct record_file *to, enum record_half half, uint64_t generation)
{
	static char text[TEXT_MAX + 1];
	size_t n = generation % LENGTHS * stretch;

	memset(text, 'a' + (int)(generation % 26), n);
	text[n] = '\0';
	return write_text(to, half, generation, text);
}

static void check_whole(uint64_t generation, uint64_t first, uint64_t last, const char *text)
{
	ck_assert_uint_eq(first, generation * PATTERN);
	ck_assert_uint_eq(last, generation * PATTERN);
	ck_assert_uint_eq(strlen(text), generation % LENGTHS * stretch);
	ck_assert_uint_eq(strspn(text, (char[]){ (char)('a' + generation % 26), '\0' }),
		strlen(text));
}

static int64_t read_desired(const struct record_file *from)
{
	Bh__Desired *desired = NULL;
	int64_t generation;
	int r = record_read_desired(from, &desired);

	if (r < 0)
		return r;
	generation = (int64_t)desired->generation;
	check_whole(desired->generation, desired->features, desired->rarp_seq, desired->quarantine);
	bh__desired__free_unpacked(desired, NULL);
	return generation;
}

static int64_t read_observed(const struct record_file *from)
{
	Bh__Observed *observed = NULL;
	int64_t generation;
	int r = record_read_observed(from, &observed);

	if (r < 0)
		return r;
	generation = (int64_t)observed->generation;
	check_whole(observed->generation, observed->features, observed->config_seq,
		observed->quarantine);
	bh__observed__free_unpacked(observed, NULL);
	return generation;
}

/* The generation, after a look at whether it is of one piece; negative: cannot be read. */
static int64_t read_half(const struct record_file *from, enum record_half half)
{
	return half == RECORD_DESIRED ? read_desired(from) : read_observed(from);
}

/* --- Whole --- */

START_TEST(test_what_was_never_written_is_empty)
{
	ck_assert_uint_eq(record_generation(file, _i), 0);
	ck_assert_int_eq(read_half(file, _i), 0);
}
END_TEST

START_TEST(test_a_half_is_replaced_and_the_other_is_not)
{
	ck_assert_int_eq(write_half(file, !_i, 77), 0);
	for (uint64_t generation = 1; generation < 200; generation++) {
		ck_assert_int_eq(write_half(file, _i, generation), 0);
		ck_assert_uint_eq(record_generation(file, _i), generation);
		ck_assert_int_eq(read_half(file, _i), (int64_t)generation);
	}
	ck_assert_int_eq(read_half(file, !_i), 77);
}
END_TEST

START_TEST(test_the_next_process_reads_the_same)
{
	struct record_file *next;

	ck_assert_int_eq(write_half(file, _i, 5), 0);
	ck_assert_int_eq(record_open(&next, fd), 0);
	ck_assert_int_eq(read_half(next, _i), 5);
	ck_assert_int_eq(write_half(next, _i, 6), 0);
	ck_assert_int_eq(read_half(file, _i), 6);
	record_close(next);
}
END_TEST

/* --- Torn --- */

static pid_t start_writer(enum record_half half, uint64_t generation)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 || raise(SIGSTOP) != 0)
			_exit(1);
		_exit(write_half(file, half, generation) != 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSTOPPED(status), "it could not be traced");
	return pid;
}

/* Its state when the writer is killed here: the next one goes on with it. */
static void check_successor(enum record_half half, uint64_t generation)
{
	static uint8_t state[4 * RECORD_HALF_MAX + 4096];
	ssize_t n = pread(fd, state, sizeof(state), 0);
	_cleanup_close_ int copy = record_create("net0");
	struct record_file *next;

	ck_assert_int_ge(n, 0);
	ck_assert_int_lt(n, (ssize_t)sizeof(state));
	ck_assert_int_eq(pwrite(copy, state, (size_t)n, 0), n);
	ck_assert_int_eq(record_open(&next, copy), 0);
	for (uint64_t i = generation; i < generation + 3; i++) {
		ck_assert_int_eq(write_half(next, half, i), 0);
		ck_assert_int_eq(read_half(next, half), (int64_t)i);
	}
	record_close(next);
}

/* covers: P2 */
START_TEST(test_a_write_that_ends_at_any_step_leaves_the_old_or_the_new)
{
	pid_t pid;
	int64_t seen = 10;
	int steps, status = 0;

	ck_assert_int_eq(write_half(file, _i, 9), 0); /* both slots are in use */
	ck_assert_int_eq(write_half(file, _i, 10), 0);
	pid = start_writer(_i, 11);
	for (steps = 0; steps < STEPS_MAX; steps++) {
		int64_t now = read_half(file, _i);

		ck_assert_msg(now == seen || (seen == 10 && now == 11), "step %d: %lld after %lld",
			steps, (long long)now, (long long)seen);
		if (now != seen || steps % 64 == 0)
			check_successor(_i, 12);
		seen = now;
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status))
			break;
	}
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ck_assert_int_eq(seen, 11);
	ck_assert_int_gt(steps, 100);
}
END_TEST

__attribute__((noreturn)) static void write_for_ever(enum record_half half)
{
	for (uint64_t generation = 1;; generation++)
		if (write_half(file, half, generation) < 0)
			_exit(1);
}

START_TEST(test_a_reader_beside_a_writer_sees_nothing_torn)
{
	int64_t last = 0, now;
	pid_t pid;
	int n = 0;

	stretch = STRETCH_MAX; /* so that it is overtaken */
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		write_for_ever(_i);
	while (n < 100) {
		now = read_half(file, _i);
		ck_assert_int_ge(now, last);
		n += now > last;
		if (now == last)
			sched_yield();
		last = now;
	}
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	now = read_half(file, _i);
	ck_assert_int_ge(now, last);
	check_successor(_i, (uint64_t)now + 1);
}
END_TEST

/* --- Sizes --- */

START_TEST(test_the_longest_message_fits_and_a_longer_one_changes_nothing)
{
	_cleanup_free_ char *text = calloc(1, RECORD_HALF_MAX + 1);
	Bh__Desired *desired = NULL;
	size_t most = 0;

	ck_assert_ptr_nonnull(text);
	memset(text, 'x', RECORD_HALF_MAX);
	ck_assert_int_eq(write_text(file, RECORD_DESIRED, 3, text), -EMSGSIZE);
	ck_assert_uint_eq(record_generation(file, RECORD_DESIRED), 0);
	for (size_t n = RECORD_HALF_MAX - 64; n < RECORD_HALF_MAX; n++) {
		text[n] = '\0';
		if (write_text(file, RECORD_DESIRED, n, text) == 0)
			most = n;
		text[n] = 'x';
	}
	ck_assert_uint_gt(most, RECORD_HALF_MAX - 64);
	ck_assert_uint_lt(most, RECORD_HALF_MAX - 1); /* the other fields have their place, too */
	ck_assert_int_eq(write_half(file, RECORD_OBSERVED, 4), 0);
	ck_assert_int_eq(record_read_desired(file, &desired), 0);
	ck_assert_uint_eq(desired->generation, most);
	ck_assert_uint_eq(strlen(desired->quarantine), most);
	bh__desired__free_unpacked(desired, NULL);
	ck_assert_int_eq(read_half(file, RECORD_OBSERVED), 4);
}
END_TEST

START_TEST(test_a_file_of_another_size_or_kind_is_no_record)
{
	static const off_t sizes[] = { 0, 1, 4096, 8 * RECORD_HALF_MAX };
	struct record_file *other = NULL;
	off_t size = lseek(fd, 0, SEEK_END);

	ck_assert_int_lt(ftruncate(fd, size + 1), 0); /* it is sealed */
	ck_assert_int_lt(ftruncate(fd, size - 1), 0);
	for (size_t i = 0; i < 4; i++) {
		_cleanup_close_ int strange = memfd_create("strange", MFD_CLOEXEC);

		ck_assert_int_eq(ftruncate(strange, sizes[i]), 0);
		ck_assert_int_eq(record_open(&other, strange), -EBADMSG);
	}
	ck_assert_int_eq(pwrite(fd, "another", 7, 0), 7);
	ck_assert_int_eq(record_open(&other, fd), -EBADMSG);
	ck_assert_ptr_null(other);
}
END_TEST

/* covers: P1 */
START_TEST(test_bytes_that_are_no_message_are_refused)
{
	static const char text[] = "look for this";
	Bh__Desired *desired = NULL;
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *found;

	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(write_text(file, RECORD_DESIRED, 1, text), 0);
	found = memmem(p, (size_t)size, text, strlen(text));
	ck_assert_ptr_nonnull(found);
	found[-1] = 0x7f; /* its length */
	ck_assert_int_eq(record_read_desired(file, &desired), -EBADMSG);
	ck_assert_ptr_null(desired);
	munmap(p, (size_t)size);
}
END_TEST

/* It would be the one before it is written again, and the other one after that.
 * covers: P1 */
START_TEST(test_a_half_of_another_generation_than_its_slot_is_refused)
{
	static const uint8_t generations[] = { 0, 6, 8 }, written[] = { 0x08, 7 };
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *found;

	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(write_half(file, _i, 7), 0);
	found = memmem(p, (size_t)size, written, sizeof(written));
	ck_assert_ptr_nonnull(found);
	for (size_t i = 0; i < sizeof(generations); i++) {
		found[1] = generations[i];
		ck_assert_int_eq(read_half(file, _i), -EBADMSG);
	}
	found[1] = 7;
	ck_assert_int_eq(read_half(file, _i), 7);
	munmap(p, (size_t)size);
}
END_TEST

/* --- Rights --- */

START_TEST(test_a_worker_reads_and_cannot_write)
{
	_cleanup_close_ int ro = file_open_again(fd, O_RDONLY);
	struct record_file *worker;

	ck_assert_int_ge(ro, 0);
	ck_assert_int_eq(record_open(&worker, ro), 0);
	ck_assert_int_eq(write_half(file, _i, 2), 0);
	ck_assert_int_eq(read_half(worker, _i), 2);
	ck_assert_int_eq(write_half(worker, _i, 3), -EACCES);
	ck_assert_int_eq(read_half(file, _i), 2);
	ck_assert_int_lt(pwrite(ro, "x", 1, 0), 0);
	record_close(worker);
}
END_TEST

/* Whoever holds the published file: it cannot be written, whatever he may open, map, or make of
 * it. */
START_TEST(test_a_published_record_is_written_by_its_publisher_alone)
{
	struct record_file *published, *worker, *thief = NULL;
	int ro = -1;
	char path[64];

	ck_assert_int_eq(record_publish(&published, &ro, "net0"), 0);
	ck_assert_int_eq(record_open(&worker, ro), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ro);
	for (int i = 0; i < 2; i++) {
		_cleanup_close_ int rw =
			i ? fcntl(ro, F_DUPFD_CLOEXEC, 3) : open(path, O_RDWR | O_CLOEXEC);

		if (rw < 0)
			continue; /* that is as good */
		ck_assert_int_lt(pwrite(rw, "x", 1, 0), 0);
		ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0),
			MAP_FAILED);
		ck_assert_int_lt(fallocate(rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
			0);
		ck_assert_int_lt(ftruncate(rw, 0), 0);
		ck_assert_int_lt(fcntl(rw, F_ADD_SEALS, F_SEAL_WRITE), 0);
		if (record_open(&thief, rw) == 0) {
			ck_assert_int_eq(write_half(thief, _i, 9), -EACCES);
			thief = record_close(thief);
		}
	}
	for (uint64_t generation = 1; generation < 5; generation++) {
		ck_assert_int_eq(write_half(published, _i, generation), 0);
		ck_assert_int_eq(read_half(worker, _i), (int64_t)generation);
	}
	record_close(published);
	ck_assert_int_eq(read_half(worker, _i), 4); /* outlives its publisher */
	record_close(worker);
	close(ro);
}
END_TEST

/* --- Releases --- */

START_TEST(test_fields_of_a_later_release_are_passed_on)
{
	uint8_t data[] = { 3, 'n', 'e', 'w' };
	ProtobufCMessageUnknownField field = { .tag = 1000,
		.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
		.len = sizeof(data),
		.data = data };
	Bh__Desired later = BH__DESIRED__INIT, *read = NULL, *again = NULL;

	later.generation = 8;
	later.mtu = 1500;
	later.base.n_unknown_fields = 1;
	later.base.unknown_fields = &field;
	ck_assert_int_eq(record_write_desired(file, &later), 0);
	ck_assert_int_eq(record_read_desired(file, &read), 0);
	ck_assert_uint_eq(read->mtu, 1500);
	read->generation = 9;
	ck_assert_int_eq(record_write_desired(file, read), 0);
	ck_assert_int_eq(record_read_desired(file, &again), 0);
	ck_assert_uint_eq(again->mtu, 1500);
	ck_assert_uint_eq(again->base.n_unknown_fields, 1);
	ck_assert_uint_eq(again->base.unknown_fields[0].tag, 1000);
	ck_assert_mem_eq(again->base.unknown_fields[0].data, data, sizeof(data));
	bh__desired__free_unpacked(read, NULL);
	bh__desired__free_unpacked(again, NULL);
}
END_TEST

START_TEST(test_fields_that_an_earlier_release_does_not_know_are_absent)
{
	Bh__Desired earlier = BH__DESIRED__INIT, *read = NULL;

	earlier.generation = 1;
	ck_assert_int_eq(record_write_desired(file, &earlier), 0);
	ck_assert_int_eq(record_read_desired(file, &read), 0);
	ck_assert_str_eq(read->quarantine, "");
	ck_assert_ptr_null(read->inflight);
	ck_assert_uint_eq(read->n_rings, 0);
	bh__desired__free_unpacked(read, NULL);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("record");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_loop_test(tc, test_what_was_never_written_is_empty, 0, _RECORD_HALVES);
	tcase_add_loop_test(tc, test_a_half_is_replaced_and_the_other_is_not, 0, _RECORD_HALVES);
	tcase_add_loop_test(tc, test_the_next_process_reads_the_same, 0, _RECORD_HALVES);
	tcase_add_loop_test(tc, test_a_write_that_ends_at_any_step_leaves_the_old_or_the_new, 0,
		_RECORD_HALVES);
	tcase_add_loop_test(tc, test_a_reader_beside_a_writer_sees_nothing_torn, 0, _RECORD_HALVES);
	tcase_add_test(tc, test_the_longest_message_fits_and_a_longer_one_changes_nothing);
	tcase_add_test(tc, test_a_file_of_another_size_or_kind_is_no_record);
	tcase_add_test(tc, test_bytes_that_are_no_message_are_refused);
	tcase_add_loop_test(tc, test_a_half_of_another_generation_than_its_slot_is_refused, 0,
		_RECORD_HALVES);
	tcase_add_loop_test(tc, test_a_worker_reads_and_cannot_write, 0, _RECORD_HALVES);
	tcase_add_loop_test(tc, test_a_published_record_is_written_by_its_publisher_alone, 0,
		_RECORD_HALVES);
	tcase_add_test(tc, test_fields_of_a_later_release_are_passed_on);
	tcase_add_test(tc, test_fields_that_an_earlier_release_does_not_know_are_absent);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("record", add_tests);
}

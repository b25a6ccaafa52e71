/* The streams of the snapshot process: pipes whose other ends do what they like, and of which
 * somebody else shares the open file. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "lib/run.h"
#include "snapshot/stream.h"

#define LARGE 300000
#define MAX_BYTES 100000

static sd_event *event;
static struct stream *stream;
static int reads = -1, writes = -1;
static unsigned int n_ends;
static char said[128];
static uint8_t large[LARGE];

static void on_end(void *data, const char *error)
{
	n_ends++;
	snprintf(said, sizeof(said), "%s", error ? error : "");
}

/* Nothing of the pipe's is told not to block. */
static void set_up(void)
{
	int ends[2];

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	reads = ends[0];
	writes = ends[1];
	ck_assert_int_ge(sd_event_new(&event), 0);
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (uint8_t)(i ^ i >> 8);
}

static void tear_down(void)
{
	stream = stream_free(stream);
	reads = fd_close(reads);
	writes = fd_close(writes);
	sd_event_unref(event);
}

/* Until nothing more happens. A call that waits for somebody hangs here. */
static void turn(void)
{
	while (sd_event_run(event, 20000) > 0)
		;
}

static void check_end(const char *part)
{
	ck_assert_uint_eq(n_ends, 1);
	ck_assert(*part ? strstr(said, part) != NULL : !*said);
}

static void begin_reading(void)
{
	ck_assert_int_eq(stream_read(&stream, event, fd_steal(&reads), MAX_BYTES, on_end, NULL), 0);
}

static void begin_writing(size_t n)
{
	ck_assert_int_eq(stream_write(&stream, event, fd_steal(&writes), large, n, on_end, NULL),
		0);
}

/* --- Reading --- */

/* So many at a time, with the loop's turns between. */
static void put(size_t n, size_t step)
{
	for (size_t at = 0; at < n && n_ends == 0; at += step) {
		size_t part = MIN(step, n - at);

		ck_assert_int_eq(write(writes, large + at, part), (ssize_t)part);
		turn();
	}
}

static const struct {
	size_t n, step;
} parts[] = { { 0, 1 }, { 1, 1 }, { 5000, 1000 }, { 4097, 4097 }, { MAX_BYTES - 1, 60000 },
	{ MAX_BYTES, 4096 } };

START_TEST(test_all_is_read_to_the_end)
{
	const uint8_t *bytes;
	size_t n;

	begin_reading();
	put(parts[_i].n, parts[_i].step);
	ck_assert_uint_eq(n_ends, 0);
	writes = fd_close(writes);
	turn();
	check_end("");
	bytes = stream_bytes(stream, &n);
	ck_assert_uint_eq(n, parts[_i].n);
	ck_assert(n == 0 || memcmp(bytes, large, n) == 0);
}
END_TEST

/* covers: M24 */
START_TEST(test_endless_stream_ends)
{
	begin_reading();
	put(LARGE, 10000);
	check_end("longer than any state");
	ck_assert_int_eq(write(writes, "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
}
END_TEST

static int drain(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	char buf[64];

	ck_assert_int_gt(read(*(int *)data, buf, sizeof(buf)), 0);
	return sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

/* Whoever kept a copy of the end reads what was there a moment ago: there is nothing to read, and
 * the file's flags do not say that nobody waits. */
START_TEST(test_what_is_taken_away_is_not_waited_for)
{
	sd_event_source *source;
	int copy = dup(reads), first = eventfd(1, EFD_CLOEXEC);

	begin_reading();
	ck_assert_int_ge(sd_event_add_io(event, &source, first, EPOLLIN, drain, &copy), 0);
	ck_assert_int_ge(sd_event_source_set_priority(source, -1), 0);
	ck_assert_int_eq(write(writes, "taken away", 10), 10);
	turn();
	ck_assert_uint_eq(n_ends, 0);
	ck_assert_int_eq(write(writes, "x", 1), 1);
	writes = fd_close(writes);
	turn();
	check_end("");
	sd_event_source_unref(source);
	fd_close(copy);
	fd_close(first);
}
END_TEST

/* --- Writing --- */

static size_t read_all(size_t n_max)
{
	static uint8_t buf[LARGE];
	size_t n = 0;

	while (n < n_max) {
		ssize_t got;

		turn();
		got = read(reads, buf + n, MIN((size_t)5000, n_max - n));
		ck_assert_int_ge(got, 0);
		if (got == 0)
			break;
		n += (size_t)got;
	}
	ck_assert_int_eq(memcmp(buf, large, n), 0);
	return n;
}

/* Nobody reads for a while: the loop goes on, and so does the stream when somebody does. */
START_TEST(test_slow_reader_holds_up_nobody)
{
	begin_writing(LARGE);
	turn();
	ck_assert_uint_eq(n_ends, 0);
	ck_assert_uint_eq(read_all(LARGE), LARGE);
	turn();
	check_end("");
	ck_assert_uint_eq(read_all(1), 0);
}
END_TEST

START_TEST(test_small_one_is_written_at_once)
{
	begin_writing(1);
	turn();
	check_end("");
	ck_assert_uint_eq(read_all(LARGE), 1);
}
END_TEST

/* _i: how much was read before */
START_TEST(test_reader_that_goes_away_is_noticed)
{
	begin_writing(LARGE);
	turn();
	if (_i)
		read_all(20000);
	reads = fd_close(reads);
	turn();
	check_end("closed before all of it was read");
}
END_TEST

/* --- What is no pipe --- */

START_TEST(test_other_things_are_refused)
{
	int pair[2], file = memfd_create("stream", MFD_CLOEXEC);

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	ck_assert_int_lt(stream_read(&stream, event, file, MAX_BYTES, on_end, NULL), 0);
	ck_assert_int_lt(stream_read(&stream, event, pair[0], MAX_BYTES, on_end, NULL), 0);
	ck_assert_int_lt(stream_write(&stream, event, pair[1], large, 1, on_end, NULL), 0);
	ck_assert_int_eq(fcntl(file, F_GETFD), -1);
	ck_assert_int_eq(fcntl(pair[0], F_GETFD), -1);
	ck_assert_int_eq(fcntl(pair[1], F_GETFD), -1);
	ck_assert_uint_eq(n_ends, 0);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("streams");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 20);
	tcase_add_loop_test(tc, test_all_is_read_to_the_end, 0, (int)ARRAY_SIZE(parts));
	tcase_add_test(tc, test_endless_stream_ends);
	tcase_add_test(tc, test_what_is_taken_away_is_not_waited_for);
	tcase_add_test(tc, test_slow_reader_holds_up_nobody);
	tcase_add_test(tc, test_small_one_is_written_at_once);
	tcase_add_loop_test(tc, test_reader_that_goes_away_is_noticed, 0, 2);
	tcase_add_test(tc, test_other_things_are_refused);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	return run_main("streams", add_tests);
}

/* Streams to and from a compositor that behaves badly: nothing blocks, and only its stream ends. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "lib/patience.h"
#include "lib/recorder.h"
#include "lib/run.h"
#include "lib/script.h"
#include "stream.h"

#define SLOT 7u

static struct streams streams;
static int kept[STREAMS_N_KEPT];
static struct recorder *recorder;
static struct recorder_peer *peer;
static struct stream stream;
static int files[SCRIPT_FDS_MAX];
static unsigned int n_sent;
static uint64_t cookie;

static int file_of(void *data, uint32_t handle)
{
	return handle < ARRAY_SIZE(files) ? files[handle] : -1;
}

static void on_sent(void *data, const uint32_t *handles, uint32_t n)
{
	n_sent += n;
}

static const struct stream_source source = { .fd_of = file_of, .sent = on_sent };

/* As a restarted process has them: copies, since the owner is the vault. */
static void open_streams(void)
{
	int fds[STREAMS_N_KEPT];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = fcntl(kept[i], F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(streams_open(&streams, fds), 0);
}

static void restart(void)
{
	streams_close(&streams);
	open_streams();
}

static void begin(void)
{
	int pair[2];

	ck_assert_int_eq(streams_create(kept), 0);
	open_streams();
	recorder = recorder_new(NULL, 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	peer = recorder_adopt(recorder, pair[1]);
	stream = (struct stream){ pair[0], STREAM_SOCKET, SLOT };
	ck_assert_int_eq(stream_begin(&stream), 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		files[i] = script_file(i);
}

static void end(void)
{
	streams_close(&streams);
	recorder_free(recorder);
	close(stream.fd);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		close(kept[i]);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		close(files[i]);
}

/* --- From the host --- */

static int peek(uint32_t max_bytes, struct stream_message *message)
{
	struct pollfd ready = { .fd = stream.fd, .events = POLLIN };

	ck_assert_int_eq(poll(&ready, 1, test_ms(5000)), 1);
	return stream_peek(&streams, &stream, max_bytes, message);
}

static void close_fds(const struct stream_message *message)
{
	for (uint32_t i = 0; i < message->n_fds; i++)
		close(message->fds[i]);
}

START_TEST(test_what_is_peeked_stays_until_it_is_consumed)
{
	struct stream_message message;

	begin();
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), STREAM_E_AGAIN);
	ck_assert(recorder_send(peer, "hello", 5, files, 2));
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(peek(i == 0 ? 3968 : 5, &message), 0);
		ck_assert_uint_eq(message.n_bytes, 5);
		ck_assert_uint_eq(message.n_fds, 2);
		ck_assert_mem_eq(message.data, "hello", 5);
		close_fds(&message);
		if (i == 1)
			restart();
	}
	ck_assert(recorder_send(peer, "world", 5, NULL, 0));
	stream_consume(&streams, &stream);
	stream_consume(&streams, &stream); /* as a successor does that is not sure */
	ck_assert_int_eq(peek(3968, &message), 0);
	ck_assert_uint_eq(message.n_bytes, 5);
	ck_assert_uint_eq(message.n_fds, 0);
	ck_assert_mem_eq(message.data, "world", 5);
	stream_consume(&streams, &stream);
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), STREAM_E_AGAIN);
	end();
}
END_TEST

/* A peek that fills its buffer sees them too early; they are returned once. */
START_TEST(test_descriptors_of_a_later_message_come_once)
{
	struct stream_message message;
	uint32_t n_fds = 0, n_bytes = 0;

	begin();
	ck_assert(recorder_send(peer, "0123456789", 10, NULL, 0));
	ck_assert(recorder_send(peer, "abc", 3, files, 1));
	ck_assert(recorder_send(peer, "def", 3, files + 1, 2));
	while (n_bytes < 16) {
		if (_i)
			restart();
		ck_assert_int_eq(peek(4, &message), 0);
		n_bytes += message.n_bytes;
		n_fds += message.n_fds;
		close_fds(&message);
		stream_consume(&streams, &stream);
		if (n_bytes > 10)
			ck_assert_uint_ge(n_fds, 1);
	}
	ck_assert_uint_eq(n_bytes, 16);
	ck_assert_uint_eq(n_fds, 3);
	end();
}
END_TEST

/* They arrive while the message before is being delivered, which is peeked again. */
START_TEST(test_descriptors_that_arrive_meanwhile_are_not_lost)
{
	struct stream_message message;

	begin();
	ck_assert(recorder_send(peer, "abcd", 4, NULL, 0));
	ck_assert_int_eq(peek(3968, &message), 0);
	ck_assert_uint_eq(message.n_bytes, 4);
	ck_assert(recorder_send(peer, "e", 1, files, 3));
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(peek(4, &message), 0);
		ck_assert_uint_eq(message.n_fds, 0);
		restart();
	}
	stream_consume(&streams, &stream);
	ck_assert_int_eq(peek(3968, &message), 0);
	ck_assert_uint_eq(message.n_bytes, 1);
	ck_assert_uint_eq(message.n_fds, 3);
	close_fds(&message);
	end();
}
END_TEST

START_TEST(test_28_descriptors_are_taken)
{
	struct stream_message message;

	begin();
	ck_assert(recorder_send(peer, "x", 1, files, 28));
	ck_assert_int_eq(peek(3968, &message), 0);
	ck_assert_uint_eq(message.n_fds, 28);
	close_fds(&message);
	end();
}
END_TEST

static int n_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

START_TEST(test_more_descriptors_end_the_stream)
{
	struct stream_message message;
	int many[253], before;

	begin();
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = files[0];
	ck_assert(recorder_send(peer, "x", 1, many, _i ? ARRAY_SIZE(many) : 29));
	before = n_open();
	ck_assert_int_eq(peek(3968, &message), STREAM_E_HANGUP);
	ck_assert_int_eq(n_open(), before);
	end();
}
END_TEST

/* Not the sender's fault: the message stays. */
START_TEST(test_without_free_descriptors_it_is_tried_later)
{
	struct stream_message message;
	struct rlimit limit, tight;

	begin();
	ck_assert(recorder_send(peer, "x", 1, files, 5));
	getrlimit(RLIMIT_NOFILE, &limit);
	tight = limit;
	tight.rlim_cur = (rlim_t)n_open() + 2;
	setrlimit(RLIMIT_NOFILE, &tight);
	ck_assert_int_eq(peek(3968, &message), STREAM_E_LATER);
	setrlimit(RLIMIT_NOFILE, &limit);
	ck_assert_int_eq(peek(3968, &message), 0);
	ck_assert_uint_eq(message.n_fds, 5);
	close_fds(&message);
	end();
}
END_TEST

START_TEST(test_a_hangup_comes_after_all_data)
{
	struct stream_message message;

	begin();
	ck_assert(recorder_send(peer, "last", 4, NULL, 0));
	recorder_hang_up(peer);
	ck_assert_int_eq(peek(3968, &message), 0);
	stream_consume(&streams, &stream);
	ck_assert_int_eq(peek(3968, &message), STREAM_E_HANGUP);
	end();
}
END_TEST

START_TEST(test_a_reset_is_a_hangup)
{
	struct stream_message message;

	begin();
	recorder_stall(peer, true);
	ck_assert_int_eq(send(stream.fd, "unread", 6, 0), 6);
	recorder_hang_up(peer);
	ck_assert_int_eq(recv(stream.fd, &message, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, ECONNRESET);
	ck_assert_int_eq(peek(3968, &message), STREAM_E_HANGUP);
	end();
}
END_TEST

/* An out-of-band byte, which no compositor sends. */
START_TEST(test_urgent_data_do_not_confuse_the_score)
{
	struct stream_message message;
	uint32_t n = 0;
	int pair[2];

	begin();
	close(stream.fd);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	stream.fd = pair[0];
	ck_assert_int_eq(stream_begin(&stream), 0);
	ck_assert_int_eq(send(pair[1], "abc", 3, 0), 3);
	if (send(pair[1], "!", 1, MSG_OOB) < 0)
		ck_assert_int_eq(errno, EOPNOTSUPP);
	ck_assert_int_eq(send(pair[1], "def", 3, 0), 3);
	for (int i = 0; i < 10 && n < 6; i++)
		if (stream_peek(&streams, &stream, 3968, &message) == 0) {
			n += message.n_bytes;
			stream_consume(&streams, &stream);
		}
	ck_assert_uint_ge(n, 3);
	close(pair[1]);
	end();
}
END_TEST

/* --- To the host --- */

static int append(const void *data, uint32_t n_bytes, uint32_t n_fds)
{
	uint32_t handles[STREAM_MESSAGE_FDS];
	struct stream_record record = { n_bytes, n_fds, handles, ++cookie };
	struct iovec room[2];
	int r = stream_reserve(&streams, SLOT, n_fds, n_bytes, room);

	if (r)
		return r;
	memcpy(room[0].iov_base, data, room[0].iov_len);
	memcpy(room[1].iov_base, (const uint8_t *)data + room[0].iov_len, room[1].iov_len);
	for (uint32_t i = 0; i < n_fds; i++)
		handles[i] = i;
	stream_append(&streams, SLOT, &record);
	return 0;
}

START_TEST(test_records_arrive_with_their_descriptors)
{
	uint64_t at;

	begin();
	ck_assert_int_eq(append("one", 3, 2), 0);
	ck_assert_int_eq(append("", 0, 1), 0); /* a descriptor needs a byte to go with */
	ck_assert_int_eq(append("two", 3, 28), 0);
	ck_assert(stream_was_appended(&streams, SLOT, cookie));
	ck_assert_int_eq(stream_flush(&streams, &stream, &source), 0);
	ck_assert_uint_eq(n_sent, 31);
	ck_assert(recorder_wait(peer, 6, 5000));
	ck_assert_uint_eq(recorder_byte(peer, 3), 't');
	ck_assert_uint_eq(recorder_n_fds(peer), 30);
	recorder_fd(peer, 29, &at);
	ck_assert_uint_le(at, 3);
	ck_assert_uint_eq(stream_queued_bytes(&streams, SLOT), 0);
	end();
}
END_TEST

START_TEST(test_what_is_too_big_is_told_from_what_must_wait)
{
	struct iovec room[2];

	begin();
	ck_assert_int_eq(stream_reserve(&streams, SLOT, 0, STREAM_RECORD_MAX + 1, room),
		STREAM_E_TOO_BIG);
	ck_assert_int_eq(stream_reserve(&streams, SLOT, 29, 1, room), STREAM_E_TOO_BIG);
	ck_assert_int_eq(stream_reserve(&streams, SLOT, 28, STREAM_RECORD_MAX, room), 0);
	ck_assert_int_eq(append("x", 1, 0), 0);
	ck_assert_int_eq(stream_reserve(&streams, SLOT, 28, STREAM_RECORD_MAX, room),
		STREAM_E_FULL);
	end();
}
END_TEST

static blkcnt_t blocks_of_journal(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(kept[0], &st), 0);
	return st.st_blocks;
}

/* The compositor does not read: the queue fills up, and nothing waits. When it reads again, all of
 * it arrives, and the memory is given back. */
START_TEST(test_a_compositor_that_does_not_read_costs_its_queue)
{
	static uint8_t bytes[50000];
	struct pollfd room = { .fd = stream.fd, .events = POLLOUT };
	uint64_t total = 0;
	int r = 0;

	begin();
	room.fd = stream.fd;
	recorder_stall(peer, true);
	while (append(bytes, sizeof(bytes), 0) == 0) {
		total += sizeof(bytes);
		r = stream_flush(&streams, &stream, &source);
		if (total == sizeof(bytes) * 8)
			restart();
	}
	ck_assert_int_eq(r, STREAM_E_AGAIN);
	ck_assert_int_gt(blocks_of_journal(), JOURNAL_QUEUE_BYTES / 2 / 512);
	ck_assert_int_eq(poll(&room, 1, 0), 0);
	recorder_stall(peer, false);
	while ((r = stream_flush(&streams, &stream, &source)) == STREAM_E_AGAIN)
		ck_assert_int_eq(poll(&room, 1, test_ms(10000)), 1);
	ck_assert_int_eq(r, 0);
	ck_assert(recorder_wait(peer, total, 10000));
	ck_assert_int_lt(blocks_of_journal(), SENDQ_PUNCH_BYTES / 512);
	end();
}
END_TEST

START_TEST(test_a_compositor_that_is_gone_ends_the_stream)
{
	begin();
	recorder_hang_up(peer);
	ck_assert_int_eq(append("x", 1, 1), 0);
	ck_assert_int_eq(stream_flush(&streams, &stream, &source), STREAM_E_HANGUP);
	ck_assert_uint_eq(n_sent, 0);
	stream_end(&streams, SLOT);
	ck_assert_uint_eq(stream_queued_bytes(&streams, SLOT), 0);
	end();
}
END_TEST

static void note_handle(void *data, uint32_t handle)
{
	*(uint32_t *)data |= 1u << handle;
}

START_TEST(test_a_successor_finds_what_is_in_use)
{
	static uint8_t bytes[300000];
	uint32_t in_use = 0;

	begin();
	recorder_stall(peer, true);
	ck_assert_int_eq(append(bytes, sizeof(bytes), 2), 0);
	ck_assert_int_eq(stream_flush(&streams, &stream, &source), STREAM_E_AGAIN);
	ck_assert_int_eq(append("x", 1, 4), 0);
	restart();
	ck_assert(stream_was_appended(&streams, SLOT, cookie));
	ck_assert(!stream_was_appended(&streams, SLOT, cookie + 1));
	stream_for_handles(&streams, SLOT, note_handle, &in_use);
	ck_assert_uint_eq(in_use, 0xf); /* the first record's have gone, with its first byte */
	ck_assert_uint_eq(n_sent, 2);
	stream_end(&streams, SLOT);
	in_use = 0;
	stream_for_handles(&streams, SLOT, note_handle, &in_use);
	ck_assert_uint_eq(in_use, 0);
	end();
}
END_TEST

/* --- Pipes --- */

static void use_pipe(int which, int *ret_other)
{
	int ends[2];

	close(stream.fd);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	stream = (struct stream){ ends[which], STREAM_PIPE, SLOT };
	ck_assert_int_eq(stream_begin(&stream), 0);
	*ret_other = ends[!which];
}

START_TEST(test_a_pipe_is_read_as_a_socket_is)
{
	struct stream_message message;
	int other;

	begin();
	use_pipe(0, &other);
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), STREAM_E_AGAIN);
	ck_assert_int_eq(write(other, "hello", 5), 5);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(stream_peek(&streams, &stream, 5, &message), 0);
		ck_assert_uint_eq(message.n_bytes, 5);
		ck_assert_mem_eq(message.data, "hello", 5);
		restart();
	}
	stream_consume(&streams, &stream);
	stream_consume(&streams, &stream);
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), STREAM_E_AGAIN);
	ck_assert_int_eq(write(other, "rest", 4), 4);
	close(other);
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), 0);
	stream_consume(&streams, &stream);
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), STREAM_E_HANGUP);
	end();
}
END_TEST

/* One pipe's data wait on our side: another pipe must wait, and a closed one's are dropped. */
START_TEST(test_pipes_take_turns)
{
	struct stream_message message;
	struct stream first;
	int other, second_other;

	begin();
	use_pipe(0, &other);
	first = stream;
	stream.fd = dup(first.fd);
	use_pipe(0, &second_other);
	stream.slot = SLOT + 1;
	ck_assert_int_eq(write(other, "a", 1) + write(second_other, "b", 1), 2);
	ck_assert_int_eq(stream_peek(&streams, &first, 100, &message), 0);
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), STREAM_E_LATER);
	stream_end(&streams, SLOT);
	ck_assert_int_eq(stream_peek(&streams, &stream, 100, &message), 0);
	ck_assert_uint_eq(message.data[0], 'b');
	close(first.fd);
	close(other);
	close(second_other);
	end();
}
END_TEST

START_TEST(test_a_pipe_that_nobody_reads_costs_its_queue)
{
	static uint8_t bytes[200000], got[300000];
	ssize_t n = 0, total = 0;
	int other;

	begin();
	use_pipe(1, &other);
	ck_assert_int_eq(append(bytes, sizeof(bytes), 0), 0);
	ck_assert_int_eq(stream_flush(&streams, &stream, &source), STREAM_E_AGAIN);
	restart();
	fcntl(other, F_SETFL, O_NONBLOCK);
	while (total < (ssize_t)sizeof(bytes)) {
		n = read(other, got, sizeof(got));
		ck_assert_int_gt(n, 0);
		total += n;
		(void)stream_flush(&streams, &stream, &source);
	}
	ck_assert_int_eq(stream_flush(&streams, &stream, &source), 0);
	ck_assert_int_eq(read(other, got, sizeof(got)), -1);
	ck_assert_int_eq(append("x", 1, 0), 0);
	close(other);
	ck_assert_int_eq(stream_flush(&streams, &stream, &source), STREAM_E_HANGUP);
	end();
}
END_TEST

/* --- What was kept --- */

START_TEST(test_other_descriptors_are_no_journal)
{
	int fds[STREAMS_N_KEPT];
	struct streams opened;

	begin();
	for (int wrong = 0; wrong < STREAMS_N_KEPT; wrong++) {
		for (int i = 0; i < STREAMS_N_KEPT; i++)
			fds[i] = fcntl(i == wrong ? files[0] : kept[i], F_DUPFD_CLOEXEC, 0);
		ck_assert_int_eq(streams_open(&opened, fds), -EINVAL);
	}
	end();
}
END_TEST

static void add(Suite *suite)
{
	TCase *tcase = tcase_create("stream");

	tcase_set_timeout(tcase, test_ms(60000) / 1000.0);
	tcase_add_test(tcase, test_what_is_peeked_stays_until_it_is_consumed);
	tcase_add_loop_test(tcase, test_descriptors_of_a_later_message_come_once, 0, 2);
	tcase_add_test(tcase, test_descriptors_that_arrive_meanwhile_are_not_lost);
	tcase_add_test(tcase, test_28_descriptors_are_taken);
	tcase_add_loop_test(tcase, test_more_descriptors_end_the_stream, 0, 2);
	tcase_add_test(tcase, test_without_free_descriptors_it_is_tried_later);
	tcase_add_test(tcase, test_a_hangup_comes_after_all_data);
	tcase_add_test(tcase, test_a_reset_is_a_hangup);
	tcase_add_test(tcase, test_urgent_data_do_not_confuse_the_score);
	tcase_add_test(tcase, test_records_arrive_with_their_descriptors);
	tcase_add_test(tcase, test_what_is_too_big_is_told_from_what_must_wait);
	tcase_add_test(tcase, test_a_compositor_that_does_not_read_costs_its_queue);
	tcase_add_test(tcase, test_a_compositor_that_is_gone_ends_the_stream);
	tcase_add_test(tcase, test_a_successor_finds_what_is_in_use);
	tcase_add_test(tcase, test_a_pipe_is_read_as_a_socket_is);
	tcase_add_test(tcase, test_pipes_take_turns);
	tcase_add_test(tcase, test_a_pipe_that_nobody_reads_costs_its_queue);
	tcase_add_test(tcase, test_other_descriptors_are_no_journal);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return run_main("wl-stream", add);
}
